"""The same figures on paper: polls played as events, by the watch's own pure functions, for any number of partners.

No server and no clock: what 1,000 partners would see takes seconds. What is known of a machine is what a poll costs it.
"""

import math
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from rsu_pipeline.setting_values import InFlightScope
from rsu_pipeline.sync.watch_pace import (
    BUDGET_SHARE,
    CALL_SECONDS,
    WatchedRace,
    calls_per_poll,
    next_poll,
    poll_interval,
)
from rsu_pipeline.warehouse.call_ledger import LANES

CPU_SECONDS_A_LOOK = 0.025
"""Of the watch and its PostgreSQL together, on a core of 2026; `python -m benchmarks.race_morning` and benchmarks/race_day.py
measure it."""
USABLE = 0.7
"""The share of the cores that may be planned with."""
POLL = 0.25
"""The longest the watch sleeps before it asks again what is due."""
WANTED_P95 = 30.0
ROUNDS = (4, 12)
"""How often each race is polled in a calculation, at the least and at the most: after the first round little changes."""
ENOUGH_LOOKS = 6000


@dataclass(frozen=True)
class Rules:
    """What the watch obeys.

    Calls take from `call_seconds[0]` to `call_seconds[1]` seconds. `is_small` means that races are small enough to be read in
    full by one call. The events of a race are read with every `refresh_every`-th poll.
    """

    target: float = 20.0
    removed_every: int = 6
    calls_per_hour: int = 1000
    in_flight: int = 2
    call_seconds: tuple[float, float] = (0.7, 1.4)
    is_small: bool = True
    refresh_every: int = 15

    @property
    def mean_call(self) -> float:
        return sum(self.call_seconds) / 2

    @property
    def calls_a_look(self) -> float:
        return calls_per_poll(self.is_small, self.removed_every, 1 / self.refresh_every)


@dataclass(frozen=True)
class Look:
    """A poll of a race: RunSignup's state was read at `read_at`, and what it showed was committed at `done_at`."""

    race: WatchedRace
    read_at: float
    done_at: float
    calls: int


@dataclass(frozen=True)
class Paper:
    """The figures of a number of partners.

    `shards` is how many processes watch, `calls_an_hour` counts the busiest API key, `cores` is what the polls need.
    """

    partners: int
    races: int
    scope: InFlightScope
    shards: int
    p50: float
    p95: float
    p99: float
    worst: float
    calls_an_hour: float
    looks_a_second: float
    cores: float


def fleet(partners: int, races: int, rules: Rules) -> list[WatchedRace]:
    return [
        WatchedRace(
            1 + number % partners,
            str(1 + number % partners),
            1 + number % partners,
            1 + number,
            rules.is_small,
            rules.calls_a_look,
        )
        for number in range(partners * races)
    ]


def looks(races: list[WatchedRace], rules: Rules, *, until: float, call_time: Callable[[], float]) -> list[Look]:
    """Return the polls of one watch in that many seconds, as `Watch` makes them: a worker for each call in flight."""
    free_at = [0.0] * rules.in_flight
    busy_until: dict[tuple[int, int], float] = {}
    due_at: dict[tuple[int, int], float] = {}
    count: Counter[tuple[int, int]] = Counter()
    measured = CALL_SECONDS
    learnt: list[tuple[float, float]] = []
    done: list[Look] = []
    while (now := min(free_at)) < until:
        worker = free_at.index(now)
        while learnt and learnt[0][0] <= now:
            measured += (learnt.pop(0)[1] - measured) / 10
        busy = {number for number, end in busy_until.items() if end > now}
        following = next_poll(races, due_at, busy, now)
        if following is None:
            free_at[worker] = min(busy_until[number] for number in busy)
            continue
        race, due = following
        if due > now:
            free_at[worker] = min(due, now + POLL)
            continue
        key = race.number
        due_at[key] = now + poll_interval(
            races,
            race.call_budget_id,
            target=rules.target,
            calls_per_hour=rules.calls_per_hour,
            in_flight=rules.in_flight,
            call_seconds=measured,
        )
        first = call_time()
        # The events of a race are looked up before its poll, at another poll in each race.
        refresh = call_time() if (count[key] + race.race_id) % rules.refresh_every == 0 else 0.0
        more = call_time() if not rules.is_small and count[key] % rules.removed_every == 0 else 0.0
        count[key] += 1
        calls = 1 + bool(more) + bool(refresh)
        now += refresh
        end = now + first + more
        # As the sandbox does, and a service must: the answer holds what was there half-way.
        done.append(Look(race, now + first / 2, now + first, calls))
        busy_until[key] = free_at[worker] = end
        learnt.append((end, (refresh + first + more) / calls))
        learnt.sort()
    return done


def latencies(done: list[Look], *, since: float = 0.0, every: float = 0.5) -> list[float]:
    """Return how long a change waits that is made at any moment (one in `every` seconds in each race), ascending."""
    of_race: dict[tuple[int, int], list[Look]] = defaultdict(list)
    for look in done:
        of_race[look.race.partner_id, look.race.race_id].append(look)
    found = []
    for own in of_race.values():
        for earlier, later in pairwise(own):
            if earlier.read_at < since:
                continue
            steps = max(1, round((later.read_at - earlier.read_at) / every))
            gap = later.read_at - earlier.read_at
            found += [later.done_at - earlier.read_at - gap * (step + 0.5) / steps for step in range(steps)]
    return sorted(found)


def calculate(
    partners: int, races: int, scope: InFlightScope, rules: Rules, *, seed: int = 7, a_look: float = CPU_SECONDS_A_LOOK
) -> Paper:
    """Return the figures with every race in its window.

    Calls in flight that count for each credential are made use of by shards. With all alike, one of them is played.
    """
    shards = 1
    if scope == "credential":
        while shards < partners and _interval(math.ceil(partners / shards), races, rules) > _shortest(races, rules):
            shards += 1
    own = fleet(math.ceil(partners / shards), races, rules)
    rng = random.Random(seed)
    rounds = min(max(ENOUGH_LOOKS / len(own), ROUNDS[0]), ROUNDS[1])
    until = rounds * _interval(math.ceil(partners / shards), races, rules)
    done = looks(own, rules, until=until, call_time=lambda: rng.uniform(*rules.call_seconds))
    waits = latencies(done, since=until / 4, every=max(0.5, until / 1000))
    steady = [look for look in done if look.read_at >= until / 4]
    calls: Counter[int] = Counter()
    for look in steady:
        calls[look.race.partner_id] += look.calls
    a_second = partners * races * len(steady) / len(own) / (until * 3 / 4)
    p50, p95, p99 = (percentile(waits, share) for share in (0.5, 0.95, 0.99))
    return Paper(
        partners,
        races,
        scope,
        shards,
        p50,
        p95,
        p99,
        waits[-1],
        max(calls.values()) * 3600 / (until * 3 / 4),
        a_second,
        a_second * a_look,
    )


def percentile(ascending: list[float], share: float) -> float:
    """Return the smallest value that at least this share of them does not exceed."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else math.nan


@dataclass(frozen=True)
class Ends:
    """How many partners each limit carries while 95 % of the bibs are here within WANTED_P95."""

    in_flight: int
    cpu: int
    races_for_budget: int
    """Races of one partner that its own calls for an hour carry."""
    cores: int


def ends(races: int, rules: Rules, *, cores: int | None = None, a_look: float = CPU_SECONDS_A_LOOK) -> Ends:
    """Return what each limit carries, from `interval` alone. A bib waits for up to an interval and a call."""
    longest = (WANTED_P95 - rules.mean_call) / 0.95
    partners = 1
    while _interval(partners + 1, races, rules) <= longest:
        partners += 1
    own = 1
    while _for_budget(own + 1, rules) <= longest:
        own += 1
    cores = cores or os.cpu_count() or 1
    return Ends(partners, int(cores * USABLE * longest / (races * a_look)), own, cores)


def _interval(partners: int, races: int, rules: Rules) -> float:
    return poll_interval(
        fleet(partners, races, rules),
        1,
        target=rules.target,
        calls_per_hour=rules.calls_per_hour,
        in_flight=rules.in_flight,
        call_seconds=rules.mean_call,
    )


def _for_budget(races: int, rules: Rules) -> float:
    return races * rules.calls_a_look * 3600 / (rules.calls_per_hour * BUDGET_SHARE)


def _shortest(races: int, rules: Rules) -> float:
    """Return the interval of a partner alone."""
    return _interval(1, races, rules)


def verdict(found: Ends, paper: Paper) -> str:
    """Return in a sentence which limit comes first and where one machine ends."""
    if paper.races > found.races_for_budget:
        return (
            f"A partner's own {LANES['race_day']:.0%} of its calls gives out first: it carries {found.races_for_budget}"
            f" races of one credential with 95 % of the bibs within {WANTED_P95:g} s."
        )
    one = (
        f"With RunSignup's two calls in flight over all credentials, calls in flight give out first, at"
        f" {found.in_flight} partners with {paper.races} races each in their window at once (95 % of the bibs within"
        f" {WANTED_P95:g} s)"
    )
    if found.in_flight >= found.cpu:
        one = f"CPU gives out first, at {found.cpu} partners with {paper.races} races each in their window at once"
    return (
        f"{one}; were the limit two for each credential, CPU would: {found.cores} cores carry {found.cpu} partners, and"
        " more need more machines (RSU_WATCH_SHARDS)."
    )
