"""Heartbeats that the database records."""

import datetime as dt

from psycopg2.extensions import connection as Connection


def seconds_since_heartbeat(conn: Connection, now: dt.datetime) -> dict[str, float]:
    """Return the seconds since the last heartbeat of each of Dagster's daemon threads, by its name.

    The result is empty if there never was one, and negative for a stamp in the future. `now` is by the hub's clock, as the stamps
    are.
    """
    with conn.cursor() as cur:
        cur.execute("SELECT to_regclass('dagster.daemon_heartbeats') IS NOT NULL")
        (has_heartbeats,) = cur.fetchone() or (False,)
        if not has_heartbeats:
            return {}
        cur.execute(
            "SELECT daemon_type, extract(epoch FROM %s - timestamp AT TIME ZONE 'UTC')::float FROM dagster.daemon_heartbeats",
            (now,),
        )
        return dict(cur.fetchall())
