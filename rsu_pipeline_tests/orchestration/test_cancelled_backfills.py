"""A backfill that a person cancels stays cancelled, and one that ends in any other way goes on."""

import datetime as dt
import logging
import signal
import subprocess
import time
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._daemon.monitoring.run_monitoring import check_run_timeout

from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.display import format_time
from rsu_pipeline.orchestration import cancelled_runs, partitions, sensors
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline_tests.cli.shell import rsu
from rsu_pipeline_tests.cli.started import RSU, without_ours
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.queued import make, queue, report, start

JOB = "backfill_history"


def tick(instance: dg.DagsterInstance) -> dg.SensorResult:
    """Evaluate the sensor `history`."""
    with dg.build_sensor_context(instance=instance, resources={"warehouse": WarehouseResource()}) as context:
        result = sensors.history(context)
    assert isinstance(result, dg.SensorResult)
    return result


def requested(instance: dg.DagsterInstance) -> list[str | None]:
    return [request.partition_key for request in tick(instance).run_requests or []]


def cancelled_at(hub: Hub, partner: int = 1) -> dt.datetime | None:
    found: dt.datetime | None = hub.value(
        "SELECT cancelled_at FROM history_requests WHERE timing_partner_id = %s", partner
    )
    return found


def slice_of(instance: dg.DagsterInstance, key: str, tags: dict[str, str] | None = None, **config: Any) -> Any:
    """Run a slice in this process and return its metadata."""
    instance.add_dynamic_partitions(partitions.NAME, [key])
    outcome = (
        build_definitions()
        .resolve_job_def(JOB)
        .execute_in_process(
            instance=instance,
            partition_key=key,
            tags=tags or {},
            run_config={"ops": {"participant_history": {"config": config}}},
        )
    )
    (told,) = outcome.asset_materializations_for_node("participant_history")
    return {name: value.value for name, value in told.metadata.items()}


def open_request(hub: Hub, instance: dg.DagsterInstance, partner: int = 1) -> str:
    """Make a partner's request, of which one slice has read nothing yet. Return the partition key."""
    key = hub.partners[partner]
    instance.add_dynamic_partitions(partitions.NAME, [key])
    hub.history(partner, seconds=0)
    return key


def terminated(instance: dg.DagsterInstance, key: str, **tags: str) -> dg.DagsterRun:
    """Return a started run, terminated as Dagster's launcher does it."""
    run = queue(instance, JOB, partition=key, **tags)
    start(instance, [run])
    instance.report_run_canceling(run)
    report(instance, [run], "PIPELINE_CANCELED")
    return run


def test_a_terminated_slice_cancels_the_backfill_and_launching_again_resumes_it(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    key = open_request(hub, hub_instance)
    assert requested(hub_instance) == [key]
    terminated(hub_instance, key)
    result = tick(hub_instance)
    assert not result.run_requests
    assert f"1 are cancelled ({key} at " in str(result.skip_reason)
    (observed,) = result.asset_events
    assert (observed.asset_key.to_user_string(), observed.partition) == ("participant_history", key)
    assert "cancelled_at" in observed.metadata
    at = cancelled_at(hub)
    assert at is not None
    assert f"cancelled at {format_time(at, hub.settings.timezone)}" in rsu("status", settings=hub.environment).stdout

    # A slice that was queued before reads nothing.
    calls = hub.value("SELECT count(*) FROM api_calls")
    metadata = slice_of(hub_instance, key, resume_only=True)
    assert (metadata["cancelled"], metadata["cancelled_at"], metadata["api_calls"]) == (1, at.timestamp(), 0)
    assert hub.value("SELECT count(*) FROM api_calls") == calls

    # Launched again it goes on where it was, and the old cancellation counts no more.
    hub.execute("UPDATE history_requests SET listed_at = now()")
    metadata = slice_of(hub_instance, key)
    assert (metadata["cancelled"], metadata["complete"]) == (0, 1)
    assert cancelled_at(hub) is None and requested(hub_instance) == []


def test_a_run_that_a_person_repeats_resumes_a_cancelled_backfill_with_its_years(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    key = open_request(hub, hub_instance)
    hub.execute("UPDATE history_requests SET since_year = 2001")
    run = terminated(hub_instance, key)
    tick(hub_instance)
    assert cancelled_at(hub) is not None
    slice_of(hub_instance, key, {"dagster/parent_run_id": run.run_id}, resume_only=True)
    assert cancelled_at(hub) is None
    assert hub.value("SELECT since_year FROM history_requests") == 2001


def test_a_slice_that_is_cancelled_in_the_queue_cancels_the_backfill(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    key = open_request(hub, hub_instance)
    run = queue(hub_instance, JOB, partition=key)
    assert hub_instance.run_coordinator.cancel_run(run.run_id)
    assert requested(hub_instance) == [] and cancelled_at(hub) is not None


def test_a_cancellation_before_the_request_was_made_again_counts_for_nothing(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    key = open_request(hub, hub_instance)
    run = terminated(hub_instance, key)
    hub.history(1, seconds=0)
    assert requested(hub_instance) == [key] and cancelled_at(hub) is None
    # But a run that is terminated while it asks has asked in vain.
    hub.execute("UPDATE history_requests SET run_id = %s", run.run_id)
    assert requested(hub_instance) == [] and cancelled_at(hub) is not None


def test_a_cancelled_sync_of_the_partner_cancels_no_backfill(hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    key = open_request(hub, hub_instance)
    run = queue(hub_instance, "sync_partner", partition=key)
    hub_instance.run_coordinator.cancel_run(run.run_id)
    assert requested(hub_instance) == [key]


def test_a_run_that_exceeds_its_longest_runtime_cancels_no_backfill(hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    key = open_request(hub, hub_instance)
    run = queue(hub_instance, JOB, partition=key)
    start(hub_instance, [run], ago=7200)
    (record,) = hub_instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    check_run_timeout(hub_instance, record, logging.getLogger("tests"), 10.0)
    report(hub_instance, [run], "PIPELINE_CANCELED")
    found = hub_instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == dg.DagsterRunStatus.CANCELED
    assert requested(hub_instance) == [key]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_a_signal_ends_cancels_no_backfill(own_hub: Hub, dagster_home: Any, number: signal.Signals) -> None:
    """So ends a run when `rsu up` is stopped."""
    hub = own_hub
    hub.sandbox.admin.switch(latency_ms=30_000)
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        shell = subprocess.Popen(
            [RSU, "backfill", "--partner", "1", "--wait", "--json"],
            env=without_ours() | hub.environment,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 60
            while not hub.value("SELECT count(*) FROM api_calls WHERE settled_at IS NULL"):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            shell.send_signal(number)
            shell.wait(15)
        finally:
            shell.kill()
            shell.wait(60)
        (run,) = instance.get_runs()
        assert run.status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)
        hub.execute("UPDATE history_requests SET not_before = now()")
        assert requested(instance) == [hub.partners[1]]


def backfill_of(instance: dg.DagsterInstance, status: BulkActionStatus) -> str:
    """Store a backfill of Dagster's, as far as the sensor reads it."""
    backfill = PartitionBackfill("abcdefgh", status, from_failure=False, tags={}, backfill_timestamp=time.time())
    instance.add_backfill(backfill)
    return backfill.backfill_id


def test_a_cancelled_backfill_cancels_also_partners_whose_run_had_ended(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    key, other = open_request(hub, hub_instance, 1), open_request(hub, hub_instance, 2)
    backfill_id = backfill_of(hub_instance, BulkActionStatus.REQUESTED)
    hub.execute("UPDATE history_requests SET backfill_id = %s WHERE timing_partner_id = 1", backfill_id)
    assert set(requested(hub_instance)) == {key, other}
    backfill = hub_instance.get_backfill(backfill_id)
    assert backfill is not None
    hub_instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELING))
    assert requested(hub_instance) == [other]


def test_runs_of_a_backfill_that_fails_in_the_daemon_cancel_nothing(hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    key = open_request(hub, hub_instance)
    backfill_id = backfill_of(hub_instance, BulkActionStatus.FAILING)
    run = make(hub_instance, JOB, partition=key)
    hub_instance.add_run_tags(run.run_id, {"dagster/backfill": backfill_id})
    hub_instance.report_run_canceling(run)
    hub_instance.report_run_canceled(run)
    assert requested(hub_instance) == [key]


def test_a_slice_at_work_ends_after_the_race_it_reads_when_its_request_is_cancelled(own_hub: Hub) -> None:
    own_hub.history(1, seconds=0)
    own_hub.execute("UPDATE history_requests SET cancelled_at = now()")
    done = own_hub.history(1, ask=False)
    assert (done.races, done.calls) == (0, 0)
    assert own_hub.history(1).finished


def test_a_run_for_a_range_is_terminated_once_all_its_partners_are_cancelled(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    first, second = hub.partners[1], hub.partners[2]
    hub_instance.add_dynamic_partitions(partitions.NAME, [first, second])

    def ranged(last: str) -> dg.DagsterRun:
        ends = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return queue(hub_instance, JOB, **ends)

    def is_cancelled(run: dg.DagsterRun) -> bool:
        found = hub_instance.get_run_by_id(run.run_id)
        assert found is not None
        return found.status == dg.DagsterRunStatus.CANCELED

    one, both, nobodys = ranged(first), ranged(second), queue(hub_instance, JOB)
    assert cancelled_runs.terminate_runs(hub_instance, [first]) == []
    assert is_cancelled(one) and not is_cancelled(both)
    assert cancelled_runs.terminate_runs(hub_instance, [second, first]) == []
    assert is_cancelled(both) and not is_cancelled(nobodys)


def test_rsu_backfill_cancel_withdraws_terminates_and_is_resumed_by_asking_again(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    key = open_request(hub, hub_instance)
    open_request(hub, hub_instance, 2)
    waiting = queue(hub_instance, JOB, partition=key)
    done = rsu("backfill", "--partner", "1", "--cancel", settings=hub.environment)
    assert done.returncode == 0 and f"Cancelled the backfill of 1 partner ({key})" in done.stdout, done.stderr
    run = hub_instance.get_run_by_id(waiting.run_id)
    assert run is not None and run.status == dg.DagsterRunStatus.CANCELED
    assert requested(hub_instance) == [hub.partners[2]]
    again = rsu("backfill", "--partner", "1", "--cancel", settings=hub.environment)
    assert again.returncode == 0 and "Nothing to cancel" in again.stdout
    # --wait does not wait for what is cancelled, and reports it.
    done = rsu("backfill", "--partner", "1", "--wait", settings=hub.environment)
    assert done.returncode == 0 and ", complete" in done.stdout
    refused = rsu("backfill", "--cancel", "--wait", settings=hub.environment)
    assert refused.returncode == 2 and "leave out --wait" in refused.stderr
