"""What Dagster's daemon leaves in its tables, written by Dagster's own means."""

import datetime as dt
import time

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.error import SerializableErrorInfo
from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts import automation_rules

REPOSITORY = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("rsu_pipeline"), "__repository__")
MINUTE = dt.timedelta(minutes=1)


class Daemon:
    """Writes what Dagster's daemon writes, by Dagster's own means."""

    def __init__(self, instance: dg.DagsterInstance, conn: Connection) -> None:
        self.instance = instance
        self.conn = conn

    def know(self, name: str, *, is_on: bool = True) -> None:
        state = InstigatorState(
            REPOSITORY.get_instigator_origin(name),
            InstigatorType.SENSOR,
            InstigatorStatus.RUNNING if is_on else InstigatorStatus.STOPPED,
            SensorInstigatorData(min_interval=30),
        )
        known = self.instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
        (self.instance.update_instigator_state if known else self.instance.add_instigator_state)(state)

    def live(self, ago: dt.timedelta = dt.timedelta(0)) -> None:
        """Have every thread show that it lived so long ago."""
        for name in automation_rules.THREADS:
            self.instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - ago.total_seconds(), name, None, None))

    def tick(self, name: str, ago: dt.timedelta, status: TickStatus = TickStatus.SKIPPED) -> None:
        origin = REPOSITORY.get_instigator_origin(name)
        at = time.time() - ago.total_seconds()
        error = SerializableErrorInfo("away", [], None) if status is TickStatus.FAILURE else None
        self.instance.create_tick(
            TickData(
                instigator_origin_id=origin.get_id(),
                instigator_name=name,
                instigator_type=InstigatorType.SENSOR,
                status=status,
                timestamp=at,
                selector_id=origin.get_selector().get_id(),
                error=error,
            )
        )
        # Stored when it was made.
        self.sql(
            "UPDATE dagster.job_ticks SET create_timestamp = to_timestamp(%s) AT TIME ZONE 'UTC'"
            " WHERE id = (SELECT max(id) FROM dagster.job_ticks)",
            at,
        )

    def at_work(self, hours: float = 48) -> None:
        """Let every sensor and schedule be known for that long, on, and ticking all the while."""
        for name in automation_rules.LONGEST_SILENCE:
            self.know(name)
            self.tick(name, 10 * dt.timedelta(seconds=1))
        for minutes in range(1, 20):
            self.tick("race_day", minutes * MINUTE)
        self.sql(
            "UPDATE dagster.instigators SET create_timestamp = create_timestamp - make_interval(hours => %s)",
            int(hours),
        )

    def sql(self, statement: str, *parameters: object) -> None:
        with self.conn.cursor() as cur:
            cur.execute(statement, parameters or None)
        self.conn.commit()

    def found(self) -> dict[str, str]:
        """Return what has stopped, by its name."""
        problems = list(automation_rules.find_stopped_automation(self.conn, dt.datetime.now(dt.UTC)))
        self.conn.rollback()
        return {problem.key: problem.sentence for problem in problems}
