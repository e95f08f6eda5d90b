"""Describe which sessions have the locks that a session waited for."""

from collections.abc import Collection

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.advisory_locks import Kind, Only

_HOLDERS = """
SELECT a.pid, coalesce(nullif(a.application_name, ''), 'a program without a name'), a.usename::text,
    coalesce(host(a.client_addr), 'this machine'), coalesce(a.xact_start, a.backend_start),
    coalesce(array_agg(DISTINCT c.relname::text ORDER BY c.relname::text) FILTER (WHERE c.oid IS NOT NULL), '{}')
FROM pg_locks l JOIN pg_stat_activity a USING (pid) LEFT JOIN pg_class c ON c.oid = l.relation
WHERE l.granted AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.relation IN (SELECT to_regclass(quote_ident(name)) FROM unnest(%(tables)s) name)
        OR (l.locktype = 'advisory' AND l.classid::bigint = %(class)s AND l.objid::bigint = %(lock)s AND l.objsubid = 2))
GROUP BY 1, 2, 3, 4, 5 ORDER BY 5
"""


def describe_lock_holders(conn: Connection, tables: Collection[str]) -> str:
    """Return a clause that names the sessions that have locked one of the tables, or are changing the schema.

    Ends the transaction.
    """
    with conn.cursor() as cur:
        cur.execute(_HOLDERS, {"tables": list(tables), "class": Kind.THE_ONLY_ONE, "lock": Only.MIGRATIONS})
        found = cur.fetchall()
    conn.rollback()
    if not found:
        return "Another session, which has just ended, had locked the tables"
    return "; ".join(
        f"Session {pid} ({program}, role {role}, from {address}) has locked"
        f" {', '.join(held) or 'schema changes'} since {since:%Y-%m-%d %H:%M:%S} UTC"
        for pid, program, role, address, since, held in found
    )
