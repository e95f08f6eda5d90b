"""The removed feed of a pass: whether to request it, from when on, and whether it explains what the pass misses."""

from rsu_pipeline.sync import cadence
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse import cursors, participants
from rsu_pipeline.warehouse.cursors import Position
from rsu_pipeline.warehouse.staging import Counts

ANOTHER_MOMENT_SECONDS = 3600
"""After which time a registration that is missing without a reason is searched for once more among all removed ones."""


def find_cursor(session: PartnerSession, position: Position) -> int | None:
    """Return the cursor of the removed feed: the oldest of the pass's events, or None (no limit) if one has none.

    It has no limit either once a registration has been missing for an hour without a reason, and the feed was not read since.
    RunSignup may have answered with fewer removals than it had.
    """
    held = cursors.read_event_cursors(session.conn, session.partner_id)
    latest = max((present := session.clock.present()).also, default=present.now)
    known = [
        held[event_id].removed_after
        for event_id in position.event_ids
        # What was removed before a cursor that is in the future would never be requested.
        if event_id in held and not cadence.is_ahead(held[event_id].furthest, latest)
    ]
    if len(known) < len(position.event_ids):
        return None
    before = min(known) + session.settings.cursor_overlap - ANOTHER_MOMENT_SECONDS
    upto = (position.first_page_at or 0) - ANOTHER_MOMENT_SECONDS
    is_due = participants.has_unexplained(session.conn, session.partner_id, position.event_ids, before + 1, upto)
    return None if is_due else min(known)


def is_needed(session: PartnerSession, position: Position, since: int | None, counts: Counts) -> bool:
    """Return whether a full pass has to request the removed registrations.

    It has to, to learn why the registrations that it misses are gone, including those that an earlier pass missed and
    RunSignup had not named by `since`, and whether what it reactivated is removed after all. A pass that misses nothing does
    not need them, except now and then where something is stored as removed: a registration that came back and left again
    between two reads is named with another reason, which nothing else shows.
    """
    if counts.reactivated or participants.find_missing(
        session.conn, session.partner_id, position.race_id, position.mode
    ):
        return True
    if since is not None and participants.has_unexplained(session.conn, session.partner_id, position.event_ids, since):
        return True
    days = session.settings.incremental_days
    is_old = since is None or (position.first_page_at or 0) - since > days * 86400
    return is_old and participants.has_removed(session.conn, session.partner_id, position.event_ids)


def is_any_unexplained(session: PartnerSession, position: Position) -> bool:
    """Return whether a full pass misses a registration that the removed feed does not name."""
    return position.reads_all and bool(
        participants.find_missing(session.conn, session.partner_id, position.race_id, position.mode)
    )
