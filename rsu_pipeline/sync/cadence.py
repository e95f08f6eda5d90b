"""How near an event is: pure functions of its times and the present.

A start is an instant; the race's zone was applied when its wall time was read.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rsu_pipeline.settings import CadenceSettings
from rsu_pipeline.warehouse.fleet import FleetPartner, FleetRace

Tier = Literal["undated", "later", "day", "window", "over"]

DAY_BEFORE = dt.timedelta(hours=24)
WINDOW_BEFORE = dt.timedelta(hours=4)
LONGEST_WATCHED = dt.timedelta(days=3)
"""An event longer than this is a virtual one, open for weeks: it is watched on its first day, then read like one that
starts within the day."""
AFTER = dt.timedelta(hours=1)
"""How long after its start, or its end where it has one, an event is still synced: late bibs and corrections."""
LAST_LOOK = dt.timedelta(minutes=10)
"""How long before its start an event is read in full once more."""
LAST_WEEK = dt.timedelta(days=7)


def over_at(starts_at: dt.datetime | None, ends_at: dt.datetime | None) -> dt.datetime | None:
    """From when on an event is synced no more: an hour after its end, or after its start when it has no end. An end
    before the start is taken for a slip. None when nothing is known: such an event is never over."""
    times = [time for time in (starts_at, ends_at) if time is not None]
    return max(times) + AFTER if times else None


def tier(starts_at: dt.datetime | None, ends_at: dt.datetime | None, now: dt.datetime) -> Tier:
    """The event's tier at `now`. An event of several days stays in its window from 4 h before its start until it is
    over, but for one so long that it must be virtual."""
    end = over_at(starts_at, ends_at)
    if end is None:
        return "undated"
    if now >= end:
        return "over"
    start = starts_at or ends_at or end
    if now >= start - WINDOW_BEFORE:
        is_virtual = end - start > LONGEST_WATCHED + AFTER
        return "day" if is_virtual and now >= start + DAY_BEFORE else "window"
    return "day" if now >= start - DAY_BEFORE else "later"


def interval(tier: Tier, every: CadenceSettings, *, failed: bool) -> dt.timedelta | None:
    """How long after its last read an event of this tier is due; None for one that is over. An event in its window is the
    watch's business, and due here all the same, should the watch not run."""
    if tier == "over":
        return None
    seconds = {"undated": every.later, "later": every.later, "day": every.day, "window": every.window}[tier]
    return dt.timedelta(seconds=min(seconds, every.after_failure) if failed else seconds)


_NEAREST_FIRST: tuple[Tier, ...] = ("window", "day", "later", "undated", "over")


def race_tier(times: Sequence[tuple[dt.datetime | None, dt.datetime | None]], now: dt.datetime) -> Tier:
    """A race is as near as the nearest of its events; over when all are."""
    return min((tier(start, end, now) for start, end in times), key=_NEAREST_FIRST.index, default="over")


@dataclass(frozen=True)
class Visit:
    """What is due for a partner: these races, and its listing where `relist`; `tier` is the nearest race's."""

    key: str
    race_ids: tuple[int, ...]
    relist: bool
    tier: Tier


def due(
    partners: Sequence[FleetPartner],
    races: Sequence[FleetRace],
    now: dt.datetime,
    every: CadenceSettings,
    *,
    early: dt.timedelta = dt.timedelta(0),
) -> list[Visit]:
    """The partners with something whose interval has passed at `now`, the nearest race first, then who has most to read,
    lest such a one be left alone at the end. A race is due when one of its events is, each judged by its own tier; a
    listing like an event that is far off. `early` is how much sooner a thing counts as due: half the time between two
    looks, lest each read slip to the look after."""

    def is_due(its_tier: Tier, tried_at: dt.datetime | None, failed: bool) -> bool:
        pause = interval(its_tier, every, failed=failed)
        return pause is not None and (tried_at is None or now - tried_at >= pause - early)

    tiers: dict[str, list[tuple[Tier, int]]] = {}
    for race in races:
        due_tiers = [
            its_tier
            for (start, end), tried_at in zip(race.times, race.tried_at, strict=True)
            if is_due(its_tier := tier(start, end, now), tried_at, race.failed)
        ]
        if due_tiers:
            nearest_due = min(due_tiers, key=_NEAREST_FIRST.index)
            tiers.setdefault(race.key, []).append((nearest_due, race.race_id))
    visits = []
    for partner in partners:
        its_races = tiers.get(partner.key, [])
        relist = is_due("later", partner.listed_at, partner.failed)
        if its_races or relist:
            nearest: Tier = "later"
            if its_races:
                nearest = min((its_tier for its_tier, _ in its_races), key=_NEAREST_FIRST.index)
            visits.append(Visit(partner.key, tuple(race_id for _, race_id in its_races), relist, nearest))
    return sorted(visits, key=lambda visit: (_NEAREST_FIRST.index(visit.tier), -len(visit.race_ids)))
