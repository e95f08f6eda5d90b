"""One pass over a race's registrations: page by page, rows and checkpoint committed together, resumed where it stopped.

A full pass reads every active registration of its events and may then mark what it did not see as gone. An incremental
one reads what changed since the cursor, then what was removed. Cursors move only when a pass is complete.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from rsu_pipeline.included_fields import format_include
from rsu_pipeline.runsignup.pages import Page
from rsu_pipeline.sync import removed_feed
from rsu_pipeline.sync.page_ingest import IngestedPage, find_unchanged, stage_page, store_page
from rsu_pipeline.sync.page_requests import request_pages
from rsu_pipeline.sync.read_plan import SMALL_RACE, PlannedRead
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse import backfill_state, cursors, participants, race_locks, reconciliation
from rsu_pipeline.warehouse.cursors import Position
from rsu_pipeline.warehouse.participants import Missing
from rsu_pipeline.warehouse.staging import Counts, Source


@dataclass
class ReadOutcome:
    """The result of one pass.

    `refused` names events whose removals are pending confirmation because they were too many, `unequal` those whose stored rows
    differ from what a full pass received. If the pass was resumed, such events are `unsettled` instead: they are read again, from
    their first page. `newly_quarantined` counts rows that were not quarantined before.
    """

    read: PlannedRead
    counts: Counts = field(default_factory=Counts)
    pages: int = 0
    is_resumed: bool = False
    seconds: float = 0.0
    calls: int = 0
    refused: list[str] = field(default_factory=list)
    unequal: list[int] = field(default_factory=list)
    unsettled: list[int] = field(default_factory=list)
    newly_quarantined: int = 0
    error: Exception | None = None


def read_race(
    session: PartnerSession,
    read: PlannedRead,
    outcome: ReadOutcome,
    *,
    confirm_removals: bool = False,
    with_removed: bool = True,
) -> None:
    """Make the pass, filling `outcome` as it goes. What was read before an error stays stored.

    `with_removed` false makes an incremental pass leave the removed registrations for a later one.

    Raises:
        ApiError: a call failed.
    """
    started = time.monotonic()
    calls = session.ledger.calls
    position = cursors.open_pass(
        session.conn,
        session.partner_id,
        read.race_id,
        read.mode,
        read.event_ids,
        read.modified_after,
        included=format_include(session.settings.include),
    )
    session.own_reads.add(position.read_number)
    outcome.is_resumed = position.is_resumed
    try:
        if position.feed == "participants":
            _read_active(session, position, outcome, confirm_removals, with_removed)
        if position.feed == "removed":
            _read_removed(session, position, outcome, confirm_removals)
    finally:
        session.conn.rollback()
        outcome.seconds = time.monotonic() - started
        outcome.calls = session.ledger.calls - calls


def _read_active(
    session: PartnerSession, position: Position, outcome: ReadOutcome, confirm_removals: bool, with_removed: bool
) -> None:
    loaded: Mapping[int, bool] = {}
    has_rows = False
    if position.reads_all:
        overlap = session.settings.cursor_overlap
        loaded = cursors.read_loaded_events(session.conn, session.partner_id, position.event_ids, overlap=overlap)
        has_rows = (
            position.mode == "history"
            or len(loaded) < len(position.event_ids)
            or participants.is_any_above(session.conn, session.partner_id, position.event_ids, position.after)
        )
    # No transaction waits for RunSignup: it would delay vacuum, and a limit could end the session.
    session.conn.rollback()
    # No later visit would find what the last read of an event misses.
    settles = outcome.read.closes_at is not None or position.mode == "history"
    stage = partial(stage_page, race_id=position.race_id, event_ids=position.event_ids)
    # Of a race that was loaded before most rows are stored unchanged, and need no lines.
    with request_pages(session, position, None if loaded else stage) as pages:
        while True:
            is_surprise = position.reads_all and not position.is_last_short and (has_rows or position.pages > 0)
            page, staged = pages.take(position.after, is_short=position.is_last_short, again_if_empty=is_surprise)
            position.is_last_short = page.next.is_short if page.rows or page.unreadable else position.is_last_short
            source = _source(session, position, page)
            is_shown = page.next.is_last or (not settles and _is_end_shown(session, position, page, loaded))
            # Only for a visit that may be as short: a requested full read, or the last read of an event, must be complete.
            may_infer = outcome.read.reason == SMALL_RACE
            is_last = is_shown or (may_infer and _is_end_inferred(session, position, page, loaded))
            upto = None if is_last else page.next.covered_to
            if upto is not None:
                pages.request_ahead(upto, is_short=page.next.is_short)
            # Before anything was loaded no row can be stored already.
            held = find_unchanged(session, source, page, position.event_ids, upto) if loaded else {}
            merge = partial(
                participants.merge_active,
                full=position.reads_all,
                upto=upto,
                is_first_load=position.reads_all and not loaded,
            )
            taken = store_page(session, source, page, staged or stage(page, held=held), merge, held)
            outcome.counts.add(taken.counts)
            outcome.newly_quarantined += taken.newly_quarantined
            _note_page(session, position, source, page, taken, upto)
            _step(position, page, outcome)
            if is_last:
                break
            _commit(session, position)
    position.is_last_short = pages.is_end_shown or (position.is_last_short and not pages.is_end_contradicted)
    since = removed_feed.find_cursor(session, position) if position.reads_all or with_removed else None
    if removed_feed.is_needed(session, position, since, outcome.counts) if position.reads_all else with_removed:
        position.feed, position.after = "removed", 0
        position.modified_after = since
        _commit(session, position)
    else:
        # The cursor of the removed feed shows how far that was read. Where there is none, nothing is stored as removed either.
        is_first = position.reads_all and since is None
        _finish(session, position, source, outcome, confirm_removals, with_removed=is_first, is_end_shown=is_shown)


def _note_page(
    session: PartnerSession, position: Position, source: Source, page: Page, taken: IngestedPage, upto: int | None
) -> None:
    """Note what a page showed, and of a full pass what it did not."""
    if not position.reads_all:
        participants.note_seen(session.conn, source, taken.seen)
        return
    reconciliation.count_held_back(session.conn, source, taken.events_of_held_back)
    participants.note_missing(
        session.conn,
        source,
        position.event_ids,
        after=position.after,
        upto=upto,
        seen=[row.registration_id for row in page.rows] + taken.held_back,
        # A row without an id could be any stored row, so nothing on such a page is marked missing.
        is_certain=not taken.has_unidentified_row,
    )


def _is_end_shown(session: PartnerSession, position: Position, page: Page, loaded: Mapping[int, bool]) -> bool:
    """Return whether a short page of a full pass is the last though it is not empty.

    RunSignup may return fewer rows than it has. The page ends the feed if every event was loaded before, nothing stored is above
    the page, and the server returned more rows than this page has a few pages ago. It may have begun to return fewer since, which
    a later pass finds. Anything else, such as a first load, a changed row of an incremental pass or the last read of an event,
    takes one call more, whose response is empty.
    """
    return (
        page.next.is_short
        and page.next.covered_to is not None
        and not page.is_longest
        and len(loaded) == len(position.event_ids)
        and not participants.is_any_above(session.conn, session.partner_id, position.event_ids, page.next.covered_to)
    )


def _is_end_inferred(session: PartnerSession, position: Position, page: Page, loaded: Mapping[int, bool]) -> bool:
    """Return whether a full read that fits one page ends with it, though nothing shows that.

    A partner's largest race has no longer page for comparison. If its page has exactly the registrations that are stored, only a
    server that returns exactly that many rows at a time could hide more. So this is done once after a pass that ended with an
    empty page, and leaves the cursor where that pass set it: the next pass shows the end, and finds whatever is behind it. Where
    the removed feed is to be read, which moves the cursor, the pass shows the end itself.
    """
    if not page.next.is_short or position.pages or page.unreadable or not page.rows:
        return False
    if len(loaded) < len(position.event_ids) or not all(loaded.values()):
        return False
    stored = participants.read_active_ids(session.conn, session.partner_id, position.event_ids)
    if stored != {row.registration_id for row in page.rows}:
        return False
    since = removed_feed.find_cursor(session, position)
    return not removed_feed.is_needed(session, position, since, Counts())


def _read_removed(session: PartnerSession, position: Position, outcome: ReadOutcome, confirm_removals: bool) -> None:
    while True:
        page = session.client.removed_page(
            position.race_id, position.event_ids, after=position.after, modified_after=position.modified_after
        )
        source = _source(session, position, page)
        for row in page.rows:
            row.removed_reason = row.removed_reason or "removed"
        merge = partial(participants.merge_removed, overlap=session.settings.cursor_overlap)
        taken = store_page(session, source, page, stage_page(page, position.race_id, position.event_ids), merge)
        outcome.counts.add(taken.counts)
        outcome.newly_quarantined += taken.newly_quarantined
        _step(position, page, outcome)
        if page.next.is_last:
            if position.modified_after is None or not removed_feed.is_any_unexplained(session, position):
                break
            # RunSignup may have stamped a removal with an earlier time, or left it out of a read before.
            position.after, position.modified_after = 0, None
        _commit(session, position)
    _finish(session, position, source, outcome, confirm_removals, with_removed=True)


def _finish(
    session: PartnerSession,
    position: Position,
    source: Source,
    outcome: ReadOutcome,
    confirm_removals: bool,
    *,
    with_removed: bool,
    is_end_shown: bool = True,
) -> None:
    """Complete a pass: mark what a full pass did not see and nothing explains, move the cursors, end the pass."""
    refused: list[Missing] = []
    unconfirmed: list[int] = []
    if position.reads_all:
        gone = participants.find_missing(session.conn, session.partner_id, position.race_id, position.mode)
        if gone:
            race_locks.wait_for_removals(session.conn, session.partner_id)
        if not confirm_removals:
            refused = _implausible(session, position, gone)
            unconfirmed = _unconfirmed_events(session, position, outcome, gone, refused)
        allowed = [item.event_id for item in gone if item not in refused and item.event_id not in unconfirmed]
        if allowed:
            outcome.counts.removed += participants.remove_missing(session.conn, source, allowed)
        outcome.refused = [f"event {item.event_id}: {item.missing} of {item.held} registrations" for item in refused]
    cursors.advance(
        session.conn,
        position,
        overlap=session.settings.cursor_overlap,
        with_removed=with_removed,
        is_end_shown=is_end_shown,
    )
    if position.reads_all:
        unequal = reconciliation.reconcile(
            session.conn, source, position.event_ids, is_resumed=position.is_resumed or bool(unconfirmed)
        )
        unequal = [event_id for event_id in unequal if event_id not in unconfirmed]
        cursors.request_full_read(session.conn, session.partner_id, unequal, cursors.NOT_EQUAL)
        outcome.unequal, outcome.unsettled = ([], unequal) if position.is_resumed else (unequal, [])
        held_back = [item.event_id for item in refused]
        cursors.request_full_read(session.conn, session.partner_id, held_back, cursors.REMOVALS_PENDING)
    if position.mode == "history":
        backfill_state.note_read(
            session.conn,
            session.partner_id,
            position.race_id,
            position.event_ids,
            needs_catch_up=position.is_resumed,
            unconfirmed=unconfirmed,
        )
    else:
        cursors.request_full_read(session.conn, session.partner_id, unconfirmed, cursors.END_UNCONFIRMED)
    cursors.drop_pass(session.conn, session.partner_id, position.race_id, position.mode)
    session.conn.commit()


def _unconfirmed_events(
    session: PartnerSession,
    position: Position,
    outcome: ReadOutcome,
    missing: Sequence[Missing],
    refused: Sequence[Missing],
) -> list[int]:
    """Return the events for which a later pass has to confirm the end of the feed, so that nothing counts as missing by this one.

    An empty page ends the feed. It is one response, which may be a transient empty one. After a page with fewer rows
    than requested it agrees with that. After a full page, or as the only one, nothing supports it but a second response at once.
    Upcoming events without any registration, received or stored, are none of them: every visit reads them again anyway. Those
    whose removals are pending are read again for that.
    """
    if position.is_last_short:
        return []
    if position.mode == "history":
        confirmed = backfill_state.read_confirmable(session.conn, session.partner_id, position.event_ids)
    elif outcome.counts.read or position.is_resumed or missing:
        confirmed = {
            event_id
            for event_id, cursor in cursors.read_event_cursors(session.conn, session.partner_id).items()
            if cursor.needs_full in (cursors.END_UNCONFIRMED, cursors.REMOVALS_PENDING)
        }
    else:
        return []
    confirmed |= {item.event_id for item in refused}
    return [event_id for event_id in position.event_ids if event_id not in confirmed]


def _implausible(session: PartnerSession, position: Position, gone: Sequence[Missing]) -> list[Missing]:
    """Return the events whose removals are pending confirmation: too many of the event, of the pass, or of the partner in a day.

    One empty response takes a few from each of many small events, which only their sum shows.
    """
    if not gone:
        return []
    total = sum(item.missing for item in gone)
    held = participants.count_active(session.conn, session.partner_id, position.event_ids)
    of_partner, recently = participants.removal_context(session.conn, session.partner_id)
    if not _is_plausible(session, total, held) or not _is_plausible(session, total + recently, of_partner + recently):
        return list(gone)
    return [item for item in gone if not _is_plausible(session, item.missing, item.held)]


def _is_plausible(session: PartnerSession, missing: int, held: int) -> bool:
    return missing <= max(session.settings.mass_removal_floor, session.settings.mass_removal_share * held)


def _source(session: PartnerSession, position: Position, page: Page) -> Source:
    if position.first_page_at is None:
        session.clock.read_database(session.conn)
    moment = session.clock.page_moment(page.date, page.elapsed, page.seconds)
    if position.first_page_at is None:
        position.first_page_at = moment.at
        position.changes_from = (
            moment.at if moment.is_confirmed else min(moment.at, _newest_stamp(session, position, page))
        )
    return Source(session.partner_id, session.key, position.race_id, moment.at, session.run_id, position.mode)


def _newest_stamp(session: PartnerSession, position: Position, page: Page) -> int:
    """Return RunSignup's latest stamp on the pass's rows as its first page shows them.

    No future change has an earlier stamp, regardless of the clocks.
    """
    sent = [int(row.last_modified) for row in page.rows if isinstance(row.last_modified, int)]
    return max([cursors.read_newest_stamp(session.conn, session.partner_id, position.event_ids), *sent])


def _step(position: Position, page: Page, outcome: ReadOutcome) -> None:
    position.pages += 1
    outcome.pages += 1
    if page.next.covered_to is not None:
        position.after = page.next.covered_to


def _commit(session: PartnerSession, position: Position) -> None:
    cursors.save(session.conn, position)
    session.conn.commit()
