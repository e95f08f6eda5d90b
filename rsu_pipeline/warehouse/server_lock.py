"""Allow one `rsu up` at a time on a database, regardless of machine, home folder and port.

Two daemons on one database would evaluate every sensor and schedule twice. So `rsu up` acquires an advisory lock on a session of
its own for as long as it runs, and PostgreSQL releases it when the process ends, in whatever way. Commands, runs and Celery
workers do not use it. A daemon that was started by itself, as the systemd and compose files do, shows its name at its
sessions, and `rsu up` does not start beside it.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg2
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.advisory_locks import Only
from rsu_pipeline.warehouse.database import DatabaseError

GRACE_SECONDS = 5.0
"""How long a process that was killed a moment ago may take to be gone."""
CHECK_SECONDS = 15.0
"""How often the session with the lock is checked: a restart of PostgreSQL ends it."""
DAEMON = "rsu daemon"
"""Prefix of the names of a daemon's sessions."""

_LOCK = Only.SERVER.key


def daemon_name() -> str:
    """Return the name for the sessions of a daemon in this process."""
    return f"{DAEMON} {socket.gethostname()}:{os.getpid()}"[:63]


def hold(url: str, *, report: Callable[[str], None]) -> None:
    """Make this process the only server of the database until it ends.

    If the session is lost, it is opened again, and `report` receives one sentence if another server was faster.

    Raises:
        DatabaseError: Another server is running. The text names its host, its process and since when.
    """
    conn = _acquire(url, GRACE_SECONDS)
    threading.Thread(target=_keep, args=(url, conn, report), name="server lock", daemon=True).start()


def _acquire(url: str, seconds: float, *, beside_daemon: bool = False) -> Connection:
    """Return the session with the lock, after at most `seconds`.

    Raises:
        DatabaseError: another server has it.
    """
    conn = database.connect(url, purpose="up")
    conn.autocommit = True
    deadline = time.monotonic() + seconds
    while True:
        other = _take(conn) or (None if beside_daemon else _daemon(conn))
        if other is None:
            return conn
        if time.monotonic() >= deadline:
            conn.close()
            raise DatabaseError(
                f"{other} is running on this database ({database.describe_server(url)}): end it, or use that one. Two would do all"
                " scheduled work twice."
            )
        time.sleep(0.2)


def _daemon(conn: Connection) -> str | None:
    """Return which daemon is running on this database, or None."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT application_name, backend_start FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE %s ORDER BY backend_start LIMIT 1",
            (f"{DAEMON} %",),
        )
        row = cur.fetchone()
    return f"A Dagster daemon ({_named(row[0], DAEMON)}, since {row[1]:%Y-%m-%d %H:%M:%S} UTC)" if row else None


def _take(conn: Connection) -> str | None:
    """Acquire the lock, and return None, or else which other server has it."""
    with conn.cursor() as cur:
        cur.execute("SELECT pg_try_advisory_lock(%s, %s)", _LOCK)
        if (cur.fetchone() or (False,))[0]:
            return None
        cur.execute(
            "SELECT a.application_name, a.backend_start, a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = %s AND l.objid::bigint = %s"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            _LOCK,
        )
        row = cur.fetchone()
    if row is None:
        return "Another `rsu up`, which is just starting or ending,"
    name, since, session = row
    if not name or since is None:
        return f"Another `rsu up` (PostgreSQL does not show which to this role, its session is {session})"
    return f"Another `rsu up` ({_named(name, 'rsu up')}, since {since:%Y-%m-%d %H:%M:%S} UTC)"


def _named(application_name: str, prefix: str) -> str:
    """Return host and process of a session's name."""
    host, _, process = application_name.removeprefix(f"{prefix} ").rpartition(":")
    return f"host {host}, process {process}"


def _keep(url: str, conn: Connection, report: Callable[[str], None]) -> None:
    """Keep the lock: open its session again whenever it was lost."""
    reported = False
    while True:
        time.sleep(CHECK_SECONDS)
        try:
            if conn.closed:
                conn = _acquire(url, 0.0, beside_daemon=True)  # the daemon is this process's own
                reported = False
            with conn.cursor() as cur:
                cur.execute("SELECT 1")
        except DatabaseError as error:
            if not reported:
                report(str(error))
            reported = True
        except psycopg2.Error:
            with suppress(psycopg2.Error):
                conn.close()
