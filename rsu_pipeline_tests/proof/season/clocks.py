"""Simulated time for a hub: RunSignup's true time, the hub's clock and the database's clock, each with its own error.

The sandbox's clock stops unless a step moves it. A database gets functions `now()` and `clock_timestamp()` of its own,
which its search path finds before PostgreSQL's, so that stored times are simulated too. They run a thousand times slower than
real time: what is written later has a later time, and no program depends on the speed of the machine. The call ledger keeps
real time, since its limits are about real calls.
"""

import datetime as dt
import re

from psycopg2.extensions import connection as Connection

from rsu_pipeline_tests.servers import execute
from runsignup_sandbox.process import AdminClient

START = dt.datetime(2027, 5, 12, 13, 7, tzinfo=dt.UTC)
"""When every program begins: 9:07 in New York, a Wednesday."""

_FUNCTIONS = """
CREATE TABLE simulated_clock (base timestamptz NOT NULL, since timestamptz NOT NULL);
INSERT INTO simulated_clock VALUES (pg_catalog.now(), pg_catalog.now());
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT base + (pg_catalog.now() - since) / 1000 FROM public.simulated_clock';
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT base + (pg_catalog.clock_timestamp() - since) / 1000 FROM public.simulated_clock';
"""
_DEFAULTS = """
SELECT table_name, column_name, column_default FROM information_schema.columns
WHERE table_schema = 'public' AND column_default ~ '(now|clock_timestamp)\\(\\)' AND table_name <> 'api_calls'
"""


def install(conn: Connection, url: str) -> None:
    """Give a database with the hub's schema a simulated clock. Sessions opened before keep the real one."""
    name = url.rsplit("/", 1)[1].split("?")[0]
    execute(url, f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    with conn.cursor() as cur:
        cur.execute("SET LOCAL search_path = public, pg_catalog")
        cur.execute(_FUNCTIONS)
        cur.execute(_DEFAULTS)
        for table, column, default in cur.fetchall():
            simulated = re.sub(r"(pg_catalog\.)?(now|clock_timestamp)\(\)", r"public.\2()", default)
            cur.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {simulated}")
        cur.execute(
            "SELECT viewname FROM pg_views WHERE schemaname = 'public' AND definition ~ '(now|clock_timestamp)\\(\\)'"
        )
        assert not cur.fetchall(), "a view reads the real clock"
    conn.commit()


class Clocks:
    """The three clocks. `conn` is a session at the hub's database that only sets its clock."""

    def __init__(self, admin: AdminClient, conn: Connection) -> None:
        self._admin = admin
        self._conn = conn
        self.time = START.timestamp()
        """RunSignup's true time in Unix seconds."""
        self.runsignup_error = 0.0
        """Seconds by which RunSignup's own clock is ahead, by which it stamps what changes."""
        self.hub_error = 0.0
        """Seconds by which the hub's own clock is ahead."""
        self.database_error = 0.0
        """Seconds by which the database's clock is ahead."""
        self.set_to(self.time)

    def set_to(self, time: float) -> None:
        """Set RunSignup's time, and with it the database's."""
        self.time = time
        self._admin.clock(set=time + self.runsignup_error)
        with self._conn.cursor() as cur:
            cur.execute(
                "UPDATE simulated_clock SET base = to_timestamp(%s), since = pg_catalog.clock_timestamp()",
                (self.time + self.database_error,),
            )
        self._conn.commit()

    def advance(self, seconds: float) -> None:
        self.set_to(self.time + seconds)

    def true_now(self) -> dt.datetime:
        """Return RunSignup's time."""
        return dt.datetime.fromtimestamp(self.time, dt.UTC)

    def database_now(self) -> dt.datetime:
        """Return what the database's clock shows."""
        return dt.datetime.fromtimestamp(self.time + self.database_error, dt.UTC)

    def hub_now(self) -> dt.datetime:
        """Return what the hub's machine believes the time is."""
        return dt.datetime.fromtimestamp(self.time + self.hub_error, dt.UTC)
