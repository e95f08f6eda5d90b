"""What is measured against: a PostgreSQL server and a sandbox of their own, and what a sync of it must come to."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psycopg2
import requests
from cryptography.fernet import Fernet

from benchmarks.measure import Job, Partner, Read, Report, cpu_of
from benchmarks.pages import following, page
from rsu_pipeline.local import embedded
from rsu_pipeline.reading_settings import SyncSettings
from rsu_pipeline.sync.race_details import MAX_PAST_PER_LISTING
from runsignup_sandbox.process import SandboxProcess
from runsignup_sandbox.scales import Spec, build
from runsignup_sandbox.times import DAY

SEED = 7
PAGE_SIZE = 2500
ROOT = Path(__file__).resolve().parent.parent
LARGE = Spec(partners=4, races_per_partner=5, events_per_race=2, registrations_per_event=5000)
"""200,000 registrations, all of the future."""
LATELY_SECONDS = 2 * SyncSettings.cursor_overlap
SCALES = {"medium": "medium", "estate": "estate", "large": "custom"}


class _Registration(msgspec.Struct):
    registration_id: int


class _Element(msgspec.Struct):
    participants: list[_Registration] = []


_listed = msgspec.json.Decoder(list[_Element])


@dataclass
class Expected:
    """What the sandbox's world holds: the partners' reads, registrations per event, registrations and calls over all."""

    reads: list[Read]
    sizes: dict[int, int]
    rows: int = 0
    pages: int = 0
    """Of all reads, where a short page is taken for the last, as the simple contenders do."""
    closed_pages: int = 0
    """Of all reads, where a call shows the end."""
    larger: int = 0
    """Reads that do not fit one page."""
    largest: int = 0
    """Reads that fit one page and whose partner has no larger one that does: no page shows their end."""
    near: int = 0
    """Reads of races that start within a day, which come before the others whatever their size."""
    listing_pages: int = 0
    details: int = 0
    shared: int = 0
    """Races of two partners: side by side, both may read such a race."""
    removed_lately: int = 0
    """Reads of events from which something was removed within LATELY_SECONDS: it comes once more, because cursors overlap."""
    modified_lately: int = 0
    """Reads of events in which something else was modified."""

    def count(self) -> None:
        per_read = [sum(self.sizes[event_id] for event_id in read.event_ids) for read in self.reads]
        self.rows = sum(per_read)
        self.larger = sum(rows >= PAGE_SIZE for rows in per_read)
        of_partner: dict[int, list[int]] = {}
        for read, rows in zip(self.reads, per_read, strict=True):
            if rows < PAGE_SIZE:
                of_partner.setdefault(read.partner, []).append(rows)
        self.largest = sum(rows.count(max(rows)) for rows in of_partner.values())
        self.pages = sum(rows // PAGE_SIZE + 1 for rows in per_read)
        # The highest registration, behind an empty page where the last page is full.
        self.closed_pages = sum(-(-rows // PAGE_SIZE) + 1 + (rows > 0 and rows % PAGE_SIZE == 0) for rows in per_read)


@dataclass
class Measured:
    """One process's run: its own report, and what it cost the servers."""

    report: Report
    calls: dict[str, int]
    bytes: int
    most_in_flight: int
    sandbox_cpu: float
    postgres_cpu: float


@dataclass
class Hub:
    """The servers, and the partners of the sandbox."""

    server_url: str
    sandbox: SandboxProcess
    partners: list[Partner]
    now: float
    expected: Expected
    folder: Path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    secret_key: str = field(default_factory=lambda: Fernet.generate_key().decode())

    def execute(self, statement: str) -> None:
        with closing(psycopg2.connect(self.server_url)) as conn:
            conn.autocommit = True
            with conn.cursor() as cur:
                cur.execute(statement)

    def rows(self, url: str, query: str) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(url)) as conn, conn.cursor() as cur:
            cur.execute(query)
            return cur.fetchall()

    def value(self, url: str, query: str) -> object:
        return self.rows(url, query)[0][0]

    def database(self, template: str = "template0") -> str:
        """Return the URL of a new database, a copy of the template."""
        name = f"benchmark_{next(self._numbers)}"
        self._wait_for_sessions_to_end(template)
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return f"{self.server_url.rsplit('/', 1)[0]}/{name}"

    def drop(self, url: str) -> None:
        self.execute(f"DROP DATABASE {url.rsplit('/', 1)[1]} WITH (FORCE)")

    def _wait_for_sessions_to_end(self, name: str) -> None:
        deadline = time.monotonic() + 30
        query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND backend_type = 'client backend'"
        while self.value(self.server_url, query):
            if time.monotonic() > deadline:
                raise RuntimeError(f"Database {name} is still in use.")
            time.sleep(0.02)

    def run(
        self,
        module: str,
        action: str,
        url: str,
        *,
        root: Path = ROOT,
        python: str = sys.executable,
        reads: list[Read] | None = None,
        variant: str = "",
    ) -> Measured:
        """Run `benchmarks.<module>` in a process of its own, with the package as the checkout `root` has it.

        `reads` are those of the world unless given.
        """
        name = url.rsplit("/", 1)[1]
        job = Job(
            action,
            url,
            self.sandbox.api_url,
            self.now,
            self.partners,
            self.expected.reads if reads is None else reads,
            self.secret_key,
            variant=variant,
        )
        self.execute("CHECKPOINT")
        self.sandbox.admin.reset_stats()
        postmaster = self._postmaster()
        before = cpu_of(self.sandbox.process.pid), cpu_of(postmaster, of_ended_children=True)
        done = subprocess.run(
            [python, "-m", f"benchmarks.{module}"],
            input=msgspec.json.encode(job),
            stdout=subprocess.PIPE,
            check=True,
            # Neither place is the working directory, which Python would search first.
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(root), str(ROOT)))},
        )
        self._wait_for_sessions_to_end(name)
        stats = self.sandbox.admin.stats()
        return Measured(
            msgspec.json.decode(done.stdout, type=Report),
            stats["by_endpoint"],
            stats["bytes"],
            stats["max_in_flight"],
            cpu_of(self.sandbox.process.pid) - before[0],
            cpu_of(postmaster, of_ended_children=True) - before[1],
        )

    def _postmaster(self) -> int:
        """Process id of PostgreSQL's parent process. Ended sessions count among its children."""
        with closing(psycopg2.connect(self.server_url)) as conn:
            stat = Path(f"/proc/{conn.get_backend_pid()}/stat")
            return int(stat.read_text().rpartition(")")[2].split()[1]) if stat.exists() else 0

    def warm(self) -> None:
        """Let the sandbox make every row of the future events, so that nobody is measured waiting for that."""
        work = Job("warm", "", self.sandbox.api_url, self.now, self.partners)
        partners = {partner.number: partner for partner in self.partners}
        with requests.Session() as session:
            session.trust_env = False
            for read in self.expected.reads:
                after: int | None = 0
                while after is not None:
                    elements = _listed.decode(page(session, work, partners[read.partner], read, after))
                    ids = [row.registration_id for item in elements for row in item.participants]
                    after = following(work, len(ids), max(ids, default=0))


def end_cleanly() -> None:
    """Let a benchmark that is ended from outside leave no server and no folder behind either."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


@contextmanager
def started(scale: str | Spec, *, past: bool = False) -> Iterator[Hub]:
    """Provide the servers for the length of a block.

    Nothing of them is left. What is measured is the future events, or the `past` ones, of a scale or of a world of exact sizes.
    """
    folder = Path(tempfile.mkdtemp(prefix="rsu-benchmark-"))
    now = float(int(time.time()))
    try:
        url = embedded.ensure_running(folder / "postgres", embedded.machine_binaries())
        name, spec = _world(scale)
        sizes = msgspec.to_builtins(spec) if spec else None
        with SandboxProcess.start(name, SEED, now=now, spec=sizes, timeout=300) as sandbox:
            rows = sandbox.admin.partners()
            partners = [Partner(row["partner"], row["name"], row["key"], row["secret"]) for row in rows]
            yield Hub(url, sandbox, partners, now, expected(scale, now, past=past), folder)
    finally:
        embedded.release(folder / "postgres")
        embedded.destroy(folder / "postgres")
        shutil.rmtree(folder, ignore_errors=True)


def _world(scale: str | Spec) -> tuple[str, Spec | None]:
    """Return the sandbox's name for it, and its exact sizes if it has any."""
    if isinstance(scale, Spec):
        return "custom", scale
    return SCALES[scale], LARGE if scale == "large" else None


def expected(scale: str | Spec, now: float, *, past: bool = False) -> Expected:
    """Return what a sync, or a load of the `past`, must come to.

    It is computed from a world of the same seed built here, not from anything that is measured.
    """
    name, spec = _world(scale)
    world = build(name, SEED, now, spec)
    ids: dict[int, list[int]] = defaultdict(list)
    sizes = {}
    modified: set[int] = set()
    removed: set[int] = set()
    for event in world.events.values():
        times = [time for time in (event.start, event.end) if time is not None]
        if (not times or max(times) + 3600 > now) != past:
            ids[event.race_id].append(event.id)
            active = list(world.truth.active.of_event(event.id))
            sizes[event.id] = len(active)
            if any(record.modified > now - LATELY_SECONDS for record in active):
                modified.add(event.race_id)
            if any(removal.modified > now - LATELY_SECONDS for removal in world.truth.removed.of_event(event.id)):
                removed.add(event.race_id)
    reads = [
        Read(number, race_id, sorted(event_ids))
        for race_id, event_ids in ids.items()
        for number in sorted(world.races[race_id].partners)
    ]
    found = Expected(sorted(reads, key=lambda read: (read.partner, read.race_id)), sizes)
    starts = {event.race_id: event.start for event in world.events.values() if event.id in sizes and event.start}
    found.near = sum(starts.get(read.race_id, now + 2 * DAY) < now + DAY for read in reads)
    found.modified_lately = sum(read.race_id in modified for read in reads)
    found.removed_lately = sum(read.race_id in removed for read in reads)
    for number in world.partners:
        listed = sum(number in race.partners for race in world.races.values())
        found.listing_pages += max(1, -(-listed // 1000))
    looked_up = set(world.races) if past else set(ids)
    found.details = len(looked_up)
    if not past:
        # With a listing the newest races that have past editions only are looked up too.
        for number in world.partners:
            past_only = sum(number in race.partners and race.id not in ids for race in world.races.values())
            found.details += min(past_only, MAX_PAST_PER_LISTING)
    found.shared = sum(len(world.races[race_id].partners) - 1 for race_id in looked_up)
    found.count()
    return found


@dataclass
class Change:
    """What was changed at the sandbox, as it shows in a partner's copy: counted once for each partner that holds it."""

    edited: int = 0
    bibs: int = 0
    added: int = 0
    removed: int = 0
    now: dict[int, tuple[str, str]] = field(default_factory=dict)
    """What changed, by registration: the column that did, of `bib_num` and `first_name`, and its value."""
    gone: list[int] = field(default_factory=list)
    """Registrations that were removed."""


def change_one_percent(hub: Hub, held: Sequence[tuple[int, int, int]], repetition: int) -> Change:
    """Change every hundredth registration.

    Of ten, five get a bib, three another name and town, one goes, and one more comes.

    `held` are (registration, event, partners that hold it).
    """
    change, admin = Change(), hub.sandbox.admin
    for place, (registration_id, event_id, holders) in enumerate(held[repetition::100]):
        kind = place % 10
        if kind < 5:
            # Above every bib that the world has given out.
            bib = 1_000_000 * (repetition + 1) + place
            admin.bib(registration_id, bib)
            change.now[registration_id] = ("bib_num", str(bib))
            change.bibs += holders
        elif kind < 8:
            name = f"Renamed {repetition}"
            admin.edit(registration_id, {"first_name": name, "city": f"Elsewhere {place}"})
            change.now[registration_id] = ("first_name", name)
            change.edited += holders
        elif kind == 8:
            admin.remove(registration_id, "cleared")
            change.gone.append(registration_id)
            change.removed += holders
            hub.expected.sizes[event_id] -= 1
        else:
            added = admin.register(event_id)
            assert len(added) == 1, "a bundle's registration would add to other events as well"
            change.added += holders
            hub.expected.sizes[event_id] += 1
    hub.expected.count()
    return change
