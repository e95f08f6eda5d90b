"""A morning played: the real watch in its own process, the sandbox and the database, all on one fast clock.

What cannot be made fast is the work itself: the time that Python, PostgreSQL and the sandbox compute counts `speed`
times in simulated time. So a fast run shows longer latencies than a real morning has, never shorter ones.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from psycopg2.extensions import connection as Connection

from benchmarks.race_morning import fast, judge
from benchmarks.race_morning.cpu import cpu_of, cpu_with_children, parent_of
from benchmarks.race_morning.fast import FastClock
from benchmarks.race_morning.judge import Made, Noticed
from benchmarks.race_morning.morning import SETTLING, Change, Morning, Trouble
from benchmarks.race_morning.stage import Log, Stage
from benchmarks.race_morning.watching import Watched
from rsu_pipeline.warehouse import database

FAULTS: dict[Trouble, str] = {"throttled": "throttle_200", "dead": "http_503"}
LOG_SECONDS = 1000.0
"""The sandbox keeps its last 5000 calls, and with two in flight at 0.7 s there are some three a second: after that many
simulated seconds they are fetched."""


@dataclass
class Played:
    """What was measured. Times are simulated Unix seconds, those of `cpu` and `real_seconds` real ones."""

    begins: float
    speed: float
    real_seconds: float = 0.0
    changes: int = 0
    noticed: list[Noticed] = field(default_factory=list)
    missed: list[Made] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    calls: dict[int, tuple[str, float]] = field(default_factory=dict)
    """The end of its credential's key and when it came to the sandbox, by the number of the call."""
    calls_in_ledger: int = 0
    max_in_flight: int = 0
    violations: int = 0
    watched: Watched = field(default_factory=Watched)
    cpu: dict[str, float] = field(default_factory=dict)
    behind: float = 0.0
    """How many seconds later than scripted the worst change was made."""


def play(stage: Stage, morning: Morning, *, speed: float, latency_ms: float, log: Log) -> Played:
    """Play the morning and judge what came of it. A stage is played on once."""
    admin = stage.sandbox.admin
    admin.reset_stats()
    admin.switch(latency_ms=latency_ms / speed)
    admin.clock(set=stage.begins, rate=speed)
    clock = _clock_of(stage, speed)
    played = Played(stage.begins, speed, changes=len(morning.changes))
    with database.session(stage.url, purpose="simulate") as conn:
        fast.set_database_clock(conn, clock)
        with conn.cursor() as cur:
            # Not waiting for the disk at each commit: its time would count `speed` times.
            cur.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = off")
        conn.commit()
        calls = _calls_in_ledger(conn)
        player = _Player(stage, clock)
        with _cpu_measured(conn, stage, played), _watch(stage, clock, morning) as watch:
            _perform(player, morning, played, watch, log)
            played.watched = _end(watch, deadline=60 + 2 * SETTLING / speed)
        played.real_seconds = time.monotonic() - clock.mark
        stats = _fetch_calls(stage, played)
        played.max_in_flight, played.violations = stats["max_in_flight"], stats["violations"]
        played.calls_in_ledger = _calls_in_ledger(conn) - calls
        played.noticed, played.missed = judge.noticed(conn, player.made, clock.simulated)
        log("Comparing every registration and replaying the bib log ...")
        for number, (partner_id, key) in stage.keys.items():
            played.differences += [f"{key}: {item}" for item in judge.differences(conn, admin, number, partner_id)]
    return played


def _clock_of(stage: Stage, speed: float) -> FastClock:
    """Return the sandbox's clock, read in the middle of the quickest of some questions."""
    tries = []
    for _ in range(10):
        asked = time.monotonic()
        epoch = stage.sandbox.admin.clock()
        took = time.monotonic() - asked
        tries.append((took, FastClock(epoch, asked + took / 2, time.time() - took / 2, speed)))
    return min(tries, key=lambda item: item[0])[1]


class _Player:
    """Makes changes at RunSignup and notes what is to be noticed of them."""

    def __init__(self, stage: Stage, clock: FastClock) -> None:
        self.stage = stage
        self._admin = stage.sandbox.admin
        self.clock = clock
        self._ids = [dict(enumerate(ids)) for ids in stage.registrations]
        self._held = {row: bib for ids in stage.bibs for row, bib in ids.items()}
        self.made: list[Made] = []

    def trouble(self, trouble: Trouble | None) -> None:
        if trouble is None:
            self._admin.clear_faults()
        else:
            self._admin.fault(FAULTS[trouble], 0)

    def change(self, change: Change, partner: int) -> None:
        ids, admin = self._ids[change.race], self._admin
        events = self.stage.events[change.race]
        at = self.clock.time()

        def note(registration_id: int, bib: int | None) -> None:
            if self._held.get(registration_id) != bib:
                self._held[registration_id] = bib
                text = None if bib is None else str(bib)
                self.made.append(Made(at, partner, registration_id, "bib", text))

        if change.kind == "register":
            (ids[change.entrant],) = admin.register(events[change.event or 0])
            return
        registration_id = ids[change.entrant]
        if change.kind == "edit":
            admin.edit(registration_id, {"phone": f"312-555-{change.entrant % 10000:04}"})
        elif change.kind == "remove":
            admin.remove(registration_id, "cleared")
            self.made.append(Made(at, partner, registration_id, "removal"))
        elif change.kind == "transfer":
            ids[change.entrant] = admin.transfer(registration_id, events[change.event or 0])
            self.made.append(Made(at, partner, registration_id, "removal"))
            note(ids[change.entrant], self._held.get(registration_id))
        elif change.kind == "swap" and change.other is not None:
            other = ids[change.other]
            mine, theirs = self._held.get(registration_id), self._held.get(other)
            admin.swap_bibs(registration_id, other)
            note(registration_id, theirs)
            note(other, mine)
        else:
            admin.bib(registration_id, change.bib)
            note(registration_id, change.bib)


def _perform(player: _Player, morning: Morning, played: Played, watch: "subprocess.Popen[str]", log: Log) -> None:
    """Do everything in the script, each thing at its time."""
    acts: list[tuple[float, Change | Trouble | None]] = [(change.at, change) for change in morning.changes]
    for spell in morning.spells:
        acts += [(spell.start, spell.trouble), (spell.end, None)]
    clock, fetched_at, told_at = player.clock, 0.0, 0.0
    for at, act in sorted(acts, key=lambda item: item[0]):
        while (ahead := played.begins + at - clock.time()) > 0:
            if watch.poll() is not None:
                return
            clock.pause(min(ahead, clock.speed))
        passed = clock.time() - played.begins
        played.behind = max(played.behind, passed - at)
        if isinstance(act, Change):
            player.change(act, morning.races[act.race].partner)
        else:
            player.trouble(act)
        if passed - fetched_at > LOG_SECONDS:
            _fetch_calls(player.stage, played)
            fetched_at = passed
        if passed - told_at > 1800:
            log(f"{passed / 3600:.1f} of {morning.seconds / 3600:g} h, {len(player.made)} bibs and removals so far")
            told_at = passed
    log("The script is over; the watch goes on until the last removals must be in ...")


@contextmanager
def _watch(stage: Stage, clock: FastClock, morning: Morning) -> "Iterator[subprocess.Popen[str]]":
    """Provide the watch in a process of its own, until the morning is over and settled."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RSU_", "DAGSTER_"))}
    job = {"url": stage.url, "clock": asdict(clock), "until": stage.begins + morning.seconds + SETTLING}
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.race_morning.watching"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=kept | stage.environment,
        text=True,
    ) as process:
        try:
            if process.stdin is not None:
                # Left open: the process ends when it closes.
                process.stdin.write(json.dumps(job) + "\n")
                process.stdin.flush()
            yield process
        finally:
            process.kill()


def _end(watch: "subprocess.Popen[str]", *, deadline: float) -> Watched:
    """Wait for the watch to end by itself, and return what it did."""
    guard = threading.Timer(deadline, watch.kill)
    guard.start()
    try:
        told = watch.stdout.read() if watch.stdout else ""
        code = watch.wait()
    finally:
        guard.cancel()
    if code != 0:
        raise RuntimeError(f"The watch ended with exit code {code}; its output is above.")
    return Watched(**json.loads(told))


@contextmanager
def _cpu_measured(conn: Connection, stage: Stage, played: Played) -> Iterator[None]:
    """Note the CPU seconds of everybody for the length of a block."""
    postmaster, sandbox = parent_of(conn.get_backend_pid()), stage.sandbox.process.pid
    measures: dict[str, Callable[[], float]] = {
        "PostgreSQL": lambda: cpu_with_children(postmaster),
        "sandbox": lambda: cpu_of(sandbox),
        "player": time.process_time,
    }
    before = {name: measure() for name, measure in measures.items()}
    yield
    played.cpu = {name: measure() - before[name] for name, measure in measures.items()}
    played.cpu["watch"] = played.watched.cpu


def _fetch_calls(stage: Stage, played: Played) -> dict[str, int]:
    """Add the calls that the sandbox has logged since the last time, and return its counters."""
    stats = stage.sandbox.admin.stats()
    for entry in stats.pop("log"):
        played.calls[entry["n"]] = (entry["key_tail"], entry["at"])
    return stats


def _calls_in_ledger(conn: Connection) -> int:
    with conn.cursor() as cur:
        cur.execute("SELECT count(*) FROM api_calls")
        (count,) = cur.fetchone() or (0,)
    conn.rollback()
    return int(count)
