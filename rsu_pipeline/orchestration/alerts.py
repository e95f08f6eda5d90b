"""The sensors `alerts` and `alerts_stand_in`: whoever must act is notified once of each problem, and once when it is over."""

import datetime as dt

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.alerts import automation, causes
from rsu_pipeline.alerts.look import look
from rsu_pipeline.orchestration.failures import plain_failures
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.warehouse import alerts as kept

EVALUATE_SECONDS = 30
"""How often alerts are evaluated: a problem is alerted within two minutes, of which the rules take most."""


@dg.sensor(
    minimum_interval_seconds=EVALUATE_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells whoever must act, once for each cause and once when it is over, by the notifiers of RSU_ALERT_URLS."
    " What is wrong stands in table alerts, whether anybody is told or not.",
)
def alerts(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    return _look(context, warehouse)


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Does the work of the sensor alerts while that one is switched off, fails or does not tick, which is an alert"
    " of its own.",
)
def alerts_stand_in(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    with plain_failures(), warehouse.connect("alerts_stand_in") as conn:
        now = dt.datetime.now(dt.UTC)
        is_stopped = any(problem.key == alerts.name for problem in automation.find(conn, now))
    if not is_stopped:
        return dg.SensorResult(skip_reason="the sensor alerts is at work")
    return _look(context, warehouse)


def _look(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    settings = installation.current().settings
    now = dt.datetime.now(dt.UTC)
    with plain_failures(), warehouse.connect("alerts") as conn, kept.evaluation(conn) as is_mine:
        if not is_mine:
            return dg.SensorResult(skip_reason="another process evaluates alerts")
        problems = causes.find(conn, settings, now)
        done = look(conn, problems, settings.alerts, now, context.log.warning)
    if not settings.alerts.urls:
        return dg.SensorResult(skip_reason=f"{done.wrong} causes open; nobody is told: RSU_ALERT_URLS is not set")
    words = f"{done.wrong} causes open, {done.told} told, {done.cleared} told to be over, {done.sent} messages"
    if done.unsent:
        words += f", {done.unsent} that no notifier took and that are sent again"
    if done.failing:
        words += f"; notifiers that failed: {', '.join(sorted(done.failing))}"
    context.log.info(words)
    return dg.SensorResult(skip_reason=words)
