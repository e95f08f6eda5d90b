"""Find the backfills that a person cancelled, from Dagster's records of their runs, and terminate their runs.

Dagster writes RUN_CANCELING before a run ends as CANCELED only if somebody requested it: Terminate in the UI, a cancelled
backfill, `rsu backfill --cancel`, and its own run monitor after the maximum runtime. A run that a signal ends (`rsu up`
stops, Ctrl-C on `rsu sync`) has no such event, and counts as failed. So stopping the hub cancels no backfill.
"""

import datetime as dt
from collections.abc import Collection, Sequence

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.display import format_time
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.orchestration.dagster_internals import (
    CANCELABLE_RUN_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    DagsterUserCodeUnreachableError,
)
from rsu_pipeline.orchestration.lanes import HISTORY
from rsu_pipeline.warehouse.backfill_cancellation import OpenRequest

HISTORY_JOB = "backfill_history"
BACKFILL_TAG = "dagster/backfill"
MAX_RUNTIME = "exceeding maximum runtime"
"""Part of the message with which Dagster's run monitor ends a run that takes too long."""
MAX_CLOCK_DIFFERENCE = dt.timedelta(minutes=5)
"""Between PostgreSQL and the machine that writes Dagster's records."""
CANCELLED_BACKFILL = {BulkActionStatus.CANCELING, BulkActionStatus.CANCELED}
FAILED_BACKFILL = {BulkActionStatus.FAILING, BulkActionStatus.FAILED}
"""If a backfill fails in the daemon, its runs are cancelled though no person did it."""


def cancelled_by_a_person(
    instance: dg.DagsterInstance, requests: Sequence[OpenRequest], now: dt.datetime
) -> dict[int, dt.datetime]:
    """Return when each of these requests was cancelled, by partner: by the backfill that made it, or by one of its runs."""
    if not requests:
        return {}
    made_by = {request.backfill_id for request in requests if request.backfill_id}
    of_backfills = _select_backfills(instance, made_by, CANCELLED_BACKFILL)
    cancelled = {request.partner_id: now for request in requests if request.backfill_id in of_backfills}
    since = min(request.last_requested_at for request in requests) - MAX_CLOCK_DIFFERENCE
    by_key = {request.key: request for request in requests}
    ended = dg.RunsFilter(statuses=[dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED], updated_after=since)
    runs = [run for run in instance.get_runs(ended) if reads_history(run)]
    failed = _select_backfills(instance, {run.tags.get(BACKFILL_TAG) for run in runs}, FAILED_BACKFILL)
    for run in runs:
        key = run.tags.get("dagster/partition")
        # A run for several partners has no partition, but made their requests.
        its = [by_key[key]] if key in by_key else [request for request in requests if request.run_id == run.run_id]
        if not its or run.tags.get(BACKFILL_TAG) in failed:
            continue
        at = _person_cancelled_at(instance, run.run_id)
        for request in its:
            # A run that is cancelled as it starts may make its request after that.
            if at is not None and (at >= request.last_requested_at or run.run_id == request.run_id):
                cancelled.setdefault(request.partner_id, at)
    return cancelled


def reads_history(run: dg.DagsterRun) -> bool:
    """Return whether a run reads past editions."""
    return run.job_name == HISTORY_JOB or HISTORY in (run.asset_selection or ())


def terminate_runs(instance: dg.DagsterInstance, keys: Collection[str]) -> list[str]:
    """Terminate the runs that only read the past editions of these partners, and return the ids of those that were not reached."""
    unreached = []
    for run in instance.get_runs(dg.RunsFilter(statuses=CANCELABLE_RUN_STATUSES)):
        if not reads_history(run) or _reads_more(run):
            continue
        its = partitions.list_keys_of_run(instance, run)
        if not its or not set(its) <= set(keys):
            continue
        try:
            reached = instance.run_coordinator.cancel_run(run.run_id)
        except DagsterUserCodeUnreachableError:
            reached = False
        if not reached:
            unreached.append(run.run_id)
    return unreached


def observation(key: str, at: dt.datetime) -> dg.AssetObservation:
    """Return what a partner's partition shows of its cancelled backfill."""
    zone = installation.current().settings.timezone
    return dg.AssetObservation(
        HISTORY,
        partition=key,
        description=f"The backfill was cancelled at {format_time(at, zone)}. Launching it again resumes it.",
        metadata={"cancelled_at": dg.MetadataValue.timestamp(at)},
    )


def _reads_more(run: dg.DagsterRun) -> bool:
    return bool(run.asset_selection) and run.asset_selection != {HISTORY}


def _select_backfills(
    instance: dg.DagsterInstance, ids: Collection[str | None], statuses: Collection[BulkActionStatus]
) -> set[str]:
    """Return which of these backfills have one of these statuses, by one query for all."""
    wanted = sorted(filter(None, ids))
    if not wanted:
        return set()
    filters = BulkActionsFilter(backfill_ids=wanted, statuses=list(statuses))
    return {backfill.backfill_id for backfill in instance.get_backfills(filters=filters)}


def _person_cancelled_at(instance: dg.DagsterInstance, run_id: str) -> dt.datetime | None:
    """Return when a person cancelled the run, or None if nobody did."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_CANCELING)
    if not events or any(MAX_RUNTIME in event.message for event in events):
        return None
    return dt.datetime.fromtimestamp(min(event.timestamp for event in events), dt.UTC)
