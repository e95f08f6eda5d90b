"""Every run has its partner, lane, priority and longest runtime, however launched.

No lane takes another's places.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import consume_new_runs_for_automatic_reexecution
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster_graphql.test.utils import execute_dagster_graphql

from rsu_pipeline.definitions import defs
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.orchestration.lanes import RULES, read_lane_of_run
from rsu_pipeline.orchestration.run_coordinator import LaneCoordinator
from rsu_pipeline.orchestration.run_tags import coordinator_tags
from rsu_pipeline.settings import project_root
from rsu_pipeline.warehouse.call_ledger import LANES
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.queued import queue, start, submit
from rsu_pipeline_tests.orchestration.runs import code_server

Status = dg.DagsterRunStatus
BACKFILL = {"dagster/backfill": "abcdefgh"}
RANGE = "dagster/asset_partition_range"

LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
LAUNCH_BACKFILL = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""


def run(job: str = "sync_partner", *, assets: Sequence[str] = (), **tags: str) -> dg.DagsterRun:
    return dg.DagsterRun(
        job_name=job, asset_selection=frozenset(dg.AssetKey(name) for name in assets) or None, tags=tags
    )


def given(launched: dg.DagsterRun, *, is_automatic: bool = False) -> dict[str, str]:
    """Return the tags that the coordinator gives a run."""
    return coordinator_tags(launched, is_automatic=is_automatic)


@pytest.mark.parametrize(
    ("launched", "lane"),
    [
        (run(), "routine"),
        (run("__ASSET_JOB", assets=["participants"]), "routine"),
        (run("retention"), "routine"),
        (run("sync_batch"), "routine"),
        (run("watch"), "race_day"),
        (run("watch_races"), "race_day"),
        (run(**BACKFILL), "backfill"),
        (run("__ASSET_JOB", assets=["participants"], **BACKFILL), "backfill"),
        (run("__ASSET_JOB", assets=["participant_history"]), "backfill"),
        (run("__ASSET_JOB", assets=["partner_events", "participant_history"]), "backfill"),
    ],
)
def test_without_a_tag_the_lane_follows_from_what_the_run_is_for(launched: dg.DagsterRun, lane: str) -> None:
    assert read_lane_of_run(launched) == lane
    assert given(launched)["lane"] == lane


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_that_is_set_can_make_a_run_less_urgent_and_not_more(lane: str) -> None:
    assert given(run("watch", lane=lane))["lane"] == "race_day"
    assert given(run(lane=lane))["lane"] == ("backfill" if lane == "backfill" else "routine")
    assert given(run(lane=lane, **BACKFILL))["lane"] == "backfill"


def test_only_the_daemon_gives_a_sync_the_lane_of_new_partners() -> None:
    assert given(run(lane="new_partner"), is_automatic=True)["lane"] == "new_partner"
    assert given(run(lane="race_day"), is_automatic=True)["lane"] == "routine"
    assert given(run(lane="new_partner", **BACKFILL), is_automatic=True)["lane"] == "backfill"


@pytest.mark.parametrize("text", ["", "Race_Day", "fast", "routine ", "0"])
def test_a_lane_that_is_none_is_corrected(text: str) -> None:
    assert read_lane_of_run(run("watch", lane=text)) == "routine"
    assert given(run("watch", lane=text))["lane"] == "race_day"
    assert given(run(lane=text))["lane"] == "routine"


def test_race_day_goes_before_new_partners_before_routine_before_backfill() -> None:
    assert sorted(RULES, key=lambda lane: -RULES[lane].priority) == list(LANES)
    assert {lane: rules.priority for lane, rules in RULES.items()} == {
        "race_day": 30,
        "new_partner": 20,
        "routine": 10,
        "backfill": 0,
    }


def test_priority_and_longest_runtime_are_the_lanes_also_where_a_run_brings_others_along() -> None:
    for lane, rules in RULES.items():
        brought = {"lane": lane, "dagster/priority": "99", "dagster/max_runtime": "1"}
        job = "watch" if lane == "race_day" else "sync_partner"
        tags = given(dg.DagsterRun(job_name=job, tags=brought), is_automatic=True)
        assert (tags["dagster/priority"], tags["dagster/max_runtime"]) == (
            str(rules.priority),
            str(rules.max_runtime),
        )


def ranged(first: str, last: str) -> dg.DagsterRun:
    """Return a run for a range of partitions, as a backfill launches it."""
    return run(**{f"{RANGE}_start": first, f"{RANGE}_end": last})


def test_a_run_of_one_partition_is_its_partners_and_others_are_nobodys() -> None:
    one = dg.DagsterRun(job_name="sync_partner", tags={"dagster/partition": "7-acme", "partner": "stale"})
    assert given(one)["partner"] == "7-acme"
    assert given(ranged("7-acme", "7-acme"))["partner"] == "7-acme"
    assert "partner" not in given(ranged("7-acme", "9-bergen"))
    assert "partner" not in given(run("sync_batch"))
    assert given(run("sync_batch", partner="7-acme"))["partner"] == ""


def next_to_start(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return the runs the daemon would start now, in that order."""
    config = instance.get_concurrency_config()
    return QueuedRunCoordinatorDaemon(1)._get_runs_to_dequeue(instance, config, fixed_iteration_time=None)


def lanes(runs: Sequence[dg.DagsterRun]) -> dict[str, int]:
    return {lane: sum(one.tags["lane"] == lane for one in runs) for lane in LANES}


def test_the_queue_is_the_one_of_the_lanes_and_stamps_before_it_queues(hub_instance: dg.DagsterInstance) -> None:
    assert isinstance(hub_instance.run_coordinator, LaneCoordinator)
    queued = queue(hub_instance, partition="1-a", lane="fast")
    assert queued.status == Status.QUEUED
    assert queued.tags["lane"] == "routine"
    # Found by tag too, as the sensors and the run list of the web UI find them.
    assert hub_instance.get_runs(dg.RunsFilter(tags={"lane": "routine", "partner": "1-a"})) == [queued]
    assert hub_instance.get_runs(dg.RunsFilter(tags={"lane": "fast"})) == []
    # Submitted again, after a crash of who submitted it: nothing changes.
    assert submit(hub_instance, queued) == queued


def test_the_lanes_limits_add_up_to_all_runs_so_that_none_takes_anothers_place() -> None:
    concurrency = yaml.safe_load((project_root() / "dagster.yaml").read_text())["concurrency"]["runs"]
    limits = {one["value"]: one["limit"] for one in concurrency["tag_concurrency_limits"] if one["key"] == "lane"}
    assert limits.keys() == RULES.keys()
    assert sum(limits.values()) == concurrency["max_concurrent_runs"]


def test_a_full_queue_of_backfills_and_syncs_leaves_race_day_its_places_and_race_day_leaves_them_theirs(
    hub_instance: dg.DagsterInstance,
) -> None:
    for number in range(7):
        queue(hub_instance, partition=f"{number}-p", **BACKFILL)
        queue(hub_instance, partition=f"{number}-q")
    first = next_to_start(hub_instance)
    assert lanes(first) == {"race_day": 0, "new_partner": 0, "routine": 2, "backfill": 2}
    start(hub_instance, first)
    assert next_to_start(hub_instance) == []

    # Race day comes last and starts at once; so does a new partner.
    for number in range(6):
        queue(hub_instance, "watch")
        queue(hub_instance, partition=f"{number}-p", lane="new_partner")
    second = next_to_start(hub_instance)
    assert lanes(second) == {"race_day": 4, "new_partner": 2, "routine": 0, "backfill": 0}
    assert [one.tags["lane"] for one in second] == ["race_day"] * 4 + ["new_partner"] * 2
    start(hub_instance, second)

    # With race day's places taken and more of it waiting, the next backfill and the next sync start as theirs end.
    for one in first:
        hub_instance.report_run_failed(one)
    assert lanes(next_to_start(hub_instance)) == {"race_day": 0, "new_partner": 0, "routine": 2, "backfill": 2}


def test_a_partner_has_one_run_at_a_time_and_a_watch_waits_for_none(hub_instance: dg.DagsterInstance) -> None:
    backfill = queue(hub_instance, partition="1-a", **BACKFILL)
    assert next_to_start(hub_instance) == [backfill]
    start(hub_instance, [backfill])
    same = queue(hub_instance, partition="1-a")
    other = queue(hub_instance, partition="2-b")
    watch = queue(hub_instance, "watch")
    assert next_to_start(hub_instance) == [watch, other]
    hub_instance.report_run_failed(backfill)
    assert next_to_start(hub_instance) == [watch, same, other]


def test_runs_launched_from_the_web_ui_a_backfill_or_again_after_a_crash_are_stamped(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root())
    key, other = hub.partners[1], hub.partners[2]
    hub_instance.add_dynamic_partitions(partitions.NAME, [key, other])
    with code_server(hub_instance) as context:
        where = {"repositoryLocationName": "rsu_pipeline", "repositoryName": "__repository__"}

        def ask(query: str, params: Mapping[str, Any]) -> Any:
            request = context.create_request_context()
            answer = execute_dagster_graphql(request, query, variables={"params": params})
            assert answer.data, answer.errors
            (body,) = answer.data.values()
            assert body["__typename"] in ("LaunchRunSuccess", "LaunchBackfillSuccess"), body
            return body

        def tags_of(run_id: str) -> dict[str, str]:
            found = hub_instance.get_run_by_id(run_id)
            assert found is not None
            assert found.status == Status.QUEUED
            return {name: found.tags.get(name, "") for name in ("lane", "partner", "dagster/priority")}

        # As the web UI's "Materialize" for one partition, and "Launch run" of a job with tags from its launchpad.
        selector = {**where, "pipelineName": "__ASSET_JOB", "assetSelection": [{"path": ["participants"]}]}
        metadata = {"tags": [{"key": "dagster/partition", "value": key}]}
        asked = {"selector": selector, "mode": "default", "executionMetadata": metadata, "runConfigData": {}}
        materialised = ask(LAUNCH, asked)["run"]["runId"]
        assert tags_of(materialised) == {"lane": "routine", "partner": key, "dagster/priority": "10"}

        metadata = {"tags": [*metadata["tags"], {"key": "lane", "value": "race_day"}]}
        asked = {**asked, "selector": {**where, "pipelineName": "sync_partner"}, "executionMetadata": metadata}
        urgent = ask(LAUNCH, asked)["run"]["runId"]
        assert tags_of(urgent) == {"lane": "routine", "partner": key, "dagster/priority": "10"}

        # Partitions chosen make a backfill. The daemon launches one run for several partners, which is nobody's.
        # One for a single partner is that partner's, so that it waits for the partner's other runs.
        keys = [{"path": ["partner_events"]}, {"path": ["future_events"]}]
        for chosen in ([key, other], [other]):
            backfill = ask(LAUNCH_BACKFILL, {"assetSelection": keys, "partitionNames": chosen})["backfillId"]
            assert not [error for error in execute_backfill_iteration(context, logging.getLogger("tests")) if error]
            (launched,) = hub_instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
            assert partitions.list_keys_of_run(hub_instance, launched) == chosen
            partner = other if chosen == [other] else ""
            assert tags_of(launched.run_id) == {"lane": "backfill", "partner": partner, "dagster/priority": "0"}

        # A run whose process is gone is launched again by itself, in the lane it had.
        dead = hub_instance.get_run_by_id(urgent)
        assert dead is not None
        start(hub_instance, [dead])
        hub_instance.report_run_failed(dead, "gone")
        records = hub_instance.get_run_records(dg.RunsFilter(run_ids=[urgent]))
        list(consume_new_runs_for_automatic_reexecution(context, records, logging.getLogger("tests")))
        (retry,) = hub_instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": urgent}))
        assert tags_of(retry.run_id) == {"lane": "routine", "partner": key, "dagster/priority": "10"}


def test_an_asset_takes_its_lanes_share_of_the_budget_from_the_runs_tag(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    key = hub.partners[1]
    hub_instance.add_dynamic_partitions(partitions.NAME, [key])
    for lane in ("new_partner", "backfill"):
        outcome = (
            defs()
            .resolve_job_def("sync_partner")
            .execute_in_process(instance=hub_instance, partition_key=key, tags={"lane": lane}, run_config={})
        )
        assert outcome.success
    lanes = hub.rows("SELECT DISTINCT lane FROM api_calls ORDER BY lane")
    assert [row["lane"] for row in lanes] == ["backfill", "new_partner"]


def test_the_instances_file_is_read_by_dagster_as_it_is_meant(hub_instance: dg.DagsterInstance, tmp_path: Path) -> None:
    assert hub_instance.run_retries_enabled
    assert hub_instance.run_retries_max_retries == 1
    assert not hub_instance.run_retries_retry_on_asset_or_op_failure
    assert hub_instance.run_monitoring_poll_interval_seconds == 15
    assert hub_instance.run_monitoring_start_timeout_seconds == 120
    queue_config = hub_instance.get_concurrency_config().run_queue_config
    assert queue_config is not None
    assert queue_config.max_user_code_failure_retries == 20
