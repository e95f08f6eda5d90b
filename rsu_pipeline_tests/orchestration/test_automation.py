"""Sensors, schedules and the queue that stand still are named, on the tables of a real Dagster instance."""

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.utils import make_new_run_id
from dagster_shared.error import SerializableErrorInfo
from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts import automation
from rsu_pipeline.definitions import defs
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.orchestration.runs import use_environment

REPOSITORY = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("rsu_pipeline"), "__repository__")
NOW = dt.datetime.now(dt.UTC)
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
        """Every sensor and schedule known for so long, on, and ticking all the while."""
        for name in automation.LONGEST_SILENCE:
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
        """What stands still, by its name."""
        problems = list(automation.find(self.conn, dt.datetime.now(dt.UTC)))
        self.conn.rollback()
        return {problem.key: problem.sentence for problem in problems}


@pytest.fixture
def daemon(database_url: str, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": database_url, "RSU_HOME": str(tmp_path)})
    with (
        dg.DagsterInstance.from_config(str(dagster_home)) as instance,
        database.session(database_url, purpose="tests") as conn,
    ):
        yield Daemon(instance, conn)


def test_every_sensor_and_schedule_is_looked_at_and_has_time_for_two_ticks() -> None:
    repository = defs.get_repository_def()
    sensors = {sensor.name: sensor.minimum_interval_seconds or 30 for sensor in repository.sensor_defs}
    schedules = {schedule.name for schedule in repository.schedule_defs}
    assert automation.LONGEST_SILENCE.keys() == automation.WITHOUT_IT.keys() == sensors.keys() | schedules
    for name, interval in sensors.items():
        assert automation.LONGEST_SILENCE[name] >= 2 * dt.timedelta(seconds=interval), name


def test_nothing_is_named_while_all_are_at_work_or_dagster_never_started(daemon: Daemon, empty_database: str) -> None:
    daemon.at_work()
    assert daemon.found() == {}
    with database.session(empty_database, purpose="tests") as conn:
        assert list(automation.find(conn, NOW)) == []


@pytest.mark.parametrize("name", ["race_day", "alerts", "nightly"])
def test_one_that_is_switched_off_is_named_until_it_is_on_again(daemon: Daemon, name: str) -> None:
    daemon.at_work()
    daemon.know(name, is_on=False)
    found = daemon.found()
    assert found.keys() == {name}
    assert f"{name} is switched off since " in found[name] and automation.WITHOUT_IT[name] in found[name]
    daemon.know(name)
    assert daemon.found() == {}


def test_one_that_does_not_tick_while_others_do_is_named(daemon: Daemon) -> None:
    daemon.at_work()
    daemon.sql(
        "UPDATE dagster.job_ticks SET timestamp = timestamp - interval '3 minutes' WHERE tick_body LIKE '%%bib_changes%%'"
    )
    found = daemon.found()
    assert found.keys() == {"bib_changes"} and "has not ticked since" in found["bib_changes"]
    daemon.tick("bib_changes", dt.timedelta(0))
    assert daemon.found() == {}


def test_one_whose_ticks_all_fail_is_named_and_one_that_failed_once_is_not(daemon: Daemon) -> None:
    daemon.at_work()
    daemon.tick("bib_changes", dt.timedelta(seconds=5), TickStatus.FAILURE)
    assert daemon.found() == {}
    daemon.sql(
        "UPDATE dagster.job_ticks SET timestamp = timestamp - interval '70 seconds' WHERE tick_body LIKE '%%bib_changes%%'"
    )
    daemon.tick("bib_changes", dt.timedelta(seconds=2), TickStatus.FAILURE)
    found = daemon.found()
    assert found.keys() == {"bib_changes"} and "fails at each tick since" in found["bib_changes"]
    daemon.tick("bib_changes", dt.timedelta(0))
    assert daemon.found() == {}


def test_a_daemon_that_lives_and_does_not_tick_is_named_once(daemon: Daemon) -> None:
    daemon.at_work()
    daemon.sql(
        "UPDATE dagster.job_ticks SET timestamp = timestamp - interval '3 hours',"
        " create_timestamp = create_timestamp - interval '3 hours'"
    )
    found = daemon.found()
    assert found.keys() == {"daemon"} and "No sensor or schedule has ticked since" in found["daemon"]


def test_a_tick_in_the_future_does_not_count_as_fresh(daemon: Daemon) -> None:
    daemon.at_work()
    daemon.tick("race_day", -120 * MINUTE)
    found = daemon.found()
    assert found.keys() == {"race_day"} and "in the future" in found["race_day"]


def test_after_a_night_without_the_hub_each_has_its_time_to_tick_again(daemon: Daemon) -> None:
    daemon.at_work()
    daemon.sql(
        "UPDATE dagster.job_ticks SET timestamp = timestamp - interval '30 hours',"
        " create_timestamp = create_timestamp - interval '30 hours'"
    )
    daemon.tick("race_day", dt.timedelta(seconds=20))
    assert daemon.found() == {}
    for minutes in range(1, 6):
        daemon.tick("race_day", minutes * MINUTE)
    assert "bib_changes" in daemon.found() and "nightly" not in daemon.found()


def test_a_queue_that_does_not_move_is_named_and_one_whose_lane_is_at_work_is_not(daemon: Daemon) -> None:
    daemon.at_work()

    def add(status: dg.DagsterRunStatus, lane: str) -> None:
        daemon.instance.add_run(
            dg.DagsterRun(
                job_name="sync_batch",
                run_id=make_new_run_id(),
                status=status,
                tags={"lane": lane},
                remote_job_origin=RemoteJobOrigin(REPOSITORY, "sync_batch"),
            )
        )

    add(dg.DagsterRunStatus.QUEUED, "routine")
    add(dg.DagsterRunStatus.QUEUED, "backfill")
    add(dg.DagsterRunStatus.STARTED, "backfill")
    assert daemon.found() == {}
    daemon.sql("UPDATE dagster.runs SET update_timestamp = update_timestamp - interval '3 minutes'")
    found = daemon.found()
    assert found.keys() == {"queue:routine"} and "1 runs of lane routine wait since" in found["queue:routine"]
