"""The plan of one poll of a race in its window."""

import datetime as dt
from dataclasses import replace

from rsu_pipeline.sync import cadence, read_plan
from rsu_pipeline.sync.read_plan import Plan
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse import cursors, events

FULL_READ_RETRY_AFTER = dt.timedelta(minutes=5)
"""How long after a full read that left removals pending or rows unequal an event is read in full again."""
REFUSED_EVENT_RETRY_AFTER = dt.timedelta(minutes=15)
"""How long an event that RunSignup refuses is left out of the polls of its race."""


def plan_poll(
    session: PartnerSession, race_id: int, *, reads_removed: bool = False, postpones_full: bool = False
) -> Plan:
    """Return the plan of one poll: the race's events that are in their window, by the rules of every plan.

    Args:
        session: the partner's session.
        race_id: the race.
        reads_removed: whether the poll is to find what was removed, for which a small race is read in full.
        postpones_full: whether events that were ever loaded are to be polled even if a full read is due.
    """
    present = session.clock.present()
    now = present.now
    near = [
        event
        for event in events.read_events(session.conn, session.partner_id)
        if event.race_id == race_id
        and cadence.nearest_tier(event.starts_at, event.ends_at, now, present.also)[0] == "window"
    ]
    # An event that RunSignup refuses is left to the visits, so that the others cost one call per poll.
    near = [event for event in near if not _is_refused(event, now)] or near
    held = cursors.read_event_cursors(session.conn, session.partner_id)
    session.conn.rollback()
    plan = read_plan.plan_reads(
        near,
        {number: _without_recent_retry(cursor, now) for number, cursor in held.items()},
        now,
        also=present.also,
        include=session.settings.include,
        incremental_days=session.settings.incremental_days,
        full_read_up_to_rows=session.settings.full_read_up_to_rows if reads_removed else 0,
    )
    return read_plan.postpone_full(plan, held) if postpones_full else plan


def _without_recent_retry(cursor: cursors.EventCursor, now: dt.datetime) -> cursors.EventCursor:
    """Return the cursor without the need for a full read that a recent full read has just left.

    Such a need may stay until an operator acts.
    """
    is_lasting = cursor.needs_full in (cursors.REMOVALS_PENDING, cursors.NOT_EQUAL)
    if is_lasting and now - cursor.last_full_at < FULL_READ_RETRY_AFTER:
        return replace(cursor, needs_full=None)
    return cursor


def _is_refused(event: events.StoredEvent, now: dt.datetime) -> bool:
    """Return whether RunSignup refused the event a short time ago."""
    age = cadence.age(event.refused_at, now)
    return age is not None and age < REFUSED_EVENT_RETRY_AFTER
