"""A run without a partition, or of a partition that is no partner's, ends with one sentence and no traceback."""

import dagster as dg
import pytest

from rsu_pipeline.definitions import defs
from rsu_pipeline.orchestration import partitions
from rsu_pipeline_tests.hub import Hub

ASSETS = sorted(
    key.to_user_string()
    for key in defs().resolve_asset_graph().get_all_asset_keys()
    if defs().resolve_asset_graph().get(key).partitions_def == partitions.timing_partner
)


def failure_of(instance: dg.DagsterInstance, asset: str, key: str | None) -> str:
    """Run one asset with its checks. Return the sentence it failed with."""
    job = defs().resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey(asset)})
    outcome = job.execute_in_process(instance=instance, partition_key=key, raise_on_error=False)
    assert not outcome.success
    (failed,) = [event.step_failure_data for event in outcome.all_node_events if event.is_step_failure]
    assert failed.user_failure_data is not None, failed.error
    return str(failed.user_failure_data.description)


def test_a_run_without_a_partition_fails_with_one_sentence(hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    assert len(ASSETS) >= 6
    for asset in ASSETS:
        assert failure_of(hub_instance, asset, None).startswith("This run was launched without a partition"), asset
    assert hub.value("SELECT count(*) FROM api_calls") == 0


@pytest.mark.parametrize("key", ["99-nobody", "nobody at all", "1"])
def test_a_run_of_a_partition_that_is_no_partners_reads_nothing_and_gets_a_note(
    hub: Hub, hub_instance: dg.DagsterInstance, key: str
) -> None:
    hub_instance.add_dynamic_partitions(partitions.NAME, [key])
    for asset in ASSETS:
        job = defs().resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey(asset)})
        outcome = job.execute_in_process(instance=hub_instance, partition_key=key, raise_on_error=False)
        assert outcome.success, asset
        (made,) = [
            event.step_materialization_data.materialization
            for event in outcome.all_events
            if event.is_step_materialization
        ]
        assert f"Partition {key} belongs to no partner. Nothing was read." in str(made.metadata["note"].value)
    assert hub.value("SELECT count(*) FROM api_calls") == 0
    assert hub.value("SELECT count(*) FROM history_requests") == 0
