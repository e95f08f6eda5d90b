"""A partner's races and events: the listing, verified as the partner's own, and the details that it requires."""

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg2

from rsu_pipeline.runsignup.api_errors import ApiError, BudgetExhausted, Remedy
from rsu_pipeline.runsignup.pages import RacePage
from rsu_pipeline.runsignup.payload_decoding import decode_events
from rsu_pipeline.runsignup.payloads import Race
from rsu_pipeline.sync import access, losses, race_details, sharing, vanished
from rsu_pipeline.sync.race_rows import event_row, race_row
from rsu_pipeline.sync.session import CredentialRejected, PartnerSession
from rsu_pipeline.warehouse import backfill_state, containers, cursors, database, events, sync_log
from rsu_pipeline.warehouse.race_locks import LISTING
from rsu_pipeline.warehouse.statement_errors import StatementError

Failure = ApiError | CredentialRejected | StatementError
"""Why a listing is not complete."""
MAX_NAMED_EVENTS = 10
"""Events that a sentence names."""


@dataclass
class EventsOutcome:
    """The result of refreshing a partner's races and events.

    `problems` are sentences about what could not be stored. `elsewhere` is a sentence if another sync's listing replaced this one,
    else None. `is_listed` means that either is complete.
    """

    races: int = 0
    races_written: int = 0
    events_written: int = 0
    details_read: int = 0
    events_gone: int = 0
    races_unlisted: int = 0
    races_lost: int = 0
    registrations_removed: int = 0
    calls: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    elsewhere: str | None = None
    is_listed: bool = False


def refresh_events(session: PartnerSession, *, show_end: bool = False) -> EventsOutcome:
    """Refresh the partner's races and events: the listing, and the full details that `race_details` chooses.

    `show_end` reads the listing up to an empty page, even if it has exactly the expected races. One listing of a partner is read
    at a time. If another sync began a listing after this one was requested, it is not repeated. After an error nothing of
    the listing is stored.

    Raises:
        ApiError: a call failed.
        CredentialRejected: the listing is not the partner's own.
        StatementError: PostgreSQL could not store it now.
    """
    outcome = EventsOutcome()

    def list_races(_: int) -> bool:
        number = events.listing_number(session.conn, session.partner_id)
        session.conn.rollback()
        if not show_end and session.is_read_elsewhere([number]):
            outcome.elsewhere = "another sync of this partner has listed its races meanwhile"
        else:
            _refresh_recorded(session, outcome, show_end)
        outcome.is_listed = True
        return True

    if left := sharing.read_in_turn(session, [LISTING], list_races):
        outcome.elsewhere = left[LISTING]
    if outcome.elsewhere:
        session.log(outcome.elsewhere)
    return outcome


def _refresh_recorded(session: PartnerSession, outcome: EventsOutcome, show_end: bool) -> None:
    """List the races under the listing's lock, and record the outcome."""
    started, calls = time.monotonic(), session.ledger.calls
    failure: Failure | None = None
    is_complete = False
    number = cursors.next_read_number(session.conn)
    session.own_reads.add(number)
    try:
        _refresh(session, outcome, show_end)
        events.note_listed(session.conn, session.partner_id, number)
        session.conn.commit()
        is_complete = True
    except (ApiError, CredentialRejected) as error:
        session.conn.rollback()
        failure = error
        raise
    except psycopg2.Error as error:
        failure = database.find_statement_error(session.conn, error)
        if failure is None:
            raise
        raise failure from error
    finally:
        outcome.calls = session.ledger.calls - calls
        outcome.seconds = time.monotonic() - started
        # What a bug or a cancellation interrupted is neither complete nor a failure of the listing.
        if not session.conn.closed and (is_complete or failure):
            _record_listing(session, outcome, failure)


def _refresh(session: PartnerSession, outcome: EventsOutcome, show_end: bool) -> None:
    known = events.read_known_races(session.conn, session.partner_id)
    expected = set() if show_end else events.read_listed_races(session.conn, session.partner_id)
    session.conn.rollback()
    pages = [session.client.races_page(1)]
    # With a wrong key RunSignup lists everybody's races, which is noticed before all of them are read.
    is_verified = not pages[0].is_short and access.verify_listing(session, pages[0].races, known)
    while not _is_complete(pages, expected):
        pages.append(session.client.races_page(len(pages) + 1))
    listed = _distinct(pages)
    outcome.problems += [row.reason for page in pages for row in page.unreadable]
    if not is_verified:
        access.verify_listing(session, listed, known)
    _store(session, listed, outcome)
    outcome.races = len(listed)
    # An unreadable row may be any race of the listing.
    if not any(page.unreadable for page in pages):
        outcome.races_unlisted = events.mark_unlisted(
            session.conn, session.partner_id, [race.race_id for race in listed]
        )
    session.conn.commit()
    _read_details(session, listed, _instant(pages[0].server_time), outcome)
    _settle_losses(session, outcome)
    if backfill_state.reopen(session.conn, session.partner_id, session.now()):
        session.log("the listing has past events that were not read: the backfill continues")
    session.conn.commit()


def _read_details(session: PartnerSession, listed: Sequence[Race], now: dt.datetime, outcome: EventsOutcome) -> None:
    """Read the details that the listing requires."""
    stored = events.read_stored_details(session.conn, [race.race_id for race in listed])
    session.conn.rollback()
    wanted = race_details.choose_details(
        listed,
        stored,
        now,
        max_age=dt.timedelta(hours=session.settings.race_detail_hours),
        overlap=dt.timedelta(seconds=session.settings.cursor_overlap),
    )
    for race in [*wanted.upcoming, *wanted.past]:
        try:
            refresh_race(session, race.race_id, outcome)
        except BudgetExhausted:
            if race in wanted.past:
                # Those can wait, and the registrations of the others cannot.
                break
            raise
        except ApiError as error:
            if error.remedy is Remedy.FAIL_CONFIGURATION:
                raise
            outcome.problems.append(str(error))


def _settle_losses(session: PartnerSession, outcome: EventsOutcome) -> None:
    """Find out which unlisted races are lost and which lost ones are back, and update their registrations accordingly."""
    found = losses.check_races(session)
    outcome.races_lost = len(found.sentences)
    outcome.registrations_removed += found.removed
    for race_id in found.stale:
        try:
            refresh_race(session, race_id, outcome)
        except ApiError as error:
            if error.remedy in (Remedy.WAIT_FOR_BUDGET, Remedy.FAIL_CONFIGURATION):
                raise
            outcome.problems.append(str(error))
    outcome.registrations_removed += losses.update_registrations_of_losses(session)
    containers.settle_owners(session.conn, session.partner_id)
    session.conn.commit()


def refresh_race(session: PartnerSession, race_id: int, outcome: EventsOutcome, *, is_confirmed: bool = False) -> None:
    """Read a race's full detail and store it.

    Events that it no longer has are gone once a second answer agrees, and their registrations are marked as removed. Until then
    the detail stays due. `is_confirmed` means that an operator confirmed removals.

    Raises:
        ApiError: the detail cannot be read, or no call is left for a second answer.
    """
    race, answered_at = session.client.race(race_id)
    outcome.details_read += 1
    present, unreadable = _store(session, [race], outcome)
    events.note_detail_read(session.conn, race_id, _instant(answered_at))
    missing = [] if unreadable else events.find_events_not_in(session.conn, race_id, present)
    session.conn.commit()
    found = vanished.classify_vanished_events(
        vanished.request_each_event(session, race_id, missing),
        stored=len(present) + len(missing),
        share=session.settings.mass_removal_share,
        now=session.now(),
        is_confirmed=is_confirmed,
    )
    outcome.problems += _vanished_problems(race_id, found, has_events=bool(present))
    outcome.events_gone += len(found.gone)
    if not unreadable:
        events.mark_vanished(session.conn, race_id, gone=found.gone, unsettled=found.unsettled, now=session.now())
        events.mark_detail(session.conn, race_id, is_settled=not found.unsettled)
    session.conn.commit()
    if found.gone:
        outcome.registrations_removed += losses.update_registrations_of_losses(session, [race_id])


def _vanished_problems(race_id: int, found: vanished.Findings, *, has_events: bool) -> list[str]:
    if not found.unsettled:
        return []
    if not has_events:
        return [f"race {race_id}: its detail has no events, those that are stored are kept"]
    problems = []
    if found.answering:
        problems.append(
            f"race {race_id}: its detail lacks events {_listed(found.answering)}, which have entrants and are kept"
        )
    if found.pending:
        remedy = (
            "confirm with confirm_removals" if found.is_mass else "they are kept until a later detail lacks them too"
        )
        problems.append(f"race {race_id}: its detail lacks events {_listed(found.pending)}: {remedy}")
    return problems


def _listed(event_ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, event_ids[:MAX_NAMED_EVENTS]))
    return f"{shown} and {len(event_ids) - MAX_NAMED_EVENTS} more" if len(event_ids) > MAX_NAMED_EVENTS else shown


def _instant(server_time: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(server_time, dt.UTC)


def _is_complete(pages: Sequence[RacePage], expected: set[int]) -> bool:
    """Return whether the end of the listing is shown.

    RunSignup may return fewer races than requested, so a short page ends the listing only if it has exactly what is `expected`.
    Otherwise one more page is requested, which is empty. A server that begins to return exactly that many races would hide
    a new one behind them, so the nightly listing expects nothing.
    """
    if pages[-1].is_last:
        return True
    found = {race.race_id for page in pages for race in page.races}
    return pages[-1].is_short and bool(expected) and found == expected


def _distinct(pages: Sequence[RacePage]) -> list[Race]:
    """Return each race once, because rows may shift from page to page while a listing is read."""
    return list({race.race_id: race for page in pages for race in page.races}.values())


def _store(session: PartnerSession, races: Sequence[Race], outcome: EventsOutcome) -> tuple[list[int], list[str]]:
    """Store races and their events. Return the event ids, and sentences about unreadable ones."""
    race_rows, event_rows, present, unreadable = [], [], [], []
    for race in races:
        row, faults = race_row(race)
        race_rows.append(row)
        outcome.problems += [f"race {race.race_id}: {fault}" for fault in faults]
        decoded, failed = decode_events(race)
        unreadable += failed
        for event in decoded:
            row, faults = event_row(event, race, assumed_hours=session.settings.event_hours)
            event_rows.append(row)
            present.append(event.event_id)
            outcome.problems += [f"event {event.event_id}: {fault}" for fault in faults]
    outcome.problems += unreadable
    written = events.store_races(session.conn, session.partner_id, session.key, race_rows)
    outcome.races_written += written.inserted + written.updated
    written = events.store_events(session.conn, session.partner_id, session.key, event_rows)
    outcome.events_written += written.inserted + written.updated
    return present, unreadable


def _record_listing(session: PartnerSession, outcome: EventsOutcome, error: Failure | None) -> None:
    sync_log.record(
        session.conn,
        partner_id=session.partner_id,
        race_id=None,
        event_ids=[],
        operation="events",
        status="failed" if error else "partial" if outcome.problems else "completed",
        reason=str(error) if error else "; ".join(outcome.problems) or "listing",
        run_id=session.run_id,
        seconds=outcome.seconds,
        counts={
            "read": outcome.races,
            "calls": outcome.calls,
            "details": outcome.details_read,
            "races_written": outcome.races_written,
            "events_written": outcome.events_written,
            "events_gone": outcome.events_gone,
            "races_lost": outcome.races_lost,
            "removed": outcome.registrations_removed,
        },
        error={"message": str(error)} if isinstance(error, CredentialRejected) else error.details() if error else None,
    )
    session.conn.commit()
