"""What the database tells of who has shown a sign of life."""

from psycopg2.extensions import connection as Connection


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
