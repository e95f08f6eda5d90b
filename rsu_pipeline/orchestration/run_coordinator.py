"""Check and tag every run on its way into the queue, however it was launched.

Tags of jobs and assets are not enough: runs launched from an asset's page, and those of backfills, ignore a job's tags.
"""

import dagster as dg

from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.orchestration import clock_steps
from rsu_pipeline.orchestration.dagster_internals import QueuedRunCoordinator, SubmitRunContext
from rsu_pipeline.orchestration.run_config import RunRefused, check_run_config
from rsu_pipeline.orchestration.run_tags import PARENT_TAG, REFUSED, coordinator_tags, refused_tags

DISPLAYED_TAGS = 5


class LaneCoordinator(QueuedRunCoordinator[dg.DagsterInstance]):
    """Dagster's queue with checked config and tags. dagster.yaml limits how many runs of a lane are active."""

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        super().register_instance(instance)
        if clock_steps.is_daemon():
            # The only class of this project that the daemon of every deployment loads before its threads begin.
            clock_steps.begin(instance)

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        if run.status == dg.DagsterRunStatus.NOT_STARTED:  # otherwise it was submitted before, and is tagged
            # The web server passes on the request of the browser, the daemon has none.
            is_automatic = getattr(context.workspace, "source", None) is None
            self._check(run, is_automatic=is_automatic)
            # Before it is queued: the daemon may dequeue it at once.
            self._instance.add_run_tags(run.run_id, coordinator_tags(run, is_automatic=is_automatic))
        return super().submit_run(context)

    def _check(self, run: dg.DagsterRun, *, is_automatic: bool) -> None:
        """Check config and tags of a run that is not queued yet, and leave a refused run without effect.

        Raises:
            RunRefused: config or tags are not allowed.
        """
        parent = self._instance.get_run_by_id(run.tags[PARENT_TAG]) if PARENT_TAG in run.tags else None
        refused = refused_tags(run.tags, parent.tags if parent else {}, is_automatic=is_automatic)
        try:
            check_run_config(run.run_config)
            if refused:
                names = ", ".join(sanitize_for_display(name, MAX_NAME_CHARS) for name in refused[:DISPLAYED_TAGS])
                raise RunRefused(f"This run has tags that are not allowed: {names}. Remove them.")
        except RunRefused:
            # The run exists and has failed. Sensors do not count it as their own, and it is not retried.
            self._instance.add_run_tags(run.run_id, {name: REFUSED for name in refused} | {"dagster/max_retries": "0"})
            raise
