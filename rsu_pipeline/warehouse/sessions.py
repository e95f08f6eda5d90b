"""Signs of life: which runs have a session at the database.

A run keeps one open from its first step to its last, and PostgreSQL ends it with the run's process, on whatever machine
that was. A host and process number kept with the run would not do: in containers both come again after a restart, and
nobody can look for a process on another machine. The lock of a race would not do either: a run of many partners holds
it for a moment at a time.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import database

LOOK_SECONDS = 3.0
"""How often a run looks whether its session is still there. The run monitor looks twice, 10 s apart at least."""


@contextmanager
def sign_of_life(url: str, run_id: str) -> Iterator[None]:
    """Keep a session open by which a run is known to be alive, and open another where PostgreSQL ended it.

    A restart of the server or an administrator ends sessions, not the run: without another one it would be taken for dead.
    A server that is away is asked again until the block ends.

    Raises:
        DatabaseError: when there is no session to begin with.
    """
    conn = _open(url, run_id)
    ended = threading.Event()
    keeper = threading.Thread(target=_keep, args=(conn, url, run_id, ended), name="sign of life", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


def _keep(conn: Connection, url: str, run_id: str, ended: threading.Event) -> None:
    try:
        while not ended.wait(LOOK_SECONDS):
            try:
                if conn.closed:
                    conn = _open(url, run_id)
                with conn.cursor() as cur:
                    cur.execute("SELECT 1")
                conn.rollback()
            except (psycopg2.Error, database.DatabaseError):
                # Away, or ended: the next look opens another one.
                conn.close()
    finally:
        conn.close()


def _open(url: str, run_id: str) -> Connection:
    conn = database.connect(url, purpose=purpose_of(run_id))
    # A run that stands still is no more alive than one that was killed.
    database.lease(conn)
    return conn


def purpose_of(run_id: str) -> str:
    """The purpose, for database.connect, of the session that shows a run to be alive."""
    return f"run {run_id[:8]}"


def is_alive(run_id: str, alive: set[str]) -> bool:
    """Whether a run is among those of `runs_alive`."""
    return run_id[:8] in alive


def runs_alive(conn: Connection) -> set[str]:
    """The first eight characters of every run that has a session at this database."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT DISTINCT split_part(application_name, ' ', 3) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name ~ '^rsu (run|sync|ledger) [0-9a-f]{8} '"
        )
        found = {str(row[0]) for row in cur.fetchall()}
    conn.rollback()
    return found
