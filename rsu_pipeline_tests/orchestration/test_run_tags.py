"""Which tags a run may bring along: those that only describe it, and none that Dagster acts on."""

from typing import Any

import dagster as dg
import pytest
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage import tags as dagsters

from rsu_pipeline.orchestration.run_config import RunRefused
from rsu_pipeline.orchestration.run_tags import FREE, OF_AUTOMATION, OF_REPORTS, REFUSED, coordinator_tags, refused_tags
from rsu_pipeline_tests.orchestration.queued import make

ACTED_ON = {
    "dagster-k8s/config": '{"container_config": {"image": "evil.test/image", "env": []}}',
    "dagster-celery/queue": "elsewhere",
    "dagster-celery/run_priority": "99",
    "dagster/max_retries": "1000000",
    "dagster/retry_strategy": "ALL_STEPS",
    "dagster/retry_on_asset_or_op_failure": "true",
    "dagster/isolation": "disabled",
    "dagster/concurrency_key": "x",
    "dagster/will_retry": "true",
    "dagster/auto_retry_run_id": "11111111-1111-1111-1111-111111111111",
    ".dagster/run_metrics": "true",
    ".dagster/run_worker": "x",
    "ecs/cpu": "1",
    "dagster/never_heard_of": "1",
}
# Dagster's own tags that no run of this project needs to bring along.
LEFT_OUT = {
    "dagster/asset_evaluation_id",
    "dagster/auto_materialize",
    "dagster/auto_observe",
    "dagster/compute_kind",
    "dagster/defer_asset_events",
    "dagster/external_job_source",
    "dagster/failure_reason",
    "dagster/from_automation_condition",
    "dagster/reporting_user",
    "dagster/run_metrics",
    ".dagster/python_runtime_metrics",
    ".dagster/run_metrics_polling_interval",
}


class FromBrowser:
    """A workspace as the web server has it: with the request that it answers."""

    source = "a request"


@pytest.mark.parametrize("name", sorted(ACTED_ON))
def test_a_tag_that_dagster_acts_on_is_refused_whoever_launches(name: str) -> None:
    tags = {name: ACTED_ON[name], "team": "scoring"}
    for is_automatic in (False, True):
        assert refused_tags(tags, {}, is_automatic=is_automatic) == [name]
        # A run that repeats a refused one does not get it either.
        assert refused_tags(tags, tags, is_automatic=is_automatic) == [name]


@pytest.mark.parametrize("name", sorted(OF_AUTOMATION))
def test_a_tag_of_the_daemons_is_refused_from_a_browser_unless_the_run_repeats_one_that_has_it(name: str) -> None:
    tags = {name: "watch:0:after:x"}
    assert refused_tags(tags, {}, is_automatic=False) == [name]
    assert refused_tags(tags, {name: "another"}, is_automatic=False) == [name]
    assert refused_tags(tags, tags, is_automatic=False) == []
    assert refused_tags(tags, {}, is_automatic=True) == []


def test_a_backfill_from_a_browser_cannot_pass_for_a_sensor() -> None:
    of_backfill = {"dagster/backfill": "abcdefgh", "dagster/root_backfill_id": "abcdefgh"}
    assert refused_tags(of_backfill, {}, is_automatic=True) == []
    forged = {**of_backfill, "dagster/run_key": "x", "dagster/sensor_name": "race_day", "first_sync": "x"}
    assert refused_tags(forged, {}, is_automatic=True) == ["dagster/run_key", "dagster/sensor_name", "first_sync"]


def test_the_backfill_of_reports_that_their_sensor_requests_for_several_partners_is_accepted() -> None:
    of_backfill = {"dagster/backfill": "abcdefgh", "dagster/tick": "7"}
    of_backfill |= {"dagster/from_automation_condition": "true", "dagster/asset_evaluation_id": "7"}
    assert refused_tags({**of_backfill, "dagster/sensor_name": "registration_reports"}, {}, is_automatic=True) == []
    assert refused_tags({**of_backfill, "dagster/sensor_name": "race_day"}, {}, is_automatic=True) == sorted(OF_REPORTS)
    forged = {**of_backfill, "dagster/sensor_name": "registration_reports", "dagster/run_key": "x"}
    assert refused_tags(forged, {}, is_automatic=True) == ["dagster/run_key"]
    assert len(refused_tags(forged, {}, is_automatic=False)) == 6


def test_labels_of_ones_own_are_accepted() -> None:
    assert (
        refused_tags({"team": "scoring", "lane": "backfill", "partner": "x", "user": "ada"}, {}, is_automatic=False)
        == []
    )


def test_where_a_launcher_put_another_run_is_not_taken_over() -> None:
    brought = {".dagster/grpc_info": '{"host": "evil.test", "port": 80}', "dagster-celery/task_id": "x"}
    given = coordinator_tags(dg.DagsterRun(job_name="sync_batch", tags=brought), is_automatic=True)
    assert {name: given[name] for name in brought} == {".dagster/grpc_info": "{}", "dagster-celery/task_id": ""}


@pytest.mark.parametrize(
    ("config", "shard"),
    [({}, "0"), ({"ops": {"watch_races": {"config": {"shard": 7}}}}, "7"), ({"ops": {"watch_races": None}}, "0")],
)
def test_a_watch_counts_as_one_of_the_shard_that_it_watches(config: dict[str, Any], shard: str) -> None:
    run = dg.DagsterRun(job_name="watch", run_config=config, tags={"watch_shard": "3"})
    assert coordinator_tags(run, is_automatic=False)["watch_shard"] == shard


def test_every_tag_that_dagster_knows_is_decided_here() -> None:
    known = {
        value
        for name, value in vars(dagsters).items()
        if isinstance(value, str) and name.isupper() and "/" in value and not value.endswith("/")
    }
    assert len(known) > 30
    assert known - FREE - OF_AUTOMATION - set(ACTED_ON) - LEFT_OUT == set()


def test_a_refused_run_is_failed_found_by_no_sensor_and_not_repeated(hub_instance: dg.DagsterInstance) -> None:
    run = make(hub_instance, **{"dagster/run_key": "watch:0:after:x", "dagster/sensor_name": "race_day"})
    with pytest.raises(RunRefused, match=r"tags that are not allowed: dagster/run_key, dagster/sensor_name"):
        hub_instance.run_coordinator.submit_run(SubmitRunContext(run, workspace=FromBrowser()))  # type: ignore[arg-type]
    left = hub_instance.get_run_by_id(run.run_id)
    assert left is not None and left.status != dg.DagsterRunStatus.QUEUED
    assert (left.tags["dagster/run_key"], left.tags["dagster/max_retries"]) == (REFUSED, "0")
    assert hub_instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": "watch:0:after:x"})) == []
