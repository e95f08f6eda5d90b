"""What is to be told now: pure, from what was told before and what is wrong."""

import datetime as dt
from collections.abc import Sequence

from rsu_pipeline.warehouse.alerts import Alert, Problem

REMIND_AFTER = dt.timedelta(hours=24)
LOOKS_UNTIL_CLEARED = 2
"""Looks in a row that must not see a cause before it is over: one that comes and goes is told once."""


def plan(
    open_alerts: Sequence[Alert], problems: Sequence[Problem], now: dt.datetime
) -> tuple[list[Problem], list[Alert]]:
    """What to tell of, and what is over. Told is a cause that nobody was told of, or a day ago for the last time; over
    one that this look and the one before did not see, and one whose end could not be told so far."""
    known = {alert.cause: alert for alert in open_alerts if alert.cleared_at is None}
    seen = {problem.cause: problem for problem in problems}
    to_tell = [problem for cause, problem in seen.items() if _is_due(known.get(cause), now)]
    over = [
        alert for cause, alert in known.items() if cause not in seen and alert.looks_missed + 1 >= LOOKS_UNTIL_CLEARED
    ]
    owed = [alert for alert in open_alerts if alert.cleared_at is not None and alert.owes_clear]
    return to_tell, [*owed, *over]


def _is_due(alert: Alert | None, now: dt.datetime) -> bool:
    return alert is None or alert.told_at is None or now - alert.told_at >= REMIND_AFTER
