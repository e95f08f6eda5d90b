"""Send bibs given here to RunSignup, for an event that allows it.

Each batch is preceded by a read of the race, whose rows the plan is made from, and followed by another, which shows what became of
it. RunSignup has no conditional write, so a bib that somebody gives there in between is replaced: MAX_SECONDS_AFTER_READ bounds
that time. What RunSignup answers to a write is shown, and never counts as evidence.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from rsu_pipeline.errors import RsuError
from rsu_pipeline.runsignup.api_errors import ApiError, BudgetExhausted, Cause
from rsu_pipeline.sync import partner_sync
from rsu_pipeline.sync.bib_push_plan import Decision, plan_pushes
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse import bib_pushes
from rsu_pipeline.warehouse.bib_pushes import BibPushError, PushEvent

BATCH = 50
"""Bibs of one call. PikaTimer sends all of an event in one. A batch that is refused is halved, so few name the one at fault."""
MAX_SECONDS_AFTER_READ = 30.0
"""Seconds after the begin of a read within which its batch is sent."""
MAX_FAILED_CALLS = 3
"""Calls in a row that were refused, or got no slot in time, after which nothing more is sent."""
ACCEPTED = "accepted"
NOT_NAMED = "not named in the answer"


class ReadTooOld(RsuError):
    """The read before a write is too old. Nothing was sent."""


@dataclass
class PushReport:
    """The result of sending an event's bibs.

    `decisions` are those of the last read. `sent` has each registration that was sent a bib with RunSignup's answer, `confirmed`
    those of them whose bib that read had, `failure` why not everything was sent.
    """

    event: PushEvent
    decisions: list[Decision] = field(default_factory=list)
    sent: dict[int, str] = field(default_factory=dict)
    confirmed: list[int] = field(default_factory=list)
    failure: str | None = None

    @property
    def unconfirmed(self) -> list[int]:
        """The registrations that were sent a bib that the last read did not have."""
        return sorted(self.sent.keys() - set(self.confirmed))

    @property
    def problems(self) -> list[Decision]:
        """The bibs that were not sent, with the reason."""
        return [item for item in self.decisions if item.kind in ("conflict", "invalid")]

    @property
    def is_complete(self) -> bool:
        """Whether RunSignup has every bib that was given here."""
        return self.failure is None and not self.unconfirmed and not self.problems


def push_bibs(
    session: PartnerSession, event: PushEvent, *, who: str, only: Collection[int] | None = None
) -> PushReport:
    """Send the event's bibs to RunSignup and read what became of them.

    Raises:
        BibPushError: it is not allowed for the event, or the race could not be read, so that nothing was sent.
    """
    push = _Push(session, event, who)
    before = bib_pushes.read_bibs(session.conn, event)
    while True:
        began = time.monotonic()
        _refuse_unless_allowed(session, event)
        if problem := _read_race(session, event):
            push.note_unread(problem)
            break
        push.report.decisions = plan_pushes(bib_pushes.read_bibs(session.conn, event), before, only)
        session.conn.rollback()
        batch = push.next_batch()
        if not batch:
            break
        push.send(batch, began)
    push.conclude()
    return push.report


class _Push:
    """Bibs being sent. `size` is that of the next batch, `failed` the calls in a row that achieved nothing."""

    def __init__(self, session: PartnerSession, event: PushEvent, who: str) -> None:
        self._partner_session, self._event, self._who = session, event, who
        self.report = PushReport(event)
        self._size, self._failed = BATCH, 0
        self._refused: list[int] = []

    def next_batch(self) -> dict[int, int]:
        """Return the bibs to send next by registration id, none after a failure."""
        if self.report.failure:
            return {}
        waiting = [
            item
            for item in self.report.decisions
            if item.kind == "send" and item.registration_id not in self.report.sent
        ]
        return {item.registration_id: item.number for item in waiting[: self._size]}

    def note_unread(self, problem: str) -> None:
        """Note that the race could not be read.

        Raises:
            BibPushError: nothing was sent yet.
        """
        if not self.report.sent:
            raise BibPushError(f"Nothing was sent, because race {self._event.race_id} could not be read: {problem}.")
        self.report.failure = self.report.failure or f"what was sent is not confirmed: {problem}"

    def send(self, batch: dict[int, int], began: float) -> None:
        """Record a batch, send it, and note RunSignup's answer. `began` is when the read before it began."""

        def check() -> None:
            if time.monotonic() - began > MAX_SECONDS_AFTER_READ:
                raise ReadTooOld(f"the read before the write is older than {MAX_SECONDS_AFTER_READ:g} s")

        session, event = self._partner_session, self._event
        bib_pushes.record_pushes(session.conn, event, batch, who=self._who, run_id=session.run_id)
        session.conn.commit()
        try:
            answered = session.client.set_bibs(event.race_id, event.event_id, batch, check)
        except ReadTooOld as error:
            self._note_failed_call(str(error))
        except BudgetExhausted as error:
            self.report.failure = str(error)
        except ApiError as error:
            self._note_error(batch, error)
        else:
            self._failed, self._size = 0, min(BATCH, self._size * 2)
            self._note_answers(batch, {n: ACCEPTED if n in answered else NOT_NAMED for n in batch})

    def _note_error(self, batch: dict[int, int], error: ApiError) -> None:
        is_refusal = error.cause is Cause.REFUSED and error.code is not None
        if is_refusal and len(batch) > 1:
            # One bib of several is enough to refuse all: halving finds it with the fewest calls.
            self._size = len(batch) // 2
            return
        self._note_answers(batch, dict.fromkeys(batch, str(error)))
        if is_refusal:
            self._refused += batch
            self._note_failed_call(str(error))
        else:
            # Whether RunSignup stored them is not known. The next read shows it, and nothing more is sent.
            self.report.failure = str(error)

    def _note_failed_call(self, reason: str) -> None:
        self._failed += 1
        if self._failed >= MAX_FAILED_CALLS:
            self.report.failure = reason

    def _note_answers(self, batch: dict[int, int], answers: dict[int, str]) -> None:
        self.report.sent |= answers
        bib_pushes.record_answers(self._partner_session.conn, self._event, batch, answers)
        self._partner_session.conn.commit()

    def conclude(self) -> None:
        """Settle what the last read has shown, and note what it confirmed."""
        present = {item.registration_id for item in self.report.decisions if item.kind == "present"}
        self.report.confirmed = sorted(present & self.report.sent.keys())
        conn = self._partner_session.conn
        bib_pushes.settle(conn, self._event, [number for number in self._refused if number not in present])
        conn.commit()


def _refuse_unless_allowed(session: PartnerSession, event: PushEvent) -> None:
    is_allowed = bib_pushes.is_allowed(session.conn, event)
    session.conn.rollback()
    if not is_allowed:
        raise BibPushError(
            f"Bibs of event {event.event_id} may not be sent to RunSignup. `rsu bibs allow {event.event_id}` allows it."
        )


def _read_race(session: PartnerSession, event: PushEvent) -> str | None:
    """Read the event's race as a sync does, and return why that failed, or None."""
    plan = partner_sync.make_plan(session, race_ids=[event.race_id])
    if event.event_id not in {item.event.event_id for item in plan.events}:
        return f"event {event.event_id} is over"
    outcome = partner_sync.sync_participants(session, plan, quiet=True)
    if outcome.out_of_budget is not None:
        return f"the call budget is used up; the next call is free in {outcome.out_of_budget:.0f} s"
    if outcome.elsewhere or outcome.lost:
        return next(iter((outcome.elsewhere or outcome.lost).values()))
    failed = outcome.failed_reads
    return str(failed[0].error) if failed else None
