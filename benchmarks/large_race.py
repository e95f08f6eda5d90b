"""The first load of one large race with RunSignup's latency, beside the least that its calls take.

    python -m benchmarks.large_race [--latency 0.7] [--repeat N] [--json FILE]

One partner, one race of 30,000 registrations. A pass makes one call at a time, so calls × latency is the least it can take. The
next page is requested while one is stored: beyond the least there should be little more than the storing of the last page. No run
counts unless all rows are stored, in exactly the calls that they take.
"""

import argparse
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.hub import end_cleanly, started
from benchmarks.report import as_json, machine
from runsignup_sandbox.scales import Spec

RACE = Spec(partners=1, races_per_partner=1, events_per_race=2, registrations_per_event=15_000)
WANTED_RATIO = 1.1


@dataclass
class LargeRace:
    """Every run's seconds, `wall`, and the CPU seconds of the client and of PostgreSQL. `least` is calls × latency."""

    latency: float
    rows: int = 0
    calls: int = 0
    least: float = 0.0
    machine: dict[str, object] = field(default_factory=machine)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    postgres_cpu: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(self.wall) / self.least


def measure(spec: Spec, latency: float, repeat: int) -> LargeRace:
    """Load the race into an empty database this number of times."""
    with started(spec) as hub:
        rows, calls = hub.expected.rows, hub.expected.closed_pages
        found = LargeRace(latency, rows, calls, calls * latency)
        template = hub.database()
        hub.run("ours", "prepare", template)
        hub.warm()
        hub.sandbox.admin.switch(latency_ms=latency * 1000)
        for number in range(repeat):
            print(f"repetition {number + 1} of {repeat} …", file=sys.stderr, flush=True)
            url = hub.database(template.rsplit("/", 1)[1])
            measured = hub.run("ours", "plan", url)
            told = measured.report
            assert not told.problems and not told.unequal, told.problems[:3]
            assert told.inserted == hub.value(url, "SELECT count(*) FROM runsignup_participants") == rows
            # One more verifies that the partner has access to its new race.
            assert measured.calls["participants"] == calls + 1, measured.calls
            assert measured.most_in_flight == 1, f"{measured.most_in_flight} calls at a time"
            found.wall.append(told.registrations.wall)
            found.cpu.append(told.registrations.cpu)
            found.postgres_cpu.append(measured.postgres_cpu)
            hub.drop(url)
    return found


def show(found: LargeRace) -> None:
    """Print the figures."""
    print(
        f"First load of one race of {found.rows:,} registrations: {found.calls} calls of {found.latency:g} s, one at a time."
        f" {statistics.median(found.wall):.1f} s beside {found.least:.1f} s, ratio {found.ratio:.3f} (wanted: {WANTED_RATIO} and"
        f" the storing of a page); CPU {statistics.median(found.cpu):.1f} s, PostgreSQL"
        f" {statistics.median(found.postgres_cpu):.1f} s."
    )


def main() -> None:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large_race", description=str(__doc__).split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--latency", type=float, default=0.7, metavar="SECONDS", help="that each answer takes")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions, of which the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    if options.latency <= 0:
        parser.error("--latency: it must be more than 0, since the least is counted in it.")
    end_cleanly()
    found = measure(RACE, options.latency, max(1, options.repeat))
    show(found)
    if options.json:
        options.json.write_bytes(as_json(found))


if __name__ == "__main__":
    main()
