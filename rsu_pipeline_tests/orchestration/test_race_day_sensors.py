"""The sensor that keeps the watch running, and the one that reports new bibs, on a real instance and database."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg2
import pytest

from rsu_pipeline import installation
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration import race_day_sensors
from rsu_pipeline.orchestration.assets.race_day_board_asset import board_metadata
from rsu_pipeline.orchestration.race_day_sensors import build_bib_changes, race_day, race_day_board_refresh
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.sync.race_day_board import BoardRow, Problem, Urgency
from rsu_pipeline.warehouse import bibs, database, fleet
from rsu_pipeline_tests.orchestration.queued import make, queue, report, start
from rsu_pipeline_tests.orchestration.runs import use_environment
from rsu_pipeline_tests.sync.test_race_day_board import race
from rsu_pipeline_tests.warehouse.fleet_rows import HOUR, Fleet

bib_changes = build_bib_changes("watch")

PARTICIPANTS = dg.AssetKey("participants")


@pytest.fixture
def put(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Provide a fleet in the database of this process's installation. The sensors see what is committed."""
    use_environment(monkeypatch, {"RSU_DATABASE_URL": database_url, "RSU_HOME": str(tmp_path)})
    with database.session(database_url, purpose="tests") as conn:
        yield Fleet(conn)


@pytest.fixture
def instance(put: Fleet, dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """Provide the instance that dagster.yaml describes, its storage in the fleet's database."""
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        yield instance


def look(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> dg.SensorResult:
    resources: dict[str, Any] = {"warehouse": WarehouseResource(), "runsignup": RunSignupResource()}
    resources = {name: resources[name] for name in sensor.required_resource_keys}
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


def skipped(result: dg.SensorResult) -> str:
    assert not result.run_requests and result.skip_reason is not None
    return str(result.skip_reason.skip_message)


def requests(result: dg.SensorResult) -> list[dg.RunRequest]:
    """Return what is requested, each in the form that the job takes."""
    assert result.skip_reason is None
    job = build_definitions().resolve_job_def("watch")
    for request in result.run_requests or []:
        dg.validate_run_config(job, dict(request.run_config))
        assert request.tags["lane"] == "race_day"
    return list(result.run_requests or [])


def race_in_window(put: Fleet, partner: int, hours: float = 1.0) -> None:
    put.partner(partner)
    put.race(10 * partner, partner)
    put.event(100 * partner, 10 * partner, HOUR)
    put.sql(
        "UPDATE runsignup_events SET starts_at = now() + make_interval(secs => %s) WHERE race_id = %s",
        hours * 3600,
        10 * partner,
    )
    put.conn.commit()


def _call_budget(put: Fleet, partner: int) -> int:
    """Return the number by which a partner's races are sharded: partners with one API key share it."""
    return next(
        race.call_budget_id
        for race in fleet.select_races_to_read(put.conn, dt.datetime.now(dt.UTC))
        if race.partner_id == partner
    )


def move_starts(put: Fleet, seconds: float) -> None:
    """Let every run have started that much earlier."""
    put.sql("UPDATE dagster.runs SET start_time = start_time - %s", seconds)
    put.conn.commit()


# race_day


def test_without_a_race_in_its_window_no_watch_runs(put: Fleet, instance: dg.DagsterInstance) -> None:
    assert skipped(look(race_day, instance)) == "0 races in their window, 0 ahead, 0 watches requested"
    race_in_window(put, 1, hours=4.1)
    # Over since then, which leaves it a closing read.
    race_in_window(put, 2, hours=-1.1)
    assert skipped(look(race_day, instance)) == "0 races in their window, 2 ahead, 0 watches requested"


def test_a_race_in_its_window_has_a_watch_of_each_shard_that_has_one(
    put: Fleet, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    race_in_window(put, 1)
    (only,) = requests(look(race_day, instance))
    assert only.tags["watch_shard"] == "0"
    assert only.run_config == {"ops": {"watch_races": {"config": {"shard": 0, "seconds": 600.0}}}}

    use_environment(monkeypatch, {"RSU_WATCH_SHARDS": "3", "RSU_WATCH_SLICE": "120"})
    (only,) = requests(look(race_day, instance))
    assert only.tags["watch_shard"] == str(_call_budget(put, 1) % 3)
    for number in (2, 3, 4):
        race_in_window(put, number)
    asked = requests(look(race_day, instance))
    assert [request.run_config["ops"]["watch_races"]["config"] for request in asked] == [
        {"shard": shard, "seconds": 120.0} for shard in (0, 1, 2)
    ]
    assert [request.tags["watch_shard"] for request in asked] == ["0", "1", "2"]
    assert len({request.run_key for request in asked}) == 3


def test_a_watch_has_one_successor_and_only_shortly_before_it_ends(put: Fleet, instance: dg.DagsterInstance) -> None:
    race_in_window(put, 1)
    waits = queue(instance, "watch", watch_shard="0")
    assert skipped(look(race_day, instance)) == "1 race in their window, 1 ahead, 0 watches requested"
    start(instance, [waits])
    assert "0 watches requested" in skipped(look(race_day, instance))
    move_starts(put, 535)
    assert "0 watches requested" in skipped(look(race_day, instance))
    move_starts(put, 10)
    (successor,) = requests(look(race_day, instance))
    # However often it ticks: the daemon drops a run key it knows.
    assert successor.run_key == f"watch:0:after:{waits.run_id}"
    assert [request.run_key for request in requests(look(race_day, instance))] == [successor.run_key]
    queue(instance, "watch", watch_shard="0")
    assert "0 watches requested" in skipped(look(race_day, instance))


def test_a_watch_that_ended_or_that_of_another_shard_does_not_count(
    put: Fleet, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_WATCH_SHARDS": "2"})
    race_in_window(put, 1)
    race_in_window(put, 2)
    ended, other = make(instance, "watch", watch_shard="1"), make(instance, "watch", watch_shard="0")
    start(instance, [ended, other])
    report(instance, [ended], "PIPELINE_FAILURE")
    (request,) = requests(look(race_day, instance))
    assert request.tags["watch_shard"] == "1"
    assert "after" not in str(request.run_key)


def test_where_the_sensor_looks_by_itself_no_watch_runs(
    put: Fleet, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_BIB_POLL": "sensor"})
    race_in_window(put, 1)
    assert skipped(look(race_day, instance)) == "RSU_BIB_POLL is 'sensor': the sensor bib_changes polls by itself"


@pytest.mark.parametrize("sensor", [race_day, bib_changes, race_day_board_refresh], ids=lambda sensor: sensor.name)
def test_a_database_that_is_away_is_one_sentence(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": "postgresql://hub:canary@127.0.0.1:9/hub"})
    with pytest.raises(dg.Failure) as failed:
        look(sensor, instance)
    assert str(failed.value.description).startswith("Cannot use PostgreSQL at 127.0.0.1:9/hub: ")
    assert "canary" not in str(failed.value.description)


# bib_changes


def log_bib(put: Fleet, partner: int, old: str | None, new: str | None, *, late: int = 0) -> None:
    """Write a row of the bib log, that many seconds after RunSignup's change, without a commit."""
    kind = "assigned" if old is None else "cleared" if new is None else "changed"
    put.sql(
        "INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, old_bib, new_bib,"
        " modified_epoch, first_seen_new) VALUES (%s, 1, 1, 1, %s, %s, %s, floor(extract(epoch FROM now())) - %s, now())",
        partner,
        kind,
        old,
        new,
        late,
    )


def told(instance: dg.DagsterInstance) -> list[tuple[str, dict[str, Any]]]:
    """Return partition and metadata of each materialization of participants, the oldest first."""
    records = instance.fetch_materializations(PARTICIPANTS, limit=1000, ascending=True).records
    found = [record.asset_materialization for record in records]
    return [(str(one.partition), {name: value.value for name, value in one.metadata.items()}) for one in found if one]


def test_new_bibs_are_told_once_to_their_partners_partition_with_counts(
    put: Fleet, instance: dg.DagsterInstance
) -> None:
    assert skipped(look(bib_changes, instance)) == "no new bib changes"
    for number in (1, 2, 3):
        put.partner(number)
    for change in ((None, "5"), (None, "6"), ("5", "7"), ("6", None)):
        log_bib(put, 1, *change, late=40)
    log_bib(put, 3, None, "5")
    put.conn.commit()
    assert skipped(look(bib_changes, instance)) == "5 bib changes of 2 partners reported: 1-acme 4, 3-acme 1"
    (first, counts), (third, others) = told(instance)
    assert (first, third) == ("1-acme", "3-acme")
    slowest = counts.pop("slowest_seconds")
    assert counts == {"bibs_assigned": 2, "bibs_changed": 1, "bibs_cleared": 1, "bib_changes": 4}
    assert 40 <= slowest < 100
    assert others.keys() == counts.keys() | {"slowest_seconds"}
    assert instance.get_materialized_partitions(PARTICIPANTS) == {"1-acme", "3-acme"}

    assert skipped(look(bib_changes, instance)) == "no new bib changes"
    assert len(told(instance)) == 2
    with put.conn.cursor() as cur:
        cur.execute("SELECT count(*) FROM bib_changes_handled JOIN runsignup_bib_changes USING (bib_change_id)")
        assert cur.fetchall() == [(5,)]


def test_bibs_of_many_partners_are_reported_over_several_ticks_the_longest_waiting_first(
    put: Fleet, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bibs, "PARTNERS_AT_ONCE", 2)
    for number in (1, 2, 3, 4, 5):
        put.partner(number)
    for number in (4, 2, 1, 5, 3):
        log_bib(put, number, None, "5")
        put.conn.commit()
    with monkeypatch.context() as hurried:
        hurried.setattr(race_day_sensors, "REPORT_SECONDS", 0.001)
        assert skipped(look(bib_changes, instance)) == "2 bib changes of 2 partners reported: 2-acme 1, 4-acme 1"
    reported = skipped(look(bib_changes, instance))
    assert reported == "3 bib changes of 3 partners reported: 1-acme 1, 5-acme 1, 3-acme 1", (
        "in one tick if there is time"
    )
    assert skipped(look(bib_changes, instance)) == "no new bib changes"


def test_a_row_that_becomes_visible_after_later_ones_is_told_too(put: Fleet, instance: dg.DagsterInstance) -> None:
    put.partner(1)
    put.partner(2)
    put.conn.commit()
    log_bib(put, 1, None, "5")  # takes the lower number, and is not committed yet
    with database.session(installation.current().database_url, purpose="tests") as conn:
        log_bib(Fleet(conn), 2, None, "6")
        conn.commit()
    look(bib_changes, instance)
    assert [key for key, _ in told(instance)] == ["2-acme"]
    put.conn.commit()
    look(bib_changes, instance)
    assert [key for key, _ in told(instance)] == ["2-acme", "1-acme"]


def test_a_crash_between_telling_and_marking_tells_again_and_loses_nothing(
    put: Fleet, instance: dg.DagsterInstance
) -> None:
    put.partner(1)
    log_bib(put, 1, None, "5")
    put.sql(
        """
        CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'at commit'; END $$;
        CREATE CONSTRAINT TRIGGER crash AFTER INSERT ON bib_changes_handled DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION crash()
        """
    )
    put.conn.commit()
    with pytest.raises(psycopg2.errors.RaiseException, match="at commit"):
        look(bib_changes, instance)
    assert len(told(instance)) == 1
    put.sql("DROP TRIGGER crash ON bib_changes_handled")
    put.conn.commit()
    assert skipped(look(bib_changes, instance)) == "1 bib change of 1 partner reported: 1-acme 1"
    assert len(told(instance)) == 2
    assert skipped(look(bib_changes, instance)) == "no new bib changes"


# race_day_board_refresh


def board_of(result: dg.SensorResult) -> dict[str, Any]:
    """Return the metadata of the one materialization that a tick brought."""
    (event,) = result.asset_events
    assert isinstance(event, dg.AssetMaterialization) and event.asset_key == dg.AssetKey("race_day_board")
    return {name: value.value for name, value in event.metadata.items()}


def test_the_board_is_refreshed_while_a_race_is_on_it_and_once_more_after(
    put: Fleet, instance: dg.DagsterInstance
) -> None:
    race_in_window(put, 1)
    result = look(race_day_board_refresh, instance)
    assert skipped(result) == "1 race on the board, 1 of them do not receive bibs"
    told = board_of(result)
    assert (told["races"], told["races_in_window"], told["races_blocked"]) == (1, 1, 1)
    put.sql("UPDATE runsignup_events SET gone_at = now()")
    put.conn.commit()
    result = look(race_day_board_refresh, instance)
    assert (result.cursor, board_of(result)["races"]) == ("empty", 0)
    with dg.build_sensor_context(
        instance=instance, resources={"warehouse": WarehouseResource()}, cursor="empty"
    ) as context:
        result = race_day_board_refresh(context)
    assert not result.asset_events and "no race in its window" in skipped(result)


def test_the_board_is_an_asset_that_a_person_can_materialize(put: Fleet, instance: dg.DagsterInstance) -> None:
    race_in_window(put, 1)
    put.conn.commit()
    done = (
        build_definitions()
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(instance=instance, asset_selection=[dg.AssetKey("race_day_board")])
    )
    (event,) = done.asset_materializations_for_node("race_day_board")
    assert event.metadata["races"].value == 1


def test_the_board_has_the_start_in_the_races_zone_and_every_other_time_in_the_hubs() -> None:
    start = dt.datetime(2026, 6, 13, 14, 0, tzinfo=dt.UTC)
    recorded = start - dt.timedelta(hours=2)
    problem = Problem("read fails", "RunSignup has not answered race 7 since 2026-06-13 11:58 UTC", Urgency.BLOCKED)
    near = race(7, zone="America/Chicago", last_bib="5", last_bib_kind="assigned", last_bib_recorded_at=recorded)
    metadata = board_metadata([BoardRow(near, True, start, (problem,))], start, ZoneInfo("America/Denver"))
    table = metadata["board"]
    assert isinstance(table, dg.TableMetadataValue)
    shown = table.records[0].data
    assert (shown["start"], shown["last_bib_recorded_at"]) == ("2026-06-13 09:00 CDT", "2026-06-13 06:00 MDT")
    assert shown["problems"] == "RunSignup has not answered race 7 since 2026-06-13 05:58 MDT"
