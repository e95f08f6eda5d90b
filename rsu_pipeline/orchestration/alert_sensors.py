"""The sensors `alerts` and `alerts_stand_in`, which notify operators once per problem and again when it is resolved."""

import datetime as dt

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.alerts import alert_store, automation_rules, rules
from rsu_pipeline.alerts.evaluate import evaluate_alerts
from rsu_pipeline.display import counted
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.resources import WarehouseResource

EVALUATE_SECONDS = 30
"""How often alerts are evaluated. A problem is alerted within two minutes, most of which are the rules' own time limits."""


@dg.sensor(
    minimum_interval_seconds=EVALUATE_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Notifies operators once per problem and again when it is resolved, by the notifiers of RSU_ALERT_URLS. The"
    " table alerts records every alert, with or without notifiers.",
)
def alerts(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    return _evaluate(context, warehouse)


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Replaces the sensor alerts while that one is switched off, fails or does not tick, which is an alert of its"
    " own.",
)
def alerts_stand_in(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    with expected_errors_as_failures(), warehouse.connect("alerts_stand_in") as conn:
        now = dt.datetime.now(dt.UTC)
        is_stopped = any(problem.key == alerts.name for problem in automation_rules.find_stopped_automation(conn, now))
    if not is_stopped:
        return dg.SensorResult(skip_reason="the sensor alerts is working")
    return _evaluate(context, warehouse)


def _evaluate(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
    settings = installation.current().settings
    now = dt.datetime.now(dt.UTC)
    with (
        expected_errors_as_failures(),
        warehouse.connect("alerts") as conn,
        alert_store.lock_evaluation(conn) as is_mine,
    ):
        if not is_mine:
            return dg.SensorResult(skip_reason="another process evaluates alerts")
        problems = rules.find_problems(conn, settings, now)
        done = evaluate_alerts(conn, problems, settings.alerts, now, context.log.warning, zone=settings.timezone)
    if not settings.alerts.urls:
        words = f"{counted(done.wrong, 'open alert')}. Notifications are off (RSU_ALERT_URLS is not set)."
        return dg.SensorResult(skip_reason=words, cursor=words)
    alerts, messages = counted(done.wrong, "open alert"), counted(done.sent, "message")
    words = f"{alerts}, {done.notified} notified, {done.cleared} resolved, {messages} sent"
    if done.unsent:
        words += f", {done.unsent} not accepted by any notifier (sent again at the next tick)"
    if done.failing:
        words += f". Failed notifiers: {', '.join(sorted(done.failing))}"
    context.log.info(words)
    return dg.SensorResult(skip_reason=words, cursor=words)
