"""Asset checks, each named as a fact that should hold; they ask the warehouse and report both sides."""

import datetime as dt
import warnings

import dagster as dg

from rsu_pipeline.orchestration.assets.history import participant_history
from rsu_pipeline.orchestration.assets.sync import participants
from rsu_pipeline.orchestration.failures import plain_failures
from rsu_pipeline.orchestration.partitions import timing_partner
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.warehouse import backfill, credentials, cursors, proof

SAMPLE = 20

# Partitioned checks are a preview in 1.13; every command that loads the definitions would say so.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning)


@dg.asset_check(asset=participants, partitions_def=timing_partner)
def equals_runsignup(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """What the last full read of each future event was sent is what is stored: as many rows, of the same content."""
    with plain_failures(), warehouse.connect("equals_runsignup") as conn:
        partner = credentials.partner(conn, context.partition_key)
        compared = proof.proofs(conn, partner.partner_id)
    unequal = [item for item in compared if not item.is_equal]
    return dg.AssetCheckResult(
        passed=not unequal,
        metadata={
            "events_compared": len(compared),
            "rows_sent": sum(item.read_rows for item in compared),
            "rows_stored": sum(item.stored_rows for item in compared),
            "events_unequal": len(unequal),
            "sample": dg.MetadataValue.json(
                [
                    {"event_id": item.event_id, "sent": item.read_rows, "stored": item.stored_rows}
                    for item in unequal[:SAMPLE]
                ]
            ),
        },
    )


@dg.asset_check(asset=participants, partitions_def=timing_partner)
def no_quarantined_rows(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Every registration came through whole: none is held back, none has a member that did not fit."""
    with plain_failures(), warehouse.connect("no_quarantined_rows") as conn:
        partner = credentials.partner(conn, context.partition_key)
        held_back, with_faults, sample = cursors.quarantine_summary(conn, partner.partner_id, SAMPLE)
    return dg.AssetCheckResult(
        passed=held_back + with_faults == 0,
        severity=dg.AssetCheckSeverity.ERROR if held_back else dg.AssetCheckSeverity.WARN,
        metadata={
            "rows_held_back": held_back,
            "rows_with_faults": with_faults,
            "sample": dg.MetadataValue.json(
                [{"registration_id": number, "reason": reason} for number, reason in sample]
            ),
        },
    )


@dg.asset_check(asset=participant_history, partitions_def=timing_partner)
def history_complete(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Every past event that was asked for is stored, or RunSignup has nothing to give of it; no race fails."""
    with plain_failures(), warehouse.connect("history_complete") as conn:
        partner = credentials.partner(conn, context.partition_key)
        progress = backfill.progress(conn, partner.partner_id, dt.datetime.now(dt.UTC))
        failing = backfill.failing(conn, partner.partner_id)
    if progress is None:
        return dg.AssetCheckResult(passed=True, metadata={"past_events": 0}, description="No history was asked for.")
    return dg.AssetCheckResult(
        passed=progress.is_complete,
        severity=dg.AssetCheckSeverity.ERROR if failing else dg.AssetCheckSeverity.WARN,
        metadata={
            "past_events": progress.events,
            "events_settled": progress.loaded + progress.empty + progress.unavailable,
            "events_unavailable": progress.unavailable,
            "races": progress.races,
            "races_done": progress.races_done,
            "races_failing": len(failing),
            "sample": dg.MetadataValue.json(
                [
                    {"race_id": race_id, "error": error, "retry_at": retry_at.isoformat()}
                    for race_id, error, retry_at in failing[:SAMPLE]
                ]
            ),
        },
    )
