"""The sensor `alerts`: whoever must act is told once, of what the hub's database tells and of runs that failed."""

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence

import dagster as dg
from psycopg2.extensions import connection as Connection

from rsu_pipeline import installation
from rsu_pipeline.alerts import automation, causes
from rsu_pipeline.alerts.look import look
from rsu_pipeline.orchestration.failures import plain_failures
from rsu_pipeline.orchestration.lanes import lane_of_run
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.run_tags import PARTITION_TAG
from rsu_pipeline.settings import Settings
from rsu_pipeline.warehouse import alerts as kept
from rsu_pipeline.warehouse.alerts import Alert, Problem

OURS = frozenset({"sync_partner", "sync_batch", "backfill_history", "watch", "retention", "check_fleet"})
"""Jobs whose failures somebody must know of."""
ASSET_JOB = "__ASSET_JOB"
"""How the names of Dagster's own jobs begin, by which the web UI materialises assets."""
LOOK_BACK = dt.timedelta(hours=24)
"""A run that failed longer ago is no news. One that is told of stays open until it is mended, however long."""
RUNS_A_LOOK = 200
RETRY_WITHIN = dt.timedelta(minutes=10)
"""When a retry that Dagster promised has not come by then, none will."""
LISTED = 10
"""Races that one sentence names."""
SILENT_FOR = dt.timedelta(minutes=15)
"""A run says something at every race, a slice of history or of the watch lasts less; longer silence is no work."""
NOT_STARTED_FOR = dt.timedelta(minutes=5)
QUEUED_FOR = dt.timedelta(minutes=30)
"""Of a run that is no backfill: those wait for each other by design."""

# Dagster's tags of a failed run: whether it will be retried by itself, and by which run it was.
WILL_RETRY_TAG = "dagster/will_retry"
RETRIED_BY_TAG = "dagster/auto_retry_run_id"


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells whoever must act, once for each cause and once when it is over, by the notifiers of RSU_ALERT_URLS."
    " What is wrong stands in table alerts, whether anybody is told or not.",
)
def alerts(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    return _look(context, warehouse)


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Does the work of the sensor alerts while that one is switched off, fails or does not tick, which is an alert"
    " of its own.",
)
def alerts_stand_in(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    with plain_failures(), warehouse.connect("alerts_stand_in") as conn:
        now = dt.datetime.now(dt.UTC)
        is_stopped = any(problem.key == alerts.name for problem in automation.find(conn, now))
    if not is_stopped:
        return dg.SensorResult(skip_reason="the sensor alerts is at work")
    return _look(context, warehouse)


def _look(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    settings = installation.current().settings
    now = dt.datetime.now(dt.UTC)
    with plain_failures(), warehouse.connect("alerts") as conn:
        problems = find(context.instance, conn, settings, now)
        done = look(conn, problems, settings.alerts, now, context.log.warning)
    if not settings.alerts.urls:
        return dg.SensorResult(skip_reason=f"{done.wrong} causes open; nobody is told: RSU_ALERT_URLS is not set")
    words = f"{done.wrong} causes open, {done.told} told, {done.cleared} told to be over, {done.sent} messages"
    if done.unsent:
        words += f", {done.unsent} that no notifier took and that are sent again"
    if done.failing:
        words += f"; notifiers that failed: {', '.join(sorted(done.failing))}"
    context.log.info(words)
    return dg.SensorResult(skip_reason=words)


def find(instance: dg.DagsterInstance, conn: Connection, settings: Settings, now: dt.datetime) -> list[Problem]:
    """Everything that somebody must act on now. That runs of a partner fail whose credential is refused is no news of its
    own."""
    found = causes.find(conn, settings, now)
    refused = {problem.partner for problem in found if problem.kind == "credential_rejected"}
    failed = failed_runs(instance, conn, kept.open_alerts(conn), now)
    return [
        *(problem for problem in failed if problem.partner is None or problem.partner not in refused),
        *stuck_runs(instance, now),
        *found,
    ]


def failed_runs(
    instance: dg.DagsterInstance, conn: Connection, open_alerts: Sequence[Alert], now: dt.datetime
) -> list[Problem]:
    """Runs of ours that failed and that no automatic retry follows, by what they failed at. What a run could not read is
    mended when it was read since, by whichever run; a run that left no such trace when a later one of its job and
    partition went well."""
    runs = _failures(
        instance, [alert.run_id for alert in open_alerts if alert.kind == "run_failed" and alert.run_id], now
    )
    unread: dict[str, list[tuple[str, int | None, bool]]] = {}
    for run_id, key, race_id, is_read in kept.failed_reads(conn, list(runs)):
        unread.setdefault(run_id, []).append((key, race_id, is_read))
    held_back = kept.runs_that_held_back(conn, list(runs))
    problems: dict[str, Problem] = {}
    for run_id, record in runs.items():  # the newest first, and it is the newest that is linked
        run = record.dagster_run
        if run_id in unread:
            for problem in _unread(run_id, unread[run_id]):
                problems.setdefault(problem.key, problem)
            continue
        if run_id in held_back:
            continue  # an alert of its own
        partition = run.tags.get(PARTITION_TAG)
        cause = f"{run.job_name}:{partition or ''}"
        if cause not in problems and not _went_well_since(instance, record):
            problems[cause] = Problem("run_failed", cause, partition, f"{_named(run)} failed.", run_id)
    return list(problems.values())


def stuck_runs(instance: dg.DagsterInstance, now: dt.datetime) -> Iterator[Problem]:
    """Runs of ours that wait or work for longer than any should without a word."""
    records = instance.get_run_records(dg.RunsFilter(statuses=list(_WAITS)), limit=RUNS_A_LOOK, ascending=True)
    for record in records:
        run = record.dagster_run
        is_queued = run.status is dg.DagsterRunStatus.QUEUED
        if not _is_ours(run) or (is_queued and lane_of_run(run) == "backfill"):
            continue
        allowed, what = _WAITS[run.status]
        since = record.update_timestamp.astimezone(dt.UTC) if is_queued else _last_word(instance, record)
        if now - since > allowed:
            key = run.tags.get(PARTITION_TAG)
            yield Problem("run_stuck", run.run_id, key, f"{_named(run)} {what} since {since:%H:%M} UTC.", run.run_id)


_WAITS = {
    dg.DagsterRunStatus.QUEUED: (QUEUED_FOR, "has been waiting in the queue"),
    dg.DagsterRunStatus.STARTING: (NOT_STARTED_FOR, "has been starting"),
    dg.DagsterRunStatus.STARTED: (SILENT_FOR, "has said nothing"),
    dg.DagsterRunStatus.CANCELING: (SILENT_FOR, "has been ending"),
}


def _last_word(instance: dg.DagsterInstance, record: dg.RunRecord) -> dt.datetime:
    newest = instance.get_records_for_run(record.dagster_run.run_id, limit=1, ascending=False).records
    if newest:
        return dt.datetime.fromtimestamp(newest[0].timestamp, dt.UTC)
    return record.update_timestamp.astimezone(dt.UTC)


def _is_ours(run: dg.DagsterRun) -> bool:
    return run.job_name in OURS or run.job_name.startswith(ASSET_JOB)


def _named(run: dg.DagsterRun) -> str:
    """A run as a sentence begins with it: its partition, where it has one, and its job."""
    job = "a materialization" if run.job_name.startswith(ASSET_JOB) else f"job {run.job_name}"
    key = run.tags.get(PARTITION_TAG)
    return f"{key}: {job}" if key else job


def _unread(run_id: str, reads: Iterable[tuple[str, int | None, bool]]) -> list[Problem]:
    found: dict[str, list[int | None]] = {}
    for key, race_id, is_read in reads:
        if not is_read:
            found.setdefault(key, []).append(race_id)
    problems = []
    for key, races in found.items():
        numbers = [str(race) for race in races if race is not None]
        what = f"{len(numbers)} races could not be read: {', '.join(numbers[:LISTED])}" if numbers else ""
        if None in races:
            what = "the listing of races could not be read" + (f"; {what}" if what else "")
        problems.append(Problem("run_failed", f"sync:{key}", key, f"{key}: {what}.", run_id))
    return problems


def _failures(instance: dg.DagsterInstance, told_of: Sequence[str], now: dt.datetime) -> dict[str, dg.RunRecord]:
    """The failed runs that count, the newest first: those of the last day, and those that open alerts are about."""
    records = list(
        instance.get_run_records(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now - LOOK_BACK), limit=RUNS_A_LOOK
        )
    )
    if told_of:
        records += instance.get_run_records(
            dg.RunsFilter(run_ids=list(told_of), statuses=[dg.DagsterRunStatus.FAILURE])
        )
    records.sort(key=lambda record: record.storage_id, reverse=True)
    return {
        record.dagster_run.run_id: record
        for record in records
        if _is_ours(record.dagster_run) and not _is_retried(record, now)
    }


def _is_retried(record: dg.RunRecord, now: dt.datetime) -> bool:
    tags = record.dagster_run.tags
    if RETRIED_BY_TAG in tags:
        return True
    waits = now.timestamp() - (record.end_time or now.timestamp()) < RETRY_WITHIN.total_seconds()
    return tags.get(WILL_RETRY_TAG) == "true" and waits


def _went_well_since(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    run = record.dagster_run
    partition = run.tags.get(PARTITION_TAG)
    later = instance.get_run_records(
        dg.RunsFilter(
            job_name=run.job_name,
            statuses=[dg.DagsterRunStatus.SUCCESS],
            tags={PARTITION_TAG: partition} if partition else {},
            created_after=record.create_timestamp,
        ),
        limit=1,
    )
    return bool(later)
