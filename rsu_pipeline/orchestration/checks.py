"""Asset checks, each named after the fact that it checks. They query the warehouse and report both sides."""

import datetime as dt
import warnings

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.display import format_time
from rsu_pipeline.orchestration.assets.participant_history import participant_history
from rsu_pipeline.orchestration.assets.start_list_asset import start_lists
from rsu_pipeline.orchestration.assets.synced_assets import participants
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.partitions import read_partition, timing_partner
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.run_config import NO_CONFIG
from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.warehouse import backfill_progress, backfill_state, credentials, cursors, reconciliation, schema_drift

SAMPLE = 20
NO_PARTNER = dg.AssetCheckResult(
    passed=True, description="The partition belongs to no partner. There is nothing to check."
)
"""The result for a partition that the sensor new_credentials is about to remove."""

# Partitioned checks are a preview in 1.13. Without this, every command that loads the definitions prints a warning.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning)


@dg.asset_check(asset=participants, partitions_def=timing_partner, config_schema=NO_CONFIG)
def equals_runsignup(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that each event stores what its last full read received: as many registrations, with the same content.

    Events with quarantined rows or removals pending confirmation are left out. `no_quarantined_rows` and an alert report those.
    """
    with expected_errors_as_failures(), warehouse.connect("equals_runsignup") as conn:
        partner = credentials.get_partner_by_key(conn, read_partition(context))
        if partner is None:
            return NO_PARTNER
        compared = reconciliation.read_reconciliations(conn, partner.partner_id)
    unequal = [item for item in compared if item.verdict == "unequal"]
    return dg.AssetCheckResult(
        passed=not unequal,
        metadata={
            "events_compared": len(compared),
            "rows_sent": sum(item.read_rows for item in compared),
            "rows_stored": sum(item.stored_rows for item in compared),
            "events_with_rows_held_back": sum(item.verdict == "explained" for item in compared),
            "events_unequal": len(unequal),
            "sample": dg.MetadataValue.json(
                [
                    {"event_id": item.event_id, "sent": item.read_rows, "stored": item.stored_rows}
                    for item in unequal[:SAMPLE]
                ]
            ),
        },
    )


@dg.asset_check(asset=participants, partitions_def=timing_partner, config_schema=NO_CONFIG)
def no_quarantined_rows(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that every registration was stored completely: none is quarantined, none has a field that did not parse."""
    with expected_errors_as_failures(), warehouse.connect("no_quarantined_rows") as conn:
        partner = credentials.get_partner_by_key(conn, read_partition(context))
        if partner is None:
            return NO_PARTNER
        held_back, with_faults, sample = cursors.summarize_quarantine(conn, partner.partner_id, SAMPLE)
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


@dg.asset_check(asset=participants, partitions_def=timing_partner, config_schema=NO_CONFIG)
def no_schema_drift(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that every field that was read within a week is known. A known field that changed its type is an error."""
    with expected_errors_as_failures(), warehouse.connect("no_schema_drift") as conn:
        partner = credentials.get_partner_by_key(conn, read_partition(context))
        if partner is None:
            return NO_PARTNER
        found = schema_drift.read_drift(conn, partner.partner_id, recent=True)
    changed = sum(one.is_error for one in found)
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR if changed else dg.AssetCheckSeverity.WARN,
        metadata={
            "fields_unknown": len(found) - changed,
            "fields_changed": changed,
            "sample": dg.MetadataValue.json(
                [
                    {
                        "field": one.field,
                        "kind": one.kind,
                        "registrations": one.occurrences,
                        "first_seen_at": one.first_seen_at.isoformat(),
                        "last_seen_at": one.last_seen_at.isoformat(),
                    }
                    for one in found[:SAMPLE]
                ]
            ),
        },
    )


@dg.asset_check(asset=participant_history, partitions_def=timing_partner, config_schema=NO_CONFIG)
def history_complete(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that every requested past event is stored, or that RunSignup has nothing to return for it, and that no race fails."""
    with expected_errors_as_failures(), warehouse.connect("history_complete") as conn:
        partner = credentials.get_partner_by_key(conn, read_partition(context))
        if partner is None:
            return NO_PARTNER
        progress = backfill_progress.read_progress(conn, partner.partner_id, dt.datetime.now(dt.UTC))
        failing = backfill_state.list_failing_races(conn, partner.partner_id)
    if progress is None:
        return dg.AssetCheckResult(passed=True, metadata={"past_events": 0}, description="No backfill was requested.")
    return dg.AssetCheckResult(
        passed=progress.is_complete or progress.cancelled_at is not None,
        severity=dg.AssetCheckSeverity.ERROR if failing else dg.AssetCheckSeverity.WARN,
        description=f"Cancelled at {format_time(progress.cancelled_at, installation.current().settings.timezone)}."
        if progress.cancelled_at
        else None,
        metadata={
            "past_events": progress.events,
            "events_settled": progress.settled,
            "events_unavailable": progress.unavailable,
            "events_unconfirmed": progress.unconfirmed,
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


@dg.asset_check(asset=start_lists, partitions_def=timing_partner, config_schema=NO_CONFIG)
def no_duplicate_bibs(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that no two entrants of an event share a bib, nor two people in different events of a race on one day.

    The check is an error if one of the events starts within 24 hours.
    """
    with expected_errors_as_failures(), warehouse.connect("no_duplicate_bibs") as conn:
        partner = credentials.get_partner_by_key(conn, read_partition(context))
        if partner is None:
            return NO_PARTNER
        found = start_list_store.read_start_lists(conn, partner.partner_id, dt.datetime.now(dt.UTC))
        wrong = start_list_store.read_problems(
            conn, partner.partner_id, SAMPLE, only=("duplicate_bib", "bib_in_other_event")
        )
    unequal = [item for item in found if item.duplicate_bibs or item.bibs_in_other_events]
    return dg.AssetCheckResult(
        passed=not unequal,
        severity=dg.AssetCheckSeverity.ERROR if any(item.near for item in unequal) else dg.AssetCheckSeverity.WARN,
        metadata={
            "entrants_with_bib": sum(item.with_bib for item in found),
            "duplicate_bibs": sum(item.duplicate_bibs for item in found),
            "bibs_in_other_events": sum(item.bibs_in_other_events for item in found),
            "events": len(found),
            "events_with_duplicates": len(unequal),
            "sample": dg.MetadataValue.json([vars(item) for item in wrong]),
        },
    )


@dg.asset_check(asset=start_lists, partitions_def=timing_partner, config_schema=NO_CONFIG)
def every_entrant_has_a_bib(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
) -> dg.AssetCheckResult:
    """Check that every entrant of the events that start within 24 hours has a bib."""
    with expected_errors_as_failures(), warehouse.connect("every_entrant_has_a_bib") as conn:
        partner = credentials.get_partner_by_key(conn, read_partition(context))
        if partner is None:
            return NO_PARTNER
        near = [
            item
            for item in start_list_store.read_start_lists(conn, partner.partner_id, dt.datetime.now(dt.UTC))
            if item.near
        ]
        wrong = start_list_store.read_problems(
            conn, partner.partner_id, SAMPLE, only=("no_bib",), events=[item.event_id for item in near]
        )
    return dg.AssetCheckResult(
        passed=not any(item.without_bib for item in near),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "entrants": sum(item.entrants for item in near),
            "entrants_with_bib": sum(item.with_bib for item in near),
            "entrants_without_bib": sum(item.without_bib for item in near),
            "events": len(near),
            "sample": dg.MetadataValue.json([vars(item) for item in wrong]),
        },
    )
