"""The distance of an event: pure functions of its times and the present.

A start is an instant. The race's zone was applied when its wall time was parsed.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rsu_pipeline.reading_settings import CadenceSettings
from rsu_pipeline.warehouse.event_times import (
    AHEAD_TOLERANCE,
    CLOSING_READ_WITHIN,
    CORRECTIONS_AFTER,
    FIRST_READ_WITHIN,
    MAX_WATCHED,
    POST_EVENT_GRACE,
)
from rsu_pipeline.warehouse.event_times import DAY_BEFORE as DAY_BEFORE
from rsu_pipeline.warehouse.event_times import WINDOW_BEFORE as WINDOW_BEFORE
from rsu_pipeline.warehouse.fleet import FleetPartner, FleetRace

Tier = Literal["undated", "later", "day", "window", "over"]

FINAL_READ_LEAD = dt.timedelta(minutes=10)
"""How long before its start an event is read in full once more."""
LAST_WEEK = dt.timedelta(days=7)


def over_at(starts_at: dt.datetime | None, ends_at: dt.datetime | None) -> dt.datetime | None:
    """Return when an event is over: some time after its end, or after its start if that is later.

    An end before the start is an error in the data. None if no time is known: such an event is never over.
    """
    times = [time for time in (starts_at, ends_at) if time is not None]
    return max(times) + POST_EVENT_GRACE if times else None


def is_over(starts_at: dt.datetime | None, ends_at: dt.datetime | None, now: dt.datetime) -> bool:
    """Return whether an event is over at `now`."""
    end = over_at(starts_at, ends_at)
    return end is not None and now >= end


def is_ahead(stamp: dt.datetime, now: dt.datetime) -> bool:
    """Return whether a stored time is in the future, so that a clock was wrong when it was written."""
    return stamp > now + AHEAD_TOLERANCE


def age(stamp: dt.datetime | None, now: dt.datetime, also: Sequence[dt.datetime] = ()) -> dt.timedelta | None:
    """Return how long ago a stored time is, or None if there is none or it is in the future, which is never recent.

    If several moments may be the present, the stamp is by one of the compared clocks, so the shortest age is its own.
    """
    if stamp is None:
        return None
    ages = [max(dt.timedelta(0), moment - stamp) for moment in (now, *also) if not is_ahead(stamp, moment)]
    return min(ages, default=None)


def next_over_at(
    times: Sequence[tuple[dt.datetime | None, dt.datetime | None]], now: dt.datetime
) -> dt.datetime | None:
    """Return when the next of a race's events will be over, or None if that is not known of any."""
    ends = (over_at(start, end) for start, end in times)
    return min((end for end in ends if end is not None and end > now), default=None)


def closing_read(
    starts_at: dt.datetime | None,
    ends_at: dt.datetime | None,
    last_full_at: dt.datetime | None,
    now: dt.datetime,
    needs_full: str | None = None,
) -> str | None:
    """Return why an event that is over still needs a full read, or None if it does not.

    The clock alone never settles an event: a read that began after it was over does, and one a day later finds corrections.
    Until then the event is due, regardless of the time passed, within the year that RunSignup answers for.

    Args:
        starts_at: start of the event.
        ends_at: its end, RunSignup's or the assumed one.
        last_full_at: when the last complete read of all its registrations began, None if there was none.
        now: the present.
        needs_full: why that read does not count, such as removals pending confirmation. None if it counts.
    """
    end = over_at(starts_at, ends_at)
    if end is None or now < end or now - end >= CLOSING_READ_WITHIN:
        return None
    if last_full_at is None:
        return "first read, after it was over" if now - end < FIRST_READ_WITHIN else None
    if needs_full:
        return needs_full
    if last_full_at < end:
        return "final read after it was over"
    if is_ahead(last_full_at, now):
        return "final read, since the last one is dated in the future"
    if last_full_at < end + CORRECTIONS_AFTER <= now:
        return "once more a day after it was over, for corrections"
    return None


def tier(starts_at: dt.datetime | None, ends_at: dt.datetime | None, now: dt.datetime) -> Tier:
    """Return the event's tier at `now`.

    An event of several days stays in its window from 4 h before its start until it is over, unless it is so long that it must be
    virtual.
    """
    end = over_at(starts_at, ends_at)
    if end is None:
        return "undated"
    if now >= end:
        return "over"
    start = starts_at or ends_at or end
    if now >= start - WINDOW_BEFORE:
        is_virtual = end - start > MAX_WATCHED + POST_EVENT_GRACE
        return "day" if is_virtual and now >= start + DAY_BEFORE else "window"
    return "day" if now >= start - DAY_BEFORE else "later"


def interval(tier: Tier, every: CadenceSettings, *, failed: bool) -> dt.timedelta:
    """Return how long after its last read an event of this tier is due.

    A past event is due only while it needs a closing read. An event in its window is polled by the watch, and due here all the
    same, in case the watch does not run.
    """
    seconds = {
        "undated": every.later,
        "later": every.later,
        "day": every.day,
        "window": every.window,
        "over": every.later,
    }[tier]
    return dt.timedelta(seconds=min(seconds, every.after_failure) if failed else seconds)


NEAR: tuple[Tier, ...] = ("window", "day")
"""Tiers of events that a long batch must not keep from being read every 15 minutes."""
_NEAREST_FIRST: tuple[Tier, ...] = ("window", "day", "over", "later", "undated")


def nearest_tier(
    starts_at: dt.datetime | None, ends_at: dt.datetime | None, now: dt.datetime, also: Sequence[dt.datetime] = ()
) -> tuple[Tier, dt.datetime]:
    """Return the most urgent tier of an event among the moments that may be the present, and that moment."""
    found = [(tier(starts_at, ends_at, moment), moment) for moment in (now, *also)]
    return min(found, key=lambda item: _NEAREST_FIRST.index(item[0]))


def race_tier(
    times: Sequence[tuple[dt.datetime | None, dt.datetime | None]],
    now: dt.datetime,
    also: Sequence[dt.datetime] = (),
) -> Tier:
    """Return the tier of the most urgent of a race's events. One that needs a closing read comes before distant ones."""
    return min(
        (nearest_tier(start, end, now, also)[0] for start, end in times), key=_NEAREST_FIRST.index, default="over"
    )


def listing_tier(tiers: Collection[Tier]) -> Tier:
    """Return the tier by which a partner's listing is due, from those of its races.

    It is due as often as a race within the day while one of them is that near, because a start may be brought forward.
    """
    return "day" if set(NEAR) & set(tiers) else "later"


@dataclass(frozen=True)
class Visit:
    """What is due for a partner: these races, and its listing if `relist`.

    `near_ids` are those of the races that are in their window or start within a day. `tier` is the nearest race's.
    """

    key: str
    race_ids: tuple[int, ...]
    relist: bool
    tier: Tier
    near_ids: tuple[int, ...] = ()

    @property
    def is_near(self) -> bool:
        """Whether one of its races is near."""
        return bool(self.near_ids)

    def near_part(self) -> "Visit":
        """Return the visit without its distant races and without the listing."""
        return replace(self, race_ids=self.near_ids, relist=False)


def due(
    partners: Sequence[FleetPartner],
    races: Sequence[FleetRace],
    now: dt.datetime,
    every: CadenceSettings,
    *,
    early: dt.timedelta = dt.timedelta(0),
    also: Sequence[dt.datetime] = (),
    owed_since: dt.datetime | None = None,
) -> list[Visit]:
    """Return the partners with something whose interval has passed at `now`, the nearest race first.

    Among equals, the partner with most to read comes first, so that it is not left alone at the end. A race is due if one of its
    events is, each by its own tier. A listing is due like a distant event, and like one within the day while a race of the
    partner is that near, because its start may have moved. An attempt that is dated in the future does not count.

    Args:
        partners: the partners to sync.
        races: their races.
        now: the present.
        every: the intervals.
        early: how much sooner something counts as due: half the time between two ticks, so that no read slips to the next tick.
        also: later moments that may be the present as well, while clocks disagree. What is due at any of them is due.
        owed_since: when the last nightly sync was requested. What was not tried since is due, which completes an interrupted one.
    """

    def is_due(its_tier: Tier, tried_at: dt.datetime | None, failed: bool, over: dt.datetime | None = None) -> bool:
        waited = age(tried_at, now, also)
        if tried_at is None or waited is None:
            return True
        if owed_since is not None and tried_at < owed_since:
            return True
        # While it is open whether the event is over, its closing read keeps to the interval.
        if its_tier == "over" and over is not None and tried_at < over <= now:
            return True
        return waited >= interval(its_tier, every, failed=failed) - early

    tiers: dict[str, list[tuple[Tier, int]]] = {}
    for race in races:
        due_tiers = [
            its_tier
            for (start, end), tried_at in zip(race.times, race.tried_at, strict=True)
            if is_due(its_tier := nearest_tier(start, end, now, also)[0], tried_at, race.failed, over_at(start, end))
        ]
        if due_tiers:
            nearest_due = min(due_tiers, key=_NEAREST_FIRST.index)
            tiers.setdefault(race.key, []).append((nearest_due, race.race_id))
    tiers_of: dict[str, set[Tier]] = {}
    for race in races:
        tiers_of.setdefault(race.key, set()).add(race_tier(race.times, now, also))
    visits = []
    for partner in partners:
        its_races = tiers.get(partner.key, [])
        relist = is_due(listing_tier(tiers_of.get(partner.key, ())), partner.listed_at, partner.failed)
        if its_races or relist:
            visits.append(_build_visit(partner.key, its_races, relist))
    return sorted(visits, key=lambda visit: (_NEAREST_FIRST.index(visit.tier), -len(visit.race_ids)))


def _build_visit(key: str, races: Sequence[tuple[Tier, int]], relist: bool) -> Visit:
    """Return the visit of a partner from its due races, each with the nearest tier of its due events."""
    nearest: Tier = min((tier for tier, _ in races), key=_NEAREST_FIRST.index) if races else "later"
    near = tuple(race_id for tier, race_id in races if tier in NEAR)
    return Visit(key, tuple(race_id for _, race_id in races), relist, nearest, near)
