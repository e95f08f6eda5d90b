"""A partner's sync in three steps: its races and events, the plan, the registrations of its future events.

One race's failure is recorded and the next race goes on; only a spent budget, a refused credential or a refused
installation end the partner's work.
"""

import datetime as dt
import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

from rsu_pipeline.runsignup import values
from rsu_pipeline.runsignup.client import RacePage
from rsu_pipeline.runsignup.errors import ApiError, BudgetExhausted, Cause, Remedy
from rsu_pipeline.runsignup.payloads import Event, Race
from rsu_pipeline.sync import plan as planning
from rsu_pipeline.sync.desk import CredentialRejected, Desk
from rsu_pipeline.sync.plan import Plan, PlannedRead
from rsu_pipeline.sync.reading import ReadOutcome, read_race
from rsu_pipeline.sync.rows import event_row, race_row
from rsu_pipeline.warehouse import credentials, cursors, events, history
from rsu_pipeline.warehouse.staging import Counts

CHECK_TRIES = 3
"""Races tried before a credential is taken for refused: a partner may have lost one and kept the others."""

# An incremental read that failed so may succeed as a full one, which needs no cursor.
_HEALED_BY_FULL = {Cause.REFUSED, Cause.UNKNOWN_SHAPE, Cause.EVENT_NOT_FOUND, Cause.UNSPECIFIED}


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
    """Brings the partner's races and events up to date: the listing, and the full detail of races that are new or have
    changed and may have an edition ahead. Raises ApiError and CredentialRejected; then nothing of the listing is
    stored."""
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
    pages = [desk.client.races_page(1)]
    while not pages[-1].is_last:
        pages.append(desk.client.races_page(len(pages) + 1))
    listed = _distinct(pages)
    outcome.problems += [row.reason for page in pages for row in page.unreadable]
    known = events.known_races(desk.conn, desk.partner_id)
    _prove_access(desk, listed, known)
    _store(desk, listed, outcome)
    outcome.races = len(listed)
    outcome.races_unlisted = events.mark_unlisted(desk.conn, desk.partner_id, [race.race_id for race in listed])
    desk.conn.commit()
    read_before = events.details_as_of(desk.conn, [race.race_id for race in listed])
    for race in listed:
        if _wants_detail(race, read_before.get(race.race_id), desk.now()):
            try:
                refresh_race(desk, race.race_id, outcome)
            except ApiError as error:
                if error.remedy in (Remedy.WAIT_FOR_BUDGET, Remedy.FAIL_CONFIGURATION):
                    raise
                outcome.problems.append(str(error))


def refresh_race(desk: Desk, race_id: int, outcome: EventsOutcome) -> None:
    """Reads a race's full detail and stores it; events it no longer has are marked as gone. Raises ApiError."""
    race, _ = desk.client.race(race_id)
    outcome.details_read += 1
    present, unreadable = _store(desk, [race], outcome)
    if not unreadable:
        outcome.events_gone += events.mark_detail(desk.conn, race_id, present)
    desk.conn.commit()


def make_plan(
    desk: Desk, *, incremental_days: float | None = None, force_full: bool = False, race_ids: Sequence[int] = ()
) -> Plan:
    """Decides what a sync will read and writes it to `future_events`. `race_ids` keeps the plan returned to these races;
    PartnerError when one of them has no future event of this partner."""
    everything = events.events_of(desk.conn, desk.partner_id)
    held = cursors.event_cursors(desk.conn, desk.partner_id)
    plan = planning.plan(
        everything,
        held,
        desk.now(),
        incremental_days=desk.settings.incremental_days if incremental_days is None else incremental_days,
        full_read_up_to_rows=desk.settings.full_read_up_to_rows,
        force_full=force_full,
    )
    events.replace_plan(desk.conn, desk.partner_id, [item.row() for item in plan.events])
    desk.conn.commit()
    if not race_ids:
        return plan
    if unknown := sorted(set(race_ids) - {item.event.race_id for item in plan.events}):
        raise credentials.PartnerError(f"Partner {desk.key} has no race with future events numbered {unknown}.")
    return Plan(
        [item for item in plan.events if item.event.race_id in race_ids],
        [read for read in plan.reads if read.race_id in race_ids],
    )


@dataclass
class SyncOutcome:
    """What reading a partner's registrations did. `out_of_budget` is the number of seconds until a call is free when
    the budget ended the work, else None."""

    reads: list[ReadOutcome] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    calls: int = 0
    seconds: float = 0.0
    out_of_budget: float | None = None
    not_read: int = 0

    @property
    def unequal_events(self) -> list[int]:
        """Events whose stored rows are not what a full read was sent."""
        return [event_id for read in self.reads for event_id in read.unequal]

    @property
    def failures(self) -> list[str]:
        """One sentence for each race that failed, and for each whose removals were held back."""
        failed = [f"race {read.read.race_id}: {read.error}" for read in self.reads if read.error]
        held = [
            f"race {read.read.race_id}: removals held back ({item}); confirm with confirm_removals"
            for read in self.reads
            for item in read.refused
        ]
        return failed + held


def sync_participants(
    desk: Desk,
    plan: Plan,
    *,
    confirm_removals: bool = False,
    on_read: Callable[[int, int, ReadOutcome], None] = lambda done, total, outcome: None,
) -> SyncOutcome:
    """Does the plan's reads, the nearest race first. A race that fails is recorded and the rest go on. `on_read` is told
    after each. Raises CredentialRejected when every race refused the credential, ApiError when the installation itself
    is refused, each after what came before is stored."""
    started, calls = time.monotonic(), desk.ledger.calls
    outcome = SyncOutcome()
    waiting = deque(plan.reads)
    while waiting:
        result = ReadOutcome(waiting.popleft())
        try:
            _read(desk, result, confirm_removals)
        except BudgetExhausted as error:
            outcome.out_of_budget = error.frees_in
            outcome.not_read = len(waiting) + 1
            if result.pages:
                _keep(desk, outcome, result, error)
            break
        except ApiError as error:
            _keep(desk, outcome, result, error)
            if error.remedy is Remedy.FAIL_CONFIGURATION:
                raise
        else:
            _keep(desk, outcome, result, None)
            if result.resumed:
                waiting.appendleft(_catch_up(desk, result.read))
        on_read(len(outcome.reads), len(outcome.reads) + len(waiting), result)
    outcome.calls = desk.ledger.calls - calls
    outcome.seconds = time.monotonic() - started
    _judge_credential(desk, outcome)
    return outcome


def _read(desk: Desk, result: ReadOutcome, confirm_removals: bool) -> None:
    """One read; an event deleted at RunSignup fails the whole call, so its race's events are looked up and the read
    goes on with those that are left."""
    try:
        read_race(desk, result.read, result, confirm_removals=confirm_removals)
    except ApiError as error:
        if error.cause is not Cause.EVENT_NOT_FOUND:
            raise
        refresh_race(desk, result.read.race_id, EventsOutcome())
        left = {event.event_id for event in events.events_of(desk.conn, desk.partner_id)}
        ids = tuple(event_id for event_id in result.read.event_ids if event_id in left)
        if ids == result.read.event_ids:
            raise
        desk.say(f"race {result.read.race_id}: {len(result.read.event_ids) - len(ids)} events are gone at RunSignup")
        cursors.drop_pass(desk.conn, desk.partner_id, result.read.race_id, result.read.mode)
        desk.conn.commit()
        read = result.read
        result.read = PlannedRead(read.race_id, read.race_name, ids, read.mode, read.reason, read.modified_after)
        if ids:
            read_race(desk, result.read, result, confirm_removals=confirm_removals)


def _catch_up(desk: Desk, read: PlannedRead) -> PlannedRead:
    """After a pass that went on where an earlier run stopped: what changed on its first pages since they were read."""
    held = cursors.event_cursors(desk.conn, desk.partner_id)
    since = min(held[event_id].modified_after for event_id in read.event_ids)
    reason = "changes since the interrupted pass began"
    return PlannedRead(read.race_id, read.race_name, read.event_ids, "incremental", reason, since)


def _keep(desk: Desk, outcome: SyncOutcome, result: ReadOutcome, error: ApiError | None) -> None:
    """Records one read, in the outcome, in the history, in the race's access."""
    result.error = error
    outcome.reads.append(result)
    outcome.counts.add(result.counts)
    read, counts = result.read, result.counts
    if error is None:
        events.set_access(desk.conn, desk.partner_id, read.race_id, "granted")
    elif error.cause is Cause.NO_ACCESS:
        events.set_access(desk.conn, desk.partner_id, read.race_id, "denied")
    if error is not None and read.mode == "incremental" and error.cause in _HEALED_BY_FULL:
        cursors.ask_for_full(
            desk.conn, desk.partner_id, read.event_ids, f"incremental read failed: {error.cause.value}"
        )
    trouble = bool(counts.quarantined or counts.with_faults or result.refused or result.unequal)
    history.record(
        desk.conn,
        partner_id=desk.partner_id,
        race_id=read.race_id,
        event_ids=read.event_ids,
        operation=read.mode,
        status="failed" if error else "partial" if trouble else "completed",
        reason=str(error) if error else read.reason,
        run_id=desk.run_id,
        seconds=result.seconds,
        counts=vars(counts) | {"calls": result.calls, "pages": result.pages},
        error=_details(error) if error else {"removals_held_back": result.refused} if result.refused else None,
    )
    desk.conn.commit()
    desk.say(_line(result))


def _judge_credential(desk: Desk, outcome: SyncOutcome) -> None:
    """Every race refused: it is the credential. One race read: it works."""
    refused = [
        read for read in outcome.reads if isinstance(read.error, ApiError) and read.error.cause is Cause.NO_ACCESS
    ]
    if outcome.reads and len(refused) == len(outcome.reads):
        _reject(desk, str(refused[0].error))
    elif any(read.error is None for read in outcome.reads):
        credentials.mark_verified(desk.conn, desk.credential_id)


def _reject(desk: Desk, reason: str) -> None:
    credentials.mark_rejected(desk.conn, desk.credential_id, reason)
    raise CredentialRejected(
        f"RunSignup refuses the credential of partner {desk.key} ({reason}): enter the right key and secret with"
        " `rsu partners add`."
    )


def _prove_access(desk: Desk, listed: Sequence[Race], known: Container[int]) -> None:
    """`/races` ignores a wrong key and answers with the public list, so a listing that brings races not seen before is
    believed only if one of them can be read: one call more, each time races are new. An earlier proof does not do, since
    a key can be revoked at any moment. Raises CredentialRejected."""
    new = [race for race in listed if race.race_id not in known]
    if new and access_works(desk, new) is False:
        _reject(desk, "no race of its listing can be read")


def access_works(desk: Desk, races: Sequence[Race]) -> bool | None:
    """Whether one of the first few of these races with an event can be read; None when none has an event. Records
    success."""
    answer: bool | None = None
    tried = 0
    for race in races:
        decoded, _ = race.decoded_events()
        if not decoded:
            continue
        if desk.client.has_access(race.race_id, decoded[0].event_id):
            credentials.mark_verified(desk.conn, desk.credential_id)
            return True
        answer = False
        tried += 1
        if tried == CHECK_TRIES:
            break
    return answer


def check_access(desk: Desk) -> bool | None:
    """Whether the partner's credential can read one of its races; None when it has no race with an event to tell by.
    Records the answer. Raises ApiError."""
    works = access_works(desk, desk.client.races_page(1).races)
    if works is False:
        credentials.mark_rejected(desk.conn, desk.credential_id, "no race of its listing can be read")
    return works


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
            row, faults = event_row(event, race)
            event_rows.append(row)
            present.append(event.event_id)
            outcome.problems += [f"event {event.event_id}: {fault}" for fault in faults]
    outcome.problems += unreadable
    written = events.store_races(desk.conn, desk.partner_id, desk.key, race_rows)
    outcome.races_written += written.inserted + written.updated
    written = events.store_events(desk.conn, desk.partner_id, desk.key, event_rows)
    outcome.events_written += written.inserted + written.updated
    return present, unreadable


def _wants_detail(race: Race, detail_as_of: dt.datetime | None, now: dt.datetime) -> bool:
    """The listing has a race's current edition only. Its full detail is read when the race is new or changed since,
    and only if an edition may lie ahead: those of races that are past are history's business."""
    try:
        changed = (
            detail_as_of is None or race.last_modified is None or values.wall_time(race.last_modified) != detail_as_of
        )
    except ValueError:
        changed = True
    return changed and _may_lie_ahead(race, now)


def _may_lie_ahead(race: Race, now: dt.datetime) -> bool:
    if race.next_date or race.next_end_date:
        return True
    decoded, unreadable = race.decoded_events()
    # Two days' grace: the wall times here are of any zone.
    horizon = now.replace(tzinfo=None) - dt.timedelta(days=2)
    return bool(unreadable) or any(_starts_after(event, horizon) for event in decoded)


def _starts_after(event: Event, horizon: dt.datetime) -> bool:
    times = [text for text in (event.start_time, event.end_time) if text]
    try:
        return not times or max(values.wall_time(text) for text in times) >= horizon
    except ValueError:
        return True


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
        error=_details(error) if isinstance(error, ApiError) else {"message": str(error)} if error else None,
    )
    desk.conn.commit()


def _details(error: ApiError) -> dict[str, object]:
    return {"cause": error.cause.value, "remedy": error.remedy.value, "code": error.code, "message": str(error)}


def _line(result: ReadOutcome) -> str:
    read, counts = result.read, result.counts
    head = f"race {read.race_id} {read.race_name!r}, {read.mode} ({read.reason})"
    if result.error:
        return f"{head}: FAILED, {result.error}"
    went_on = ", went on where an earlier run stopped" if result.resumed else ""
    return (
        f"{head}: {counts.read} read, {counts.inserted} new, {counts.updated + counts.reactivated} changed,"
        f" {counts.unchanged} as they were, {counts.removed} removed, {counts.quarantined} held back,"
        f" {counts.bib_changes} bib changes, {result.calls} calls, {result.seconds:.1f} s{went_on}"
    )
