"""A full read against an incremental one, by the size of the race: calls, bytes, CPU.

    python -m benchmarks.small_races [--sizes N ...] [--visits N] [--json FILE]

One race is visited again and again, in turn incrementally (what changed, then what was removed) and in full, first with nothing
new, then with five new bibs before each visit. RunSignup answers at once. The figures to go by are the ratios: they show up to
which size a full read, which reconciles the race and needs fewer calls, costs little more than it saves. That size is the
default of `RSU_FULL_READ_UP_TO_ROWS`.

No visit counts unless it stored exactly the new bibs.
"""

import argparse
import datetime as dt
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from benchmarks.hub import Hub, end_cleanly, started
from benchmarks.measure import Job, cpu_of
from benchmarks.ours import settings_for
from benchmarks.race_morning.cpu import cpu_with_children, parent_of
from benchmarks.report import as_json, machine
from rsu_pipeline.sync import partner_sync
from rsu_pipeline.sync.session import PartnerSession, open_partner_session
from rsu_pipeline.warehouse.secret_box import SecretBox
from runsignup_sandbox.scales import Spec

SIZES = (50, 100, 250, 500, 1000, 2499)
CHANGED = 5
MONTHS_AHEAD = 24.0 * 60
Mode = Literal["incremental", "full"]


@dataclass
class Visit:
    """What a visit costs on average. Seconds of CPU are of this process, of PostgreSQL and of the sandbox."""

    calls: float = 0.0
    bytes: float = 0.0
    client_cpu: float = 0.0
    postgres_cpu: float = 0.0
    sandbox_cpu: float = 0.0

    @property
    def cpu(self) -> float:
        """What it costs here: RunSignup's own work is not in it."""
        return self.client_cpu + self.postgres_cpu

    def add(self, other: "Visit") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def mean(self, visits: int) -> "Visit":
        return Visit(**{name: value / visits for name, value in vars(self).items()})


@dataclass
class Sized:
    """A race of some size: each kind of visit with nothing new and with new bibs."""

    registrations: int
    quiet: dict[Mode, Visit]
    changed: dict[Mode, Visit]


@dataclass
class SmallRaces:
    """Everything that was measured."""

    visits: int
    machine: dict[str, object] = field(default_factory=machine)
    sizes: list[Sized] = field(default_factory=list)


def measure(registrations: int, visits: int) -> Sized:
    """Visit a race of this size several times in each way."""
    with started(Spec(1, 1, 1, registrations, start_in_hours=MONTHS_AHEAD)) as hub:
        url = hub.database()
        hub.run("ours", "prepare", url)
        hub.warm()
        hub.run("ours", "plan", url)
        numbers = [
            number for (number,) in hub.rows(url, "SELECT registration_id FROM runsignup_participants ORDER BY 1")
        ]
        bibs = itertools.count(1_000_000)
        with partner_session_on(hub, url) as session:
            quiet = _visits(hub, session, visits, [], bibs)
            changed = _visits(hub, session, visits, numbers[:CHANGED], bibs)
    return Sized(registrations, quiet, changed)


def _visits(
    hub: Hub, session: PartnerSession, visits: int, numbers: Sequence[int], bibs: Iterator[int]
) -> dict[Mode, Visit]:
    total: dict[Mode, Visit] = {"incremental": Visit(), "full": Visit()}
    for mode in [*total] * visits:
        for number in numbers:
            hub.sandbox.admin.bib(number, next(bibs))
        total[mode].add(_visit(hub, session, mode, len(numbers)))
    return {mode: visit.mean(visits) for mode, visit in total.items()}


def _visit(hub: Hub, session: PartnerSession, mode: Mode, new_bibs: int) -> Visit:
    admin = hub.sandbox.admin
    session.settings = replace(session.settings, full_read_up_to_rows=2500 if mode == "full" else 0)
    postmaster = parent_of(session.conn.get_backend_pid())
    admin.reset_stats()
    before = time.process_time(), cpu_with_children(postmaster), cpu_of(hub.sandbox.process.pid)
    outcome = partner_sync.sync_participants(session, partner_sync.make_plan(session))
    after = time.process_time(), cpu_with_children(postmaster), cpu_of(hub.sandbox.process.pid)
    assert [read.read.mode for read in outcome.reads] == [mode] and not outcome.failures, outcome
    assert outcome.counts.bib_changes == outcome.counts.updated == new_bibs, outcome.counts
    stats = admin.stats()
    client, postgres, sandbox = (end - begin for begin, end in zip(before, after, strict=True))
    return Visit(stats["calls"], stats["bytes"], client, postgres, sandbox)


@contextmanager
def partner_session_on(hub: Hub, url: str) -> Iterator[PartnerSession]:
    """Open a session of the world's partner in this process."""
    work = Job("", url, hub.sandbox.api_url, hub.now, hub.partners, secret_key=hub.secret_key)
    now = dt.datetime.fromtimestamp(hub.now, dt.UTC)
    secret_box = SecretBox([work.secret_key], source="RSU_SECRET_KEY")
    with open_partner_session(
        url,
        secret_box,
        settings_for(work),
        "1",
        lane="routine",
        run_id="benchmark",
        log=lambda line: None,
        now=lambda: now,
    ) as session:
        yield session


def table(found: SmallRaces) -> str:
    """Return the figures as a table of Markdown, a full read beside an incremental one."""
    lines = [
        "| registrations | calls | changed | kB | CPU ms here | changed | × incremental | changed | sandbox CPU ms |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for item in found.sizes:
        old, new = item.quiet["incremental"], item.quiet["full"]
        old_changed, new_changed = item.changed["incremental"], item.changed["full"]
        lines.append(
            f"| {item.registrations:,} | {new.calls:g} : {old.calls:g} | {new_changed.calls:g} : {old_changed.calls:g} |"
            f" {new.bytes / 1000:.1f} : {old.bytes / 1000:.1f} | {new.cpu * 1000:.1f} : {old.cpu * 1000:.1f} |"
            f" {new_changed.cpu * 1000:.1f} : {old_changed.cpu * 1000:.1f} | {new.cpu / old.cpu:.2f} |"
            f" {new_changed.cpu / old_changed.cpu:.2f} |"
            f" {new.sandbox_cpu * 1000:.1f} : {old.sandbox_cpu * 1000:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_races", description=str(__doc__).split("\n")[0])
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=list(SIZES), metavar="N", help="registrations of the race"
    )
    parser.add_argument("--visits", type=int, default=100, metavar="N", help="visits of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    if not all(CHANGED <= size < 2500 for size in options.sizes) or options.visits < 1:
        parser.error(f"--sizes: from {CHANGED} to 2499, what fits one page; --visits: at least 1.")
    end_cleanly()
    found = SmallRaces(options.visits)
    for size in options.sizes:
        print(f"  {size:,} registrations …", file=sys.stderr, flush=True)
        found.sizes.append(measure(size, options.visits))
    print(table(found))
    if options.json:
        options.json.write_bytes(as_json(found))


if __name__ == "__main__":
    main()
