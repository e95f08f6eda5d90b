"""Stamps every run with its partner, lane and priority on its way into the queue, however it was launched.

Tags of jobs and assets would not do: runs launched from an asset's page, and those of backfills, ignore a job's tags.
"""

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext

from rsu_pipeline.orchestration.lanes import LANE_TAG, RULES, lane_of_run
from rsu_pipeline.orchestration.run_config import check_run_config

PARTNER_TAG = "partner"
PARTITION_TAG = "dagster/partition"


class LaneCoordinator(QueuedRunCoordinator[dg.DagsterInstance]):
    """Dagster's queue; how many runs of a lane may be at work is in dagster.yaml."""

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        check_run_config(run.run_config)
        if run.status == dg.DagsterRunStatus.NOT_STARTED:  # else it was submitted before, and is stamped
            # Before it is queued: the daemon may take it from there at once.
            self._instance.add_run_tags(run.run_id, stamps(run))
        return super().submit_run(context)


def stamps(run: dg.DagsterRun) -> dict[str, str]:
    """The tags a run gets. The lane is the one knob: priority and longest runtime follow from it, also where a run
    launched again brings those of another lane along."""
    lane = lane_of_run(run)
    rules = RULES[lane]
    tags = {
        LANE_TAG: lane,
        "dagster/priority": str(rules.priority),
        "dagster/max_runtime": str(rules.max_runtime),
    }
    if partition := run.tags.get(PARTITION_TAG):
        tags[PARTNER_TAG] = partition
    return tags
