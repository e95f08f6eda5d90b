"""Signs of life: which runs have a session at the database.

A run keeps one open from its first step to its last, and PostgreSQL ends it with the run's process, on whatever machine
that was. A host and process number kept with the run would not do: in containers both come again after a restart, and
nobody can look for a process on another machine. The partner's lock would not do either: a run of many partners holds
it for a moment at a time.
"""

from psycopg2.extensions import connection as Connection


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
