"""Forecast of calls and freshness: pure functions of what was read, the settings and the present."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rsu_pipeline.reading_settings import CadenceSettings
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync import cadence, read_plan
from rsu_pipeline.sync.cadence import Tier
from rsu_pipeline.sync.watch_pace import CALL_SECONDS, calls_per_poll
from rsu_pipeline.warehouse import event_times
from rsu_pipeline.warehouse.call_ledger import LANES
from rsu_pipeline.warehouse.freshness import EventRead

GRACE = dt.timedelta(minutes=10)
HOUR = dt.timedelta(hours=1)


def calls_per_visit(is_small: bool) -> int:
    """Return the calls of a visit to a race: participants and removed registrations, or one full read of a small race."""
    return 1 if is_small else 2


@dataclass(frozen=True)
class Freshness:
    """How fresh an upcoming event is.

    `age` is how long ago it was last read or, if never read, became known. `overdue` is by how much that is too long, negative for
    a fresh one. `share` is the share of the allowed wait that is used up, above 1 for a stale one.
    """

    read: EventRead
    tier: Tier
    age: dt.timedelta
    overdue: dt.timedelta
    share: float

    @property
    def is_stale(self) -> bool:
        return self.overdue > dt.timedelta(0)


def measure_freshness(reads: Iterable[EventRead], now: dt.datetime, every: CadenceSettings) -> list[Freshness]:
    """Return the freshness of each event that is due for reads, most overdue first.

    An event may wait for twice its interval and ten minutes. The shorter interval of a nearer tier counts from its beginning, not
    from an earlier read.
    """
    found = []
    for read in reads:
        tier = cadence.tier(read.starts_at, read.ends_at, now)
        # A read that is dated in the future does not count: its time is not known.
        read_at = read.read_at if read.read_at and not cadence.is_ahead(read.read_at, now) else None
        since = min(read_at or read.known_since, now)
        waits = [
            (now - max(since, begun), 2 * cadence.interval(passed, every, failed=False) + GRACE)
            for passed, begun in _tiers_until(tier, read)
        ]
        overdue = max(wait - allowed for wait, allowed in waits)
        share = max(wait / allowed for wait, allowed in waits)
        found.append(Freshness(read, tier, now - since, overdue, share))
    return sorted(found, key=lambda item: item.overdue, reverse=True)


_EVER = dt.datetime.min.replace(tzinfo=dt.UTC)


def _tiers_until(tier: Tier, read: EventRead) -> list[tuple[Tier, dt.datetime]]:
    """Return the tiers an event has passed through, each with its beginning."""
    start = read.starts_at or read.ends_at
    if tier == "undated" or start is None:
        return [(tier, _EVER)]
    if tier == "over":
        # The closing read is due once the event is over, and once more a day later.
        over = cadence.over_at(read.starts_at, read.ends_at) or start
        is_final = read.read_at is not None and read.read_at >= over
        return [(tier, over + (event_times.CORRECTIONS_AFTER if is_final else dt.timedelta(0)))]
    tiers: list[tuple[Tier, dt.datetime]] = [("later", _EVER)]
    if tier in ("day", "window"):
        tiers.append(("day", start - cadence.DAY_BEFORE))
    if tier == "window":
        tiers.append(("window", start - cadence.WINDOW_BEFORE))
    return tiers


def find_oldest_reads(found: Sequence[Freshness]) -> dict[int, Freshness]:
    """Return the most overdue event of each partner."""
    worst: dict[int, Freshness] = {}
    for item in found:
        held = worst.get(item.read.partner_id)
        if held is None or item.overdue > held.overdue:
            worst[item.read.partner_id] = item
    return worst


def compute_shares(found: Iterable[Freshness]) -> dict[str, float]:
    """Return the share of the allowed wait that each partner's stalest event has used up, by partition key."""
    worst: dict[str, float] = {}
    for item in found:
        worst[item.read.key] = max(item.share, worst.get(item.read.key, 0.0))
    return worst


@dataclass(frozen=True)
class CallForecast:
    """Calls that a partner's plan needs in the next hour.

    `routine` is for listing and visits, `watch` for polls of races in their window at the target interval. With fewer calls the
    watch polls less often, and bibs arrive later. Partners with the same `call_budget_id` share one API key and its limit.
    """

    partner_id: int
    key: str
    call_budget_id: int
    routine: float
    watch: float

    @property
    def calls(self) -> float:
        return self.routine + self.watch


def forecast_calls(reads: Sequence[EventRead], now: dt.datetime, settings: Settings) -> list[CallForecast]:
    """Return an estimate for each partner with upcoming events, highest first.

    Each race counts by the nearest tier it has within the hour, with a full read for each event that is due for one or enters its
    window. Reads are in order of partner and race.
    """
    found = []
    for (partner_id, key, call_budget_id), own in groupby(
        reads, lambda read: (read.partner_id, read.key, read.call_budget_id)
    ):
        of_partner = list(own)
        times = [(read.starts_at, read.ends_at) for read in of_partner]
        tiers = cadence.race_tier(times, now), cadence.race_tier(times, now + HOUR)
        routine, watch = HOUR / cadence.interval(cadence.listing_tier(tiers), settings.cadence, failed=False), 0.0
        for _, group in groupby(of_partner, key=lambda read: read.race_id):
            its_routine, its_watch = _calls_for_race(list(group), now, settings)
            routine, watch = routine + its_routine, watch + its_watch
        found.append(CallForecast(partner_id, key, call_budget_id, routine, watch))
    return sorted(found, key=lambda need: need.calls, reverse=True)


def _calls_for_race(events: list[EventRead], now: dt.datetime, settings: Settings) -> tuple[float, float]:
    times = [(event.starts_at, event.ends_at) for event in events]
    here, soon = cadence.race_tier(times, now), cadence.race_tier(times, now + HOUR)
    tier: Tier = next((near for near in ("window", "day") if near in (here, soon)), here)
    enters = tier == "window" and here != "window"
    rows = sum(event.registrations for event in events if event.needs_full or enters)
    full = rows // settings.sync.page_size + 1 if enters or any(event.needs_full for event in events) else 0
    is_small = read_plan.is_small(sum(event.registrations for event in events), settings.sync.full_read_up_to_rows)
    if tier == "window" and settings.watch.bib_poll == "watch":
        watch = settings.watch
        a_poll = calls_per_poll(is_small, watch.removed_every, watch.refreshes_per_poll)
        return float(full), a_poll * 3600 / watch.interval
    pause = cadence.interval(tier, settings.cadence, failed=False)
    return full + calls_per_visit(is_small) * HOUR / pause, 0.0


@dataclass(frozen=True)
class BudgetForecast:
    """The calls of the next hour compared with the limits.

    `over_limit` are partners whose API key needs more than its limit, `over_routine_limit` those of them whose visits alone do.
    `most` is the need of the API key with the highest need. `flight_limit` is how many calls fit into the concurrency slots
    or, if each API key has its own, into the syncs that run at a time. None if these are not known.
    """

    limit: int
    needs: list[CallForecast]
    most: float
    over_limit: list[CallForecast]
    over_routine_limit: list[CallForecast]
    flight_limit: int | None

    @property
    def routine(self) -> float:
        return sum(need.routine for need in self.needs)

    @property
    def is_flight_enough(self) -> bool:
        """Whether the visits of all partners fit. The watch uses the slots that are left."""
        return self.flight_limit is None or self.routine <= self.flight_limit

    @property
    def is_enough(self) -> bool:
        return not self.over_limit and self.is_flight_enough


def forecast_budget(
    needs: list[CallForecast], settings: Settings, concurrent_syncs: int | None = None
) -> BudgetForecast:
    """Compare the forecasts with the limits of the settings.

    If each API key has concurrency slots of its own, the `concurrent_syncs` limit the calls, as far as they are known.
    """
    own = settings.budget
    slots = own.max_in_flight if own.in_flight_scope == "all" else concurrent_syncs
    calls: dict[int, float] = defaultdict(float)
    routine: dict[int, float] = defaultdict(float)
    for need in needs:
        calls[need.call_budget_id] += need.calls
        routine[need.call_budget_id] += need.routine
    starved = {number for number, count in routine.items() if count > _routine(own.calls_per_hour)}
    short = starved | {number for number, count in calls.items() if count > own.calls_per_hour}
    return BudgetForecast(
        own.calls_per_hour,
        needs,
        max(calls.values(), default=0.0),
        [need for need in needs if need.call_budget_id in short],
        [need for need in needs if need.call_budget_id in starved],
        None if slots is None else int(slots * 3600 / CALL_SECONDS),
    )


def _routine(calls_per_hour: int) -> float:
    return calls_per_hour * LANES["routine"]
