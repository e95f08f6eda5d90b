"""Describe which sessions have the locks that a session waited for."""

from collections.abc import Collection

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.advisory_locks import Kind, Only

_SQL = load(__file__)


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
