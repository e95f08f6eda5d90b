"""`participant_history`, its sensor and its check on a real instance, database and sandbox."""

import datetime as dt
from typing import Any

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.alerts import rules
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration import partitions, sensors
from rsu_pipeline.orchestration.lanes import read_lane_of_run
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.settings import load_settings
from rsu_pipeline.warehouse import backfill_state, database
from rsu_pipeline_tests.hub import Hub

NUMBERS = {
    "complete", "races", "races_done", "races_failing", "past_events", "events_loaded", "events_empty",
    "events_unavailable", "registrations", "calls_so_far", "calls_left_estimate", "hours_left_estimate", "rows_read",
    "rows_inserted", "rows_updated", "rows_unchanged", "rows_removed", "rows_quarantined", "races_read", "api_calls",
    "budget_left", "seconds", "problem_count",
}  # fmt: skip


@pytest.fixture
def hub(own_hub: Hub) -> Hub:
    return own_hub


def slice_of(
    instance: dg.DagsterInstance, key: str, **config: Any
) -> tuple[dict[str, Any], dg.AssetCheckEvaluation, str]:
    """Run the job for a partner, and return its metadata, its check and its failure ('' on success)."""
    instance.add_dynamic_partitions(partitions.NAME, [key])
    outcome = (
        build_definitions()
        .resolve_job_def("backfill_history")
        .execute_in_process(
            instance=instance,
            partition_key=key,
            run_config={"ops": {"participant_history": {"config": config}}},
            raise_on_error=False,
        )
    )
    metadata: dict[str, Any] = {}
    failure = ""
    for event in outcome.all_node_events:
        if event.is_step_materialization:
            told = event.step_materialization_data.materialization
            assert told.partition == key
            metadata = {name: value.value for name, value in told.metadata.items()}
        elif event.is_step_failure and event.step_failure_data.user_failure_data:
            failure = str(event.step_failure_data.user_failure_data.description)
    checks = outcome.get_asset_check_evaluations()
    return metadata, checks[0] if checks else None, failure  # type: ignore[return-value]


def look(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    with dg.build_sensor_context(instance=instance, resources={"warehouse": WarehouseResource()}) as context:
        result = sensors.history(context)
    assert isinstance(result, dg.SensorResult)
    return list(result.run_requests or [])


def test_one_slice_reads_a_small_partner_whole_and_tells_how_far_it_is(hub: Hub, instance: dg.DagsterInstance) -> None:
    metadata, check, failure = slice_of(instance, hub.partners[1])
    assert failure == "" and metadata.keys() >= NUMBERS
    assert metadata["complete"] == 1 and metadata["past_events"] == metadata["events_loaded"] > 0
    assert metadata["races"] == metadata["races_done"] and metadata["calls_left_estimate"] == 0
    assert check.passed and check.check_name == "history_complete"
    hub.sync(1)
    hub.assert_equal(1, past_too=True)
    assert look(instance) == []


def test_the_sensor_goes_on_slice_by_slice_until_it_is_complete(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSU_HISTORY_SLICE", "1")
    installation.current.cache_clear()
    hub.sandbox.admin.switch(latency_ms=1100)
    key = hub.partners[2]
    metadata, check, _ = slice_of(instance, key)
    assert metadata["complete"] == 0
    assert not check.passed and check.severity is dg.AssetCheckSeverity.WARN
    hub.sandbox.admin.switch(latency_ms=0)
    for _ in range(20):
        requests = look(instance)
        if not requests:
            break
        (request,) = requests
        assert request.partition_key == key and request.tags["lane"] == "backfill"
        assert request.run_config == {"ops": {"participant_history": {"config": {"resume_only": True}}}}
        metadata, check, _ = slice_of(instance, key, resume_only=True)
    assert metadata["complete"] == 1 and check.passed
    hub.sync(2)
    hub.assert_equal(2, past_too=True)


def test_a_failing_race_turns_the_check_red_and_leaves_the_others(hub: Hub, instance: dg.DagsterInstance) -> None:
    broken = next(race["race_id"] for race in hub.sandbox.admin.truth(3)["races"] if "Farewell" in race["name"])
    hub.sandbox.admin.fault("http_500", 0, race_id=broken)
    metadata, check, failure = slice_of(instance, hub.partners[3])
    assert failure == "" and (metadata["races_failing"], metadata["problem_count"]) == (1, 1)
    assert metadata["races_done"] == metadata["races"] - 1
    assert not check.passed and check.severity is dg.AssetCheckSeverity.ERROR
    assert str(broken) in str(check.metadata["sample"].value)
    # An hour must pass until it is tried again.
    assert look(instance) == []


def test_a_refused_key_fails_the_run_and_stops_the_sensor(hub: Hub, instance: dg.DagsterInstance) -> None:
    hub.sandbox.admin.revoke(1)
    metadata, _, failure = slice_of(instance, hub.partners[1])
    assert metadata == {} and "rejects the credential" in failure
    hub.execute("UPDATE history_requests SET not_before = now()")
    assert look(instance) == []


def test_a_slice_under_way_or_queued_is_not_asked_for_twice(hub: Hub, instance: dg.DagsterInstance) -> None:
    key = hub.partners[1]
    instance.add_dynamic_partitions(partitions.NAME, [key])
    hub.history(1, seconds=0)
    (request,) = look(instance)
    job = build_definitions().resolve_job_def("backfill_history")
    run = instance.create_run_for_job(job, tags={"dagster/partition": key})
    assert look(instance) == []
    instance.delete_run(run.run_id)
    assert [item.partition_key for item in look(instance)] == [key] == [request.partition_key]


def test_slices_of_many_partners_are_requested_over_several_ticks_the_longest_waiting_first(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_state, "MAX_QUEUED_SLICES", 2)
    instance.add_dynamic_partitions(partitions.NAME, list(hub.partners.values()))
    by_wait = [2, 3, 1]
    for place, partner in enumerate(by_wait):
        hub.history(partner, seconds=0)
        since = dt.timedelta(minutes=30 - place)
        hub.execute("UPDATE history_requests SET not_before = now() - %s WHERE timing_partner_id = %s", since, partner)
    keys = [hub.partners[partner] for partner in by_wait]
    assert [request.partition_key for request in look(instance)] == keys[:2]
    job = build_definitions().resolve_job_def("backfill_history")
    runs = [instance.create_run_for_job(job, tags={"dagster/partition": key}) for key in keys[:2]]
    assert look(instance) == [], "the queue is full"
    instance.report_run_failed(runs[0])
    hub.execute("UPDATE history_requests SET not_before = now() WHERE timing_partner_id = %s", by_wait[0])
    assert [request.partition_key for request in look(instance)] == keys[2:], "the others come first"


def test_a_backfill_that_waits_for_its_turn_has_not_stopped(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_state, "MAX_QUEUED_SLICES", 1)

    def find_stopped() -> list[str | None]:
        with database.session(hub.url, purpose="tests") as conn:
            found = rules.find_problems(conn, load_settings({}), dt.datetime.now(dt.UTC))
        return [problem.partner for problem in found if problem.kind == "backfill_stopped"]

    for partner in (1, 2):
        hub.history(partner, seconds=0)
    hub.execute("UPDATE history_requests SET not_before = now() - interval '10 minutes'")
    assert find_stopped() == [hub.partners[1], hub.partners[2]]
    job = build_definitions().resolve_job_def("backfill_history")
    tags = {"dagster/partition": hub.partners[1]}
    run = hub_instance.create_run_for_job(job, tags=tags)
    assert find_stopped() == []
    hub_instance.report_run_failed(run)
    assert find_stopped() == [], "the sensor has not ticked since"
    hub.execute("UPDATE dagster.runs SET update_timestamp = update_timestamp - interval '90 seconds'")
    assert find_stopped() == [hub.partners[1], hub.partners[2]]


def test_a_slice_that_left_no_word_is_followed_by_another(hub: Hub, instance: dg.DagsterInstance) -> None:
    key = hub.partners[1]
    instance.add_dynamic_partitions(partitions.NAME, [key])
    hub.history(1, seconds=0)
    hub.execute("UPDATE history_requests SET not_before = now() + interval '5 minutes'")  # as a slice at work has it
    assert look(instance) == []
    hub.execute("UPDATE history_requests SET not_before = now() - interval '1 second'")
    assert len(look(instance)) == 1


def test_history_is_in_the_lane_that_gives_way(hub: Hub, instance: dg.DagsterInstance) -> None:
    job = build_definitions().resolve_job_def("backfill_history")
    run = instance.create_run_for_job(job, asset_selection=frozenset([dg.AssetKey("participant_history")]))
    assert read_lane_of_run(run) == "backfill"
    slice_of(instance, hub.partners[1])
    assert hub.value("SELECT count(DISTINCT lane) FROM api_calls") == 1
