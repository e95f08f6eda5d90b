"""The hubs' clocks as last compared with the database's and RunSignup's: one row per machine."""

import datetime as dt
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

STORED_EVERY = dt.timedelta(minutes=1)
"""How old a row gets before an equal one replaces it. A watch compares several times a second."""
CHANGED_SECONDS = 5.0
"""A change of a clock by more than this is stored at once."""
KEPT = dt.timedelta(days=7)
"""Machines that come and go, such as pods, leave a row each."""


@dataclass(frozen=True)
class HubClock:
    """A row: the seconds by which RunSignup's clock and the database's were ahead of this hub's, negative for behind.

    `runsignup_seconds` is None if its responses had no usable `Date`.
    """

    hub: str
    observed_at: dt.datetime
    runsignup_seconds: float | None
    database_seconds: float

    def repeats(self, other: "HubClock | None") -> bool:
        """Return whether an earlier row has the same values, so that this one need not be stored."""
        if other is None or not dt.timedelta(0) <= self.observed_at - other.observed_at < STORED_EVERY:
            return False
        if self.runsignup_seconds is None or other.runsignup_seconds is None:
            return self.runsignup_seconds is other.runsignup_seconds
        return (
            abs(self.runsignup_seconds - other.runsignup_seconds) <= CHANGED_SECONDS
            and abs(self.database_seconds - other.database_seconds) <= CHANGED_SECONDS
        )


def read_database_time(conn: Connection) -> float:
    """Return the database's clock in Unix seconds."""
    with conn.cursor() as cur:
        cur.execute("SELECT extract(epoch FROM clock_timestamp())::float")
        (now,) = cur.fetchone() or (0.0,)
    return float(now)


def read_clock_of_hub(conn: Connection, hub: str, within: dt.timedelta) -> HubClock | None:
    """Return this hub's recent row, or None."""
    return next((item for item in read_recent_clocks(conn, within) if item.hub == hub), None)


def read_recent_clocks(conn: Connection, within: dt.timedelta) -> list[HubClock]:
    """Return the recent rows, in order of the hubs' names."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT hub, observed_at, runsignup_seconds, database_seconds FROM hub_clocks"
            " WHERE observed_at BETWEEN clock_timestamp() - %(within)s AND clock_timestamp() + %(within)s ORDER BY hub",
            {"within": within},
        )
        return [HubClock(*row) for row in cur.fetchall()]


def store_clock(conn: Connection, item: HubClock) -> None:
    """Store a hub's row, and delete hubs that are gone. Runs in the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO hub_clocks (hub, observed_at, runsignup_seconds, database_seconds) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (hub) DO UPDATE SET observed_at = excluded.observed_at,"
            " runsignup_seconds = excluded.runsignup_seconds, database_seconds = excluded.database_seconds",
            (item.hub, item.observed_at, item.runsignup_seconds, item.database_seconds),
        )
        cur.execute("DELETE FROM hub_clocks WHERE observed_at < %s", (item.observed_at - KEPT,))
