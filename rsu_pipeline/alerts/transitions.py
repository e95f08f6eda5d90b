"""Decide what to notify of now. Pure: from the open alerts and the problems found."""

import datetime as dt
from collections.abc import Sequence

from rsu_pipeline.alerts.alert_store import Alert, Problem

REMIND_AFTER = dt.timedelta(hours=24)
EVALUATIONS_UNTIL_RESOLVED = 2
"""Evaluations in a row that must not find a problem before it is resolved, so that a flapping problem is one alert."""


def plan_notifications(
    open_alerts: Sequence[Alert], problems: Sequence[Problem], now: dt.datetime
) -> tuple[list[Problem], list[Alert]]:
    """Return the problems to notify of, and the alerts that are resolved.

    Due is a problem without a notification, or with the last one a day ago. Resolved is an alert whose problem neither this
    evaluation nor the one before found, and one whose end could not be sent so far.
    """
    known = {alert.cause: alert for alert in open_alerts if alert.cleared_at is None}
    seen = {problem.cause: problem for problem in problems}
    to_tell = [problem for cause, problem in seen.items() if _is_due(known.get(cause), now)]
    over = [
        alert
        for cause, alert in known.items()
        if cause not in seen and alert.looks_missed + 1 >= EVALUATIONS_UNTIL_RESOLVED
    ]
    owed = [alert for alert in open_alerts if alert.cleared_at is not None and alert.owes_resolution_notice]
    return to_tell, [*owed, *over]


def _is_due(alert: Alert | None, now: dt.datetime) -> bool:
    return alert is None or alert.told_at is None or now - alert.told_at >= REMIND_AFTER
