"""Everything Dagster loads, assembled in one place."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import dagster as dg

from rsu_pipeline.orchestration import (
    alert_sensors,
    backup_job,
    batch,
    checks,
    fleet_checks,
    jobs,
    race_day_sensors,
    report_automation,
    retention_job,
    run_defaults,
    schedules,
    sensors,
)
from rsu_pipeline.orchestration.assets import (
    fleet_health,
    participant_history,
    race_day_board_asset,
    registration_report,
    start_list_asset,
    synced_assets,
)
from rsu_pipeline.orchestration.figures import explain_figures
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.settings import load_settings

ASSETS = (
    synced_assets.partner_events,
    synced_assets.future_events,
    synced_assets.participants,
    start_list_asset.start_lists,
    participant_history.participant_history,
    registration_report.registration_report,
    fleet_health.fleet_health,
    race_day_board_asset.race_day_board,
)


def build_definitions(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return the definitions, with `resources` in place of the usual ones.

    Raises:
        SettingsError: a setting cannot be used.
    """
    settings = load_settings()
    return dg.Definitions(
        assets=[
            synced_assets.runsignup_api,
            *(explain_figures(asset) for asset in ASSETS),
        ],
        asset_checks=[
            checks.equals_runsignup,
            checks.no_quarantined_rows,
            checks.no_schema_drift,
            checks.no_duplicate_bibs,
            checks.every_entrant_has_a_bib,
            checks.history_complete,
            *fleet_checks.FLEET_CHECKS,
        ],
        jobs=[
            jobs.sync_partner,
            jobs.backfill_history,
            batch.sync_batch,
            race_day_sensors.watch,
            fleet_checks.check_fleet,
            retention_job.retention,
            backup_job.backup,
        ],
        schedules=[
            schedules.race_proximity,
            schedules.build_nightly(settings.timezone.key),
            fleet_checks.fleet_check,
            retention_job.build_nightly_retention(settings.timezone.key),
            backup_job.build_nightly_backup(settings.timezone.key),
        ],
        sensors=[
            sensors.new_credentials,
            sensors.history,
            race_day_sensors.race_day,
            race_day_sensors.build_bib_changes(settings.watch.bib_poll),
            race_day_sensors.race_day_board_refresh,
            alert_sensors.alerts,
            alert_sensors.alerts_stand_in,
            report_automation.registration_reports,
            report_automation.fleet_health_refresh,
        ],
        resources={
            "warehouse": WarehouseResource(),
            "runsignup": RunSignupResource(),
            "io_manager": run_defaults.NoStoredValues(),
            **(resources or {}),
        },
        executor=run_defaults.EXECUTOR,
        loggers=run_defaults.LOGGERS,
    )


@cache
def load_definitions() -> dg.Definitions:
    """Return the definitions of this process.

    Raises:
        SettingsError: a setting cannot be used.
    """
    return build_definitions()


@dg.definitions
def defs() -> dg.Definitions:
    """Load the definitions. Dagster calls this, so that an import of this module reads no setting."""
    return load_definitions()
