"""Sensors, schedules and a queue that have stopped are named, on the tables of a real Dagster instance."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import RemoteJobOrigin
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.utils import make_new_run_id

from rsu_pipeline.alerts import automation_rules
from rsu_pipeline.definitions import defs
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.orchestration.daemon_tables import MINUTE, REPOSITORY, Daemon
from rsu_pipeline_tests.orchestration.runs import use_environment

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def daemon(database_url: str, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": database_url, "RSU_HOME": str(tmp_path)})
    with (
        dg.DagsterInstance.from_config(str(dagster_home)) as instance,
        database.session(database_url, purpose="tests") as conn,
    ):
        yield Daemon(instance, conn)


def test_every_sensor_and_schedule_is_looked_at_and_has_time_for_two_ticks() -> None:
    repository = defs().get_repository_def()
    sensors = {sensor.name: sensor.minimum_interval_seconds or 30 for sensor in repository.sensor_defs}
    schedules = {schedule.name for schedule in repository.schedule_defs}
    assert automation_rules.LONGEST_SILENCE.keys() == automation_rules.WITHOUT_IT.keys() == sensors.keys() | schedules
    for name, interval in sensors.items():
        assert automation_rules.LONGEST_SILENCE[name] >= 2 * dt.timedelta(seconds=interval), name


def test_nothing_is_named_while_all_are_at_work_or_dagster_never_started(daemon: Daemon, empty_database: str) -> None:
    daemon.at_work()
    assert daemon.found() == {}
    with database.session(empty_database, purpose="tests") as conn:
        assert list(automation_rules.find_stopped_automation(conn, NOW)) == []


@pytest.mark.parametrize("name", ["race_day", "alerts", "nightly"])
def test_one_that_is_switched_off_is_named_until_it_is_on_again(daemon: Daemon, name: str) -> None:
    daemon.at_work()
    daemon.know(name, is_on=False)
    found = daemon.found()
    assert found.keys() == {name}
    assert f"{name} is switched off since " in found[name] and automation_rules.WITHOUT_IT[name] in found[name]
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
    assert found.keys() == {"bib_changes"} and "has failed at every tick since" in found["bib_changes"]
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
    assert found.keys() == {"queue:routine"} and "1 run of lane routine waiting since" in found["queue:routine"]
