"""What keeps the reports current: the automation condition of `registration_report`, and the sensor of `fleet_health`."""

import warnings

import dagster as dg
from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts import alert_store
from rsu_pipeline.display import counted
from rsu_pipeline.orchestration.assets.registration_report import registration_report
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.fleet_checks import check_fleet
from rsu_pipeline.orchestration.lanes import LANE_TAG
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.run_tags import REPORTS_SENSOR
from rsu_pipeline.warehouse import sync_log

warnings.filterwarnings("ignore", "Parameter `use_user_code_server`", dg.BetaWarning)

REFRESH_SECONDS = 60
REPORTS_SECONDS = 120
"""An evaluation takes 0.4 s of processor time for 100 partners."""

registration_reports = dg.AutomationConditionSensorDefinition(
    REPORTS_SENSOR,
    target=dg.AssetSelection.assets(registration_report),
    minimum_interval_seconds=REPORTS_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    # Evaluated where the other sensors are, so that the daemon needs no thread of its own for it.
    use_user_code_server=True,
    # Reports are less urgent than syncs, and take none of their places.
    run_tags={LANE_TAG: "backfill"},
    description="Requests the registration report of each partner whose registrations changed, at most once an hour.",
)


@dg.sensor(
    job=check_fleet,
    minimum_interval_seconds=REFRESH_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Evaluates the health of the fleet when a partner's first sync ends, and when an alert opens or is resolved.",
)
def fleet_health_refresh(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    with expected_errors_as_failures(), warehouse.connect("fleet_health_refresh") as conn:
        state = read_fleet_state(conn)
    # Before the first sync has ended there is nothing to evaluate.
    if state == context.cursor or state.startswith("0 "):
        return dg.SensorResult(skip_reason=f"unchanged: {state}", cursor=state)
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"fleet: {state}")], cursor=state)


def read_fleet_state(conn: Connection) -> str:
    """Return what the sensor compares: how many partners were ever synced, and when an alert last opened or was resolved."""
    synced = sync_log.count_synced_partners(conn)
    changed_at = alert_store.read_last_change(conn)
    return f"{counted(synced, 'partner')} synced, alerts as of {changed_at.isoformat() if changed_at else 'never'}"
