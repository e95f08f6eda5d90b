"""Runs on several machines: Dagster's launcher for Celery, with lost runs detected by their database sessions.

Celery reports a task whose worker was killed as started indefinitely, and its run would block its partner until the
maximum runtime. This module needs dagster-celery (deploy/celery/requirements.txt), which nothing else does.

A run that is launched while the broker is down goes back into the queue. Dagster's daemon does that for one error alone: the
code server cannot be reached. So an unreachable broker is reported as that error. The daemon then launches nothing for
`user_code_failure_retry_delay` seconds and tries again.
"""

from typing import Any

import dagster as dg
from dagster_celery.launcher import CeleryRunLauncher  # type: ignore[import-not-found,unused-ignore]
from dagster_celery.make_app import make_app  # type: ignore[import-not-found,unused-ignore]
from kombu.exceptions import OperationalError  # type: ignore[import-untyped,import-not-found,unused-ignore]

from rsu_pipeline.orchestration.dagster_internals import (
    CheckRunHealthResult,
    DagsterUserCodeUnreachableError,
    LaunchRunContext,
)
from rsu_pipeline.orchestration.recovery import HubLauncher

BROKER_SECONDS = 5.0
"""How long the broker has to answer. Celery itself tries for 30 s, in which the daemon launches nothing."""


class BrokerUnreachableError(DagsterUserCodeUnreachableError):
    """The broker does not accept a run now. The run goes back into the queue."""


class HubCeleryLauncher(CeleryRunLauncher):  # type: ignore[misc,unused-ignore]
    """CeleryRunLauncher that detects lost runs as HubLauncher does."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._sessions = HubLauncher()

    @property
    def supports_resume_run(self) -> bool:
        """Whether a run can be resumed: never. It fails and is launched again, as with every launcher here."""
        return False

    def launch_run(self, context: LaunchRunContext) -> None:
        try:
            with self.celery.connection_for_write(connect_timeout=BROKER_SECONDS) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_SECONDS)
            super().launch_run(context)
        # Celery wraps errors of its result store in a RuntimeError. The task is sent after that, so nothing was launched.
        except (OperationalError, OSError, RuntimeError) as error:
            # An app whose connection broke stays broken.
            self.celery = make_app(app_args=self.app_args())  # type: ignore[no-untyped-call,unused-ignore]
            raise BrokerUnreachableError(
                f"Celery's broker does not answer ({type(error).__name__}). The run goes back into the queue, and is launched when"
                " the broker answers. Check RSU_CELERY_BROKER and the broker's log."
            ) from None

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        return self._sessions.check_run_worker_health(run)

    def terminate(self, run_id: str) -> bool:
        # Reported first: otherwise a run that was stopped by hand would count as lost, and be launched again.
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        return bool(super().terminate(run_id))
