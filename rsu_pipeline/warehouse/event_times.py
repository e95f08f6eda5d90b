"""When an event is upcoming, over, or still owed a closing read: one declaration, as constants and as SQL.

`sync.cadence` decides the same in Python from the same constants, and a test compares both. `e` is a row of
runsignup_events, `k` the partner's row of event_cursors for it, `%(now)s` the present.

`ends_at` is set whenever `starts_at` is: RunSignup's end, or an assumed one (see sync.listed_rows).
"""

import datetime as dt

POST_EVENT_GRACE = dt.timedelta(hours=1)
"""How long after its end an event is still synced: late bibs and corrections."""
CORRECTIONS_AFTER = dt.timedelta(hours=24)
"""How long after it was over an event is read in full once more, for corrections."""
CLOSING_READ_WITHIN = dt.timedelta(days=365)
"""How long an event stays due for its closing reads. RunSignup's terms limit requests to one year back."""
FIRST_READ_WITHIN = dt.timedelta(days=7)
"""How long after it was over an event that was never read is still read without a backfill. It covers an event that was
added while the hub was down."""


def _interval(span: dt.timedelta) -> str:
    return f"interval '{span.total_seconds():.0f} seconds'"


OVER_AT = f"(greatest(e.starts_at, e.ends_at) + {_interval(POST_EVENT_GRACE)})"
"""SQL: when the event is over, NULL for an unscheduled one."""
IS_UPCOMING = f"coalesce({OVER_AT} > %(now)s, true)"
"""SQL: whether the event is not over."""
NEEDS_CLOSING_READ = f"""
coalesce({OVER_AT} <= %(now)s AND {OVER_AT} > %(now)s - {_interval(CLOSING_READ_WITHIN)} AND CASE
    WHEN k.event_id IS NULL THEN {OVER_AT} > %(now)s - {_interval(FIRST_READ_WITHIN)}
    WHEN k.last_full_at < {OVER_AT} THEN true
    ELSE k.last_full_at < {OVER_AT} + {_interval(CORRECTIONS_AFTER)}
        AND {OVER_AT} + {_interval(CORRECTIONS_AFTER)} <= %(now)s END, false)
"""
"""SQL: whether the event is over and owed a full read that begins after that."""
