"""Describe which sessions have the locks that a session waited for."""

from collections.abc import Collection

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import MAX_NAME_CHARS, format_utc, sanitize_for_display
from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.advisory_locks import Kind, Only

_SQL = load(__file__)

BLOCKED_SECONDS = 20.0
"""How long a transaction must have been open to be named as what a session waited for, until its lock timeout of 30 s."""
MAX_BLOCKERS = 3
"""Sessions that a sentence names."""


def describe_lock_holders(conn: Connection, tables: Collection[str]) -> str:
    """Return a clause that names the sessions that have locked one of the tables, or are changing the schema.

    Ends the transaction.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["find_lock_holders"], {"tables": list(tables), "class": Kind.THE_ONLY_ONE, "lock": Only.MIGRATIONS}
        )
        found = cur.fetchall()
    conn.rollback()
    if not found:
        return "Another session, which has just ended, had locked the tables"
    return "; ".join(
        f"Session {pid} ({program}, role {role}, from {address}) has locked"
        f" {', '.join(held) or 'schema changes'} since {since:%Y-%m-%d %H:%M:%S} UTC"
        for pid, program, role, address, since, held in found
    )


def describe_blockers(conn: Connection) -> str:
    """Return sentences that name the sessions whose open transactions keep others from the hub's rows, and the next step.

    Ends the transaction.
    """
    with conn.cursor() as cur:
        cur.execute(_SQL["find_blockers"], {"seconds": BLOCKED_SECONDS})
        found = cur.fetchall()
    conn.rollback()
    if not found:
        return "The session that had locked it has ended meanwhile. What it was for is done again at its next turn."
    named = [
        f"session {pid} ({sanitize_for_display(program, MAX_NAME_CHARS)}, role {role}, from {address}) has locked rows of"
        f" {', '.join(tables)}{f' since {format_utc(since)}' if since else ''}"
        for pid, program, role, address, since, tables in found[:MAX_BLOCKERS]
    ]
    return (
        f"In an open transaction {'; '.join(named)}. Commit or end it there, or end the session by SELECT"
        f" pg_terminate_backend({found[0][0]}) in `rsu db psql`."
    )
