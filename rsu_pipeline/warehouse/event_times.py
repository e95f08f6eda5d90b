"""When an event is upcoming, in its window, over, or due for a closing read: one declaration, as constants and as SQL.

`sync.cadence` decides the same in Python from the same constants, and a test compares both. `e` is a row of
runsignup_events, `k` the partner's row of event_cursors for it, `%(now)s` the present.

`ends_at` is set whenever `starts_at` is: RunSignup's end, or an assumed one (see sync.race_rows).
"""

import datetime as dt

POST_EVENT_GRACE = dt.timedelta(hours=1)
"""How long after its end an event is still synced, for late bibs and corrections."""
CORRECTIONS_AFTER = dt.timedelta(hours=24)
"""How long after it was over an event is read in full once more, for corrections."""
CLOSING_READ_WITHIN = dt.timedelta(days=365)
"""How long an event stays due for its closing reads. RunSignup's terms limit requests to one year back."""
FIRST_READ_WITHIN = dt.timedelta(days=7)
"""How long after it was over an event that was never read is still read without a backfill.

It covers an event that was added while the hub was down.
"""
WINDOW_BEFORE = dt.timedelta(hours=4)
"""How long before its start an event enters its window, in which the watch polls it."""
DAY_BEFORE = dt.timedelta(hours=24)
MAX_WATCHED = dt.timedelta(days=3)
"""Longest event that is watched throughout. A longer one is a virtual event, open for weeks.

Such an event is watched on its first day, then read like one that starts within the day.
"""

AHEAD_TOLERANCE = dt.timedelta(minutes=5)
"""A stamp later than the present by more than this was written by a wrong clock. It never counts as recent."""


def _interval(span: dt.timedelta) -> str:
    return f"interval '{span.total_seconds():.0f} seconds'"


ENDS_AT = "greatest(e.starts_at, e.ends_at)"
"""SQL: when the event ends, NULL for an unscheduled one."""
OVER_AT = f"({ENDS_AT} + {_interval(POST_EVENT_GRACE)})"
"""SQL: when the event is over, NULL for an unscheduled one."""
IS_UPCOMING = f"coalesce({OVER_AT} > %(now)s, true)"
"""SQL: whether the event is not over."""
NEEDS_CLOSING_READ = f"""
coalesce({OVER_AT} <= %(now)s AND {OVER_AT} > %(now)s::timestamptz - {_interval(CLOSING_READ_WITHIN)} AND CASE
    WHEN k.event_id IS NULL THEN {OVER_AT} > %(now)s::timestamptz - {_interval(FIRST_READ_WITHIN)}
    WHEN k.needs_full IS NOT NULL THEN true
    WHEN k.last_full_at < {OVER_AT} OR k.last_full_at > %(now)s::timestamptz + {_interval(AHEAD_TOLERANCE)} THEN true
    ELSE k.last_full_at < {OVER_AT} + {_interval(CORRECTIONS_AFTER)}
        AND {OVER_AT} + {_interval(CORRECTIONS_AFTER)} <= %(now)s END, false)
"""
"""SQL: whether the event is over and due for a full read that begins after that, or for repeating a failed one."""
IS_DUE = f"({IS_UPCOMING} OR {NEEDS_CLOSING_READ})"
"""SQL: whether the event is to be read, now or later."""
IS_DUE_AT_ANY = f"({IS_DUE} OR {IS_DUE.replace('%(now)s', '%(latest)s')})"
"""SQL: the same, at any moment from `now` to `latest` that may be the present."""


def ended_before(event: str, day: str) -> str:
    """Return SQL for whether an event ended before a day of the race's own calendar, NULL for an unscheduled one."""
    return f"greatest({event}.start_time, {event}.end_time) < {day}"


def is_on_board(at: str) -> str:
    """Return SQL for whether the event is on the race-day board: it is in its window, or starts within a day."""
    return f"(e.starts_at IS NOT NULL AND ({is_in_window(at)} OR e.starts_at BETWEEN {at} AND {at} + {_interval(DAY_BEFORE)}))"


def is_in_window(at: str) -> str:
    """Return SQL for whether the event is in its window at the moment that the SQL `at` gives."""
    start = "coalesce(e.starts_at, e.ends_at)"
    return f"""
({start} <= {at} + {_interval(WINDOW_BEFORE)} AND {OVER_AT} > {at}
    AND ({start} > {at} - {_interval(DAY_BEFORE)} OR {OVER_AT} <= {start} + {_interval(MAX_WATCHED + POST_EVENT_GRACE)}))
"""
