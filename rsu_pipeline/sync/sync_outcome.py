"""The outcome of a partner's sync: each read is recorded in it, in the race's access and in the sync log."""

import datetime as dt
from dataclasses import dataclass, field

from rsu_pipeline.display import counted, sanitize_for_display
from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline.sync import access, cadence, losses, read_plan
from rsu_pipeline.sync.access import Verdict
from rsu_pipeline.sync.race_pass import ReadOutcome
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse import containers, credentials, cursors, events, sync_log
from rsu_pipeline.warehouse.events import Access
from rsu_pipeline.warehouse.staging import Counts
from rsu_pipeline.warehouse.statement_errors import StatementError

MAX_NAME_CHARS = 80
"""Characters of a race's name in a line of a log."""
VERIFIED_FOR = dt.timedelta(hours=1)
"""How old a verification of access may be before a successful read renews it."""

# An incremental read that failed so may succeed as a full one, which needs no cursor.
_HEALED_BY_FULL = {Cause.REFUSED, Cause.UNKNOWN_SHAPE, Cause.EVENT_NOT_FOUND, Cause.UNSPECIFIED}


@dataclass
class SyncOutcome:
    """The result of reading a partner's registrations.

    `out_of_budget` is the number of seconds until a call is free if the budget ended the work, else None. `lost` has a sentence for
    each race that the partner can no longer read. `shared` are races that another sync read since this one was requested.
    `elsewhere` has a sentence for each race that was left to another sync, which has not finished it.
    """

    reads: list[ReadOutcome] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    calls: int = 0
    seconds: float = 0.0
    out_of_budget: float | None = None
    not_read: int = 0
    lost: dict[int, str] = field(default_factory=dict)
    shared: set[int] = field(default_factory=set)
    elsewhere: dict[int, str] = field(default_factory=dict)

    @property
    def has_read(self) -> bool:
        """Whether one race could be read, here or by another sync at the same time."""
        return bool(self.shared) or any(read.error is None for read in self.reads)

    @property
    def failed_reads(self) -> list[ReadOutcome]:
        """The reads that failed, except refusals of lost races."""
        return [
            read
            for read in self.reads
            if read.error and not (read.read.race_id in self.lost and _access_of(read.error))
        ]

    @property
    def unequal_events(self) -> list[int]:
        """Events whose stored rows differ from what a full read received."""
        return [event_id for read in self.reads for event_id in read.unequal]

    @property
    def failures(self) -> list[str]:
        """One sentence per failed race and per race with pending removals. A lost race is no failure."""
        failed = [f"{_describe_race(read)}: {read.error}" for read in self.failed_reads]
        held = [
            f"race {read.read.race_id}: removals pending confirmation ({item}): confirm with confirm_removals"
            for read in self.reads
            for item in read.refused
        ]
        return failed + held


def record_read(
    session: PartnerSession,
    outcome: SyncOutcome,
    result: ReadOutcome,
    error: ApiError | StatementError | None,
    *,
    quiet: bool = False,
) -> None:
    """Record one read, in the outcome, in the race's access, in the sync log.

    `quiet` leaves a read that found nothing out of the log, which a watch would fill with thousands a morning.
    """
    result.error = error
    outcome.reads.append(result)
    outcome.counts.add(result.counts)
    read, counts = result.read, result.counts
    answer = "granted" if error is None else _access_of(error)
    if answer and events.set_access(session.conn, session.partner_id, read.race_id, answer, session.now()):
        containers.settle_owners(session.conn, session.partner_id)
    if error is None:
        events.forget_refused(session.conn, session.partner_id, read.event_ids)
    cause = error.cause if isinstance(error, ApiError) else None
    if cause is Cause.EVENT_NOT_FOUND and len(read.event_ids) == 1:
        events.note_refused(session.conn, session.partner_id, read.event_ids, str(error))
    if cause is not None and read.mode == "incremental" and cause in _HEALED_BY_FULL:
        cursors.request_full_read(
            session.conn, session.partner_id, read.event_ids, f"incremental read failed: {cause.value}"
        )
    if quiet and error is None and _found_nothing(result):
        session.conn.commit()
        return
    trouble = bool(counts.quarantined or counts.with_faults or result.refused or result.unequal)
    sync_log.record(
        session.conn,
        partner_id=session.partner_id,
        race_id=read.race_id,
        event_ids=read.event_ids,
        operation=read.mode,
        status="failed" if error else "partial" if trouble else "completed",
        reason=str(error) if error else read.reason,
        run_id=session.run_id,
        seconds=result.seconds,
        counts=vars(counts) | {"calls": result.calls, "pages": result.pages},
        error=error.details() if error else {"removals_held_back": result.refused} if result.refused else None,
    )
    session.conn.commit()
    session.log(_line(result))


def _found_nothing(result: ReadOutcome) -> bool:
    """Return whether a poll brought nothing new.

    A full read that was due by itself is recorded even so. One of a small race replaces a poll.
    """
    is_poll = result.read.mode == "incremental" or result.read.reason == read_plan.SMALL_RACE
    has_problems = bool(result.newly_quarantined or result.refused or result.unequal)
    return is_poll and not result.counts.has_changes and not has_problems


def update_credential_status(
    session: PartnerSession, outcome: SyncOutcome, refusals: access.Refusals, *, listed_too: bool = True
) -> None:
    """Update the state of the credential and of the refused races at the end of a sync.

    One race that was read shows that the credential works. Refusals alone may show that it is rejected. `listed_too` is as for
    `losses.settle_losses`.

    Raises:
        CredentialRejected: the refusals are about the credential.
    """
    works = outcome.has_read
    if not works:
        works = refusals.decide() is Verdict.WORKS
    elif _is_stale(session):
        credentials.mark_verified(session.conn, session.credential_id)
    refused = [read.read.race_id for read in outcome.reads if _access_of(read.error)]
    if refused:
        found = losses.settle_losses(session, refused, credential_works=works, listed_too=listed_too)
        outcome.lost |= found.sentences
        outcome.counts.removed += found.removed


def _access_of(error: Exception | None) -> Access | None:
    """Return what the end of a read shows about the partner's access to the race, or None."""
    return losses.access_of(error) if isinstance(error, ApiError) else None


def _is_stale(session: PartnerSession) -> bool:
    verified, rejected = session.partner.verified_at, session.partner.rejected_at
    age = cadence.age(verified, session.now())
    return rejected is not None or age is None or age >= VERIFIED_FOR


def _describe_race(result: ReadOutcome) -> str:
    """Return the race by id, with the event if RunSignup refused that event alone."""
    race = f"race {result.read.race_id}"
    is_of_event = isinstance(result.error, ApiError) and result.error.cause is Cause.EVENT_NOT_FOUND
    return f"{race}, event {result.read.event_ids[0]}" if is_of_event and len(result.read.event_ids) == 1 else race


def _line(result: ReadOutcome) -> str:
    read, counts = result.read, result.counts
    head = f"{_describe_race(result)} {sanitize_for_display(read.race_name, MAX_NAME_CHARS)!r}, {read.mode} ({read.reason})"
    if result.error:
        return f"{head}: FAILED: {result.error}"
    went_on = ", resumed an earlier run" if result.is_resumed else ""
    return (
        f"{head}: {counts.read} read, {counts.inserted} new, {counts.updated + counts.reactivated} changed,"
        f" {counts.unchanged} unchanged, {counts.removed} removed, {counts.quarantined} quarantined,"
        f" {counted(counts.bib_changes, 'bib change')}, {counted(result.calls, 'call')}, {result.seconds:.1f} s{went_on}"
    )
