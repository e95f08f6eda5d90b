"""The assets of a sync: the partner's races and events, the plan, the registrations. Fetch, store, report."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field

from rsu_pipeline.orchestration import data_versions, run_metadata
from rsu_pipeline.orchestration.data_versions import CODE_VERSIONS
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.partitions import is_of_one_partner, read_partitions, timing_partner
from rsu_pipeline.orchestration.partner_runs import BACKFILL_POLICY, Reports, materialize_several, note_skipped
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.orchestration.run_config import NO_CONFIG, Number, fields_of, read_config
from rsu_pipeline.orchestration.table_metadata import OPERATORS, table_metadata
from rsu_pipeline.start_lists.start_list_store import RebuildFailed
from rsu_pipeline.sync import listing, partner_sync, start_list_rebuild
from rsu_pipeline.sync.read_plan import Plan
from rsu_pipeline.sync.session import PartnerSession

KINDS = {"python", "postgres"}
RUNSIGNUP = "runsignup"
"""Name of the external asset at the head of the lineage."""
SYNCED = ("partner_events", "future_events", "participants")
"""The assets of a sync, in the order of the lineage. Start lists follow."""
START_LISTS = "start_lists"
"""Name of the asset that follows `participants`."""


class SyncConfig(dg.Config):
    """What an operator may request of one sync."""

    force_full_sync: bool = Field(default=False, description="Read every future event in full, regardless of the plan.")
    incremental_days: float | None = Field(
        default=None,
        ge=0,
        le=3650,
        description="Days after which an event is read in full again. Empty: RSU_INCREMENTAL_DAYS (7).",
    )
    race_ids: list[Number] = Field(default=[], description="Only these races of the partner. Empty: all.")
    confirm_removals: bool = Field(
        default=False,
        description="Confirm removals that are pending because a large share of the registrations is gone.",
    )


runsignup_api = dg.AssetSpec(
    RUNSIGNUP,
    group_name="runsignup",
    kinds={"api"},
    owners=[OPERATORS],
    description="RunSignup: the races, events and registrations that each timing partner's credential has access to. The hub"
    " reads them over RunSignup's API and never writes there.",
)


@dg.asset(
    partitions_def=timing_partner,
    group_name="runsignup",
    kinds=KINDS,
    owners=[OPERATORS],
    deps=[runsignup_api],
    code_version=CODE_VERSIONS["partner_events"],
    backfill_policy=BACKFILL_POLICY,
    output_required=False,
    tags={"lane": "routine"},
    metadata=table_metadata("runsignup_events"),
    config_schema=NO_CONFIG,
)
def partner_events(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, runsignup: RunSignupResource
) -> Iterator[dg.MaterializeResult[None]]:
    """Store a partner's races and events as RunSignup lists them now.

    One partition is one timing partner. Rows are in `runsignup_races` and `runsignup_events`, and `partner_races` records
    which partner has access to which race.
    """
    if not is_of_one_partner(context):
        sync_several(context, warehouse, runsignup, SyncConfig())
    elif note := note_skipped(context, warehouse, context.partition_key):
        yield note
    else:
        with expected_errors_as_failures(), runsignup.partner_session_of_run(warehouse, context) as session:
            outcome = listing.refresh_events(session, show_end=True)
            version = data_versions.read_version(session.conn, "partner_events", session.partner_id)
            metadata = run_metadata.events_metadata(outcome, session.ledger.left())
            yield dg.MaterializeResult(metadata=metadata, data_version=version)


@dg.asset(
    partitions_def=timing_partner,
    group_name="runsignup",
    kinds=KINDS,
    owners=[OPERATORS],
    deps=[partner_events],
    code_version=CODE_VERSIONS["future_events"],
    backfill_policy=BACKFILL_POLICY,
    output_required=False,
    tags={"lane": "routine"},
    metadata=table_metadata("future_events"),
    config_schema=NO_CONFIG,
)
def future_events(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, runsignup: RunSignupResource
) -> Iterator[dg.MaterializeResult[None]]:
    """Store the upcoming-event filter: a partner's events that still need syncing.

    One row of the table `future_events` is an event that is not over, with its tier, the mode of its next read (full or
    incremental) and the reason. It makes no call to RunSignup. `full_reads` and `incremental_reads` are the reads that the run
    makes next, as its configuration of `participants` requests them.
    """
    if not is_of_one_partner(context):
        sync_several(context, warehouse, runsignup, SyncConfig())
    elif note := note_skipped(context, warehouse, context.partition_key):
        yield note
    else:
        with expected_errors_as_failures(), runsignup.partner_session_of_run(warehouse, context) as session:
            plan = _make_plan(session, _requested_sync(context.run.run_config))
            version = data_versions.read_version(session.conn, "future_events", session.partner_id)
            yield dg.MaterializeResult(metadata=run_metadata.plan_metadata(plan, plan.reads), data_version=version)


def _requested_sync(run_config: Any) -> SyncConfig:
    """Return what the run requests of `participants`, for the assets before it. Nothing, if the run configures none."""
    config: Any = run_config
    for name in ("ops", "participants", "config"):
        config = config.get(name) if isinstance(config, Mapping) else None
    return read_config(SyncConfig, config or {})


def _make_plan(session: PartnerSession, config: SyncConfig) -> Plan:
    return partner_sync.make_plan(
        session,
        incremental_days=config.incremental_days,
        force_full=config.force_full_sync,
        race_ids=config.race_ids,
    )


@dg.asset(
    partitions_def=timing_partner,
    group_name="runsignup",
    kinds=KINDS,
    owners=[OPERATORS],
    deps=[future_events],
    code_version=CODE_VERSIONS["participants"],
    backfill_policy=BACKFILL_POLICY,
    output_required=False,
    tags={"lane": "routine"},
    metadata=table_metadata("runsignup_participants"),
    config_schema=fields_of(SyncConfig),
)
def participants(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    runsignup: RunSignupResource,
) -> Iterator[dg.MaterializeResult[None]]:
    """Store the registrations of a partner's upcoming events, kept equal to RunSignup.

    One row of `runsignup_participants` is a registration, active or removed with its reason. Bibs that are set, changed or
    cleared after an event's first load are rows of `runsignup_bib_changes`. Races that fail are reported after the others
    are stored.
    """
    config = read_config(SyncConfig, context.op_execution_context.op_config)
    if not is_of_one_partner(context):
        sync_several(context, warehouse, runsignup, config)
        return
    if note := note_skipped(context, warehouse, context.partition_key):
        yield note
        return
    with (
        expected_errors_as_failures(),
        runsignup.partner_session_of_run(warehouse, context) as session,
        start_list_rebuild.start_lists_rebuilt_on_failure(session),
    ):
        plan = _make_plan(session, config)
        outcome = partner_sync.sync_participants(session, plan, confirm_removals=config.confirm_removals)
        metadata = run_metadata.sync_metadata(plan, outcome, session.ledger.left())
        # The asset start_lists rebuilds them, unless it is skipped because this one fails, or is no part of the run.
        if trouble := run_metadata.describe_failures(outcome):
            not_built = rebuild_lists(context, session)
            raise dg.Failure("; ".join(filter(None, (trouble, not_built))), metadata=metadata, allow_retries=False)
        version = data_versions.read_version(session.conn, "participants", session.partner_id)
        yield dg.MaterializeResult(metadata=metadata, data_version=version)
        # After the result, so that the lists are based on it.
        if not _will_run(context, START_LISTS) and (not_built := rebuild_lists(context, session, anyway=True)):
            raise dg.Failure(not_built, metadata=metadata, allow_retries=False)


def sync_several(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, runsignup: RunSignupResource, config: SyncConfig
) -> None:
    """Sync the partners of a run with several partitions, as far as its assets go. See `partner_runs`."""
    assets = [asset for asset in (*SYNCED, START_LISTS) if _will_run(context, asset)]
    if "participants" in assets:
        config = _requested_sync(context.run.run_config)

    def work(key: str) -> Reports:
        with (
            runsignup.partner_session_of_several(warehouse, context, key) as session,
            start_list_rebuild.start_lists_rebuilt_on_failure(session),
        ):
            return _sync_for_reports(session, assets, config)

    materialize_several(context, warehouse, read_partitions(context), assets, work)


def _sync_for_reports(session: PartnerSession, assets: Sequence[str], config: SyncConfig) -> Reports:
    """Do a partner's part of such a run, asset by asset."""
    reports = Reports()

    report = partial(reports.add, session)
    if "partner_events" in assets:
        listed = listing.refresh_events(session, show_end=True)
        report("partner_events", run_metadata.events_metadata(listed, session.ledger.left()))
    plan = _make_plan(session, config) if {"future_events", "participants"} & set(assets) else Plan()
    if "future_events" in assets:
        report("future_events", run_metadata.plan_metadata(plan, plan.reads))
    if "participants" in assets:
        outcome = partner_sync.sync_participants(session, plan, confirm_removals=config.confirm_removals)
        reports.failure = run_metadata.describe_failures(outcome)
        if not reports.failure:
            report("participants", run_metadata.sync_metadata(plan, outcome, session.ledger.left()))
    if {"participants", START_LISTS} & set(assets):
        built = start_list_rebuild.rebuild_start_lists(session, anyway=True)
        if isinstance(built, RebuildFailed):
            not_built = f"its start lists could not be built: {built.reason}"
            reports.failure = "; ".join(filter(None, (reports.failure, not_built)))
        elif built is not None:
            report(
                START_LISTS, run_metadata.start_lists_metadata(session.conn, session.partner_id, built, session.now())
            )
    return reports


def _will_run(context: dg.AssetExecutionContext, asset: str) -> bool:
    """Return whether the run has a step of this asset. The step has the asset's name."""
    steps, assets = context.run.step_keys_to_execute, context.run.asset_selection
    return (steps is None or asset in steps) and (not assets or dg.AssetKey(asset) in assets)


def rebuild_lists(context: dg.AssetExecutionContext, session: PartnerSession, *, anyway: bool = False) -> str:
    """Rebuild the partner's start lists and report them to their asset. Return the reason if that failed, for the run's failure.

    Lists that are current are left unchanged, and not reported, unless `anyway`.
    """
    built = start_list_rebuild.rebuild_start_lists(session, anyway=anyway)
    if isinstance(built, RebuildFailed):
        return f"its start lists could not be built: {built.reason}"
    if built is not None:
        metadata = run_metadata.start_lists_metadata(session.conn, session.partner_id, built, session.now())
        version = data_versions.read_version(session.conn, START_LISTS, session.partner_id)
        session.conn.rollback()
        context.log_event(data_versions.materialization(context.instance, START_LISTS, session.key, version, metadata))
    return ""
