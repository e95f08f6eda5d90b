"""Everything Dagster loads, assembled in one place."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from rsu_pipeline.orchestration import (
    alerts,
    batch,
    checks,
    fixed,
    fleet_checks,
    jobs,
    race_day,
    retention,
    schedules,
    sensors,
)
from rsu_pipeline.orchestration.assets import fleet, history, report, start_lists, sync
from rsu_pipeline.orchestration.assets import race_day as race_day_assets
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource


def build_definitions(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return the definitions, with `resources` in place of the usual ones."""
    return dg.Definitions(
        assets=[
            sync.partner_events,
            sync.future_events,
            sync.participants,
            start_lists.start_lists,
            history.participant_history,
            report.registration_report,
            fleet.fleet_health,
            race_day_assets.race_day_board,
        ],
        asset_checks=[
            checks.equals_runsignup,
            checks.no_quarantined_rows,
            checks.no_duplicate_bibs,
            checks.every_entrant_has_a_bib,
            checks.history_complete,
            *fleet_checks.FLEET_CHECKS,
        ],
        jobs=[
            jobs.sync_partner,
            jobs.backfill_history,
            batch.sync_batch,
            race_day.watch,
            fleet_checks.check_fleet,
            retention.retention,
        ],
        schedules=[schedules.race_proximity, schedules.nightly, fleet_checks.fleet_check, retention.nightly_retention],
        sensors=[
            sensors.new_credentials,
            sensors.history,
            race_day.race_day,
            race_day.bib_changes,
            race_day.race_day_board_refresh,
            alerts.alerts,
            alerts.alerts_stand_in,
        ],
        resources={
            "warehouse": WarehouseResource(),
            "runsignup": RunSignupResource(),
            "io_manager": fixed.NoStoredValues(),
            **(resources or {}),
        },
        executor=fixed.EXECUTOR,
        loggers=fixed.LOGGERS,
    )


defs = build_definitions()
