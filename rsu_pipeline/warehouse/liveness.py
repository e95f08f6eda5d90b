"""What the database tells of the installation itself: whether its schema is this program's, and who has shown a sign of
life."""

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import database


def schema_gap(conn: Connection) -> str | None:
    """How the schema differs from this program's, in words; None when it does not. Changes nothing."""
    with conn.cursor() as cur:
        cur.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")
        (has_migrations,) = cur.fetchone() or (False,)
        if not has_migrations:
            return "has none of this program's tables"
        cur.execute("SELECT version FROM schema_migrations")
        done = {int(version) for (version,) in cur.fetchall()}
    known = {number: name for number, name, _ in database.migrations()}
    if done - known.keys():
        return f"is at version {max(done)}, newer than this program, which knows {max(known)}"
    missing = [name for number, name in known.items() if number not in done]
    return f"lacks {', '.join(missing)}" if missing else None


def daemon_silence(conn: Connection) -> dict[str, float]:
    """Seconds since each of Dagster's daemon threads last showed that it lives, by its name; empty when none ever did."""
    with conn.cursor() as cur:
        cur.execute("SELECT to_regclass('dagster.daemon_heartbeats') IS NOT NULL")
        (has_heartbeats,) = cur.fetchone() or (False,)
        if not has_heartbeats:
            return {}
        cur.execute(
            "SELECT daemon_type, extract(epoch FROM (now() AT TIME ZONE 'UTC') - timestamp)::float"
            " FROM dagster.daemon_heartbeats"
        )
        return dict(cur.fetchall())
