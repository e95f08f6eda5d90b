"""Runs on several machines: Dagster's launcher for Celery, whose lost runs are found by their sessions at the database.

Celery says of a task whose worker was killed that it has started, for ever; its run would hold up its partner until its
longest runtime is over. Needs dagster-celery (deploy/celery/requirements.txt), which nothing else here does.
"""

from typing import Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult
from dagster_celery.launcher import CeleryRunLauncher  # type: ignore[import-not-found,unused-ignore]

from rsu_pipeline.orchestration.recovery import HubLauncher


class HubCeleryLauncher(CeleryRunLauncher):  # type: ignore[misc,unused-ignore]
    """CeleryRunLauncher with HubLauncher's way to know whether a run lives."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._sessions = HubLauncher()

    @property
    def supports_resume_run(self) -> bool:
        """A run is not resumed but fails and is launched anew, as everywhere else."""
        return False

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        return self._sessions.check_run_worker_health(run)

    def terminate(self, run_id: str) -> bool:
        # Said first: else a run that was stopped by hand would count as lost, and be launched anew.
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        return bool(super().terminate(run_id))
