"""A partner's past editions, in slices: race by race, newest first, every page stored with its checkpoint.

One pass reads all requested past events of a race, which is the fewest calls. RunSignup may refuse what is more than a
year old. If a pass is refused, the race's editions are read one by one, and an old one that is refused by itself is
recorded as unavailable. An empty response that nothing supports is requested again an hour later: no visit comes after that would
show what a transient empty response has hidden.
"""

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg2

from rsu_pipeline.display import counted, sanitize_for_display
from rsu_pipeline.runsignup.api_errors import ApiError, BudgetExhausted, Cause, Remedy
from rsu_pipeline.runsignup.event_ids import split_by_address
from rsu_pipeline.sync import access, listing, partner_sync, sharing, sync_outcome
from rsu_pipeline.sync.race_pass import ReadOutcome
from rsu_pipeline.sync.read_plan import PlannedRead
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.sync.sync_outcome import SyncOutcome
from rsu_pipeline.warehouse import backfill_cancellation, backfill_state, database
from rsu_pipeline.warehouse.backfill_progress import Progress
from rsu_pipeline.warehouse.backfill_state import PastEvent, PastRace
from rsu_pipeline.warehouse.event_times import AHEAD_TOLERANCE
from rsu_pipeline.warehouse.statement_errors import StatementError

YEAR = dt.timedelta(days=365)
"""RunSignup's terms limit requests to one year back. Its answer to older ones is not known."""
ORPHANED_SLICE_TIMEOUT = dt.timedelta(minutes=5)

# Causes that may concern one edition of several: a call for the others may succeed.
_OF_ONE_EDITION = {Cause.REFUSED, Cause.EVENT_NOT_FOUND, Cause.UNSPECIFIED, Cause.UNKNOWN_SHAPE}
# Causes that mean at once that an old edition is unavailable. The others mean it only when they are repeated.
_UNAVAILABLE = {Cause.REFUSED, Cause.EVENT_NOT_FOUND}
_MAX_CONSECUTIVE_FAILURES = 3


@dataclass
class Slice:
    """The result of a slice.

    `sync` has its reads, `out_of_budget` is the number of seconds until a call is free if the budget ended it, `problems` has a
    sentence for each race that failed in it, `finished` means that nothing is left.
    """

    sync: SyncOutcome = field(default_factory=SyncOutcome)
    races: int = 0
    events: int = 0
    unavailable: int = 0
    details: int = 0
    calls: int = 0
    seconds: float = 0.0
    out_of_budget: float | None = None
    problems: list[str] = field(default_factory=list)
    finished: bool = False


def retry_wait(failures: int) -> dt.timedelta:
    """Return how long after its n-th failure in a row a race is retried: an hour, doubling up to a day."""
    return min(backfill_state.MAX_WAIT, dt.timedelta(hours=2 ** min(5, failures - 1)))


def seconds_left(progress: Progress, *, free_now: int, per_hour: int, call_seconds: float) -> float:
    """Return an estimate of how long the rest takes: its calls one after the other, at the rate of the budget."""
    calls = progress.calls_left
    return max(calls * call_seconds, (calls - free_now) * 3600 / per_hour)


def group_editions(events: Sequence[PastEvent]) -> list[list[PastEvent]]:
    """Return the events by edition, newest first as given."""
    grouped: dict[int, list[PastEvent]] = {}
    for event in events:
        grouped.setdefault(event.edition, []).append(event)
    return list(grouped.values())


def is_old(events: Sequence[PastEvent], now: dt.datetime) -> bool:
    """Return whether all of them started more than a year ago."""
    return all(event.starts_at is not None and now - event.starts_at > YEAR for event in events)


def run_slice(session: PartnerSession, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> Slice:
    """Read as much of the partner's backfill as fits into `seconds`. A race that was begun is read to its end.

    A request begins with the listing. A race that another sync reads comes last, and a request that was cancelled ends the
    slice. What came before an error is stored.

    Raises:
        ApiError: the listing fails or the installation itself is rejected.
        CredentialRejected: every race refuses the credential.
    """
    began, calls = clock(), session.ledger.calls
    done = Slice()
    refusals = access.Refusals(session)
    backfill_state.begin_slice(session.conn, session.partner_id, if_it_dies=ORPHANED_SLICE_TIMEOUT)

    def visit(race_id: int) -> bool:
        if clock() - began >= seconds or backfill_cancellation.read_cancelled_at(session.conn, session.partner_id):
            return False
        # Nothing is left of a race that another slice has read meanwhile.
        for race in _select_unread(session, race_id):
            _visit(session, race, done, refusals)
        return True

    try:
        _refresh_listing(session)
        # With the races that were just listed: one of them may be the only one that can be read.
        refusals = access.Refusals(session, access.stored_candidates(session))
        elsewhere = sharing.read_in_turn(session, [race.race_id for race in _select_unread(session)], visit)
        for sentence in elsewhere.values():
            session.log(sentence)
    except BudgetExhausted as error:
        done.out_of_budget = error.frees_in
    finally:
        done.calls = session.ledger.calls - calls
        done.seconds = clock() - began
    sync_outcome.update_credential_status(session, done.sync, refusals, listed_too=False)
    _end(session, done)
    return done


def _refresh_listing(session: PartnerSession) -> None:
    request = backfill_state.get_request(session.conn, session.partner_id)
    # If another session's listing hangs, the race listing is due at the next slice.
    if request is not None and request.listed_at is None and listing.refresh_events(session).is_listed:
        backfill_state.note_listed(session.conn, session.partner_id)


def _visit(session: PartnerSession, race: PastRace, done: Slice, refusals: access.Refusals) -> None:
    """Read one race. Its failure is recorded.

    Raises:
        BudgetExhausted: no call is left.
        ApiError: the installation itself is rejected.
    """
    done.races += 1
    try:
        _race(session, race, done)
    except BudgetExhausted:
        raise
    except ApiError as error:
        _fail(session, race, error, done)
        if error.remedy is Remedy.FAIL_CONFIGURATION:
            raise
        refusals.note(race.race_id, error)
        if not done.sync.has_read:
            refusals.decide(early=True)
    except psycopg2.Error as error:
        # Somebody's lock on one race's rows leaves the other races.
        failure = database.find_statement_error(session.conn, error)
        if failure is None:
            raise
        _fail(session, race, failure, done)


def _select_unread(session: PartnerSession, race_id: int | None = None) -> list[PastRace]:
    """Return the races with something left, all or this one, except those that failed and are not due yet."""
    races = backfill_state.read_races_left(session.conn, session.partner_id, session.now(), race_id=race_id)
    # Retries are recorded by the database's clock, so they are due by it.
    now = backfill_state.read_database_time(session.conn)
    session.conn.rollback()
    latest = now + backfill_state.MAX_WAIT + AHEAD_TOLERANCE
    return [race for race in races if race.retry_at is None or not now < race.retry_at <= latest]


def _race(session: PartnerSession, race: PastRace, done: Slice) -> None:
    """Request the race's editions if that is due, and read its past events.

    Raises:
        ApiError: a call failed.
    """
    events = race.events
    if race.needs_catch_up:
        _catch_up(session, _planned(race, race.needs_catch_up), done)
    if race.needs_detail:
        listing.refresh_race(session, race.race_id, listing.EventsOutcome())
        backfill_state.note_detail(session.conn, session.partner_id, race.race_id)
        session.conn.commit()
        done.details += 1
        left = backfill_state.read_races_left(session.conn, session.partner_id, session.now(), race_id=race.race_id)
        events = left[0].events if left else ()
    if events:
        # A pass that a slice left unfinished continues with the events it began with.
        unfinished = backfill_state.read_open_pass_events(session.conn, session.partner_id, race.race_id)
        first = [event for event in events if event.event_id in unfinished]
        for part in (first, [event for event in events if event not in first]):
            by_id = {event.event_id: event for event in part}
            for ids in split_by_address(list(by_id)):
                _read(session, race, [by_id[event_id] for event_id in ids], done)
    backfill_state.note_success(session.conn, session.partner_id, race.race_id)
    backfill_state.wait_for_confirmation(session.conn, session.partner_id, race.race_id)
    session.conn.commit()


def _read(session: PartnerSession, race: PastRace, events: Sequence[PastEvent], done: Slice) -> None:
    """Make one pass over these events, or edition by edition if its first call is refused.

    Raises:
        ApiError: after every edition was tried.
    """
    result = _outcome(race, events)
    groups: list[list[PastEvent]] = group_editions(events)
    failed: list[tuple[list[PastEvent], ApiError]] = []
    try:
        _pass(session, result, done)
    except ApiError as error:
        if error.cause not in _OF_ONE_EDITION or result.pages:
            raise
        if error.cause is Cause.EVENT_NOT_FOUND:
            # One unknown event refuses the whole request, its own edition included.
            groups = [[event] for event in events]
        failed = [(groups[0], error)] if len(groups) == 1 else _read_each_event(session, race, groups, done)
    recent = [why for group, why in failed if not _is_unavailable(session, race, group, why)]
    if recent:
        # If a recent edition fails too, the old ones are not refused because of their age.
        raise recent[0]
    for group, why in failed:
        _record_unavailable(session, race, group, why, done)


def _read_each_event(
    session: PartnerSession, race: PastRace, groups: Sequence[list[PastEvent]], done: Slice
) -> list[tuple[list[PastEvent], ApiError]]:
    """Read the editions separately, and return those that failed, with the error.

    Raises:
        BudgetExhausted: no call is left.
    """
    failed = []
    for group in groups:
        try:
            _pass(session, _outcome(race, group), done)
        except BudgetExhausted:
            raise
        except ApiError as error:
            failed.append((group, error))
    return failed


def _is_unavailable(session: PartnerSession, race: PastRace, events: Sequence[PastEvent], error: ApiError) -> bool:
    lasting = error.cause in _UNAVAILABLE or (
        error.cause in _OF_ONE_EDITION and race.failures >= _MAX_CONSECUTIVE_FAILURES
    )
    return lasting and is_old(events, session.now())


def _outcome(race: PastRace, events: Sequence[PastEvent]) -> ReadOutcome:
    return ReadOutcome(_planned(race, [event.event_id for event in events]))


def _planned(race: PastRace, event_ids: Sequence[int]) -> PlannedRead:
    return PlannedRead(race.race_id, race.name, tuple(sorted(event_ids)), "history", "past editions")


def _pass(session: PartnerSession, result: ReadOutcome, done: Slice) -> None:
    try:
        partner_sync.read_race_with_refresh(session, result)
    except ApiError as error:
        if result.pages or not isinstance(error, BudgetExhausted):
            sync_outcome.record_read(session, done.sync, result, error)
        raise
    sync_outcome.record_read(session, done.sync, result, None)
    done.events += len(result.read.event_ids)
    if result.is_resumed:
        _catch_up(session, result.read, done)
    if result.unsettled:
        _pass(session, ReadOutcome(partner_sync.repeat_read(result)), done)


def _catch_up(session: PartnerSession, read: PlannedRead, done: Slice) -> None:
    """Read what changed on a pass's first pages since they were read, before a kill or an empty budget.

    Raises:
        ApiError: a call failed.
    """
    again = ReadOutcome(partner_sync.catch_up(session, read))
    partner_sync.read_race_with_refresh(session, again)
    sync_outcome.record_read(session, done.sync, again, None)
    backfill_state.note_caught_up(session.conn, session.partner_id, read.event_ids)


def _record_unavailable(
    session: PartnerSession, race: PastRace, events: Sequence[PastEvent], error: ApiError, done: Slice
) -> None:
    session.log(f"{_describe_race(race)}: unavailable: {counted(len(events), 'event')} of an old edition, {error}")
    backfill_state.note_unavailable(session.conn, session.partner_id, [event.event_id for event in events], str(error))
    session.conn.commit()
    done.unavailable += len(events)


def _fail(session: PartnerSession, race: PastRace, error: ApiError | StatementError, done: Slice) -> None:
    wait = retry_wait(race.failures + 1)
    backfill_state.note_failure(session.conn, session.partner_id, race.race_id, str(error), wait=wait)
    session.conn.commit()
    done.problems.append(f"race {race.race_id}: {error}")
    session.log(f"{_describe_race(race)}: FAILED: {error}. Retried in {wait.total_seconds() / 3600:.0f} h")


def _describe_race(race: PastRace) -> str:
    return f"race {race.race_id} {sanitize_for_display(race.name, sync_outcome.MAX_NAME_CHARS)!r}"


def _end(session: PartnerSession, done: Slice) -> None:
    """Record when the next slice may begin: at once, when calls are free again, or when a failed race is due."""
    left = backfill_state.read_races_left(session.conn, session.partner_id, session.now())
    backfill_state.forget_failures_of_others(session.conn, session.partner_id, [race.race_id for race in left])
    done.finished = not left
    wait = done.out_of_budget or 0.0
    if left and not wait and all(race.retry_at is not None for race in left):
        soonest = min(race.retry_at for race in left if race.retry_at is not None)
        wait = max(0.0, (soonest - backfill_state.read_database_time(session.conn)).total_seconds())
    backfill_state.end_slice(session.conn, session.partner_id, wait=wait, finished=done.finished)
