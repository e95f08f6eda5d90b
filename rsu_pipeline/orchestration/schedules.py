"""Schedules: pure functions decide what is due, and these turn the result into runs."""

import datetime as dt
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.display import counted
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.orchestration.batch import list_reported_partners, sync_batch
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.lanes import read_lane_of_run
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.run_tags import list_repeated_runs
from rsu_pipeline.reading_settings import BudgetSettings
from rsu_pipeline.sync import cadence, clocks
from rsu_pipeline.warehouse import fleet

NIGHTLY = "nightly"
TICK_INTERVAL = dt.timedelta(minutes=5)
LISTED_WITHIN = dt.timedelta(hours=12)
"""Partners that were listed within this time of each other count as listed at the same time."""
DISTANCE_TAG = "distance"
NEAR, FAR = "near", "far"
"""Values of a batch's tag: whether its races are near. Only a label: tagging a run by hand delays nothing else."""
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
    description="Syncs the races that are due: those more than 24 h away every 4 h, nearer ones every 15 min, and the rest of"
    " an interrupted nightly. One run for the partners with near races, one for the others.",
)
def race_proximity(
    context: dg.ScheduleEvaluationContext, warehouse: WarehouseResource
) -> list[dg.RunRequest] | dg.SkipReason:
    tick, settings = context.scheduled_execution_time.astimezone(dt.UTC), installation.current().settings
    with expected_errors_as_failures(), warehouse.connect("race_proximity") as conn:
        now, also = clocks.corrected(tick, conn, settings.sync.max_clock_skew)
        partners = fleet.select_partners_to_sync(conn, now, also)
        races = fleet.select_races_to_read(conn, now, also)
    visits = cadence.due(
        partners,
        races,
        now,
        settings.cadence,
        early=TICK_INTERVAL / 2,
        also=also,
        owed_since=find_last_nightly(context.instance),
    )
    work = read_work_in_progress(context.instance)
    near, far = split_visits(visits, work)
    if not near and not far:
        return dg.SkipReason(
            f"nothing due: {counted(len(partners), 'partner')}, {counted(len(races), 'race')} with events ahead,"
            f" {counted(len(visits), 'partner')} due,"
            f" {len(visits)} of them in progress"
        )
    return [
        _batch(
            f"race_proximity:{distance}:{tick:%Y%m%dT%H%M%S}",
            distance,
            [visit.key for visit in part],
            races={visit.key: list(visit.race_ids) for visit in part},
            relist=[visit.key for visit in part if visit.relist],
        )
        for distance, part in ((NEAR, near), (FAR, far))
        if part
    ]


def nightly(context: dg.ScheduleEvaluationContext, warehouse: WarehouseResource) -> list[dg.RunRequest] | dg.SkipReason:
    """Return the runs of a nightly sync."""
    tick, settings = context.scheduled_execution_time.astimezone(dt.UTC), installation.current().settings
    with expected_errors_as_failures(), warehouse.connect("nightly") as conn:
        now, also = clocks.corrected(tick, conn, settings.sync.max_clock_skew)
        partners = fleet.select_partners_to_sync(conn, now, also)
        races = Counter(race.key for race in fleet.select_races_to_read(conn, now, also))
    order = order_nightly(partners, races, tick)
    busy = read_work_in_progress(context.instance).everything
    free = [key for key in order if key not in busy]
    if not free:
        return dg.SkipReason(
            f"nothing to do: {counted(len(order), 'partner')}, {len(order) - len(free)} of them in progress"
        )
    parts = build_nightly_runs(settings.budget, read_routine_run_limit(context.instance))
    # Not by the date: two nights east of UTC share one when the clocks go forward.
    return [
        _batch(f"nightly:{tick:%Y%m%dT%H%M%S}:{number}", FAR, keys, races={}, relist=keys)
        for number in range(parts)
        if (keys := free[number::parts])
    ]


def build_nightly(timezone: str) -> dg.ScheduleDefinition:
    """Return the schedule `nightly`, at 02:00 in a zone."""
    return dg.schedule(
        name=NIGHTLY,
        job=sync_batch,
        cron_schedule="0 2 * * *",
        execution_timezone=timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every night at 02:00 (RSU_TIMEZONE): refreshes all partners' events and syncs every upcoming event.",
    )(nightly)


def order_nightly(partners: Sequence[fleet.FleetPartner], races: Mapping[str, int], now: dt.datetime) -> list[str]:
    """Return the partition keys of the partners in the order of a nightly sync.

    Partners that were listed longest ago come first, in steps of half a day, so that none is left out night after night when
    the time does not suffice. Among the others, the partner with most to read comes first, so that it is not left alone at the end.
    """

    def rank(partner: fleet.FleetPartner) -> tuple[int, int]:
        waited = math.inf if partner.listed_at is None else (now - partner.listed_at) / LISTED_WITHIN
        return -int(min(waited, 1000)), -races[partner.key]

    return [partner.key for partner in sorted(partners, key=rank)]


def build_nightly_runs(settings: BudgetSettings, places: int) -> int:
    """Return the number of runs for a nightly sync. One slot of the lane stays free for near races.

    If calls in flight count over all credentials, a second run would only wait for the first one's calls.
    """
    return 1 if settings.in_flight_scope == "all" else max(1, places - 1)


def read_routine_run_limit(instance: dg.DagsterInstance) -> int:
    """Return how many runs of the routine lane may be active at once, according to dagster.yaml."""
    queue = instance.get_concurrency_config().run_queue_config
    limits = queue.tag_concurrency_limits if queue else []
    return next((limit["limit"] for limit in limits if limit.get("value") == "routine"), 1)


@dataclass(frozen=True)
class Work:
    """Partition keys of the partners that queued and running syncs have not finished.

    `near` leaves out those of a nightly and of other far batches, which may take more than an hour.
    """

    everything: frozenset[str]
    near: frozenset[str]


def split_visits(visits: Sequence[cadence.Visit], work: Work) -> tuple[list[cadence.Visit], list[cadence.Visit]]:
    """Return the visits of partners with a near race, and the others, so that the others do not delay the near ones.

    A partner that a far batch has not reached gets its near races read meanwhile. One that is in a near batch, or in a
    run of its own, is left to that run.
    """
    near = [
        visit if visit.key not in work.everything else visit.near_part()
        for visit in visits
        if visit.is_near and visit.key not in work.near
    ]
    far = [visit for visit in visits if not visit.is_near and visit.key not in work.everything]
    return near, far


def find_last_nightly(instance: dg.DagsterInstance) -> dt.datetime | None:
    """Return when the last nightly sync was requested, or None if none was or its run is deleted.

    A run that repeats it has its tags, and continues what was requested before.
    """
    nightly_runs = dg.RunsFilter(job_name=sync_batch.name, tags={"dagster/schedule_name": NIGHTLY})
    requested_at = None
    for newest in instance.get_run_records(nightly_runs, limit=1):
        for record in list_repeated_runs(instance, newest.dagster_run.run_id):
            requested_at = record.create_timestamp.astimezone(dt.UTC)
    return requested_at


def read_work_in_progress(instance: dg.DagsterInstance) -> Work:
    """Return what queued and running syncs of any job still have to do.

    Backfills do not count, because they last for hours and share the partner's races. Nor do partners that a batch has
    already synced.
    """
    everything: set[str] = set()
    near: set[str] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE)):
        if read_lane_of_run(run) == "backfill":
            continue
        keys = set(partitions.list_keys_of_run(instance, run))
        # Only in this job it is a list of texts. Other jobs ignore what is entered for it.
        if run.job_name == sync_batch.name:
            config: Any = run.run_config
            keys |= set(config["ops"]["sync_partners"]["config"]["partners"]) - list_reported_partners(
                instance, run.run_id
            )
        everything |= keys
        if run.tags.get(DISTANCE_TAG) != FAR:
            near |= keys
    return Work(frozenset(everything), frozenset(near))


def _batch(
    run_key: str, distance: str, keys: Sequence[str], *, races: dict[str, list[int]], relist: list[str]
) -> dg.RunRequest:
    config = {"partners": list(keys), "races": races, "relist": relist}
    return dg.RunRequest(
        run_key=run_key,
        run_config={"ops": {"sync_partners": {"config": config}}},
        tags={"lane": "routine", DISTANCE_TAG: distance, "partners": str(len(keys))},
    )
