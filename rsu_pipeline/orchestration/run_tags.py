"""The tags of a run: which ones a run may bring along, and which ones the run coordinator sets.

Everyone who launches a run can tag it, and Dagster, its launchers and this project's sensors act on tags:
`dagster-k8s/config` chooses the image and the command of a run's pod, `.dagster/grpc_info` the server that is called
to stop it, `dagster/max_retries` how often it is repeated, `dagster/run_key` and `first_sync` whether a sensor
assumes that its run exists. So a tag with a namespace (a "/") is refused unless it is listed here. Tags without one
are labels, except those of this project.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from rsu_pipeline.orchestration.lanes import LANE_TAG, RULES, permitted_lane

PARTNER_TAG = "partner"
PARTITION_TAG = "dagster/partition"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
SHARD_TAG = "watch_shard"
FIRST_SYNC_TAG = "first_sync"
PARENT_TAG = "dagster/parent_run_id"
REFUSED = "refused"
"""The value that overwrites a refused tag, so that nothing finds the run by it."""

FREE = frozenset(
    {
        ".dagster/repository",
        "dagster/code_location",
        "dagster/from_ui",
        # What the run is about.
        PARTITION_TAG,
        "dagster/partition_set",
        RANGE_START_TAG,
        RANGE_END_TAG,
        "dagster/step_selection",
        "dagster/solid_selection",
        # Which run it repeats. RETRY_NUMBER is only shown: Dagster counts the runs themselves.
        PARENT_TAG,
        "dagster/root_run_id",
        "dagster/is_resume_retry",
        "dagster/is_asset_resume_retry",
        "dagster/retry_number",
        # Overwritten by `coordinator_tags`, or by the launcher before it reads them.
        "dagster/priority",
        "dagster/max_runtime",
        ".dagster/grpc_info",
        "dagster-celery/task_id",
        "dagster/image",
    }
)
"""Tags with a namespace that any run may have."""
OF_AUTOMATION = frozenset(
    {
        "dagster/sensor_name",
        "dagster/schedule_name",
        "dagster/tick",
        "dagster/run_key",
        ".dagster/scheduled_execution_time",
        "dagster/from_automation_condition",
        "dagster/asset_evaluation_id",
        "dagster/backfill",
        "dagster/parent_backfill_id",
        "dagster/root_backfill_id",
        FIRST_SYNC_TAG,
    }
)
"""Tags that the daemon sets. A run launched by a person has them only if it repeats a run that has the same."""
REPORTS_SENSOR = "registration_reports"
"""The sensor of the reports' automation condition. Dagster makes a backfill of what it requests for several partners."""
OF_REPORTS = frozenset(
    {"dagster/sensor_name", "dagster/tick", "dagster/from_automation_condition", "dagster/asset_evaluation_id"}
)
"""Tags of the runs of that backfill. Nothing counts runs by this sensor, so a person who imitates it gains nothing."""
OF_LAUNCHERS = {".dagster/grpc_info": "{}", "dagster-celery/task_id": ""}
"""Where a launcher started the process of a run. A repeated run has its parent's until it is launched itself."""


def refused_tags(tags: Mapping[str, str], parent: Mapping[str, str], *, is_automatic: bool) -> list[str]:
    """Return the names of the tags that a run may not have.

    Args:
        tags: The tags of the run.
        parent: The tags of the run that it repeats, empty when it repeats none.
        is_automatic: Whether the daemon submits it: a sensor, a schedule, a backfill or an automatic retry.
    """
    # A backfill is launched by a person, with tags of their choice, though the daemon submits its runs.
    by_sensor = is_automatic and "dagster/backfill" not in tags
    of_backfill = is_automatic and "dagster/backfill" in tags
    of_reports = of_backfill and tags.get("dagster/sensor_name") == REPORTS_SENSOR

    def is_allowed(name: str, value: str) -> bool:
        if name in OF_AUTOMATION:
            return (
                by_sensor
                or (of_backfill and name.endswith(("backfill", "backfill_id")))
                or (of_reports and name in OF_REPORTS)
                or parent.get(name) == value
            )
        return name in FREE or "/" not in name

    return sorted(name for name, value in tags.items() if not is_allowed(name, value))


def coordinator_tags(run: dg.DagsterRun, *, is_automatic: bool) -> dict[str, str]:
    """Return the tags that the coordinator sets, regardless of those that the run has.

    The lane decides the priority and the maximum runtime. The partner and the shard follow from the run's work.
    """
    lane = permitted_lane(run, is_automatic=is_automatic)
    rules = RULES[lane]
    tags = {
        LANE_TAG: lane,
        "dagster/priority": str(rules.priority),
        "dagster/max_runtime": str(rules.max_runtime),
        **{name: empty for name, empty in OF_LAUNCHERS.items() if name in run.tags},
    }
    partition = _read_only_partition(run.tags)
    if partition or PARTNER_TAG in run.tags:
        tags[PARTNER_TAG] = partition or ""
    if run.job_name == "watch":
        tags[SHARD_TAG] = str(_value(run.run_config, "ops", "watch_races", "config", "shard") or 0)
    return tags


def _read_only_partition(tags: Mapping[str, str]) -> str | None:
    """Return the partition of a run for one, also when a backfill launches it as a range. None for a run for several."""
    if PARTITION_TAG in tags:
        return tags[PARTITION_TAG]
    first = tags.get(RANGE_START_TAG)
    return first if first == tags.get(RANGE_END_TAG) else None


def _value(config: Any, *path: str) -> Any:
    for name in path:
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def list_repeated_runs(instance: dg.DagsterInstance, run_id: str | None) -> Iterator[dg.RunRecord]:
    """Yield a run, the run that it repeats, the one that that repeats, and on, as far as they are kept."""
    while run_id is not None and (found := instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))):
        yield found[0]
        run_id = found[0].dagster_run.tags.get(PARENT_TAG)
