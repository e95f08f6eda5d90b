"""Delete old runs with their events and logs, old records of the hub, and old contact data. Runs once a night.

Contact data is deleted only if RSU_CONTACT_RETENTION_DAYS is set.

Deleting a run deletes the materializations it reported, and a partition without any is shown in grey. So the run that
reported the newest materialization of a partition stays, however old it is, and so does that of a check's newest result.
"""

import datetime as dt
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import sqlalchemy as sa
from psycopg2.extensions import connection as Connection

from rsu_pipeline import installation
from rsu_pipeline.orchestration.dagster_internals import (
    RUNLESS_RUN_ID,
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    RunsTable,
    SqlEventLogStorageTable,
)
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.run_config import NO_CONFIG
from rsu_pipeline.orchestration.storage import sql_event_log
from rsu_pipeline.sync import clocks
from rsu_pipeline.warehouse import privacy
from rsu_pipeline.warehouse.retention import delete_old_rows

KEEP_DAYS = {
    dg.DagsterRunStatus.SUCCESS: 7,
    dg.DagsterRunStatus.FAILURE: 30,
    dg.DagsterRunStatus.CANCELED: 30,
}
"""Only statuses of ended runs are named here. Queued and running ones are never deleted."""
RUNLESS_DAYS = 14
"""Days that events without a run are kept. Sensors report them, thousands on a race morning."""
TICK_LOG_DAYS = 3
"""Days that the output of sensors and schedules is kept: one file per tick, about 20,000 a day."""
RUNS_A_NIGHT = 10_000
"""A run takes about 10 ms to delete. The rest is deleted the next night."""
BATCH = 1000
DELETED_RUN_GRACE = dt.timedelta(hours=1)
"""How long a run that was deleted must have written nothing. Until then its process may still be working."""

EVENTS = SqlEventLogStorageTable.c
CHECKS = AssetCheckExecutionsTable.c


@dg.op(config_schema=NO_CONFIG)
def delete_old(context: dg.OpExecutionContext, warehouse: WarehouseResource) -> None:
    """Delete what is older than its retention, and report the counts in the metadata.

    A clock that is ahead deletes nothing too early, because the earliest believable clock counts.
    """
    began = time.monotonic()
    with expected_errors_as_failures(), warehouse.connect("retention") as conn:
        now = clocks.present(conn, installation.current().settings.sync.max_clock_skew)
    counts = delete_old_runs(context.instance, now)
    counts["events_without_run"] = delete_runless_events(context.instance, now)
    counts["deleted_runs"] = delete_remains_of_deleted_runs(context.instance, now)
    counts["tick_logs"] = delete_tick_logs(installation.current().settings.home / "dagster" / "logs", now)
    with expected_errors_as_failures(), warehouse.connect("retention") as conn:
        counts |= delete_old_rows(conn, now)
        counts |= purge_contact_data(conn, now)
    context.log.info("deleted: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    context.add_output_metadata({**counts, "seconds": round(time.monotonic() - began, 3)})


@dg.job(description="Deletes old runs, events, logs and call records, keeping the newest success of each partition.")
def retention() -> None:
    delete_old()


def build_nightly_retention(timezone: str) -> dg.ScheduleDefinition:
    """Return the schedule `nightly_retention`, after the nightly sync and at an hour that the change to summer time keeps."""
    return dg.ScheduleDefinition(
        name="nightly_retention",
        job=retention,
        cron_schedule="30 3 * * *",
        execution_timezone=timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every night at 03:30 (RSU_TIMEZONE): data older than its retention is deleted.",
    )


def purge_contact_data(conn: Connection, now: dt.datetime) -> dict[str, int]:
    """Blank contact data older than RSU_CONTACT_RETENTION_DAYS, if that is set. Return the rows blanked by table.

    A partner whose rows are locked is left for the next night.
    """
    settings = installation.current().settings
    if not settings.privacy.contact_days:
        return {}
    before = now.astimezone(settings.timezone).date() - dt.timedelta(days=settings.privacy.contact_days)
    done = privacy.purge_contact_rows(conn, before, now=now, who="nightly_retention", lock_timeout=0)
    return {f"contact_data_{table}": rows for table, rows in done.rows.items()}


def delete_old_runs(instance: dg.DagsterInstance, now: dt.datetime) -> dict[str, int]:
    """Delete ended runs that are old enough, oldest first, with their events and logs."""
    kept = newest_runs(instance)
    old = [run for run in _ended_long_ago(instance, now) if run not in kept]
    for run_id in old[:RUNS_A_NIGHT]:
        # The run itself is deleted last: if this is interrupted, it is found again the next night.
        _delete_records(instance, run_id)
        instance.run_storage.delete_run(run_id)
    return {"runs": min(len(old), RUNS_A_NIGHT), "runs_left": max(0, len(old) - RUNS_A_NIGHT), "runs_kept": len(kept)}


def delete_remains_of_deleted_runs(instance: dg.DagsterInstance, now: dt.datetime) -> int:
    """Delete what runs wrote after they were deleted in the Dagster UI, and return of how many runs.

    The process of such a run keeps writing. Dagster deletes a run's events with it, materializations included, so these would
    have been deleted too. Events without a run stay.
    """
    before = now - DELETED_RUN_GRACE
    gone = _deleted_runs_with_records(instance, before) | _deleted_runs_with_logs(instance, before)
    for run_id in sorted(gone)[:RUNS_A_NIGHT]:
        _delete_records(instance, run_id)
    return min(len(gone), RUNS_A_NIGHT)


def _delete_records(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete what a run wrote and printed, but not the run."""
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    instance.event_log_storage.delete_events(run_id)
    with sql_event_log(instance).index_connection() as conn:
        conn.execute(AssetCheckExecutionsTable.delete().where(CHECKS.run_id == run_id))


def newest_runs(instance: dg.DagsterInstance) -> set[str]:
    """Return the runs that reported the newest materialization of a partition, or a check's newest result."""
    materialised = (
        sa.select(sa.func.max(EVENTS.id))
        .where(EVENTS.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value)
        .where(EVENTS.run_id != RUNLESS_RUN_ID)
        .group_by(EVENTS.asset_key, EVENTS.partition)
    )
    answered = (
        sa.select(sa.func.max(CHECKS.id))
        .where(CHECKS.execution_status != "PLANNED")
        .group_by(CHECKS.asset_key, CHECKS.check_name, CHECKS.partition)
    )
    with sql_event_log(instance).index_connection() as conn:
        runs = [
            *conn.execute(sa.select(EVENTS.run_id).where(EVENTS.id.in_(materialised))),
            *conn.execute(sa.select(CHECKS.run_id).where(CHECKS.id.in_(answered))),
        ]
    return {str(run_id) for (run_id,) in runs}


def delete_runless_events(instance: dg.DagsterInstance, now: dt.datetime) -> int:
    """Delete old asset events without a run, except the newest of each partition. Return how many."""
    newest = (
        sa.select(sa.func.max(EVENTS.id))
        .where(EVENTS.asset_key.is_not(None))
        .group_by(EVENTS.asset_key, EVENTS.partition, EVENTS.dagster_event_type)
    )
    old = (
        sa.select(EVENTS.id)
        .where(EVENTS.run_id == RUNLESS_RUN_ID)
        .where(EVENTS.timestamp < _before(now, RUNLESS_DAYS).replace(tzinfo=None))
        .where(EVENTS.id.not_in(newest))
        .order_by(EVENTS.id)
    )
    with sql_event_log(instance).index_connection() as conn:
        ids = [row[0] for row in conn.execute(old)]
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        with sql_event_log(instance).index_connection() as conn:
            conn.execute(AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(batch)))
            conn.execute(SqlEventLogStorageTable.delete().where(EVENTS.id.in_(batch)))
    return len(ids)


def delete_tick_logs(folder: Path, now: dt.datetime) -> int:
    """Delete old output files of sensors and schedules, FOLDER/repository/name. Return how many."""
    before = _before(now, TICK_LOG_DAYS).timestamp()
    deleted = 0
    for path in folder.glob("__*__/*/*"):
        if path.stat().st_mtime < before:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            deleted += 1
    return deleted


def _deleted_runs_with_records(instance: dg.DagsterInstance, before: dt.datetime) -> set[str]:
    """Return the runs that do not exist and whose last event or check result is older than `before`."""
    found: set[str] = set()
    for run_id, written_at in ((EVENTS.run_id, EVENTS.timestamp), (CHECKS.run_id, CHECKS.create_timestamp)):
        query = (
            sa.select(run_id)
            .where(run_id != RUNLESS_RUN_ID)
            .where(~sa.exists().where(RunsTable.c.run_id == run_id))
            .group_by(run_id)
            .having(sa.func.max(written_at) < before.replace(tzinfo=None))
        )
        with sql_event_log(instance).index_connection() as conn:
            found.update(str(row[0]) for row in conn.execute(query))
    return found


def _deleted_runs_with_logs(instance: dg.DagsterInstance, before: dt.datetime) -> set[str]:
    """Return the runs that do not exist and whose folder of output has not changed since `before`."""
    folder = installation.current().settings.home / "dagster" / "logs"
    old = {
        path.name for path in folder.glob("*") if _is_run_id(path.name) and path.stat().st_mtime < before.timestamp()
    }
    return {run_id for run_id in old if not instance.has_run(run_id)}


def _is_run_id(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def _ended_long_ago(instance: dg.DagsterInstance, now: dt.datetime) -> Iterator[str]:
    for status, days in KEEP_DAYS.items():
        old = dg.RunsFilter(statuses=[status], updated_before=_before(now, days))
        yield from reversed(instance.run_storage.get_run_ids(old))  # it lists the newest first


def _before(now: dt.datetime, days: int) -> dt.datetime:
    return now - dt.timedelta(days=days)
