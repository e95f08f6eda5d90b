"""Decide when a race is lost to a partner, and mark its registrations accordingly.

A race is lost when RunSignup no longer has it (201) or denies the partner access (7). Two answers must agree:

- the listing lacks the race and its participants are refused, or
- its participants are refused for a day though the listing has it.

A refusal of access counts only while the credential works: a race was read with it, or the listing lacks a race that is
public. With a wrong key RunSignup lists every public race, so such a listing was made for the partner. A race that does not
exist needs no credential: RunSignup checks the race before it checks permissions.

What is lost is no longer due. A listing requests it occasionally, and what can be read again is due at once.
"""

import datetime as dt
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from rsu_pipeline.runsignup.api_errors import ApiError, BudgetExhausted, Cause, Remedy
from rsu_pipeline.sync import access
from rsu_pipeline.sync.access import Verdict
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse import containers, events, race_locks
from rsu_pipeline.warehouse.containers import LossReason, PartnerRace, RaceToCheck
from rsu_pipeline.warehouse.events import Access

REFUSED_THOUGH_LISTED = dt.timedelta(hours=24)
"""How long a race that the listing has must be refused until it is lost."""
CHECK_EVERY = dt.timedelta(hours=24)
CHECK_EVERY_IF_OVER = dt.timedelta(days=7)
"""How often an unlisted, lost race without upcoming events is requested. One that is listed again is requested at once."""
MAX_EVENTS = 3
"""Events by which one race is requested, where RunSignup does not have the ones before."""
MAX_CHECKS = 25
"""Lost and unlisted races requested with one listing."""

SETTLE_WAIT_SECONDS = 5.0
"""How long the registrations of a race that is gone or lost wait for a reader of it."""

_ANSWERS: dict[Cause, Access] = {Cause.NO_ACCESS: "denied", Cause.RACE_NOT_FOUND: "not_found"}
_SENTENCES = {
    "race_deleted": "RunSignup no longer has it",
    "access_lost": "the partner no longer has access to it",
}


@dataclass
class Losses:
    """The races that were lost: a sentence by race, and how many registrations were marked as removed with them.

    `stale` are races that were requested with an event that RunSignup does not have.
    """

    sentences: dict[int, str] = field(default_factory=dict)
    removed: int = 0
    stale: list[int] = field(default_factory=list)


def access_of(error: ApiError) -> Access | None:
    """Return what an error shows about the partner's access to the race, or None."""
    return _ANSWERS.get(error.cause)


def judge_loss(race: PartnerRace, now: dt.datetime, *, credential_works: bool) -> LossReason | None:
    """Return why a race that was just refused is lost, or None if that is not certain."""
    if race.access == "not_found":
        reason: LossReason = "race_deleted"
    elif race.access == "denied" and (credential_works or (race.is_public and not race.is_listed)):
        reason = "access_lost"
    else:
        return None
    is_lasting = race.since is not None and now - race.since >= REFUSED_THOUGH_LISTED
    return reason if is_lasting or not race.is_listed else None


def next_check(race: PartnerRace) -> dt.timedelta | None:
    """Return how long after a check a lost or unlisted race is requested again, None for the next listing."""
    if race.lost_reason and race.is_upcoming and race.is_listed:
        return None
    is_over = race.lost_reason and not race.is_listed and not race.is_upcoming
    return CHECK_EVERY_IF_OVER if is_over else CHECK_EVERY


def settle_losses(
    session: PartnerSession, race_ids: Sequence[int], *, credential_works: bool, listed_too: bool = True
) -> Losses:
    """Record which of these races, just refused, are lost, and mark their registrations as removed. Commits.

    Args:
        session: The partner's session.
        race_ids: The races that were refused.
        credential_works: Whether a race could just be read with the credential.
        listed_too: Whether races that the listing has may be lost. RunSignup may refuse old editions for their age.
    """
    found = Losses()
    now = session.now()
    for race in containers.read_partner_races(session.conn, session.partner_id, race_ids, now):
        reason = race.lost_reason
        if reason is None and (listed_too or not race.is_listed):
            reason = judge_loss(race, now, credential_works=credential_works)
        if reason is not None:
            containers.mark_lost(session.conn, session.partner_id, race.race_id, reason, now)
            found.sentences[race.race_id] = f"race {race.race_id}: {_SENTENCES[reason]}"
    if found.sentences:
        session.conn.commit()
        found.removed = update_registrations_of_losses(session, list(found.sentences))
        containers.settle_owners(session.conn, session.partner_id)
        for sentence in found.sentences.values():
            session.log(f"{sentence}, its registrations are marked as removed")
    _schedule_checks(session, list(found.sentences))
    session.conn.commit()
    return found


def update_registrations_of_losses(session: PartnerSession, race_ids: Sequence[int] | None = None) -> int:
    """Update the registrations of these races, or of all, after what is gone, lost or back. Return how many were removed.

    Commits. A race that another session is reading is left to the next listing.
    """
    now, removed = session.now(), 0
    waiting = containers.read_races_to_settle(session.conn, session.partner_id, now, race_ids)
    session.conn.rollback()
    for race_id in waiting:
        lock = race_locks.race_lock(session.conn, session.partner_id, race_id, wait=SETTLE_WAIT_SECONDS)
        with suppress(race_locks.ReadElsewhere), lock:
            removed += containers.update_registrations(session.conn, session.partner_id, race_id, now)
            containers.restore_old(session.conn, session.partner_id, race_id, now)
            session.conn.commit()
    return removed


def check_races(session: PartnerSession) -> Losses:
    """Request the partner's lost and unlisted races that are due for it, one call each, and settle their state.

    Raises:
        ApiError: the installation itself is rejected.
        CredentialRejected: the refusals are about the credential.
    """
    now = session.now()
    due = containers.read_races_to_check(session.conn, session.partner_id, now)[:MAX_CHECKS]
    session.conn.rollback()
    asked = []
    refusals = access.Refusals(session)
    refused, stale, is_any_readable = [], [], False
    for race in due:
        try:
            error = _request_race(session, race)
        except BudgetExhausted:
            # These can wait, and the remaining calls are for registrations.
            break
        asked.append(race.race_id)
        is_any_readable = is_any_readable or error is None
        if error is not None and error.cause is Cause.EVENT_NOT_FOUND:
            stale.append(race.race_id)
        if error is None or (answer := access_of(error)) is None:
            continue
        refused.append(race.race_id)
        if not race.is_lost:
            refusals.note(race.race_id, error)
        events.set_access(session.conn, session.partner_id, race.race_id, answer, now)
        session.conn.commit()
    works = is_any_readable or refusals.decide() is Verdict.WORKS
    found = settle_losses(session, refused, credential_works=works)
    found.stale = stale
    # A stale one is requested with another event at the next listing.
    _schedule_checks(session, [race_id for race_id in asked if race_id not in stale])
    session.conn.commit()
    return found


def _schedule_checks(session: PartnerSession, race_ids: Sequence[int]) -> None:
    now = session.now()
    for race in containers.read_partner_races(session.conn, session.partner_id, race_ids, now):
        wait = next_check(race)
        containers.check_next_at(session.conn, session.partner_id, race.race_id, now + wait if wait else None)


def _request_race(session: PartnerSession, race: RaceToCheck) -> ApiError | None:
    """Request one registration of the race, which is not stored. Return the error, or None if the race could be read.

    An event that RunSignup does not have shows nothing about the race, so another one is requested. Of past editions the race's
    detail shows first whether the event is gone.
    """
    error: ApiError | None = None
    for event_id in race.event_ids[: MAX_EVENTS if race.is_upcoming else 1]:
        error = _request_event(session, race.race_id, event_id)
        if error is None or error.cause is not Cause.EVENT_NOT_FOUND:
            break
    if error is not None:
        return error
    events.set_access(session.conn, session.partner_id, race.race_id, "granted", session.now())
    session.conn.commit()
    return None


def _request_event(session: PartnerSession, race_id: int, event_id: int) -> ApiError | None:
    try:
        session.client.participants_page(race_id, [event_id], after=0, size=1)
    except ApiError as error:
        if error.remedy in (Remedy.WAIT_FOR_BUDGET, Remedy.FAIL_CONFIGURATION):
            raise
        return error
    return None
