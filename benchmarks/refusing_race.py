"""One of three races in their window cannot be read: how soon the bibs of the other two are here.

    python -m benchmarks.refusing_race [--seconds 120] [--cases NAME ...] [--json FILE]

One partner has three races in their window, a call takes 0.7 s, and the watch has its usual settings. One race answers as the
case has it, and bibs are given out in the other two. A partner's races are polled one after the other, so that what a failing
poll costs is what the others wait. The cases are measured side by side, each with servers of its own.

Not one bib may be missing, and 95 % have to be here within 30 s, else this ends with 1.
"""

import argparse
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.hub import Hub, end_cleanly, started
from benchmarks.measure import Job
from benchmarks.ours import settings_for
from benchmarks.race_morning.report import Latency, latency
from benchmarks.report import as_json, machine
from rsu_pipeline.reading_settings import SyncSettings, WatchSettings
from rsu_pipeline.sync.watch import Watch
from rsu_pipeline.warehouse.secret_box import SecretBox
from runsignup_sandbox.scales import Spec

CASES: dict[str, dict[str, Any] | None] = {
    "all well": None,
    "access denied": {"kind": "error_code", "code": 7, "message": "Permission Denied"},
    "HTTP 500": {"kind": "http_500"},
    "no answer": {"kind": "timeout"},
}
"""What the first race's participants are answered with, in the words of the sandbox's faults."""
SPEC = Spec(1, 3, 1, 300, start_in_hours=2.0)
CALL_SECONDS = 0.7
EVERY = 0.4
"""Mean seconds between two bibs given out."""
BIBS_FROM = 1_000_000
WANTED_P95 = 30.0


@dataclass
class Case:
    """What became of the bibs of the two other races."""

    name: str
    found: Latency
    missing: int
    polls: int
    failing_calls: int

    @property
    def is_kept(self) -> bool:
        return not self.missing and self.found.p95 <= WANTED_P95


@dataclass
class RefusingRace:
    """Everything that was measured."""

    seconds: float
    machine: dict[str, object] = field(default_factory=machine)
    cases: list[Case] = field(default_factory=list)


def measure(names: list[str], seconds: float, interval: float = WatchSettings().interval) -> list[Case]:
    """Measure the cases at the same time, with bibs for that many seconds and a poll of each race every `interval` seconds."""
    with ThreadPoolExecutor(len(names)) as pool, ExitStack() as stack:
        hubs = [stack.enter_context(started(SPEC)) for _ in names]
        return list(pool.map(lambda name, hub: _case(name, hub, seconds, interval), names, hubs))


def _case(name: str, hub: Hub, seconds: float, interval: float) -> Case:
    url = hub.database()
    hub.run("ours", "prepare", url)
    hub.run("ours", "plan", url)
    admin = hub.sandbox.admin
    by_race: dict[int, list[int]] = {}
    for race_id, number in hub.rows(url, "SELECT race_id, registration_id FROM runsignup_participants ORDER BY 1, 2"):
        by_race.setdefault(race_id, []).append(number)
    failing = min(by_race)
    admin.switch(latency_ms=CALL_SECONDS * 1000)
    if fault := CASES[name]:
        admin.fault(times=0, endpoint="participants", race_id=failing, **fault)
    settings = settings_for(
        Job("watch", url, hub.sandbox.api_url, hub.now, hub.partners, secret_key=hub.secret_key),
        RSU_CALLS_PER_HOUR="1000",
        RSU_WATCH_INTERVAL=str(interval),
        RSU_FULL_READ_UP_TO_ROWS=str(SyncSettings().full_read_up_to_rows),
    )
    watch = Watch(
        url, SecretBox([hub.secret_key], source="RSU_SECRET_KEY"), settings, run_id="benchmark", log=lambda line: None
    )
    with ThreadPoolExecutor(1) as pool:
        # The last bibs are given out a while before the end, so that those that are missing then are late.
        running = pool.submit(watch.run, seconds + 3 * interval)
        made = _give_out_bibs(
            hub, [number for race, own in by_race.items() if race != failing for number in own], seconds
        )
        done = running.result()
    log = {(number, bib): at for number, bib, at in hub.rows(url, _LOG)}
    waits = [log[key] - at for key, at in made.items() if key in log]
    calls = hub.value(url, f"SELECT count(*) FROM api_calls WHERE race_id = {failing} AND lane = 'race_day'")
    assert isinstance(calls, int)
    return Case(name, latency(waits), len(made) - len(waits), sum(item.looks for item in done.values()), calls)


_LOG = "SELECT registration_id, new_bib, extract(epoch FROM recorded_at)::float FROM runsignup_bib_changes"


def _give_out_bibs(hub: Hub, numbers: list[int], seconds: float) -> dict[tuple[int, str], float]:
    """Give bibs at random moments, and return when each was, by registration and bib."""
    rng = random.Random(7)
    rng.shuffle(numbers)
    made: dict[tuple[int, str], float] = {}
    following = time.monotonic()
    until = following + seconds
    for bib, number in enumerate(numbers, start=BIBS_FROM):
        following += rng.expovariate(1 / EVERY)
        if following > until:
            break
        time.sleep(max(0.0, following - time.monotonic()))
        made[number, str(bib)] = time.time()
        hub.sandbox.admin.bib(number, bib)
    return made


def table(found: RefusingRace) -> str:
    """Return the figures as a table of Markdown."""
    lines = [
        "| the first race | bibs of the others | p50 s | p95 s | worst s | missing | its calls |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {case.name} | {case.found.changes} | {case.found.p50:.1f} | {case.found.p95:.1f} | {case.found.worst:.1f} |"
        f" {case.missing} | {case.failing_calls} |"
        for case in found.cases
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refusing_race", description=str(__doc__).split("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="for which bibs are given out")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    end_cleanly()
    found = RefusingRace(options.seconds)
    found.cases = measure(options.cases, options.seconds)
    print(table(found))
    if options.json:
        options.json.write_bytes(as_json(found))
    return 0 if all(case.is_kept for case in found.cases) else 1


if __name__ == "__main__":
    sys.exit(main())
