"""Sensors. They read the hub's database, request runs, and do no work themselves."""

import datetime as dt
import time
import warnings
from collections.abc import Mapping

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.display import MAX_NAME_CHARS, counted, format_time, sanitize_for_display
from rsu_pipeline.orchestration import cancelled_runs, partitions
from rsu_pipeline.orchestration.batch import sync_batch
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.first_syncs import FirstSync, request_first_syncs
from rsu_pipeline.orchestration.jobs import backfill_history, sync_partner
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.schedules import ACTIVE
from rsu_pipeline.warehouse import backfill_cancellation, backfill_state, credential_encryption, credentials

# Dagster warns of its own argument when it gives resources to a sensor that has several jobs.
warnings.filterwarnings("ignore", "Parameter `owners` of initializer `SensorDefinition", dg.BetaWarning)

SHOWN_CANCELLED = 5
QUEUED = frozenset({dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED})
SHOWN_STRAY = 10
"""Partitions without a partner that a tick names."""
MAX_STRAY = 100
"""Partitions without a partner that a tick has removed. For each the daemon makes two queries."""


@dg.sensor(
    jobs=[sync_partner, sync_batch],
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Gives every partner with RunSignup credentials a partition and a first sync, and encrypts secrets that are"
    " stored in clear text. A partner without credentials, or one that is disabled, keeps its partition and is not synced."
    " A partition that belongs to no partner is removed.",
)
def new_credentials(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    # Before the partners are read, so that the partition of a partner that is added meanwhile is not taken for a stray.
    known = set(context.instance.get_dynamic_partitions(partitions.NAME))
    with expected_errors_as_failures(), warehouse.connect("new_credentials") as conn:
        sealed = credential_encryption.encrypt_all(conn, installation.current().secret_box)
        active = [partner for partner in credentials.list_partners(conn) if partner.is_active]
        keys = credentials.ensure_keys(conn, active)
        waiting = credentials.list_partners_awaiting_first_sync(conn)
        stray = sorted(known - {partner.key for partner in credentials.list_partners(conn)})[:MAX_STRAY]
        conn.commit()
    new = [key for key in keys.values() if key not in known]
    if new:
        # Not by the result: the daemon queries each key that a result names, and a thousand took it more than a second.
        context.instance.add_dynamic_partitions(partitions.NAME, new)
    wanted = [FirstSync(keys[partner.partner_id], partner.entered_at) for partner in waiting]
    requests = request_first_syncs(context.instance, wanted, time.time())
    counts = (
        f"{len(active)} active partners, {len(new)} new, {len(waiting)} awaiting their first sync, {sealed} encrypted"
    )
    cursor = context.cursor
    if stray:
        shown = ", ".join(sanitize_for_display(key, MAX_NAME_CHARS) for key in stray[:SHOWN_STRAY])
        cursor = f"Removed {len(stray)} partitions that belong to no partner: {shown}"
        counts = f"{counts}. {cursor}"
    context.log.info(counts)
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[partitions.timing_partner.build_delete_request(stray)] if stray else [],
        skip_reason=None if requests else dg.SkipReason(counts),
        cursor=cursor,
    )


@dg.sensor(
    job=backfill_history,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Continues the requested backfills slice by slice until they are complete. A partner whose slice has ended"
    " gets the next one when calls are free and failed races may be retried. Terminating a run or cancelling the Dagster"
    " backfill cancels the request.",
)
def history(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    now = dt.datetime.now(dt.UTC)
    with expected_errors_as_failures(), warehouse.connect("history") as conn:
        open_requests = backfill_cancellation.read_open_requests(conn)
        conn.rollback()
        found = cancelled_runs.cancelled_by_a_person(context.instance, open_requests, now)
        backfill_cancellation.cancel(conn, found)
        conn.commit()
        waiting = backfill_state.list_waiting_requests(conn, now)
        cancelled = backfill_cancellation.read_cancelled_keys(conn)
    known = set(context.instance.get_dynamic_partitions(partitions.NAME)) if waiting else set()
    busy, queued = _reading_history(context.instance) if waiting else (set(), 0)
    free = [key for key in waiting if key in known and key not in busy]
    begun = free[: max(0, backfill_state.MAX_QUEUED_SLICES - queued)]
    requests = [
        dg.RunRequest(
            run_key=f"history:{key}:{now:%Y%m%dT%H%M%S}",
            partition_key=key,
            run_config={"ops": {"participant_history": {"config": {"resume_only": True}}}},
            tags={"lane": "backfill", "partner": key},
        )
        for key in begun
    ]
    slices = counted(len(requests), "slice")
    words = (
        f"{counted(len(waiting), 'partner')} with past editions to read, {len(busy)} in progress, {slices} requested"
    )
    if len(begun) < len(free):
        words += f", {len(free) - len(begun)} left to later ticks"
    if cancelled:
        described = _describe_cancellation(cancelled, installation.current().settings.timezone)
        words += f", {len(cancelled)} are cancelled ({', '.join(described)})"
    context.log.info(words)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else words,
        asset_events=[
            cancelled_runs.observation(item.key, found[item.partner_id])
            for item in open_requests
            if item.partner_id in found
        ],
    )


def _describe_cancellation(cancelled: Mapping[str, dt.datetime], zone: dt.tzinfo) -> list[str]:
    """Return which partners were cancelled when, newest first."""
    words = [f"{key} at {format_time(at, zone)}" for key, at in list(cancelled.items())[:SHOWN_CANCELLED]]
    return words if len(words) == len(cancelled) else [*words, "..."]


def _reading_history(instance: dg.DagsterInstance) -> tuple[set[str], int]:
    """Return the partition keys of the partners with a queued or running slice, however it was launched, and the slices queued."""
    runs = [run for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE)) if cancelled_runs.reads_history(run)]
    keys = {key for run in runs for key in partitions.list_keys_of_run(instance, run)}
    return keys, sum(run.job_name == backfill_history.name and run.status in QUEUED for run in runs)
