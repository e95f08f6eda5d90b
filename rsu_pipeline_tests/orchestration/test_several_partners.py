"""Runs with several partners' partitions, as "All" in the Dagster UI launches them, and partitions without work."""

import math
from collections.abc import Iterator

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.alerts import run_rules
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.display import MAX_NAME_CHARS
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.orchestration.partner_runs import PARTNERS_PER_RUN, SLICES_PER_RUN
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.sensors import new_credentials
from rsu_pipeline.warehouse import dagster_runs, database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.test_batch import Batch, seen
from rsu_pipeline_tests.orchestration.test_data_versions import IN_SYNC, statuses
from rsu_pipeline_tests.orchestration.test_run_config import HOSTILE

SYNC = ("partner_events", "future_events", "participants", "start_lists")
RANGE = "dagster/asset_partition_range"


@pytest.fixture(autouse=True)
def forget(hub: Hub) -> Iterator[None]:
    yield
    installation.current.cache_clear()


def run(instance: dg.DagsterInstance, keys: list[str], *assets: str, config: object = None) -> Batch:
    """Run assets for a range of partitions, as Dagster's backfill daemon does with BackfillPolicy.multi_run."""
    instance.add_dynamic_partitions(partitions.NAME, keys)
    job = (
        build_definitions()
        .resolve_implicit_global_asset_job_def()
        .get_subset(asset_selection={dg.AssetKey(name) for name in assets})
    )
    done = job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"ops": {"participants": {"config": config}}} if config else None,
        tags={f"{RANGE}_start": keys[0], f"{RANGE}_end": keys[-1]},
    )
    return seen(instance, done.run_id, done.success)


def test_one_run_syncs_several_partners_each_reported_to_its_own_partitions(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    keys = list(hub.partners.values())
    done = run(instance, keys, *SYNC)
    assert done.success, done.failure
    assert done.told.keys() == {(asset, key) for asset in SYNC for key in keys}
    for number, key in hub.partners.items():
        hub.assert_equal(number)
        assert statuses(instance, key) == IN_SYNC
    again = run(instance, keys, *SYNC, config={"force_full_sync": True})
    assert again.success
    assert all(again.told["participants", key]["incremental_reads"] == 0 for key in keys)


def test_a_partner_that_fails_in_a_run_for_several_leaves_the_others_and_its_alert_ends_with_its_next_sync(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    keys = list(hub.partners.values())
    hub.execute("UPDATE partner_provider_credentials SET secret = 'rsu1:broken' WHERE timing_partner_id = 2")
    done = run(hub_instance, keys, *SYNC)
    assert not done.success and f"1 of {len(keys)} partners failed: {keys[1]}: " in done.failure
    assert {key for _, key in done.told} == {keys[0], keys[2]}

    def open_problems() -> list[str]:
        with database.session(hub.url, purpose="tests") as conn:
            since = hub.value("SELECT now() - interval '1 hour'")
            failed = dagster_runs.read_failed_runs(conn, since, [])
        return [problem.sentence for problem in run_rules.judge_failed(failed, [], set())]

    assert len(open_problems()) == 1
    hub.execute("UPDATE partner_provider_credentials SET secret = 'x' WHERE timing_partner_id = 2")
    for asset in SYNC:
        hub_instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=keys[1]))
    assert open_problems() == []


def test_a_disabled_partner_is_skipped_with_a_note_and_fails_nothing(hub: Hub, instance: dg.DagsterInstance) -> None:
    keys = list(hub.partners.values())
    hub.execute("UPDATE timing_partners SET disabled_at = now() WHERE timing_partner_id = 2")
    done = run(instance, keys, *SYNC)
    assert done.success, done.failure
    assert f"Partner {keys[1]} is disabled. Nothing was read." in done.told["participants", keys[1]]["note"]
    assert "note" not in done.told["participants", keys[0]]
    assert hub.stored(2) == {} and hub.stored(1)
    job = build_definitions().resolve_job_def("sync_partner")
    alone = job.execute_in_process(instance=instance, partition_key=keys[1], raise_on_error=False)
    assert alone.success
    notes = seen(instance, alone.run_id, True).told
    assert all("is disabled" in notes[asset, keys[1]]["note"] for asset in SYNC)
    history = run(instance, keys, "participant_history")
    assert history.success and "is disabled" in history.told["participant_history", keys[1]]["note"]
    assert hub.value("SELECT count(*) FROM history_requests WHERE timing_partner_id = 2") == 0


def test_past_editions_of_several_partners_are_requested_and_read_by_one_run(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    keys = list(hub.partners.values())
    done = run(instance, keys, "participant_history")
    assert done.success, done.failure
    assert {key for asset, key in done.told if asset == "participant_history"} == set(keys)
    assert hub.value("SELECT count(*) FROM history_requests") == len(keys)
    assert all(done.told["participant_history", key]["complete"] == 1 for key in keys)


def test_a_partition_that_belongs_to_no_partner_is_removed_with_a_note(hub: Hub, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions(partitions.NAME, [*hub.partners.values(), "99-nobody"])
    resources = {"warehouse": WarehouseResource()}
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        result = new_credentials(context)
    assert isinstance(result, dg.SensorResult)
    (request,) = result.dynamic_partitions_requests or ()
    assert isinstance(request, dg.DeleteDynamicPartitionsRequest) and list(request.partition_keys) == ["99-nobody"]
    assert result.cursor == "Removed 1 partitions that belong to no partner: 99-nobody"


def test_the_tick_that_removes_a_partition_repeats_its_key_short_and_without_markup(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(partitions.NAME, [HOSTILE])
    with dg.build_sensor_context(instance=instance, resources={"warehouse": WarehouseResource()}) as context:
        result = new_credentials(context)
    assert isinstance(result, dg.SensorResult)
    shown = str(result.cursor)
    assert "evil.test" in shown
    assert not set("<>[]\u202e") & set(shown)
    assert "x" * (MAX_NAME_CHARS // 2) not in shown


@pytest.mark.parametrize(
    ("assets", "most"), [(SYNC, PARTNERS_PER_RUN), (("participant_history",), SLICES_PER_RUN)], ids=["sync", "history"]
)
def test_all_partners_of_the_ui_are_a_few_runs(
    hub: Hub, instance: dg.DagsterInstance, assets: tuple[str, ...], most: int
) -> None:
    graph = build_definitions().resolve_asset_graph()
    policies = {graph.get(dg.AssetKey(name)).backfill_policy for name in assets}
    (policy,) = policies
    assert policy is not None and policy.max_partitions_per_run == most
    assert math.ceil(100 / most) <= 10


def test_the_partitions_of_a_run_are_those_of_its_range(instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions(partitions.NAME, ["c", "a", "b", "d"])

    def keys(**tags: str) -> list[str]:
        made = dg.DagsterRun("x", tags={name.replace("_of_", f"{RANGE}_"): value for name, value in tags.items()})
        return partitions.list_keys_of_run(instance, made)

    assert keys(_of_start="a", _of_end="d") == ["a", "b", "d"]
    assert keys(_of_start="a", _of_end="gone") == keys() == []
    assert partitions.list_keys_of_run(instance, dg.DagsterRun("x", tags={"dagster/partition": "q"})) == ["q"]
