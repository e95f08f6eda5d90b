"""The nightly backup, where RSU_BACKUP_DIR is set: dump, verify, delete the oldest."""

import datetime as dt

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.local import dumps
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.lanes import LANE_TAG
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.run_config import NO_CONFIG


@dg.op(config_schema=NO_CONFIG)
def write_backup(context: dg.OpExecutionContext, warehouse: WarehouseResource) -> None:
    """Write a dump of the hub into RSU_BACKUP_DIR, verify it, and delete those that are too old."""
    settings = installation.current().settings
    if settings.backup.folder is None:
        raise dg.Failure("RSU_BACKUP_DIR is not set, so there is nowhere to write a backup.", allow_retries=False)
    with expected_errors_as_failures():
        try:
            made, deleted = dumps.back_up(
                warehouse.address(),
                settings.backup.folder,
                settings.backup.days,
                dt.datetime.now(dt.UTC),
            )
        except OSError as error:
            raise dg.Failure(
                f"{settings.backup.folder} cannot be written ({error.strerror}). Correct RSU_BACKUP_DIR, or the folder's rights.",
                allow_retries=False,
            ) from None
    context.log.info(
        f"{made.path.name}: {made.path.stat().st_size / 1e6:,.1f} MB, verified. {len(deleted)} older ones deleted."
    )


# The lane whose runs wait for all others: a backup reads everything.
@dg.job(tags={LANE_TAG: "backfill"}, description="Writes a backup into RSU_BACKUP_DIR and verifies it.")
def backup() -> None:
    write_backup()


def build_nightly_backup(timezone: str) -> dg.ScheduleDefinition:
    """Return the schedule `nightly_backup`, at 04:00 in a zone."""
    return dg.schedule(
        job=backup,
        cron_schedule="0 4 * * *",
        execution_timezone=timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every night at 04:00 (RSU_TIMEZONE): a verified backup in RSU_BACKUP_DIR, kept for RSU_BACKUP_DAYS.",
    )(nightly_backup)


def nightly_backup(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Return the run of a nightly backup."""
    if installation.current().settings.backup.folder is None:
        return dg.SkipReason("RSU_BACKUP_DIR is not set, so no backup is written")
    return dg.RunRequest(
        run_key=f"backup:{context.scheduled_execution_time:%Y%m%dT%H%M%S%z}", tags={LANE_TAG: "backfill"}
    )
