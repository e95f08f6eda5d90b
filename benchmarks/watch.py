"""How soon a bib set at RunSignup is in the log of bibs, against the interval of the polls and the races in their window.

    python -m benchmarks.watch [--seconds 60] [--races N …] [--intervals S …] [--json FILE]

For each number of races the intervals are measured side by side, each with a PostgreSQL and a sandbox of its own: the partners
are loaded, the watch runs in two threads as its job runs it, every answer takes 0.3 s, and once each race has been polled twice
bibs are given out at random moments. What counts is the time from the moment before RunSignup gets it to `recorded_at` of the
row in runsignup_bib_changes, beside what benchmarks/race_morning/paper.py expects. Not one bib may be missing, else this ends
with 1.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.hub import Hub, end_cleanly, started
from benchmarks.measure import Job
from benchmarks.ours import settings_for
from benchmarks.race_morning import paper
from benchmarks.race_morning.report import Latency, latency
from benchmarks.report import as_json, machine
from rsu_pipeline.reading_settings import SyncSettings
from rsu_pipeline.sync.watch import PartnerWatched, Watch
from rsu_pipeline.warehouse.secret_box import SecretBox
from runsignup_sandbox.scales import Spec

RACES = (1, 4, 16, 48)
INTERVALS = (5.0, 20.0)
PARTNERS = 16
"""At most this number of partners share the races. Above it each has several."""
CALL_SECONDS = 0.3
EVERY = 0.25
"""Mean seconds between two bibs given out anywhere."""
BIBS_FROM = 1_000_000
"""Above every bib that the sandbox's world has given out."""
SLICE = 3600.0
PATIENCE = 90.0
"""Seconds after which the first polls count as failed, or a bib as missing."""


@dataclass
class Watched:
    """One number of races at one interval.

    `expected` has p50, p95 and worst as calculated. `to_second_look` is how many seconds passed until each race had been polled
    twice.
    """

    races: int
    partners: int
    interval: float
    to_second_look: float
    found: Latency
    expected: dict[str, float]
    looks: int
    calls: int
    missing: list[str] = field(default_factory=list)


@dataclass
class Everything:
    """Everything that was measured."""

    seconds: float
    call_seconds: float = CALL_SECONDS
    machine: dict[str, object] = field(default_factory=machine)
    watched: list[Watched] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        return [f"{item.races} races, {item.interval:g} s: {words}" for item in self.watched for words in item.missing]


class _Clock:
    """The watch's clock. When it is to end, it jumps ahead, and the slice is over at once."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def end(self) -> None:
        self._ahead = 2 * SLICE


def measure(races: int, intervals: list[float], seconds: float) -> list[Watched]:
    """Measure one number of races at each of the intervals, at the same time."""
    partners = min(races, PARTNERS)
    size = round(2 * seconds / EVERY / races) + 50
    spec = Spec(partners, races // partners, 1, size, start_in_hours=2.0)
    # Ended from outside, the servers go first, and so the threads do not go on to their end.
    with ThreadPoolExecutor(len(intervals)) as pool, ExitStack() as stack:
        hubs = [stack.enter_context(started(spec)) for _ in intervals]
        urls = [_loaded(hub) for hub in hubs]
        return list(
            pool.map(
                lambda hub, url, interval: _watched(hub, url, interval, races, partners, seconds), hubs, urls, intervals
            )
        )


def _loaded(hub: Hub) -> str:
    """Load every partner's registrations into a database before anything is timed, and return its URL."""
    url = hub.database()
    hub.run("ours", "prepare", url)
    told = hub.run("ours", "plan", url).report
    assert told.inserted == hub.expected.rows and not told.problems, told
    hub.sandbox.admin.switch(latency_ms=CALL_SECONDS * 1000)
    return url


def _watched(hub: Hub, url: str, interval: float, races: int, partners: int, seconds: float) -> Watched:
    settings = settings_for(
        Job("watch", url, hub.sandbox.api_url, hub.now, hub.partners, secret_key=hub.secret_key),
        RSU_CALLS_PER_HOUR="1000",
        RSU_FULL_READ_UP_TO_ROWS=str(SyncSettings().full_read_up_to_rows),
        RSU_WATCH_INTERVAL=str(interval),
    )
    clock = _Clock()
    secret_box = SecretBox([hub.secret_key], source="RSU_SECRET_KEY")
    watch = Watch(url, secret_box, settings, run_id="benchmark", log=lambda line: None, clock=clock)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(watch.run, SLICE)
        try:
            began = time.monotonic()
            if not _until(lambda: len(hub.rows(url, _LOOKED_AT_TWICE)) == races, running):
                raise RuntimeError(f"Within {PATIENCE:g} s not each of {races} races was polled twice.")
            to_second_look = time.monotonic() - began
            made = _give_out_bibs(hub, url, seconds, running)
            _until(lambda: len(_latencies(hub, url, made)) == len(made), running)
        finally:
            clock.end()
        done = running.result()
    found = _latencies(hub, url, made)
    rules = paper.Rules(target=interval, call_seconds=(CALL_SECONDS, CALL_SECONDS))
    on_paper = asdict(paper.calculate(partners, races // partners, "all", rules))
    return Watched(
        races,
        partners,
        interval,
        to_second_look,
        latency(list(found.values())),
        {name: on_paper[name] for name in ("p50", "p95", "worst")},
        looks=sum(partner.looks for partner in done.values()),
        calls=sum(partner.calls for partner in done.values()),
        missing=[f"bib {bib} of registration {number}" for number, bib in made.keys() - found.keys()]
        + [f"race {race}: {words}" for partner in done.values() for race, words in partner.trouble.items()],
    )


_LOOKED_AT_TWICE = """
SELECT race_id FROM api_calls WHERE lane = 'race_day' AND endpoint = 'participants' AND settled_at IS NOT NULL
GROUP BY 1 HAVING count(*) > 1
"""
_ACTIVE = "SELECT registration_id FROM runsignup_participants WHERE removed_at IS NULL ORDER BY 1"
_LOG = "SELECT registration_id, new_bib, extract(epoch FROM recorded_at)::float FROM runsignup_bib_changes"


def _until(ask: Callable[[], bool], running: Future[dict[str, PartnerWatched]]) -> bool:
    """Ask until it is so, and return false when PATIENCE has run out. A watch that ended meanwhile raises what ended it."""
    deadline = time.monotonic() + PATIENCE
    while not ask():
        if running.done():
            raise RuntimeError(f"The watch ended by itself: {running.result()}")
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def _give_out_bibs(
    hub: Hub, url: str, seconds: float, running: Future[dict[str, PartnerWatched]]
) -> dict[tuple[int, str], float]:
    """Give bibs to registrations anywhere at random moments, and return when each was, by registration and bib."""
    rng = random.Random(7)
    numbers = [number for (number,) in hub.rows(url, _ACTIVE)]
    rng.shuffle(numbers)
    made: dict[tuple[int, str], float] = {}
    following = time.monotonic()
    until = following + seconds
    for bib, number in enumerate(numbers, start=BIBS_FROM):
        following += rng.expovariate(1 / EVERY)
        if following > until or running.done():
            break
        time.sleep(max(0.0, following - time.monotonic()))
        made[number, str(bib)] = time.time()
        hub.sandbox.admin.bib(number, bib)
    return made


def _latencies(hub: Hub, url: str, made: dict[tuple[int, str], float]) -> dict[tuple[int, str], float]:
    """Return the seconds that each bib in the log took."""
    log = {(number, bib): at for number, bib, at in hub.rows(url, _LOG)}
    return {key: log[key] - at for key, at in made.items() if key in log}


def show(found: Everything) -> None:
    """Print the figures."""
    print(f"{found.call_seconds:g} s a call, bibs given out for {found.seconds:g} s; on paper in brackets.")
    for item in found.watched:
        seen, paper_ = item.found, item.expected
        print(
            f"  {item.races} races of {item.partners} partners, {item.interval:g} s: {seen.changes} bibs, p50 {seen.p50:.1f}"
            f" ({paper_['p50']:.1f}), p95 {seen.p95:.1f} ({paper_['p95']:.1f}), worst {seen.worst:.1f}"
            f" ({paper_['worst']:.1f}) s; {item.looks} polls, {item.calls} calls, {item.to_second_look:.0f} s to the second"
            " poll"
        )
    for words in found.missing:
        print(f"MISSING: {words}")


def main() -> int:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=str(__doc__).split("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="for which bibs are given out, for each number of races"
    )
    parser.add_argument("--races", type=int, nargs="+", default=list(RACES), metavar="N", help="races in their window")
    parser.add_argument(
        "--intervals", type=float, nargs="+", default=list(INTERVALS), metavar="S", help="as RSU_WATCH_INTERVAL"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    if any(races < 1 or (races > PARTNERS and races % PARTNERS) for races in options.races):
        parser.error(f"--races: from 1 to {PARTNERS}, or a multiple of {PARTNERS}, so that each partner has as many.")
    if min(options.intervals) < 1 or options.seconds < 5:
        parser.error("--intervals: at least 1 s each, as RSU_WATCH_INTERVAL; --seconds: at least 5.")
    end_cleanly()
    found = Everything(options.seconds)
    for races in options.races:
        print(f"  {races} races …", file=sys.stderr, flush=True)
        found.watched += measure(races, options.intervals, options.seconds)
    show(found)
    if options.json:
        options.json.write_bytes(as_json(found))
    return 1 if found.missing else 0


if __name__ == "__main__":
    sys.exit(main())
