"""Runs in Dagster's storage that no process works at: queued, started, ended."""

import time
from collections.abc import Sequence

import dagster as dg
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import SubmitRunContext

from rsu_pipeline.definitions import defs


def make(instance: dg.DagsterInstance, job: str = "sync_partner", **tags: str) -> dg.DagsterRun:
    """Make a run that is not queued yet. `partition` is short for Dagster's tag."""
    if partition := tags.pop("partition", None):
        tags["dagster/partition"] = partition
    location = RegisteredCodeLocationOrigin("rsu_pipeline")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job)
    return instance.create_run_for_job(defs().resolve_job_def(job), tags=tags, remote_job_origin=origin)


def submit(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    """Send a run through the coordinator, which does not use the workspace."""
    return instance.run_coordinator.submit_run(SubmitRunContext(run, workspace=None))  # type: ignore[arg-type]


def queue(instance: dg.DagsterInstance, job: str = "sync_partner", **tags: str) -> dg.DagsterRun:
    """Queue a run."""
    return submit(instance, make(instance, job, **tags))


def report(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun], *kinds: str, ago: float = 0.0) -> None:
    """Set the status of runs, in Dagster's eyes, for this number of seconds."""
    for run in runs:
        for kind in kinds:
            event = dg.DagsterEvent(event_type_value=kind, job_name=run.job_name)
            instance.report_dagster_event(event, run_id=run.run_id, timestamp=time.time() - ago)


def start(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun], *, ago: float = 0.0) -> None:
    report(instance, runs, "PIPELINE_STARTING", "PIPELINE_START", ago=ago)
