"""Which races the watch polls, how often, and which next.

These are pure functions, without what a poll itself needs: the board, the alerts and the checks use them too.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rsu_pipeline.settings import Settings
from rsu_pipeline.sync import cadence, read_plan
from rsu_pipeline.warehouse import fleet

CALL_SECONDS = 1.4
"""How long a call is assumed to take if none has been measured: the slow end of what was seen at RunSignup."""
BUDGET_SHARE = 0.9
"""The share of an API key's hour that the watch plans with. The rest is for full reads, retries and others."""


@dataclass(frozen=True)
class WatchedRace:
    """A race in its window.

    Races with the same `call_budget_id` are polled with one API key. `is_small` means that a full read is one call,
    `calls_per_poll` is the expected average of a poll, `next_over_at` is when the next of its events will be over.
    """

    partner_id: int
    key: str
    call_budget_id: int
    race_id: int
    is_small: bool
    calls_per_poll: float
    next_over_at: dt.datetime | None = None

    @cached_property
    def number(self) -> tuple[int, int]:
        """The ids of the partner and of the race."""
        return self.partner_id, self.race_id


def select_watched_races(
    races: Sequence[fleet.FleetRace],
    now: dt.datetime,
    settings: Settings,
    *,
    shard: int = 0,
    shards: int = 1,
    also: Sequence[dt.datetime] = (),
) -> list[WatchedRace]:
    """Return the races in their window at `now`, or at a later moment in `also`, of the API keys that belong to this shard.

    The shard that plans a key's calls sees all of its races.
    """
    found = []
    for race in races:
        if race.call_budget_id % shards != shard or cadence.race_tier(race.times, now, also) != "window":
            continue
        is_small = read_plan.is_small(_registrations_in_window(race, now, also), settings.sync.full_read_up_to_rows)
        calls = calls_per_poll(is_small, settings.watch.removed_every, settings.watch.refreshes_per_poll)
        ends_at = cadence.next_over_at(race.times, now)
        found.append(
            WatchedRace(race.partner_id, race.key, race.call_budget_id, race.race_id, is_small, calls, ends_at)
        )
    return found


def _registrations_in_window(race: fleet.FleetRace, now: dt.datetime, also: Sequence[dt.datetime]) -> int:
    """Return how many registrations the events have that a poll of the race reads."""
    return sum(
        count
        for times, count in zip(race.times, race.registrations, strict=False)
        if cadence.race_tier([times], now, also) == "window"
    )


def calls_per_poll(is_small: bool, removed_every: int, refreshes_per_poll: float) -> float:
    """Return the calls that a poll takes on average if nothing changes.

    That is one, plus one in each `removed_every`-th poll for the removed registrations, for which a small race is read in full
    instead, plus the refreshes of the race's events.
    """
    return (1.0 if is_small else 1 + 1 / removed_every) + refreshes_per_poll


def poll_interval(
    races: Sequence[WatchedRace],
    call_budget_id: int,
    *,
    target: float,
    calls_per_hour: int,
    in_flight: int,
    call_seconds: float = CALL_SECONDS,
) -> float:
    """Return the seconds between two polls of a race of this API key: the target, or longer if its calls would not suffice.

    Both the key's calls per hour and the calls in flight limit it.
    """
    own = sum(race.calls_per_poll for race in races if race.call_budget_id == call_budget_id)
    for_budget = own * 3600 / (calls_per_hour * BUDGET_SHARE)
    for_flight = sum(race.calls_per_poll for race in races) * call_seconds / in_flight
    return max(target, for_budget, for_flight)


def next_poll(
    races: Sequence[WatchedRace],
    due_at: Mapping[tuple[int, int], float],
    busy: Collection[tuple[int, int]],
    now: float,
) -> tuple[WatchedRace, float] | None:
    """Return which race is polled next, and when, or None.

    It is the one due first of those that no worker polls now. One that was never polled is due at once. Of those that are due,
    races of partners that no worker polls come first: usually all of a partner's races hang.
    """
    polled = {partner_id for partner_id, _ in busy}
    first: tuple[tuple[bool, bool, float], WatchedRace] | None = None
    # A loop, because the calculation for 1,000 partners compares forty million races.
    for race in races:
        if race.number in busy:
            continue
        due = due_at.get(race.number, 0.0)
        order = due > now, due <= now and race.partner_id in polled, due
        if first is None or order < first[0]:
            first = order, race
    return None if first is None else (first[1], first[0][2])
