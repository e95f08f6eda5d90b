"""Read from Dagster's tables whether its sensors, schedules and queue work, without loading Dagster."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load

_SQL = load(__file__)

QUEUED_FOR = dt.timedelta(seconds=80)
"""How long a run may wait in the queue while its lane and its partition are free."""


@dataclass(frozen=True)
class Automation:
    """A sensor or schedule as Dagster's daemon knows it. Times are by the clock of the daemon's machine.

    Attributes:
        changed_at: when its state was last written. For one that is switched off, when that was done.
        ticked_at: when its last completed tick began, None if none is stored.
        failing_since: when the first of its latest failed ticks began, None if the last one did not fail.
    """

    name: str
    is_on: bool
    known_since: dt.datetime
    changed_at: dt.datetime
    ticked_at: dt.datetime | None
    failing_since: dt.datetime | None


@dataclass(frozen=True)
class Waiting:
    """Runs that wait in the queue though nothing is ahead of them."""

    lane: str
    runs: int
    since: dt.datetime


def has_dagster(conn: Connection) -> bool:
    """Return whether Dagster has tables in this database. It creates them when it first starts."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT to_regclass('dagster.job_ticks') IS NOT NULL AND to_regclass('dagster.run_tags') IS NOT NULL"
        )
        (found,) = cur.fetchone() or (False,)
    return bool(found)


def read_automations(conn: Connection, names: Sequence[str]) -> dict[str, Automation]:
    """Return the sensors and schedules of these names that the daemon knows. Dagster stores times without a zone, in UTC."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_automations"], {"names": list(names)})
        return {row[0]: Automation(*row) for row in cur.fetchall()}


def read_recent_ticks(conn: Connection, since: dt.timedelta, now: dt.datetime) -> list[dt.datetime]:
    """Return the times of the ticks of all sensors and schedules within `since` before `now`, in order, by the clock of `now`."""
    with conn.cursor() as cur:
        # By when they were stored: a schedule's tick is dated by its plan, which may be long ago. The database dates that
        # by its own clock, which may be another.
        cur.execute(
            "SELECT t.at FROM (SELECT create_timestamp AT TIME ZONE 'UTC' + (%(now)s - clock_timestamp()) AS at"
            " FROM dagster.job_ticks WHERE create_timestamp > (clock_timestamp() - %(since)s) AT TIME ZONE 'UTC') t"
            " WHERE t.at <= %(now)s ORDER BY 1",
            {"now": now, "since": since},
        )
        return [moment for (moment,) in cur.fetchall()]


def find_runs_waiting_for_nothing(conn: Connection, now: dt.datetime) -> list[Waiting]:
    """Return by lane the runs that wait in the queue though no run of their lane or partition is active."""
    with conn.cursor() as cur:
        cur.execute(_SQL["find_runs_waiting"], {"since": now - QUEUED_FOR})
        return [Waiting(*row) for row in cur.fetchall()]
