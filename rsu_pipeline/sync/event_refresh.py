"""Race details read beside the listing: in the window of a race, and before its events count as over.

A start may move on its morning. The watch reads the detail of each of its races every few minutes, and once more shortly before
an event would be over, so that the window extends. The events of a race are requested again before a final read. A detail that
cannot be read stops neither polls nor reads.
"""

import datetime as dt

from rsu_pipeline.runsignup.api_errors import ApiError, Remedy
from rsu_pipeline.sync import listing
from rsu_pipeline.sync.read_plan import PlannedRead
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse import events

LAST_REFRESH_LEAD = dt.timedelta(minutes=2)
"""How long before an event counts as over its race's detail is read once more."""


def is_refresh_due(
    refreshed_at: dt.datetime | None, now: dt.datetime, every: dt.timedelta, next_over_at: dt.datetime | None
) -> bool:
    """Return whether a race in its window is due for a refresh of its events.

    Args:
        refreshed_at: when its detail was last read or tried. None: not known.
        now: the present, by the clock of `refreshed_at`.
        every: how long a detail is valid.
        next_over_at: when the next of its events will be over, None if that is not known.
    """
    if refreshed_at is None or not dt.timedelta(0) <= now - refreshed_at < every:
        return True
    return next_over_at is not None and refreshed_at < next_over_at - LAST_REFRESH_LEAD <= now


def refresh_race_events(session: PartnerSession, race_id: int) -> str | None:
    """Read a race's events again. Return why that failed, or None.

    Raises:
        ApiError: the installation itself is rejected.
    """
    try:
        listing.refresh_race(session, race_id, listing.EventsOutcome())
    except ApiError as error:
        session.conn.rollback()
        if error.remedy is Remedy.FAIL_CONFIGURATION:
            raise
        return f"its events were not refreshed: {error}"
    return None


def refresh_before_closing(session: PartnerSession, read: PlannedRead) -> None:
    """Request the race's events before a closing read, unless that was done since they were over."""
    if read.closes_at is None:
        return
    detail = events.read_stored_details(session.conn, [read.race_id]).get(read.race_id)
    session.conn.rollback()
    if detail is not None and detail.read_at is not None and detail.read_at >= read.closes_at:
        return
    if problem := refresh_race_events(session, read.race_id):
        session.log(f"race {read.race_id}: {problem}")
