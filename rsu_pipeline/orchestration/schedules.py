"""Schedules: pure functions say what is due; these only turn their answers into runs."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from typing import Any

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline import settings as configuration
from rsu_pipeline.orchestration.batch import sync_batch
from rsu_pipeline.orchestration.failures import plain_failures
from rsu_pipeline.orchestration.lanes import lane_of_run
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.sync import cadence, clocks
from rsu_pipeline.warehouse import fleet

LOOK_EVERY = dt.timedelta(minutes=5)
ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.schedule(
    job=sync_batch,
    cron_schedule="*/5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Syncs the races that are due: those more than 24 h off every 4 h, those nearer every 15 min. One run for"
    " all partners that are idle.",
)
def race_proximity(
    context: dg.ScheduleEvaluationContext, warehouse: WarehouseResource
) -> dg.RunRequest | dg.SkipReason:
    tick, settings = context.scheduled_execution_time.astimezone(dt.UTC), installation.current().settings
    with plain_failures(), warehouse.connect("race_proximity") as conn:
        now, also = clocks.corrected(tick, conn, settings.sync.max_clock_skew)
        partners = fleet.partners_to_sync(conn, now, also)
        races = fleet.races_to_read(conn, now, also)
    visits = cadence.due(partners, races, now, settings.cadence, early=LOOK_EVERY / 2, also=also)
    busy = partners_at_work(context.instance)
    free = [visit for visit in visits if visit.key not in busy]
    if not free:
        return dg.SkipReason(
            f"nothing due: {len(partners)} partners, {len(races)} races with events ahead, {len(visits)} partners due,"
            f" {len(visits) - len(free)} of them at work"
        )
    return _batch(
        f"race_proximity:{tick:%Y%m%dT%H%M%S}",
        [visit.key for visit in free],
        races={visit.key: list(visit.race_ids) for visit in free},
        relist=[visit.key for visit in free if visit.relist],
    )


@dg.schedule(
    job=sync_batch,
    cron_schedule="0 2 * * *",
    execution_timezone=configuration.load().timezone.key,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every night at 02:00 (RSU_TIMEZONE): events refreshed and every future event synced, all partners.",
)
def nightly(context: dg.ScheduleEvaluationContext, warehouse: WarehouseResource) -> dg.RunRequest | dg.SkipReason:
    tick = context.scheduled_execution_time.astimezone(dt.UTC)
    with plain_failures(), warehouse.connect("nightly") as conn:
        now, also = clocks.corrected(tick, conn, installation.current().settings.sync.max_clock_skew)
        keys = [partner.key for partner in fleet.partners_to_sync(conn, now, also)]
        races = Counter(race.key for race in fleet.races_to_read(conn, now, also))
    # Who has most to read begins, lest it be left alone at the end.
    keys.sort(key=lambda key: -races[key])
    busy = partners_at_work(context.instance)
    free = [key for key in keys if key not in busy]
    if not free:
        return dg.SkipReason(f"nothing to do: {len(keys)} partners, {len(keys) - len(free)} of them at work")
    # Not by the date: two nights east of UTC share one when the clocks go forward.
    return _batch(f"nightly:{tick:%Y%m%dT%H%M%S}", free, races={}, relist=free)


def partners_at_work(instance: dg.DagsterInstance) -> set[str]:
    """Partition keys of the partners that a queued or running sync is about, of whatever job: the asset's page has one
    of its own. Backfills do not count: they last for hours, and give way between two races."""
    keys: set[str] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE)):
        if lane_of_run(run) == "backfill":
            continue
        if partition := run.tags.get("dagster/partition"):
            keys.add(partition)
        if (
            run.job_name == sync_batch.name
        ):  # only there it is a list of texts; other jobs ignore what is entered for it
            config: Any = run.run_config
            keys.update(config["ops"]["sync_partners"]["config"]["partners"])
    return keys


def _batch(run_key: str, keys: Sequence[str], *, races: dict[str, list[int]], relist: list[str]) -> dg.RunRequest:
    config = {"partners": list(keys), "races": races, "relist": relist}
    return dg.RunRequest(
        run_key=run_key,
        run_config={"ops": {"sync_partners": {"config": config}}},
        tags={"lane": "routine"},
    )
