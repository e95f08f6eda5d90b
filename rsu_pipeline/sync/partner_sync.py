"""A partner's sync in three steps: its races and events, the plan, the registrations of its upcoming events.

One race's failure is recorded and the next race continues. Only a used-up budget, a rejected credential or a rejected
installation end the partner's sync. Several syncs of one partner share its races (see `sharing`).
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import psycopg2

from rsu_pipeline.runsignup.api_errors import ApiError, BudgetExhausted, Cause, Remedy
from rsu_pipeline.sync import access, event_refresh, read_plan, sharing
from rsu_pipeline.sync.listing import EventsOutcome, refresh_events, refresh_race
from rsu_pipeline.sync.race_pass import ReadOutcome, read_race
from rsu_pipeline.sync.read_plan import Plan, PlannedRead
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.sync.sync_outcome import SyncOutcome, record_read, update_credential_status
from rsu_pipeline.warehouse import containers, credentials, cursors, database, events


def make_plan(
    session: PartnerSession,
    *,
    incremental_days: float | None = None,
    force_full: bool = False,
    race_ids: Sequence[int] = (),
    is_whole_visit: bool = False,
) -> Plan:
    """Decide what a sync will read and write it to `future_events`.

    `race_ids` limits the returned plan to these races. `is_whole_visit` reads each race in full that fits one page.

    Raises:
        PartnerError: one of these races has no upcoming event of this partner.
    """
    # A lost race is requested all the same if it is named.
    everything = [
        replace(event, lost=event.lost and event.race_id not in race_ids)
        for event in events.read_events(session.conn, session.partner_id)
    ]
    held = cursors.read_event_cursors(session.conn, session.partner_id)
    present = session.clock.present()
    small = session.settings.full_read_up_to_rows
    plan = read_plan.plan_reads(
        everything,
        held,
        present.now,
        incremental_days=session.settings.incremental_days if incremental_days is None else incremental_days,
        full_read_up_to_rows=read_plan.whole_visit_rows(small, session.settings.page_size) if is_whole_visit else small,
        force_full=force_full,
        also=present.also,
        include=session.settings.include,
    )
    events.replace_plan(session.conn, session.partner_id, [item.row() for item in plan.events])
    session.conn.commit()
    if unknown := sorted(set(race_ids) - {item.event.race_id for item in plan.events}):
        raise credentials.PartnerError(f"Partner {session.key} has no race with future events numbered {unknown}.")
    return plan.only(set(race_ids)) if race_ids else plan


def sync_participants(
    session: PartnerSession,
    plan: Plan,
    *,
    confirm_removals: bool = False,
    with_removed: bool = True,
    quiet: bool = False,
    max_stall: float | None = None,
    on_read: Callable[[int, int, ReadOutcome], None] = lambda done, total, outcome: None,
) -> SyncOutcome:
    """Make the plan's reads, the nearest race first. A race that fails is recorded and the rest continue.

    A race that another sync is reading is waited for, see `sharing`, which explains `max_stall`. `with_removed` false leaves the
    removed registrations for a later sync. `quiet` leaves reads that found nothing out of the sync log. `on_read` is called after
    each read. What came before an error is stored.

    Raises:
        CredentialRejected: the refusals of races are about the credential (see `access`).
        ApiError: the installation itself is rejected.
    """
    started, calls = time.monotonic(), session.ledger.calls
    outcome = SyncOutcome()
    if confirm_removals:
        _confirm_vanished(session, plan, outcome)
    refusals = access.Refusals(session)
    options = _Options(confirm_removals, with_removed, quiet, on_read)
    reads = _Reads(session, plan, outcome, refusals, options)
    outcome.elsewhere = sharing.read_in_turn(session, list(reads.waiting), reads.read_planned, max_stall=max_stall)
    if not quiet:
        for sentence in outcome.elsewhere.values():
            session.log(sentence)
    try:
        update_credential_status(session, outcome, refusals)
    finally:
        outcome.calls = session.ledger.calls - calls
        outcome.seconds = time.monotonic() - started
    if not quiet:
        containers.link_transfers(session.conn, session.partner_id, session.now())
    session.renew_request()
    return outcome


@dataclass(frozen=True)
class _Options:
    """How to read, as for `sync_participants`."""

    confirm_removals: bool
    with_removed: bool
    quiet: bool
    on_read: Callable[[int, int, ReadOutcome], None]


class _Reads:
    """The reads of a sync, race by race. `waiting` has those that are still to be made, by race."""

    def __init__(
        self, session: PartnerSession, plan: Plan, outcome: SyncOutcome, refusals: access.Refusals, options: _Options
    ) -> None:
        self._partner_session = session
        self._outcome = outcome
        self._refusals = refusals
        self._options = options
        self.waiting: dict[int, deque[PlannedRead]] = {}
        for read in plan.reads:
            self.waiting.setdefault(read.race_id, deque()).append(read)

    def read_planned(self, race_id: int) -> bool:
        """Make the reads of a race, under its lock, and return whether the sync continues."""
        waiting = self.waiting[race_id]
        while waiting:
            read = waiting.popleft()
            if self._is_read_elsewhere(read):
                self._outcome.shared.add(race_id)
            elif not self._read(read, waiting):
                return False
        del self.waiting[race_id]
        return True

    def _is_read_elsewhere(self, read: PlannedRead) -> bool:
        """Return whether another sync's read, begun after this sync was requested, replaces this one."""
        if self._options.confirm_removals:
            return False
        session, full = self._partner_session, read.mode == "full" and read.reason != read_plan.SMALL_RACE
        numbers = cursors.read_read_numbers(session.conn, session.partner_id, read.event_ids, full=full)
        session.conn.rollback()
        return session.is_read_elsewhere(numbers)

    def _read(self, read: PlannedRead, waiting: deque[PlannedRead]) -> bool:
        """Make one read. Further reads that it causes are put before what is `waiting`."""
        session, outcome, options = self._partner_session, self._outcome, self._options
        result = ReadOutcome(read)
        try:
            event_refresh.refresh_before_closing(session, read)
            read_race_with_refresh(
                session, result, confirm_removals=options.confirm_removals, with_removed=options.with_removed
            )
        except BudgetExhausted as error:
            outcome.out_of_budget = error.frees_in
            outcome.not_read = self._left() + 1
            if result.pages:
                record_read(session, outcome, result, error)
            return False
        except ApiError as error:
            if parts := split_read(result, error):
                waiting.extendleft(reversed(parts))
                return True
            self._refusals.note(read.race_id, error)
            record_read(session, outcome, result, error)
            if error.remedy is Remedy.FAIL_CONFIGURATION:
                raise
            if not outcome.has_read:
                self._refusals.decide(early=True)
        except psycopg2.Error as error:
            # Somebody's lock on one race's rows leaves the other races.
            failure = database.find_statement_error(session.conn, error)
            if failure is None:
                raise
            record_read(session, outcome, result, failure)
        else:
            record_read(session, outcome, result, None, quiet=options.quiet)
            if result.unsettled:
                waiting.appendleft(repeat_read(result))
            if result.is_resumed:
                waiting.appendleft(catch_up(session, result.read))
        options.on_read(len(outcome.reads), len(outcome.reads) + self._left(), result)
        return True

    def _left(self) -> int:
        return sum(map(len, self.waiting.values()))


@dataclass
class PartnerSync:
    """The result of a partner's visit.

    `events` is None if the listing was not due. `plan` has everything upcoming, of which what was due was read.
    """

    events: EventsOutcome | None
    plan: Plan
    sync: SyncOutcome


def sync_partner(session: PartnerSession, *, race_ids: Sequence[int] | None, relist: bool) -> PartnerSync:
    """Sync a partner: the listing if `relist`, the plan, and the registrations of these races and of any never read.

    With `race_ids` None, as in the nightly sync, it reads all races, each in full that fits one page, and shows the end of the
    listing too. Raises what its steps raise.
    """
    refreshed = refresh_events(session, show_end=race_ids is None) if relist else None
    plan = due = make_plan(session, is_whole_visit=race_ids is None)
    if race_ids is not None:
        new = {read.race_id for read in plan.reads if read.reason == read_plan.FIRST_READ}
        due = plan.only(new | set(race_ids))
    return PartnerSync(refreshed, plan, sync_participants(session, due))


def read_race_with_refresh(
    session: PartnerSession, result: ReadOutcome, *, confirm_removals: bool = False, with_removed: bool = True
) -> None:
    """Make one read, filling `result`.

    An event that was deleted at RunSignup fails the whole call, so its race's events are requested, and the read continues with
    those that are left.
    """
    try:
        read_race(session, result.read, result, confirm_removals=confirm_removals, with_removed=with_removed)
    except ApiError as error:
        if error.cause is not Cause.EVENT_NOT_FOUND:
            raise
        refreshed = EventsOutcome()
        refresh_race(session, result.read.race_id, refreshed)
        result.counts.removed += refreshed.registrations_removed
        left = {event.event_id for event in events.read_events(session.conn, session.partner_id)}
        ids = tuple(event_id for event_id in result.read.event_ids if event_id in left)
        if ids == result.read.event_ids:
            raise
        session.log(f"race {result.read.race_id}: {len(result.read.event_ids) - len(ids)} events are gone at RunSignup")
        cursors.drop_pass(session.conn, session.partner_id, result.read.race_id, result.read.mode)
        session.conn.commit()
        result.read = replace(result.read, event_ids=ids)
        if ids:
            read_race(session, result.read, result, confirm_removals=confirm_removals, with_removed=with_removed)


def catch_up(session: PartnerSession, read: PlannedRead) -> PlannedRead:
    """Return the read of what changed on the first pages of a resumed pass since they were read."""
    held = cursors.read_event_cursors(session.conn, session.partner_id)
    since = min(held[event_id].modified_after for event_id in read.event_ids)
    reason = "changes since the interrupted pass began"
    return PlannedRead(read.race_id, read.race_name, read.event_ids, "incremental", reason, since)


def repeat_read(result: ReadOutcome) -> PlannedRead:
    """Return the read that settles the events of a resumed pass that were not reconciled: all of their pages again."""
    reason = "changed while an interrupted pass was under way"
    return replace(result.read, event_ids=tuple(result.unsettled), reason=reason)


def split_read(result: ReadOutcome, error: ApiError) -> list[PlannedRead]:
    """Return the parts in which to repeat a pass that RunSignup refuses for one event among several, or none.

    RunSignup answers 301 for the whole request, so halving finds the event with the fewest calls.
    """
    read, ids = result.read, result.read.event_ids
    if error.cause is not Cause.EVENT_NOT_FOUND or len(ids) < 2 or result.pages:
        return []
    return [replace(read, event_ids=part) for part in (ids[: len(ids) // 2], ids[len(ids) // 2 :])]


def _confirm_vanished(session: PartnerSession, plan: Plan, outcome: SyncOutcome) -> None:
    """Read the details that lacked events again, of the plan's races or of all, and count what they lack as gone."""
    planned = {read.race_id for read in plan.reads}
    vanished = events.find_races_with_vanished_events(session.conn, session.partner_id)
    session.conn.rollback()
    for race_id in vanished:
        if plan.is_partial and race_id not in planned:
            continue
        refreshed = EventsOutcome()
        refresh_race(session, race_id, refreshed, is_confirmed=True)
        outcome.counts.removed += refreshed.registrations_removed
