"""How near an event is: pure functions of its times and the present.

A start is an instant; the race's zone was applied when its wall time was read.
"""

import datetime as dt
from typing import Literal

Tier = Literal["undated", "later", "day", "window", "over"]

DAY_BEFORE = dt.timedelta(hours=24)
WINDOW_BEFORE = dt.timedelta(hours=4)
AFTER = dt.timedelta(hours=1)
"""How long after its start, or its end where it has one, an event is still synced: late bibs and corrections."""
LAST_WEEK = dt.timedelta(days=7)


def over_at(starts_at: dt.datetime | None, ends_at: dt.datetime | None) -> dt.datetime | None:
    """From when on an event is synced no more: an hour after its end, or after its start when it has no end. An end
    before the start is taken for a slip. None when nothing is known: such an event is never over."""
    times = [time for time in (starts_at, ends_at) if time is not None]
    return max(times) + AFTER if times else None


def tier(starts_at: dt.datetime | None, ends_at: dt.datetime | None, now: dt.datetime) -> Tier:
    """The event's tier at `now`. A several-day or virtual event stays in its window from 4 h before its start until it
    is over."""
    end = over_at(starts_at, ends_at)
    if end is None:
        return "undated"
    if now >= end:
        return "over"
    start = starts_at or ends_at
    if start is None or now >= start - WINDOW_BEFORE:
        return "window"
    return "day" if now >= start - DAY_BEFORE else "later"
