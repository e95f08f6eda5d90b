"""End runs whose process is gone. The run monitor finds them within 30 s, and this module before the daemon starts.

Dagster's default launcher notices a killed run only while the code server that started it lives. After a kill of the
daemon (its code server and its runs end with it) or a power cut, the run would stay "started" until its maximum
runtime, and block its partner's next run in the queue. A run is gone when it has no session at the database: see
warehouse/sessions.py, and WarehouseResource, which keeps the session. That works for runs of other machines too.

    python -m rsu_pipeline.orchestration.recovery COMMAND ...

ends such runs, then becomes the command.
"""

import datetime as dt
import os
import sys
import time
from collections.abc import Iterable, Sequence

import dagster as dg

from rsu_pipeline import default_signals, installation, private_files, settings
from rsu_pipeline.display import counted
from rsu_pipeline.errors import RsuError
from rsu_pipeline.orchestration.dagster_internals import (
    CheckRunHealthResult,
    ConfigurableClassData,
    DefaultRunLauncher,
    WorkerStatus,
)
from rsu_pipeline.warehouse import database, server_lock, sessions

PROCESS_LOST = (
    "The process of this run is gone: it has no session at the database. It was killed, or its machine or its daemon"
    " stopped. What it stored is kept, and the next sync of the partner continues from there."
)
RECHECK_SECONDS = 3.0
"""Pause between two checks. A run has no session for a moment after it starts and before it ends."""
SECOND_RECHECK_SECONDS = 10.0
"""The same for the run monitor, which checks at every poll."""
STARTING_SECONDS = 60.0
"""A run takes 5 s from the queue to its first step, on a busy machine 20 s."""
OBSERVE_SECONDS = 60.0
"""How long the daemon watches for stopped processes after it last checked a run. It checks every 15 s."""


class HubLauncher(DefaultRunLauncher):
    """Dagster's launcher, whose runs the run monitor can check."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._missed: dict[str, float] = {}
        """When a run was first found without a session, by its id."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if sessions.is_alive(run.run_id, _runs_alive()):
            self._missed.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        now = time.monotonic()
        if now - self._missed.setdefault(run.run_id, now) < SECOND_RECHECK_SECONDS:
            return CheckRunHealthResult(
                WorkerStatus.RUNNING, "no session at the database, checked again at the next poll"
            )
        del self._missed[run.run_id]
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, PROCESS_LOST)


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """End the runs that are started, or should have started by now, and whose process is gone. Return their ids.

    Runs that are being cancelled end as cancelled, the others as failed.
    """
    suspects = _without_session(_unfinished(instance))
    if not suspects:
        return []
    time.sleep(RECHECK_SECONDS)
    ended = []
    for run in _without_session(_unfinished(instance) & suspects):
        known = instance.get_run_by_id(run)
        if known is None or known.is_finished:
            continue
        if known.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(known, PROCESS_LOST)
        else:
            instance.report_run_failed(known, PROCESS_LOST)
        ended.append(run)
    return ended


def _unfinished(instance: dg.DagsterInstance) -> set[str]:
    """Return the runs that should have a process. A run that was launched just now may not have one yet."""
    launched = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=STARTING_SECONDS)
    filters = [
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]),
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING], updated_before=launched),
    ]
    return {record.dagster_run.run_id for one in filters for record in instance.get_run_records(one)}


def _without_session(runs: Iterable[str]) -> set[str]:
    wanted = set(runs)
    alive = _runs_alive() if wanted else set()
    return {run for run in wanted if not sessions.is_alive(run, alive)}


def _runs_alive() -> set[str]:
    url = installation.current().database_url
    # A run whose process has stopped is found here if no other process is working.
    database.keeper(url).observe(OBSERVE_SECONDS)
    with database.session(url, purpose="recovery") as conn:
        return sessions.runs_alive(conn)


def main(command: Sequence[str]) -> None:
    default_signals.restore_if_ignored()
    os.environ.setdefault("DAGSTER_HOME", str(settings.project_root()))
    try:
        private_files.close_folder(installation.current().settings.home)
        with dg.DagsterInstance.get() as instance:
            ended = end_dead_runs(instance)
    except RsuError as error:
        sys.exit(f"Error: {error}")
    if ended:
        print(f"Ended {counted(len(ended), 'run')} whose process is gone: {', '.join(ended)}", flush=True)  # noqa: T201
    if command:
        # Dagster's own sessions take their name from here. `rsu up` does not start beside them.
        os.environ["PGAPPNAME"] = server_lock.daemon_name()
        os.execvp(command[0], list(command))  # noqa: S606 - the daemon, as `rsu up` starts it


if __name__ == "__main__":
    main(sys.argv[1:])
