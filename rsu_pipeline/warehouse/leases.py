"""Leases: a process that is stopped loses its sessions, and with them its locks and its concurrency slots.

A process that is stopped, or whose machine is paused, keeps its sessions open. PostgreSQL cannot distinguish it from one that
waits for RunSignup. So each session that acquires a lock or a slot also acquires a shared advisory lock under its process's
number, and a thread of the process, the keeper, queries the database every few seconds on a session of its own under the
same number. If the time of that query, which pg_stat_activity shows, does not change, the process is stopped. The
keepers of all other processes see it and terminate its sessions. What it had not committed is rolled back, and when it
wakes it cannot write.

Silence is measured by the observer's own monotonic clock, from query to query. A clock that steps, the database's or the
hub's, ends no session. An observer that was stopped itself starts from scratch.
"""

import contextlib
import datetime as dt
import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.addresses import DatabaseError
from rsu_pipeline.warehouse.advisory_locks import Kind

PURPOSE = "lease"
"""The purpose of a keeper's session, for database.connect."""
BEAT_SECONDS = 5.0
"""How often a keeper sends a heartbeat and checks those of the others."""
SILENT_SECONDS = 35.0
"""How long a process may be silent. With two heartbeats more its locks and slots are free after 45 s."""
TAKE_OVER_SECONDS = SILENT_SECONDS + 4 * BEAT_SECONDS
"""How long to wait for the lock of a process that seems to be stopped. A keeper that starts now ends it within this."""

_LEASES = f"""
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = {Kind.LEASE:d} AND l.objsubid = 2
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    -- What other roles do is not shown to all: of a session that does not show when it last did something nothing is known.
    AND a.state_change IS NOT NULL
"""
_IS_KEEPER = f"a.application_name LIKE 'rsu {PURPOSE} %%'"
_SIGNS = f"""
SELECT l.objid::bigint, max(a.state_change) FILTER (WHERE {_IS_KEEPER})
{_LEASES} AND l.objid::bigint <> %(own)s
GROUP BY 1 HAVING NOT bool_and({_IS_KEEPER})
"""
_TERMINATE = f"""
SELECT a.application_name, pg_terminate_backend(a.pid) {_LEASES} AND l.objid::bigint = %(number)s
ORDER BY {_IS_KEEPER}, a.backend_start
"""

_log = logging.getLogger(__name__)
Sign = dt.datetime | None


class Observer:
    """Which processes are silent, from one observation of their heartbeats to the next."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[Sign, float]] = {}
        """By a process's number its last heartbeat, and when that was first seen."""
        self._judged_at = float("-inf")

    def judge(self, signs: Mapping[int, Sign], now: float) -> list[int]:
        """Return the numbers of the processes whose heartbeat has not changed for SILENT_SECONDS.

        Args:
            signs: each process's newest heartbeat, None if it has sent none yet.
            now: the monotonic clock.
        """
        if now - self._judged_at > 3 * BEAT_SECONDS:
            # This process was stopped itself, or could not reach the database, and perhaps all others with it.
            self._since = {}
        self._judged_at = now
        before = self._since
        self._since = {
            number: before[number] if number in before and before[number][0] == sign else (sign, now)
            for number, sign in signs.items()
        }
        return [number for number, (_, since) in self._since.items() if now - since >= SILENT_SECONDS]


class Keeper:
    """The keeper of a process's sessions at one database. `connect` opens the keeper's own session."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._number = secrets.randbelow(2**31)
        self._changed = threading.Condition()
        self._held: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._observes_until = float("-inf")
        self._thread: threading.Thread | None = None
        self._beat_at = time.monotonic()
        self._longest_pause = 0.0

    def hold(self, conn: Connection) -> None:
        """Make the session end if this process stops. Does nothing for a session that is already registered."""
        if conn in self._held:
            return
        is_idle = conn.info.transaction_status == TRANSACTION_STATUS_IDLE
        with conn.cursor() as cur:
            # A lock of the session, so that no rollback releases it.
            cur.execute("SELECT pg_advisory_lock_shared(%s, %s)", (Kind.LEASE, self._number))
        if is_idle and not conn.autocommit:
            conn.commit()
        with self._changed:
            self._held.add(conn)
            self._start()

    def release(self, conn: Connection) -> None:
        """Forget a session that was closed."""
        with self._changed:
            self._held.discard(conn)
            self._changed.notify_all()

    def observe(self, seconds: float) -> None:
        """Check other processes for this many seconds, even without a registered session."""
        with self._changed:
            self._observes_until = time.monotonic() + seconds
            self._start()

    def seconds_stood_still(self) -> float | None:
        """Return how long this process was stopped, or None if it was never long enough to lose its sessions."""
        # In this order, because the keeper records a pause before it records the heartbeat that ends it.
        present = time.monotonic() - self._beat_at if self._thread else 0.0
        longest = max(present, self._longest_pause)
        return longest if longest >= SILENT_SECONDS else None

    def _start(self) -> None:
        if self._thread is None:
            self._beat_at = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="lease keeper", daemon=True)
            self._thread.start()

    def _is_needed(self) -> bool:
        return time.monotonic() < self._observes_until or any(not conn.closed for conn in self._held)

    def _run(self) -> None:
        observer = Observer()
        own: Connection | None = None
        while True:
            with self._changed:
                if self._is_needed():
                    self._changed.wait(BEAT_SECONDS)
                self._longest_pause = max(self._longest_pause, time.monotonic() - self._beat_at)
                self._beat_at = time.monotonic()
                if not self._is_needed():
                    self._thread = None
                    break
            try:
                own = self._open() if own is None else own
                for number in observer.judge(_read_signs(own, self._number), time.monotonic()):
                    _end_sessions(own, number)
            except (DatabaseError, psycopg2.Error) as error:
                # Without a database there is nothing to keep. The sessions' own users report the loss.
                _log.debug("lease keeper: %s", error)
                _close(own)
                own = None
        _close(own)

    def _open(self) -> Connection:
        conn = self._connect()
        conn.autocommit = True
        with conn.cursor() as cur:
            cur.execute("SELECT pg_advisory_lock_shared(%s, %s)", (Kind.LEASE, self._number))
        return conn


def _read_signs(conn: Connection, own: int) -> dict[int, Sign]:
    with conn.cursor() as cur:
        cur.execute(_SIGNS, {"own": own})
        return dict(cur.fetchall())


def _end_sessions(conn: Connection, number: int) -> None:
    with conn.cursor() as cur:
        try:
            cur.execute(_TERMINATE, {"number": number})
            names = [str(name) for name, _ in cur.fetchall()]
        except psycopg2.errors.InsufficientPrivilege as error:
            _log.warning("A process is stopped and keeps its locks: %s", error.diag.message_primary)
            return
    if names:
        _log.warning("%r sent no heartbeat for %.0f s: its sessions were ended.", names[0], SILENT_SECONDS)


def _close(conn: Connection | None) -> None:
    if conn is not None:
        with contextlib.suppress(psycopg2.Error):
            conn.close()
