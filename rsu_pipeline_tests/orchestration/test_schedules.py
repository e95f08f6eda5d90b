"""`race_proximity` and `nightly`, called as the daemon calls them, on a real instance and database."""

import datetime as dt
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.events import DagsterEventType, StepMaterializationData
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.utils import make_new_run_id
from dagster._utils.schedules import schedule_execution_time_iterator

from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration.batch import DONE_TAG
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.schedules import (
    build_nightly,
    build_nightly_runs,
    find_last_nightly,
    race_proximity,
    read_routine_run_limit,
    read_work_in_progress,
)
from rsu_pipeline.settings import load_settings
from rsu_pipeline.sync import clocks
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.orchestration.runs import use_environment
from rsu_pipeline_tests.warehouse.fleet_rows import HOUR, MINUTE, NOW, Fleet

nightly = build_nightly("America/New_York")

Schedule = dg.ScheduleDefinition
Status = dg.DagsterRunStatus


@pytest.fixture
def put(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Provide a fleet in the database of this process's installation. The schedules see what is committed."""
    use_environment(monkeypatch, {"RSU_DATABASE_URL": database_url, "RSU_HOME": str(tmp_path)})
    with database.session(database_url, purpose="tests") as conn:
        yield Fleet(conn)


Answer = list[dg.RunRequest] | dg.SkipReason


def tick(schedule: Schedule, instance: dg.DagsterInstance, now: dt.datetime = NOW) -> Answer:
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=now, resources={"warehouse": WarehouseResource()}
    ) as context:
        answer = schedule(context)
    assert isinstance(answer, list | dg.SkipReason)
    return answer


def key_of(answer: Answer) -> str | None:
    """Return the run key of the one request."""
    assert isinstance(answer, list), answer
    (request,) = answer
    return request.run_key


def all_asked(answer: Answer) -> dict[str, dict[str, Any]]:
    """Return what requests ask of the batch, by their distance, in the form that the job takes."""
    assert isinstance(answer, list), answer
    job = build_definitions().resolve_job_def("sync_batch")
    found: dict[str, dict[str, Any]] = {}
    for request in answer:
        dg.validate_run_config(job, dict(request.run_config))
        assert request.tags["lane"] == "routine"
        found[request.tags["distance"]] = request.run_config["ops"]["sync_partners"]["config"]
    assert len(found) == len(answer)
    return found


def asked(answer: Answer) -> dict[str, Any]:
    """Return what the one request asks of the batch."""
    (config,) = all_asked(answer).values()
    return config


def skipped(answer: Answer) -> str:
    assert isinstance(answer, dg.SkipReason), answer
    return str(answer.skip_message)


def near_fleet(put: Fleet, count: int, *, tried: dt.timedelta = 20 * MINUTE) -> list[str]:
    """Make partners with one race each that starts in ten hours and was tried a while ago, and return them."""
    for number in range(1, count + 1):
        put.partner(number)
        put.race(10 * number, number)
        put.event(100 * number, 10 * number, 10 * HOUR)
        put.tried(number, None, 5 * MINUTE)
        put.tried(number, 10 * number, tried)
    put.conn.commit()
    return [f"{number}-acme" for number in range(1, count + 1)]


def active_run(
    instance: dg.DagsterInstance,
    job: str,
    status: Status = Status.STARTED,
    *,
    tags: Mapping[str, str] | None = None,
    partners: list[str] | None = None,
) -> str:
    config = {"ops": {"sync_partners": {"config": {"partners": partners}}}} if partners else {}
    location = RegisteredCodeLocationOrigin("rsu_pipeline")
    run = instance.add_run(
        dg.DagsterRun(
            job_name=job,
            run_id=make_new_run_id(),
            status=status,
            run_config=config,
            tags=dict(tags or {}),
            remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job),
        )
    )
    return run.run_id


def of_partner(key: str, **tags: str) -> dict[str, str]:
    return {"dagster/partition": key, **tags}


# race_proximity


def test_nothing_due_is_a_skip_with_numbers(put: Fleet, instance: dg.DagsterInstance) -> None:
    assert skipped(tick(race_proximity, instance)) == (
        "nothing due: 0 partners, 0 races with events ahead, 0 partners due, 0 of them in progress"
    )
    near_fleet(put, 3, tried=5 * MINUTE)
    assert skipped(tick(race_proximity, instance)) == (
        "nothing due: 3 partners, 3 races with events ahead, 0 partners due, 0 of them in progress"
    )


def test_thirteen_due_partners_are_one_run(put: Fleet, instance: dg.DagsterInstance) -> None:
    keys = near_fleet(put, 13)
    answer = tick(race_proximity, instance)
    config = asked(answer)
    assert sorted(config["partners"]) == sorted(keys)
    assert config["races"] == {f"{number}-acme": [10 * number] for number in range(1, 14)}
    assert config["relist"] == []


def test_only_the_races_that_are_due_are_asked_for_and_listings_by_their_own_time(
    put: Fleet, instance: dg.DagsterInstance
) -> None:
    near_fleet(put, 3, tried=5 * MINUTE)
    put.race(11, 1)
    put.event(101, 11, 20 * HOUR)  # never read
    put.race(12, 1)
    put.event(102, 12, 72 * HOUR)
    put.tried(1, 12, 3 * HOUR)
    put.sql("UPDATE sync_history SET finished_at = %s WHERE timing_partner_id = 2 AND race_id IS NULL", NOW - 4 * HOUR)
    put.conn.commit()
    assert all_asked(tick(race_proximity, instance)) == {
        "near": {"partners": ["1-acme"], "races": {"1-acme": [11]}, "relist": []},
        "far": {"partners": ["2-acme"], "races": {"2-acme": []}, "relist": ["2-acme"]},
    }


def test_the_nearest_race_is_first(put: Fleet, instance: dg.DagsterInstance) -> None:
    near_fleet(put, 3)
    put.sql("UPDATE runsignup_events SET starts_at = %s WHERE event_id = 300", NOW + HOUR)
    put.conn.commit()
    assert asked(tick(race_proximity, instance))["partners"] == ["3-acme", "1-acme", "2-acme"]


def test_the_time_that_counts_is_the_ticks_own(put: Fleet, instance: dg.DagsterInstance) -> None:
    near_fleet(put, 1, tried=5 * MINUTE)
    assert isinstance(tick(race_proximity, instance, NOW), dg.SkipReason)
    assert asked(tick(race_proximity, instance, NOW + 10 * MINUTE))["partners"] == ["1-acme"]


def test_each_tick_has_a_run_key_of_its_own_and_the_same_when_it_is_repeated(
    put: Fleet, instance: dg.DagsterInstance
) -> None:
    near_fleet(put, 2)
    answers = [tick(race_proximity, instance, NOW + number * 5 * MINUTE) for number in range(4)]
    keys = [key_of(answer) for answer in answers]
    again = tick(race_proximity, instance, NOW.astimezone(ZoneInfo("America/New_York")))
    assert len(set(keys)) == 4
    assert key_of(again) == keys[0]
    assert key_of(tick(nightly, instance, NOW)) not in keys


@pytest.mark.parametrize("schedule", [race_proximity, nightly], ids=lambda schedule: schedule.name)
def test_partners_at_work_are_left_out(put: Fleet, instance: dg.DagsterInstance, schedule: Schedule) -> None:
    near_fleet(put, 6)
    active_run(instance, "sync_partner", Status.QUEUED, tags=of_partner("1-acme"))
    active_run(instance, "__ASSET_JOB", Status.STARTED, tags=of_partner("2-acme"))
    active_run(instance, "sync_batch", Status.STARTED, partners=["3-acme", "4-acme"])
    active_run(instance, "sync_partner", Status.SUCCESS, tags=of_partner("5-acme"))
    active_run(instance, "sync_batch", Status.FAILURE, partners=["6-acme"])
    active_run(instance, "watch", Status.STARTED, tags={"lane": "race_day"})
    assert asked(tick(schedule, instance))["partners"] == ["5-acme", "6-acme"]
    active_run(instance, "sync_batch", Status.QUEUED, partners=["5-acme", "6-acme"])
    words = {
        "race_proximity": "nothing due: 6 partners, 6 races with events ahead, 6 partners due, 6 of them in progress",
        "nightly": "nothing to do: 6 partners, 6 of them in progress",
    }
    assert skipped(tick(schedule, instance)) == words[schedule.name]


def test_a_run_is_at_work_until_it_has_ended(instance: dg.DagsterInstance) -> None:
    used = [status for status in Status if status not in (Status.SUSPENDED, Status.MANAGED)]  # Dagster sets neither
    for status in used:
        active_run(instance, "sync_partner", status, tags=of_partner(status.value))
    assert read_work_in_progress(instance).everything == {
        status.value for status in used if status in NOT_FINISHED_STATUSES
    }


def test_config_that_a_run_does_not_use_makes_no_partner_busy(instance: dg.DagsterInstance) -> None:
    """Dagster lets a materialization be configured with ops that it does not have."""
    odd: Any = [["1-acme"], "2-acme"]
    active_run(instance, "__ASSET_JOB", partners=odd)
    active_run(instance, "sync_batch", partners=["3-acme"])
    assert read_work_in_progress(instance).everything == {"3-acme"}


def test_a_backfill_that_lasts_for_hours_does_not_keep_its_partners_from_being_synced(
    instance: dg.DagsterInstance,
) -> None:
    active_run(instance, "sync_partner", tags=of_partner("1-acme", **{"dagster/backfill": "abcdefgh"}))
    active_run(instance, "__ASSET_JOB", Status.QUEUED, tags=of_partner("2-acme", lane="backfill"))
    active_run(instance, "sync_partner", tags=of_partner("3-acme", lane="new_partner"))
    assert read_work_in_progress(instance).everything == {"3-acme"}


def far_too(put: Fleet, number: int) -> None:
    """Add a second race of a partner that starts in fifty hours and was tried six hours ago, as its listing was."""
    put.race(1000 + number, number)
    put.event(10_000 + number, 1000 + number, 50 * HOUR)
    put.tried(number, 1000 + number, 6 * HOUR)
    put.conn.commit()


def test_near_races_are_read_while_a_nightly_has_their_partners_still_before_it(
    put: Fleet, instance: dg.DagsterInstance
) -> None:
    keys = near_fleet(put, 3)
    far_too(put, 1)
    put.partner(4)
    put.conn.commit()
    found = all_asked(tick(race_proximity, instance))
    assert found["near"]["races"] == {keys[0]: [10, 1001], keys[1]: [20], keys[2]: [30]}
    assert (found["far"]["partners"], found["far"]["relist"]) == (["4-acme"], ["4-acme"])
    # The nightly has all of them before it: near races are read all the same, the rest is left to it.
    active_run(instance, "sync_batch", partners=[*keys, "4-acme"], tags={"distance": "far"})
    found = all_asked(tick(race_proximity, instance))
    assert found.keys() == {"near"}
    assert found["near"]["races"] == {keys[0]: [10], keys[1]: [20], keys[2]: [30]} and found["near"]["relist"] == []
    active_run(instance, "sync_batch", partners=keys, tags={"distance": "near"})
    assert isinstance(tick(race_proximity, instance), dg.SkipReason)


def test_a_partner_that_a_batch_has_visited_is_not_at_work(put: Fleet, instance: dg.DagsterInstance) -> None:
    run_id = active_run(instance, "sync_batch", partners=["1-acme", "2-acme"])
    event = dg.DagsterEvent(
        DagsterEventType.ASSET_MATERIALIZATION.value,
        "sync_batch",
        event_specific_data=StepMaterializationData(
            dg.AssetMaterialization("future_events", partition="1-acme", tags={DONE_TAG: "yes"})
        ),
    )
    instance.report_dagster_event(event, run_id)
    assert read_work_in_progress(instance).everything == {"2-acme"}


def test_what_a_nightly_that_broke_off_has_left_is_due_at_the_next_look(
    put: Fleet, instance: dg.DagsterInstance
) -> None:
    """Tried an hour ago, a listing and a race fifty hours off would wait for three hours more."""
    for number in (1, 2):
        put.partner(number)
        put.race(10 * number, number)
        put.event(100 * number, 10 * number, 50 * HOUR)
    put.conn.commit()
    asked_at = dt.datetime.now(dt.UTC)
    active_run(instance, "sync_batch", Status.FAILURE, tags={"dagster/schedule_name": "nightly", "distance": "far"})
    later = asked_at + 10 * MINUTE

    def tried(number: int, at: dt.datetime) -> None:
        put.tried(number, None, NOW - at)
        put.tried(number, 10 * number, NOW - at)

    tried(1, asked_at - HOUR)
    tried(2, asked_at + 5 * MINUTE)
    # The event is fifty hours off at the time of the tick.
    put.sql("UPDATE runsignup_events SET starts_at = %s", later + 50 * HOUR)
    put.conn.commit()
    found = asked(tick(race_proximity, instance, later))
    assert (found["partners"], found["relist"], found["races"]) == (["1-acme"], ["1-acme"], {"1-acme": [10]})


def test_a_run_that_repeats_a_nightly_does_not_make_what_that_has_read_due_again(instance: dg.DagsterInstance) -> None:
    tags = {"dagster/schedule_name": "nightly", "distance": "far"}
    first = active_run(instance, "sync_batch", Status.FAILURE, tags=tags)
    requested_at = find_last_nightly(instance)
    second = active_run(instance, "sync_batch", Status.FAILURE, tags={**tags, "dagster/parent_run_id": first})
    active_run(instance, "sync_batch", tags={**tags, "dagster/parent_run_id": second})
    assert requested_at is not None and find_last_nightly(instance) == requested_at
    # Once the runs of a night are deleted, the oldest that is left counts.
    instance.delete_run(first)
    left = find_last_nightly(instance)
    assert left is not None and left > requested_at


# nightly


def test_who_was_left_out_last_night_begins_the_next(put: Fleet, instance: dg.DagsterInstance) -> None:
    keys = near_fleet(put, 4, tried=MINUTE)
    put.sql("UPDATE sync_history SET finished_at = %s WHERE race_id IS NULL AND timing_partner_id = 4", NOW - 24 * HOUR)
    put.conn.commit()
    assert asked(tick(nightly, instance))["partners"] == [keys[3], keys[0], keys[1], keys[2]]


def test_a_nightly_is_spread_over_runs_only_where_each_credential_has_places_of_its_own() -> None:
    one, many = (load_settings({"RSU_IN_FLIGHT_SCOPE": scope}).budget for scope in ("all", "credential"))
    assert [build_nightly_runs(one, places) for places in (1, 2, 5)] == [1, 1, 1]
    assert [build_nightly_runs(many, places) for places in (1, 2, 5)] == [1, 1, 4]


def test_the_places_of_the_routine_lane_are_those_of_dagster_yaml(put: Fleet, dagster_home: Path) -> None:
    with dg.DagsterInstance.from_config(str(dagster_home)) as ours:
        assert read_routine_run_limit(ours) == 2


def test_the_night_takes_every_active_partner_and_its_listing(put: Fleet, instance: dg.DagsterInstance) -> None:
    keys = near_fleet(put, 5, tried=MINUTE)
    put.sql("UPDATE timing_partners SET disabled_at = now() WHERE timing_partner_id = 2")
    put.sql("UPDATE partner_provider_credentials SET rejected_at = %s WHERE timing_partner_id = 3", NOW - MINUTE)
    put.conn.commit()
    left = [keys[0], keys[3], keys[4]]
    assert asked(tick(nightly, instance)) == {"partners": left, "races": {}, "relist": left}


def test_at_night_who_has_most_to_read_begins(put: Fleet, instance: dg.DagsterInstance) -> None:
    keys = near_fleet(put, 3, tried=MINUTE)
    put.race(40, 3)
    put.event(400, 40, 50 * HOUR)
    put.conn.commit()
    assert asked(tick(nightly, instance))["partners"] == [keys[2], keys[0], keys[1]]


def test_no_partner_is_a_skip_with_numbers(put: Fleet, instance: dg.DagsterInstance) -> None:
    assert skipped(tick(nightly, instance)) == "nothing to do: 0 partners, 0 of them in progress"


def ticks(zone: str, first: dt.datetime, last: dt.datetime) -> list[dt.datetime]:
    assert isinstance(nightly.cron_schedule, str)
    moments = schedule_execution_time_iterator(first.timestamp(), nightly.cron_schedule, zone)
    return list(itertools.takewhile(lambda moment: moment < last, moments))


def test_it_is_two_in_the_morning_once_a_day_on_the_days_the_clocks_change_too() -> None:
    zone = nightly.execution_timezone
    assert zone == "America/New_York"
    here = ZoneInfo(zone)
    for month, day, hour in ((3, 8, 3), (11, 1, 2), (7, 4, 2)):  # there is no 02:00 on 8 March
        midnight = dt.datetime(2026, month, day, tzinfo=here)
        found = ticks(zone, midnight, dt.datetime(2026, month, day, 23, 59, tzinfo=here))
        assert [(moment.astimezone(here).hour, moment.astimezone(here).minute) for moment in found] == [(hour, 0)]
    year = ticks(zone, dt.datetime(2026, 1, 1, tzinfo=here), dt.datetime(2027, 1, 1, tzinfo=here))
    assert [moment.astimezone(here).date().toordinal() for moment in year] == list(
        range(dt.date(2026, 1, 1).toordinal(), dt.date(2027, 1, 1).toordinal())
    )


@pytest.mark.parametrize(
    ("zone", "changes"),
    [
        ("America/New_York", [(3, 8), (11, 1)]),
        ("Europe/Athens", [(3, 29), (10, 25)]),  # 02:00 is 00:00 UTC in winter, 23:00 the day before in summer
    ],
)
def test_no_two_nights_share_a_run_key(
    put: Fleet, instance: dg.DagsterInstance, zone: str, changes: list[tuple[int, int]]
) -> None:
    near_fleet(put, 1)
    days = [dt.datetime(2026, *day, 12, tzinfo=dt.UTC) for day in changes]
    nights = [night for day in days for night in ticks(zone, day - 48 * HOUR, day + 48 * HOUR)]
    answers = [tick(nightly, instance, night) for night in nights]
    keys = {key_of(answer) for answer in answers}
    assert len(nights) == len(keys) == 8


def test_the_zone_is_a_setting() -> None:
    words = (
        "from rsu_pipeline.definitions import defs\n"
        "for name in ('nightly', 'nightly_retention'):\n"
        "    schedule = defs().resolve_schedule_def(name)\n"
        "    print(schedule.execution_timezone, schedule.cron_schedule)"
    )
    environment = {**os.environ, "RSU_TIMEZONE": "America/Denver"}
    shown = subprocess.run(
        [sys.executable, "-c", words], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert shown.stdout.splitlines() == ["America/Denver 0 2 * * *", "America/Denver 30 3 * * *"]


# Both


@pytest.mark.parametrize("schedule", [race_proximity, nightly], ids=lambda schedule: schedule.name)
def test_a_database_that_is_away_is_one_sentence(
    schedule: Schedule, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": "postgresql://hub:canary@127.0.0.1:9/hub"})
    with pytest.raises(dg.Failure) as failed:
        tick(schedule, instance)
    assert str(failed.value.description).startswith("Cannot use PostgreSQL at 127.0.0.1:9/hub: ")
    assert "canary" not in str(failed.value.description)


@pytest.mark.parametrize("hours", [-20, 20])
def test_a_hub_whose_clock_is_wrong_visits_what_is_due_by_the_others(
    put: Fleet, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    keys = near_fleet(put, 2)
    wrong = hours * HOUR
    real = clocks.utc_now
    monkeypatch.setattr(clocks, "utc_now", lambda: real() + wrong)
    # Its daemon's ticks are as wrong.
    config = asked(tick(race_proximity, instance, NOW + wrong))
    assert config["partners"] == keys and config["races"] == {"1-acme": [10], "2-acme": [20]}
    put.tried(1, 10, MINUTE)
    put.tried(2, 20, MINUTE)
    put.conn.commit()
    # What was tried a minute ago is not due, whatever the hub's clock shows.
    skipped(tick(race_proximity, instance, NOW + wrong))
