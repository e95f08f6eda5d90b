"""A partner's races and events: the listing, proved to be the partner's own, and the details that it calls for."""

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rsu_pipeline.runsignup.client import RacePage
from rsu_pipeline.runsignup.errors import ApiError, BudgetExhausted, Remedy
from rsu_pipeline.runsignup.payloads import Race
from rsu_pipeline.sync import access, race_details
from rsu_pipeline.sync.desk import CredentialRejected, Desk
from rsu_pipeline.sync.listed_rows import event_row, race_row
from rsu_pipeline.warehouse import database, events, history


@dataclass
class EventsOutcome:
    """What refreshing a partner's races and events did. `problems` are sentences on what could not be taken over."""

    races: int = 0
    races_written: int = 0
    events_written: int = 0
    details_read: int = 0
    events_gone: int = 0
    races_unlisted: int = 0
    calls: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def refresh_events(desk: Desk) -> EventsOutcome:
    """Brings the partner's races and events up to date: the listing, and the full details that `race_details` chooses.
    Raises ApiError and CredentialRejected; then nothing of the listing is stored."""
    started, calls = time.monotonic(), desk.ledger.calls
    outcome = EventsOutcome()
    failure: Exception | None = None
    try:
        _refresh(desk, outcome)
    except (ApiError, CredentialRejected) as error:
        desk.conn.rollback()
        failure = error
        raise
    finally:
        outcome.calls = desk.ledger.calls - calls
        outcome.seconds = time.monotonic() - started
        if not desk.conn.closed:
            _record_listing(desk, outcome, failure)
    return outcome


def _refresh(desk: Desk, outcome: EventsOutcome) -> None:
    known = events.known_races(desk.conn, desk.partner_id)
    expected = events.listed_races(desk.conn, desk.partner_id)
    desk.conn.rollback()
    pages = [desk.client.races_page(1)]
    # To a wrong key RunSignup lists everybody's races, which is seen before all of those are read.
    is_verified = not pages[0].is_short and access.verify_listing(desk, pages[0].races, known)
    while not _is_complete(pages, expected):
        pages.append(desk.client.races_page(len(pages) + 1))
    listed = _distinct(pages)
    outcome.problems += [row.reason for page in pages for row in page.unreadable]
    if not is_verified:
        access.verify_listing(desk, listed, known)
    _store(desk, listed, outcome)
    outcome.races = len(listed)
    # A row that cannot be read may be any race of the listing.
    if not any(page.unreadable for page in pages):
        outcome.races_unlisted = events.mark_unlisted(desk.conn, desk.partner_id, [race.race_id for race in listed])
    desk.conn.commit()
    _read_details(desk, listed, _instant(pages[0].server_time), outcome)


def _read_details(session: Desk, listed: Sequence[Race], now: dt.datetime, outcome: EventsOutcome) -> None:
    """Read the details that the listing calls for; between two of them whoever waits for the partner is let in."""
    stored = events.stored_details(session.conn, [race.race_id for race in listed])
    session.conn.rollback()
    wanted = race_details.choose(
        listed,
        stored,
        now,
        max_age=dt.timedelta(hours=session.settings.race_detail_hours),
        overlap=dt.timedelta(seconds=session.settings.cursor_overlap),
    )
    for race in [*wanted.upcoming, *wanted.past]:
        database.give_way(session.conn, session.partner_id)
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


def refresh_race(desk: Desk, race_id: int, outcome: EventsOutcome) -> None:
    """Reads a race's full detail and stores it; events it no longer has are marked as gone. Raises ApiError."""
    race, answered_at = desk.client.race(race_id)
    outcome.details_read += 1
    present, unreadable = _store(desk, [race], outcome)
    events.note_detail_read(desk.conn, race_id, _instant(answered_at))
    if not present and not unreadable and events.has_events(desk.conn, race_id):
        # An answer without events is no evidence that all of them were deleted.
        outcome.problems.append(f"race {race_id}: its detail has no events, those that are stored are kept")
    elif not unreadable:
        outcome.events_gone += events.mark_detail(desk.conn, race_id, present)
    desk.conn.commit()


def _instant(server_time: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(server_time, dt.UTC)


def _is_complete(pages: Sequence[RacePage], expected: set[int]) -> bool:
    """Return whether the end of the listing is shown. RunSignup may answer with fewer races than requested, so a short page
    ends it only if it brings exactly what is `expected`. Else one more page is asked for, which is empty."""
    if pages[-1].is_last:
        return True
    found = {race.race_id for page in pages for race in page.races}
    return pages[-1].is_short and bool(expected) and found == expected


def _distinct(pages: Sequence[RacePage]) -> list[Race]:
    """Each race once; rows may shift from page to page while a listing is read."""
    return list({race.race_id: race for page in pages for race in page.races}.values())


def _store(desk: Desk, races: Sequence[Race], outcome: EventsOutcome) -> tuple[list[int], list[str]]:
    """Stores races and the events that came with them; returns the event ids, and sentences on those unreadable."""
    race_rows, event_rows, present, unreadable = [], [], [], []
    for race in races:
        row, faults = race_row(race)
        race_rows.append(row)
        outcome.problems += [f"race {race.race_id}: {fault}" for fault in faults]
        decoded, failed = race.decoded_events()
        unreadable += failed
        for event in decoded:
            row, faults = event_row(event, race, assumed_hours=desk.settings.event_hours)
            event_rows.append(row)
            present.append(event.event_id)
            outcome.problems += [f"event {event.event_id}: {fault}" for fault in faults]
    outcome.problems += unreadable
    written = events.store_races(desk.conn, desk.partner_id, desk.key, race_rows)
    outcome.races_written += written.inserted + written.updated
    written = events.store_events(desk.conn, desk.partner_id, desk.key, event_rows)
    outcome.events_written += written.inserted + written.updated
    return present, unreadable


def _record_listing(desk: Desk, outcome: EventsOutcome, error: Exception | None) -> None:
    history.record(
        desk.conn,
        partner_id=desk.partner_id,
        race_id=None,
        event_ids=[],
        operation="events",
        status="failed" if error else "partial" if outcome.problems else "completed",
        reason=str(error) if error else "; ".join(outcome.problems) or "listing",
        run_id=desk.run_id,
        seconds=outcome.seconds,
        counts={"read": outcome.races, "calls": outcome.calls, "details": outcome.details_read},
        error=error.details() if isinstance(error, ApiError) else {"message": str(error)} if error else None,
    )
    desk.conn.commit()
