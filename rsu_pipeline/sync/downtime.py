"""Times in which the hub was not syncing, and what was caught up since.

They are derived from stored data: there is no file and no record of starts and stops, so that a hub that lost power shows
the same as one that was stopped.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import counted, format_time
from rsu_pipeline.reading_settings import CadenceSettings
from rsu_pipeline.warehouse import sync_gaps
from rsu_pipeline.warehouse.sync_gaps import CaughtUp, Gap

GRACE = dt.timedelta(minutes=30)
"""In addition to the longest interval between two reads."""
MAX_SHOWN = 3
"""Downtimes that are reported, newest first."""


@dataclass(frozen=True)
class Downtime:
    """A time without syncs. `until` is None while it lasts. `partners` has what was caught up of each partner."""

    since: dt.datetime
    until: dt.datetime | None
    hours: float
    partners: list[CaughtUp]


def is_downtime(gap: Gap, now: dt.datetime, every: CadenceSettings) -> bool:
    """Return whether something was due in a gap: a listing after the longest interval, a race in its window within minutes."""
    if gap.had_window:
        return True
    return (gap.until or now) - gap.since >= dt.timedelta(seconds=every.later) + GRACE


def find_downtimes(conn: Connection, now: dt.datetime, every: CadenceSettings) -> list[Downtime]:
    """Return the recent downtimes, newest first."""
    found = [gap for gap in sync_gaps.find_gaps(conn, now) if is_downtime(gap, now, every)][:MAX_SHOWN]
    return [
        Downtime(
            gap.since,
            gap.until,
            round(((gap.until or now) - gap.since).total_seconds() / 3600, 1),
            sync_gaps.find_caught_up(conn, gap, now),
        )
        for gap in found
    ]


def describe(downtimes: Sequence[Downtime], zone: dt.tzinfo) -> Iterator[str]:
    """Yield the lines about when the hub was not syncing, what it caught up since and what is left to do."""
    for item in downtimes:
        since = format_time(item.since, zone)
        if item.until is None:
            yield f"Not syncing since {since} ({_hours(item.hours)})."
        else:
            yield f"Not syncing from {since} to {format_time(item.until, zone)} ({_hours(item.hours)})."
        if over := sum(one.races_over for one in item.partners):
            yield f"  {counted(over, 'race')} ended meanwhile."
        if item.until is not None:
            yield f"  {_caught_up(item.partners)}"
        left = sum(one.reads_left for one in item.partners)
        if left:
            yield f"  Still to do: {counted(left, 'final read')}."
        elif over and item.until is not None:
            yield "  Nothing is left to do."


def _caught_up(partners: Sequence[CaughtUp]) -> str:
    counts = [
        counted(sum(one.bibs for one in partners), "bib"),
        f"{sum(one.new for one in partners):,} new",
        f"{sum(one.changed for one in partners):,} changed",
        f"{sum(one.removed for one in partners):,} removed",
    ]
    if not any(one.bibs or one.new or one.changed or one.removed for one in partners):
        return "Nothing that changed meanwhile was found since."
    return f"Caught up: {', '.join(counts)}."


def _hours(hours: float) -> str:
    return f"{hours:.0f} h" if hours >= 2 else f"{hours * 60:.0f} min"
