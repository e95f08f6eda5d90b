"""Decide which races' details a listing requires: pure functions of the listing, what is stored and the present.

The listing has each race's current edition only, and `last_modified`, which has the resolution of a minute and does not move
with every change. So the detail, one call per race, is read

- when the race is new, or its record changed,
- once more when the record changed in the minute in which the detail was read, or shortly before: what happened later in
  that minute left the same stamp,
- when it is older than a maximum age. A race whose listing shows only a past edition has its next one in its detail, or
  none yet: such a race is read less often, and only some of them with one listing.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rsu_pipeline.eastern import EASTERN
from rsu_pipeline.runsignup import values
from rsu_pipeline.runsignup.payload_decoding import decode_events
from rsu_pipeline.runsignup.payloads import Event, Race
from rsu_pipeline.warehouse.events import StoredDetail

STAMP_RESOLUTION = dt.timedelta(minutes=1)
"""`last_modified` of a race has the resolution of a minute."""
MAX_STAMP_AHEAD = dt.timedelta(days=1)
"""How far ahead of the response's clock a stamp may be and still be credible."""
PAST_AGE_FACTOR = 7
"""Factor of the maximum age for races whose listing shows only past editions: weekly by default.

Nearly always the record changes with a new edition, so this is for the few cases in which it does not.
"""
MAX_PAST_PER_LISTING = 50
"""Details of races with only past editions that are read with one listing: 70 s at RunSignup's pace.

A partner with more of them has all within days, because listings are read every 4 h.
"""


@dataclass(frozen=True)
class Wanted:
    """The races whose detail is to be read: `upcoming` may have an upcoming edition, `past` show only past ones."""

    upcoming: list[Race]
    past: list[Race]


def choose_details(
    listed: Sequence[Race],
    stored: Mapping[int, StoredDetail],
    now: dt.datetime,
    *,
    max_age: dt.timedelta,
    overlap: dt.timedelta,
) -> Wanted:
    """Return the races whose detail is to be read.

    Args:
        listed: the listing.
        stored: what is known of the details read so far, by race.
        now: RunSignup's present.
        max_age: how old the detail of a race with an upcoming edition may be.
        overlap: how late a change may become visible at RunSignup.
    """
    upcoming, past = [], []
    for race in listed:
        detail = stored.get(race.race_id)
        has_news = is_changed(race, detail) or is_ambiguous(detail, overlap)
        if may_lie_ahead(race, now):
            if has_news or is_too_old(detail, now, max_age):
                upcoming.append(race)
        elif (has_news and race.last_modified is not None) or is_too_old(detail, now, PAST_AGE_FACTOR * max_age):
            past.append(race)
    past.sort(key=lambda race: _urgency(race, stored.get(race.race_id)))
    return Wanted(upcoming, past[:MAX_PAST_PER_LISTING])


def is_changed(race: Race, detail: StoredDetail | None) -> bool:
    """Return whether the race is new, or its record has changed since its detail was read."""
    return detail is None or _stamp(race) is None or _stamp(race) != detail.as_of


def is_ambiguous(detail: StoredDetail | None, overlap: dt.timedelta) -> bool:
    """Return whether the detail may have been read before the minute of its stamp was over.

    Then a later change of that minute has the same stamp. A stamp in the future shows nothing.
    """
    if detail is None or detail.as_of is None or detail.read_at is None:
        return False
    # In an hour that occurs twice, it is the later one: the detail is then read once more unnecessarily.
    changed_at = detail.as_of.replace(tzinfo=EASTERN, fold=1)
    return -MAX_STAMP_AHEAD <= detail.read_at - changed_at < STAMP_RESOLUTION + overlap


def is_too_old(detail: StoredDetail | None, now: dt.datetime, max_age: dt.timedelta) -> bool:
    """Return whether the detail was never read, or too long ago. A read in the future does not count: a clock was wrong."""
    if detail is None or detail.read_at is None:
        return True
    return not -STAMP_RESOLUTION < now - detail.read_at < max_age


def may_lie_ahead(race: Race, now: dt.datetime) -> bool:
    """Return whether the listing shows an edition that may be upcoming."""
    if race.next_date or race.next_end_date:
        return True
    decoded, unreadable = decode_events(race)
    # Two days' grace: the wall times here are of any zone.
    horizon = now.replace(tzinfo=None) - dt.timedelta(days=2)
    return bool(unreadable) or any(_starts_after(event, horizon) for event in decoded)


def _urgency(race: Race, detail: StoredDetail | None) -> tuple[bool, float, float]:
    """Return the sort key: changed races first, then those read longest ago.

    Of those never read, the one that changed last comes first: it is most likely to have a next edition.
    """
    stamp = _stamp(race)
    read_at = detail.read_at.timestamp() if detail and detail.read_at else 0.0
    return detail is None or not is_changed(race, detail), read_at, -(stamp or dt.datetime.min).toordinal()


def _stamp(race: Race) -> dt.datetime | None:
    try:
        return None if race.last_modified is None else values.wall_time(str(race.last_modified), EASTERN)
    except ValueError:
        return None


def _starts_after(event: Event, horizon: dt.datetime) -> bool:
    times = [str(text) for text in (event.start_time, event.end_time) if text]
    try:
        return not times or max(values.wall_time(text) for text in times) >= horizon
    except ValueError:
        return True
