"""Signs of life: which runs have a session at the database.

A run keeps a session open from its first step to its last, and PostgreSQL ends it with the run's process, on any machine.
A host and process id stored with the run would not suffice: in containers both are reused after a restart, and no process
can be checked on another machine. The lock of a race would not suffice either: a run of many partners has it for a moment
at a time.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import database

CHECK_SECONDS = 3.0
"""How often a run checks whether its session still exists. The run monitor checks twice, at least 10 s apart."""


@contextmanager
def application_name_of_run(url: str, run_id: str) -> Iterator[None]:
    """Keep a session open that shows that a run is alive, and open another one if PostgreSQL ended it.

    A restart of the server or an administrator ends sessions, not the run: without a new session it would count as dead.
    An unreachable server is tried again until the block ends.

    Raises:
        DatabaseError: no session can be opened at the beginning.
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
        while not ended.wait(CHECK_SECONDS):
            try:
                if conn.closed:
                    conn = _open(url, run_id)
                with conn.cursor() as cur:
                    cur.execute("SELECT 1")
                conn.rollback()
            except (psycopg2.Error, database.DatabaseError):
                # Unreachable, or ended: the next check opens another one.
                conn.close()
    finally:
        conn.close()


def _open(url: str, run_id: str) -> Connection:
    conn = database.connect(url, purpose=purpose_of(run_id))
    # A run that is stopped is no more alive than one that was killed.
    database.lease(conn)
    return conn


def purpose_of(run_id: str) -> str:
    """Return the purpose, for database.connect, of the session that shows a run to be alive."""
    return f"run {run_id[:8]}"


def is_alive(run_id: str, alive: set[str]) -> bool:
    """Return whether a run is among those of `runs_alive`."""
    return run_id[:8] in alive


def runs_alive(conn: Connection) -> set[str]:
    """Return the first eight characters of every run that has a session at this database."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT DISTINCT split_part(application_name, ' ', 3) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name ~ '^rsu (run|sync|ledger) [0-9a-f]{8} '"
        )
        found = {str(row[0]) for row in cur.fetchall()}
    conn.rollback()
    return found
