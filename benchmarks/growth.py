"""Cost against size: registrations of one partner, and the number of partners.

    python -m benchmarks.growth [--race-size N] [--partners N …] [--json FILE]

Registrations: one partner with 100 races of `--race-size` (10,000, so a million in the end) is loaded step by step, to 1, 3,
10, 30 and 100 races. After each step the same 50 registrations of the first race get new bibs and that race is visited, as the
schedules do it: what such a visit costs must not depend on what else is stored. Partners: the given numbers of them, with one
race of 20 registrations each, are loaded and visited again with nothing new. Then sensors and schedules tick. Last, how long
`rsu up` takes until its web UI answers.

Nothing counts unless the rows stored and the changes found are those of the sandbox's world. With the defaults it takes some
ten minutes.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.hub import Hub, Measured, end_cleanly, started
from benchmarks.installation import installed
from benchmarks.measure import Part, Read, Report
from benchmarks.report import as_json, machine
from runsignup_sandbox.scales import Spec

STEPS = (1, 3, 10, 30, 100)
"""Races loaded so far."""
CHANGED = 50
VISITS = 9
MONTHS_AHEAD = 24.0 * 60
REGISTRATIONS_OF_A_PARTNER = 20


@dataclass
class Loaded:
    """One partner's registrations, of which `rows` are stored.

    Seconds, calls and bytes are of everything from nothing on. A visit is of one race with 50 new bibs.
    """

    stored: int
    wall: float
    cpu: float
    postgres_cpu: float
    calls: int
    bytes: int
    peak_mib: float
    database_bytes: int
    rows_per_second: float
    """Of this step's rows alone."""
    listing_wall: float
    visit_wall: float
    visit_cpu: float
    visit_postgres_cpu: float
    visit_calls: int


@dataclass
class Fleet:
    """A number of partners, each with one small race."""

    partners: int
    stored: int
    first: dict[str, float]
    again: dict[str, float]
    database_bytes: int
    seconds: dict[str, float]


@dataclass
class Grown:
    """Everything that was measured."""

    machine: dict[str, object] = field(default_factory=machine)
    registrations: list[Loaded] = field(default_factory=list)
    partners: list[Fleet] = field(default_factory=list)
    web_ui_seconds: float = 0.0

    @property
    def visit_ratio(self) -> float:
        """A visit with the most stored, by one with the least."""
        return self.registrations[-1].visit_wall / self.registrations[0].visit_wall


def registrations(race_size: int, steps: tuple[int, ...] = STEPS, visits: int = VISITS) -> list[Loaded]:
    """Measure one partner, loaded step by step."""
    spec = Spec(1, steps[-1], 2, race_size // 2, start_in_hours=MONTHS_AHEAD)
    found: list[Loaded] = []
    with started(spec) as hub:
        url = hub.database()
        hub.run("ours", "prepare", url)
        reads = hub.expected.reads
        hub.warm()
        whole: list[Measured] = []
        loaded = 0
        for races in steps:
            print(f"  {races * race_size:,} registrations …", file=sys.stderr, flush=True)
            new = reads[loaded:races]
            measured = hub.run("ours", "part", url, reads=new)
            rows = sum(hub.expected.sizes[event_id] for read in new for event_id in read.event_ids)
            _right(measured, rows=rows, inserted=rows)
            loaded = races
            whole.append(measured)
            stored = hub.value(url, "SELECT count(*) FROM runsignup_participants WHERE removed_at IS NULL")
            assert stored == races * 2 * (race_size // 2), stored
            size = hub.value(url, "SELECT pg_database_size(current_database())")
            assert isinstance(stored, int) and isinstance(size, int)
            found.append(_loaded(whole, stored, size, rows, _visits(hub, url, reads[0], len(found), visits)))
    return found


def _visits(hub: Hub, url: str, read: Read, step: int, visits: int) -> list[Measured]:
    """Visit one race several times, each time after the same registrations got new bibs."""
    numbers = hub.rows(
        url,
        f"SELECT registration_id FROM runsignup_participants WHERE race_id = {read.race_id} AND removed_at IS NULL"
        f" ORDER BY registration_id LIMIT {CHANGED}",
    )
    found = []
    for visit in range(visits):
        for place, (number,) in enumerate(numbers):
            hub.sandbox.admin.bib(number, 1_000_000 * (step + 1) + 1_000 * visit + place)
        measured = hub.run("ours", "part", url, reads=[read])
        _right(measured, updated=len(numbers), bib_changes=len(numbers))
        found.append(measured)
    return found


def _loaded(whole: list[Measured], stored: int, size: int, rows: int, visits: list[Measured]) -> Loaded:
    parts = [item.report.registrations for item in whole]
    return Loaded(
        stored=stored,
        wall=sum(part.wall for part in parts),
        cpu=sum(part.cpu for part in parts),
        postgres_cpu=sum(item.postgres_cpu for item in whole),
        calls=sum(sum(item.calls.values()) for item in whole),
        bytes=sum(item.bytes for item in whole),
        peak_mib=max(item.report.peak_mib for item in whole),
        database_bytes=size,
        rows_per_second=rows / parts[-1].wall,
        listing_wall=whole[-1].report.listing.wall,
        visit_wall=statistics.median(visit.report.registrations.wall for visit in visits),
        visit_cpu=statistics.median(visit.report.registrations.cpu for visit in visits),
        # It is reported in hundredths of a second, so a median would be too.
        visit_postgres_cpu=statistics.fmean(visit.postgres_cpu for visit in visits),
        visit_calls=visits[0].calls["participants"] + visits[0].calls["removed"],
    )


def fleet(partners: int) -> Fleet:
    """Measure a number of partners, loaded and visited again."""
    print(f"  {partners:,} partners …", file=sys.stderr, flush=True)
    spec = Spec(partners, 1, 1, REGISTRATIONS_OF_A_PARTNER, start_in_hours=MONTHS_AHEAD)
    with started(spec) as hub:
        url = hub.database()
        hub.run("ours", "prepare", url)
        hub.warm()
        first = hub.run("ours", "plan", url)
        _right(first, rows=hub.expected.rows, inserted=hub.expected.rows)
        again = hub.run("ours", "plan", url)
        _right(again)
        size = hub.value(url, "SELECT pg_database_size(current_database())")
        assert isinstance(size, int)
        starts = hub.run("starts", "all", url)
        return Fleet(partners, hub.expected.rows, _figures(first), _figures(again), size, starts.report.seconds)


def _right(measured: Measured, **wanted: int) -> None:
    """Refuse a run that did not do exactly what it had to. What is not named must be 0, except the rows read."""
    told: Report = measured.report
    assert not told.problems and not told.unequal, (told.problems[:3], told.unequal)
    for name in ("inserted", "updated", "removed", "bib_changes", *(["rows"] if "rows" in wanted else [])):
        assert getattr(told, name) == wanted.get(name, 0), (name, getattr(told, name), wanted.get(name, 0))


def _figures(measured: Measured) -> dict[str, float]:
    told = measured.report
    both = Part(told.listing.wall + told.registrations.wall, told.listing.cpu + told.registrations.cpu)
    return {
        "wall": both.wall,
        "cpu": both.cpu,
        "postgres_cpu": measured.postgres_cpu,
        "peak_mib": told.peak_mib,
        "calls": sum(measured.calls.values()),
        "bytes": measured.bytes,
    }


def web_ui() -> float:
    """Return seconds from `rsu up`, on a database that has its tables, until the web UI answers."""
    with started(Spec(start_in_hours=MONTHS_AHEAD)) as hub:
        url = hub.database()
        hub.run("ours", "prepare", url)
        folder = hub.folder / "up"
        folder.mkdir()
        began = time.monotonic()
        with installed(url, hub.sandbox, folder):
            return time.monotonic() - began


def show(grown: Grown) -> None:
    """Print the figures."""
    print("One partner: stored | load s | CPU s | PostgreSQL CPU s | rows/s of the step | peak MiB | calls | database MiB |"
          " a visit ms")  # fmt: skip
    for item in grown.registrations:
        print(
            f"  {item.stored:>9,} | {item.wall:7.1f} | {item.cpu:6.1f} | {item.postgres_cpu:6.1f} |"
            f" {item.rows_per_second:8,.0f} | {item.peak_mib:5.0f} | {item.calls:5,} | {item.database_bytes / 2**20:6,.0f} |"
            f" {item.visit_wall * 1000:6.1f}"
        )
    if grown.registrations:
        print(f"A visit with the most stored takes {grown.visit_ratio:.2f} of one with the least.")
    for fleet in grown.partners:
        print(f"{fleet.partners:,} partners:")
        for name, figures in (("first", fleet.first), ("again", fleet.again)):
            print(
                f"  {name}: {figures['wall']:.1f} s, {figures['wall'] / fleet.partners * 1000:.0f} ms a partner, CPU"
                f" {figures['cpu']:.1f} s, {figures['calls']:,.0f} calls, {figures['peak_mib']:.0f} MiB"
            )
        for name, seconds in fleet.seconds.items():
            print(f"  {name}: {seconds * 1000:.0f} ms")
    if grown.web_ui_seconds:
        print(f"The web UI answers {grown.web_ui_seconds:.1f} s after `rsu up`.")


def main() -> None:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=str(__doc__).split("\n")[0])
    parser.add_argument("--race-size", type=int, default=10_000, metavar="N", help="registrations of each of 100 races")
    parser.add_argument("--partners", type=int, nargs="*", default=[13, 100, 1000], metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    end_cleanly()
    grown = Grown()
    grown.registrations = registrations(options.race_size)
    grown.partners = [fleet(count) for count in options.partners]
    grown.web_ui_seconds = web_ui()
    show(grown)
    if options.json:
        options.json.write_bytes(as_json(grown))


if __name__ == "__main__":
    main()
