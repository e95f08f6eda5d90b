"""Race day: the job that watches, and the sensors that keep it running, report new bibs and refresh the board."""

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import dagster as dg
from psycopg2.extensions import connection as Connection
from pydantic import Field

from rsu_pipeline import installation
from rsu_pipeline.display import counted, format_time
from rsu_pipeline.orchestration import data_versions, run_metadata
from rsu_pipeline.orchestration.assets.race_day_board_asset import board_metadata
from rsu_pipeline.orchestration.assets.synced_assets import START_LISTS
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.orchestration.run_config import fields_of, read_config
from rsu_pipeline.orchestration.run_tags import SHARD_TAG
from rsu_pipeline.orchestration.schedules import ACTIVE
from rsu_pipeline.setting_values import BibPoll
from rsu_pipeline.settings import Settings
from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.sync import clocks, watch_pace
from rsu_pipeline.sync.race_day_board import Urgency, read_board
from rsu_pipeline.sync.watch import PartnerWatched, Watch
from rsu_pipeline.warehouse import bibs, credentials, database, fleet

TICK_SECONDS = 30
"""How often the sensor race_day ticks. Every tick costs 0.25 s of processor time, with or without work."""
BIBS_SECONDS = 20
"""How often new bibs are reported. They are in the tables before that."""
BOARD_SECONDS = 60
"""How often the board is refreshed. An operator who needs more has `rsu race-day --watch`."""
SUCCESSOR_AHEAD = 60.0
"""Seconds before a slice ends at which its successor is requested.

The tick may be 30 s late, and a run takes about 5 s to start, on a busy machine 20 s.
"""
MAX_NAMED_PARTNERS = 10
"""Partners that the message of a tick names."""
SENSOR_SECONDS = 15.0
"""How long bib_changes may start polls of its own in one tick."""
REPORT_SECONDS = 20.0
"""How long bib_changes begins reports in one tick. The others are reported at the next one."""
SENSOR_CALL_SECONDS = 10.0
"""The longest call of such a poll, which is not repeated. Dagster abandons a tick after 60 s."""


class WatchConfig(dg.Config):
    """Which part of the fleet to watch, and for how long."""

    shard: int = Field(default=0, ge=0, lt=100, description="Number of the shard, from 0. See RSU_WATCH_SHARDS.")
    seconds: float = Field(
        default=600.0, gt=0, le=7200, description="Length of the slice in seconds. Its successor takes over."
    )


@dg.op(config_schema=fields_of(WatchConfig))
def watch_races(context: dg.OpExecutionContext, warehouse: WarehouseResource, runsignup: RunSignupResource) -> None:
    """Poll the races in their window until the slice ends or none is left. Waits for the predecessor to end."""
    config = read_config(WatchConfig, context.op_config)
    here = installation.current()
    began = time.monotonic()
    with (
        expected_errors_as_failures(),
        warehouse.connect(f"watch {config.shard}") as conn,
        database.shard_lock(conn, config.shard, lock_timeout=2 * SUCCESSOR_AHEAD) as mine,
    ):
        if not mine:
            context.log.info(f"shard {config.shard} is watched by another run")
            return
        # The wait is part of the slice. The sensor uses the run's start, and otherwise each successor would wait longer than
        # the one before, until one gave up and left a gap.
        left = max(0.0, config.seconds - (time.monotonic() - began))
        context.log.info(f"shard {config.shard}: watching for {left:.0f} s")
        watched = Watch(
            warehouse.address(),
            here.secret_box,
            runsignup.settings(),
            run_id=context.run.run_id,
            log=context.log.info,
            shard=config.shard,
        )
        try:
            done = watched.run(left)
        except Exception:
            # A bug that affected one race: the others were read.
            if not conn.closed:
                _lists_of_slice(conn, watched.done, context.log.warning)
            raise
        lists = _lists_of_slice(conn, done, context.log.warning)
        versions = _read_versions(conn, done)
    for key, partner in sorted(done.items()):
        for asset, metadata in (("participants", _metadata(partner)), (START_LISTS, lists.get(key))):
            if metadata is not None:
                version = versions[key, asset]
                context.log_event(data_versions.materialization(context.instance, asset, key, version, metadata))
    for problem in _describe_failures(done, lacking_calls=True):
        # No failure of the run: the alert polls_failing reports it, if it lasts.
        context.log.warning(problem)
    if failed := _describe_failures(done, lacking_calls=False):
        raise dg.Failure(
            f"{counted(len(failed), 'race')} could not be read at their last poll: {'; '.join(failed[:20])}",
            allow_retries=False,
        )


@dg.job(description="Watches the races in their window, for one slice.")
def watch() -> None:
    watch_races()


def _lists_of_slice(
    conn: Connection, done: Mapping[str, PartnerWatched], warn: Callable[[str], None]
) -> dict[str, run_metadata.Metadata]:
    """Rebuild the start lists of the partners for whom a slice brought anything. Return what is reported, by partition key.

    The sensor bib_changes already handled new bibs. This is for names, new entrants and removals.
    """
    found = {
        key: lists
        for key, partner in done.items()
        if not partner.counts.is_unchanged
        and (
            lists := _rebuild_lists(
                conn, credentials.find_partner(conn, key).partner_id, warn, anyway=partner.lists_rebuilt
            )
        )
    }
    conn.commit()
    return found


def _read_versions(conn: Connection, keys: Iterable[str]) -> dict[tuple[str, str], dg.DataVersion]:
    """Return the versions of what is stored of these partners, by partition key and asset."""
    ids = {key: credentials.find_partner(conn, key).partner_id for key in keys}
    found = {
        (key, asset): data_versions.read_version(conn, asset, partner_id)
        for key, partner_id in ids.items()
        for asset in ("participants", START_LISTS)
    }
    conn.rollback()
    return found


def _describe_failures(done: Mapping[str, PartnerWatched], *, lacking_calls: bool | None = None) -> list[str]:
    """Return a sentence for each race whose last poll failed: those that only lacked a call, those that did not, or all."""
    return [
        f"{key}, race {race_id}: {problem.removeprefix(f'race {race_id}: ')}"
        for key, partner in sorted(done.items())
        for race_id, problem in sorted(partner.trouble.items())
        if lacking_calls is None or lacking_calls == (race_id in partner.lacking_calls)
    ]


def _metadata(partner: PartnerWatched) -> dict[str, dg.MetadataValue]:
    counts = partner.counts
    numbers = {
        **run_metadata.count_rows(counts),
        "rows_with_faults": counts.with_faults,
        "bib_changes": counts.bib_changes,
        "api_calls": partner.calls,
        "looks": partner.looks,
        "looks_put_off": partner.busy,
    }
    return {name: dg.MetadataValue.int(number) for name, number in numbers.items()}


@dg.sensor(
    job_name=watch.name,
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Keeps the watch running while any race is in its window: from 4 h before a start until an hour after.",
)
def race_day(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    settings = installation.current().settings
    if settings.watch.bib_poll != "watch":
        return dg.SensorResult(skip_reason="RSU_BIB_POLL is 'sensor': the sensor bib_changes polls by itself")
    now = dt.datetime.now(dt.UTC)
    with expected_errors_as_failures(), warehouse.connect("race_day") as conn:
        moment, also = clocks.corrected(now, conn, settings.sync.max_clock_skew)
        races = fleet.select_races_to_read(conn, moment, also)
    shards = settings.watch.shards
    near = {
        shard: watch_pace.select_watched_races(races, moment, settings, shard=shard, shards=shards, also=also)
        for shard in range(shards)
    }
    requests = [
        request
        for shard, own in near.items()
        if own and (request := _successor(context, shard, now, settings.watch.slice_seconds))
    ]
    total = sum(map(len, near.values()))
    words = f"{counted(total, 'race')} in their window, {len(races)} ahead, {counted(len(requests), 'watch', 'watches')} requested"
    context.log.info(words)
    return dg.SensorResult(run_requests=requests, skip_reason=None if requests else words)


def _successor(
    context: dg.SensorEvaluationContext, shard: int, now: dt.datetime, seconds: float
) -> dg.RunRequest | None:
    """Return a request for a watch of this shard if none is running, or if the running one ends soon without a successor."""
    filters = dg.RunsFilter(job_name=watch.name, statuses=ACTIVE, tags={SHARD_TAG: str(shard)})
    active = context.instance.get_run_records(filters)
    if len(active) > 1:
        return None
    run_key = f"watch:{shard}:{now:%Y%m%dT%H%M%S}"
    if active:
        began = active[0].start_time
        if began is None or now.timestamp() - began < seconds - SUCCESSOR_AHEAD:
            return None
        run_key = f"watch:{shard}:after:{active[0].dagster_run.run_id}"
    return dg.RunRequest(
        run_key=run_key,
        run_config={"ops": {"watch_races": {"config": {"shard": shard, "seconds": seconds}}}},
        tags={"lane": "race_day", SHARD_TAG: str(shard)},
    )


def build_bib_changes(bib_poll: BibPoll) -> dg.SensorDefinition:
    """Return the sensor `bib_changes`. With RSU_BIB_POLL=sensor it polls RunSignup for bibs, as often as its calls allow."""
    return dg.sensor(
        minimum_interval_seconds=10 if bib_poll == "sensor" else BIBS_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports each new row of the bib log to its partner's partition of participants, and so to the assets that"
        " depend on it. With RSU_BIB_POLL=sensor it also polls RunSignup itself.",
    )(bib_changes)


def bib_changes(
    context: dg.SensorEvaluationContext, warehouse: WarehouseResource, runsignup: RunSignupResource
) -> dg.SensorResult:
    trouble: list[str] = []
    if installation.current().settings.watch.bib_poll == "sensor":
        with expected_errors_as_failures():
            done = _own_watch(warehouse.address(), runsignup.settings()).run(SENSOR_SECONDS)
            trouble = _describe_failures(done)
            done.clear()  # each tick reports what its own polls met
    for problem in trouble:
        context.log.warning(problem)
    with expected_errors_as_failures(), warehouse.connect("bib_changes") as conn:
        new = _report_new_bibs(context.instance, conn, context.log.warning)
    unread = f". {counted(len(trouble), 'race')} could not be read: {'; '.join(trouble[:20])}" if trouble else ""
    if not new:
        return dg.SensorResult(skip_reason=f"no new bib changes{unread}", cursor=context.cursor)
    words = describe_bibs(new)
    context.log.info(words)
    # The list of ticks shows the cursor, and calls a tick without runs "0 runs requested". Nothing reads it.
    at = format_time(dt.datetime.now(dt.UTC), installation.current().settings.timezone)
    return dg.SensorResult(skip_reason=words + unread, cursor=f"{at}: {words}")


def _report_new_bibs(instance: dg.DagsterInstance, conn: Connection, warn: Callable[[str], None]) -> list[bibs.NewBibs]:
    """Report new bibs and rebuild the start lists, some partners at a time, for REPORT_SECONDS. The rest is left to the next tick.

    They are marked as handled only after the report: a crash between the two reports them twice, never not at all.
    """
    until = time.monotonic() + REPORT_SECONDS
    reported: list[bibs.NewBibs] = []
    while time.monotonic() < until and (new := bibs.claim_new_bibs(conn)):
        for item in new:
            _report(instance, conn, item, "participants", _bib_metadata(item))
            # Lists that cannot be built do not stop the report. The partner's next sync builds them.
            if lists := _rebuild_lists(conn, item.partner_id, warn, anyway=True):
                _report(instance, conn, item, START_LISTS, lists)
        conn.commit()
        reported += new
        if len(new) < bibs.PARTNERS_AT_ONCE:
            break
    return reported


def describe_bibs(new: Sequence[bibs.NewBibs]) -> str:
    """Return how many bib changes were reported, of which partners."""
    total = sum(item.total for item in new)
    named = ", ".join(f"{item.key} {item.total}" for item in new[:MAX_NAMED_PARTNERS])
    return f"{counted(total, 'bib change')} of {counted(len(new), 'partner')} reported: {named}" + (
        ", ..." if len(new) > MAX_NAMED_PARTNERS else ""
    )


@dg.sensor(
    asset_selection=[dg.AssetKey("race_day_board")],
    minimum_interval_seconds=BOARD_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Refreshes the race-day board each minute while any race is on it, without a run.",
)
def race_day_board_refresh(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    settings = installation.current().settings
    with expected_errors_as_failures(), warehouse.connect("race_day_board_refresh") as conn:
        now = clocks.present(conn, settings.sync.max_clock_skew)
        rows = read_board(conn, now, settings)
    # Once more after the last race has left the board, so that it does not stay on it.
    was_empty = context.cursor == "empty"
    cursor = "filled" if rows else "empty"
    if not rows and was_empty:
        return dg.SensorResult(skip_reason="no race in its window or starting within 24 hours", cursor=cursor)
    blocked = sum(row.urgency is Urgency.BLOCKED for row in rows)
    words = f"{counted(len(rows), 'race')} on the board, {blocked} of them do not receive bibs"
    event = dg.AssetMaterialization("race_day_board", metadata=dict(board_metadata(rows, now, settings.timezone)))
    return dg.SensorResult(asset_events=[event], skip_reason=words, cursor=cursor)


@lru_cache(maxsize=1)
def _own_watch(url: str, settings: Settings) -> Watch:
    """Return the sensor's own watch of the whole fleet.

    It is kept from tick to tick, because it knows whose turn it is and what the last polls spent of the budget.
    """
    settings = replace(
        settings,
        api=replace(settings.api, attempts=1, total_timeout=min(settings.api.total_timeout, SENSOR_CALL_SECONDS)),
        watch=replace(settings.watch, shards=1),
    )
    secret_box = installation.current().secret_box
    return Watch(url, secret_box, settings, run_id="bib_changes", log=logging.getLogger(__name__).info)


def _rebuild_lists(
    conn: Connection, partner_id: int, warn: Callable[[str], None], *, anyway: bool
) -> run_metadata.Metadata | None:
    """Rebuild a partner's start lists in the caller's transaction unless they are current. `anyway` rebuilds them in any case.

    Return what is reported of them, or None.
    """
    now = dt.datetime.now(dt.UTC)
    if not anyway and start_list_store.is_current(conn, partner_id, now):
        return None
    built = start_list_store.try_rebuild(conn, partner_id, now)
    if isinstance(built, start_list_store.RebuildFailed):
        warn(f"partner {partner_id}: its start lists could not be built: {built.reason}")
        return None
    return run_metadata.start_lists_metadata(conn, partner_id, built, now)


def _report(
    instance: dg.DagsterInstance, conn: Connection, item: bibs.NewBibs, asset: str, metadata: run_metadata.Metadata
) -> None:
    """Report a partner's new bibs to one asset, without a run."""
    version = data_versions.read_version(conn, asset, item.partner_id)
    instance.report_runless_asset_event(data_versions.materialization(instance, asset, item.key, version, metadata))


def _bib_metadata(item: bibs.NewBibs) -> dict[str, dg.MetadataValue]:
    return {
        "bibs_assigned": dg.MetadataValue.int(item.assigned),
        "bibs_changed": dg.MetadataValue.int(item.changed),
        "bibs_cleared": dg.MetadataValue.int(item.cleared),
        "bib_changes": dg.MetadataValue.int(item.total),
        "slowest_seconds": dg.MetadataValue.float(round(item.slowest or 0.0, 1)),
    }
