"""The assets of a sync: the partner's races and events, the plan, the registrations. Fetch, store, report."""

import dagster as dg
from pydantic import Field

from rsu_pipeline.orchestration import run_metadata
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.partitions import timing_partner
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.orchestration.run_config import NO_CONFIG, Number, fields_of, read_config
from rsu_pipeline.orchestration.table_metadata import OPERATORS, table_metadata
from rsu_pipeline.start_lists.start_list_store import RebuildFailed
from rsu_pipeline.sync import listing, partner_sync, start_list_rebuild
from rsu_pipeline.sync.session import PartnerSession

KINDS = {"python", "postgres"}
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


@dg.asset(
    partitions_def=timing_partner,
    group_name="runsignup",
    kinds=KINDS,
    owners=[OPERATORS],
    tags={"lane": "routine"},
    metadata=table_metadata("runsignup_events"),
    config_schema=NO_CONFIG,
)
def partner_events(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, runsignup: RunSignupResource
) -> dg.MaterializeResult[None]:
    """Store a partner's races and events as RunSignup lists them now.

    One partition is one timing partner. Rows are in `runsignup_races` and `runsignup_events`, and `partner_races` records
    which partner has access to which race.
    """
    with expected_errors_as_failures(), runsignup.partner_session_of_run(warehouse, context) as session:
        outcome = listing.refresh_events(session, show_end=True)
        return dg.MaterializeResult(metadata=run_metadata.events_metadata(outcome, session.ledger.left()))


@dg.asset(
    partitions_def=timing_partner,
    group_name="runsignup",
    kinds=KINDS,
    owners=[OPERATORS],
    deps=[partner_events],
    tags={"lane": "routine"},
    metadata=table_metadata("future_events"),
    config_schema=NO_CONFIG,
)
def future_events(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, runsignup: RunSignupResource
) -> dg.MaterializeResult[None]:
    """Store the upcoming-event filter: a partner's events that still need syncing.

    One row of the table `future_events` is an event that is not over, with its tier, the mode of its next read (full or
    incremental) and the reason. It makes no call to RunSignup.
    """
    with expected_errors_as_failures(), runsignup.partner_session_of_run(warehouse, context) as session:
        plan = partner_sync.make_plan(session)
        return dg.MaterializeResult(metadata=run_metadata.plan_metadata(plan))


@dg.asset(
    partitions_def=timing_partner,
    group_name="runsignup",
    kinds=KINDS,
    owners=[OPERATORS],
    deps=[future_events],
    tags={"lane": "routine"},
    metadata=table_metadata("runsignup_participants"),
    config_schema=fields_of(SyncConfig),
)
def participants(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    runsignup: RunSignupResource,
) -> dg.MaterializeResult[None]:
    """Store the registrations of a partner's upcoming events, kept equal to RunSignup.

    One row of `runsignup_participants` is a registration, active or removed with its reason. Bibs that are set, changed or
    cleared after an event's first load are rows of `runsignup_bib_changes`. Races that fail are reported after the others
    are stored.
    """
    config = read_config(SyncConfig, context.op_execution_context.op_config)
    with (
        expected_errors_as_failures(),
        runsignup.partner_session_of_run(warehouse, context) as session,
        start_list_rebuild.start_lists_rebuilt_on_failure(session),
    ):
        plan = partner_sync.make_plan(
            session,
            incremental_days=config.incremental_days,
            force_full=config.force_full_sync,
            race_ids=config.race_ids,
        )
        outcome = partner_sync.sync_participants(session, plan, confirm_removals=config.confirm_removals)
        metadata = run_metadata.sync_metadata(plan, outcome, session.ledger.left())
        trouble = run_metadata.describe_failures(outcome)
        # The asset start_lists rebuilds them, unless it is skipped because this one fails, or is no part of the run.
        if trouble or not _will_run(context, START_LISTS):
            trouble = "; ".join(filter(None, (trouble, rebuild_lists(context, session))))
    if trouble:
        raise dg.Failure(trouble, metadata=metadata, allow_retries=False)
    return dg.MaterializeResult(metadata=metadata)


def _will_run(context: dg.AssetExecutionContext, asset: str) -> bool:
    """Return whether the run has a step of this asset. The step has the asset's name."""
    steps, assets = context.run.step_keys_to_execute, context.run.asset_selection
    return (steps is None or asset in steps) and (not assets or dg.AssetKey(asset) in assets)


def rebuild_lists(context: dg.AssetExecutionContext, session: PartnerSession) -> str:
    """Rebuild the partner's start lists and report them to their asset. Return the reason if that failed, for the run's failure."""
    built = start_list_rebuild.rebuild_start_lists(session)
    if isinstance(built, RebuildFailed):
        return f"its start lists could not be built: {built.reason}"
    if built is not None:
        metadata = run_metadata.start_lists_metadata(session.conn, session.partner_id, built, session.now())
        context.log_event(dg.AssetMaterialization(START_LISTS, partition=session.key, metadata=dict(metadata)))
    return ""
