"""Clocks that run fast: of a process, and of a whole database."""

import datetime as dt
import time
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection


@dataclass(frozen=True)
class FastClock:
    """Simulated time, the same in every process of this machine.

    It is `epoch` at the moment `mark` of time.monotonic() (and `wall` of time.time()), and `speed` simulated seconds a second
    from then on.
    """

    epoch: float
    mark: float
    wall: float
    speed: float

    def time(self) -> float:
        """Return simulated Unix seconds."""
        return self.epoch + (time.monotonic() - self.mark) * self.speed

    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.time(), dt.UTC)

    def pause(self, seconds: float) -> None:
        """Sleep this number of simulated seconds."""
        time.sleep(max(0.0, seconds) / self.speed)

    def simulated(self, wall: float) -> float:
        """Return the simulated time of a real one."""
        return self.epoch + (wall - self.wall) * self.speed


def prepare_database(conn: Connection) -> None:
    """Give a new, empty database clock functions that `set_database_clock` can speed up.

    They come before PostgreSQL's own in the search path, so that defaults, trigger and statements of the hub all use them.
    """
    with conn.cursor() as cur:
        cur.execute("SELECT current_database()")
        (name,) = cur.fetchone() or ("",)
        cur.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
    _replace_functions(conn, "pg_catalog.%s()")


def set_database_clock(conn: Connection, clock: FastClock) -> None:
    """Let the database's clock show simulated time, so that its rules, the ledger's hour for one, hold in simulated time."""
    start, mark = f"pg_catalog.to_timestamp({clock.epoch!r})", f"pg_catalog.to_timestamp({clock.wall!r})"
    _replace_functions(conn, f"{start} + (pg_catalog.%s() - {mark}) * {clock.speed!r}")


def _replace_functions(conn: Connection, body: str) -> None:
    with conn.cursor() as cur:
        for name, kind in (("clock_timestamp", "VOLATILE"), ("statement_timestamp", "STABLE"), ("now", "STABLE")):
            cur.execute(
                f"CREATE OR REPLACE FUNCTION public.{name}() RETURNS timestamptz LANGUAGE sql {kind}"
                f" AS $$ SELECT {body % name} $$"
            )
    conn.commit()
