"""Decide what a refusal means: for the one race that was refused, or for the partner's whole credential.

RunSignup answers a wrong key and lost access to a single race alike (code 7, seen in recorded exchanges). So one refusal
concerns one race. A credential is rejected only when several relevant races refuse, none can be read, and no other race of
the partner answers either. The listing, syncs, the watch and backfills all decide here.
"""

import datetime as dt
import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from rsu_pipeline.runsignup import values
from rsu_pipeline.runsignup.api_errors import ApiError, BudgetExhausted, Cause, Remedy
from rsu_pipeline.runsignup.payload_decoding import decode_events
from rsu_pipeline.runsignup.payloads import Event, Race
from rsu_pipeline.sync import cadence
from rsu_pipeline.sync.session import CredentialRejected, PartnerSession
from rsu_pipeline.warehouse import containers, credentials, events
from rsu_pipeline.warehouse.events import AccessCandidate

MAX_REFUSALS = 6
"""Refusals after which no further race is requested.

A director who withdraws the partner takes several races away at once, and the races of others can still be read.
"""
MAX_FAILURES = 6
"""Inconclusive answers (server errors, unknown events) after which no further race is requested."""
MIN_TELLING_REFUSALS = 2
"""A partner may have lost one race and kept the others, so a sample of one never rejects a credential."""
REFUSED_EVERY_RACE = "it refuses every race that was requested with this key and secret"
"""Why a credential is rejected after its listing was checked."""
VERIFIED_RECENTLY = dt.timedelta(minutes=10)
"""How long a read that succeeded outweighs the refusal of one race.

It keeps the watch from requesting other races at each poll of a race that it may not read.
"""


class Verdict(enum.Enum):
    """The state of a credential after some races were requested."""

    WORKS = "works"
    REJECTED = "rejected"
    UNDECIDED = "undecided"


@dataclass
class Evidence:
    """The result of requesting races: the first readable one, those that refused, and inconclusive errors.

    `is_exhausted` means that every candidate was requested.
    """

    readable: int | None = None
    refused: list[AccessCandidate] = field(default_factory=list)
    failures: list[ApiError] = field(default_factory=list)
    is_exhausted: bool = True


def judge_credential(evidence: Evidence) -> Verdict:
    """Return what the evidence shows about the credential.

    A race counts if it could be read before or is upcoming: RunSignup may refuse old editions for their age. Races that
    could not be requested leave the question open.
    """
    if evidence.readable is not None:
        return Verdict.WORKS
    telling = [race for race in evidence.refused if race.was_readable or race.is_upcoming]
    if len(telling) >= MIN_TELLING_REFUSALS and not evidence.failures:
        return Verdict.REJECTED
    return Verdict.UNDECIDED


def order_candidates(candidates: Collection[AccessCandidate], now: dt.datetime) -> list[AccessCandidate]:
    """Return the races in the order of requests: upcoming before past, readable before unknown, near before far."""

    def rank(race: AccessCandidate) -> tuple[bool, bool, float]:
        distance = abs((race.starts_at - now).total_seconds()) if race.starts_at else float("inf")
        return (not race.is_upcoming, not race.was_readable, distance)

    return sorted(candidates, key=rank)


def stored_candidates(session: PartnerSession) -> list[AccessCandidate]:
    """Return the partner's listed races that have an event to request, as stored now."""
    found = events.read_access_candidates(session.conn, session.partner_id, session.now())
    session.conn.rollback()
    return found


def verify_listing(session: PartnerSession, listed: Sequence[Race], known: Collection[int]) -> bool:
    """Check that a listing is the partner's own. Record and return whether a race could be read.

    `/races` ignores a wrong key and returns the public list. So a listing with races not seen before is trusted only if a
    race can be read. One new race that cannot be read never discards the others.

    Raises:
        CredentialRejected: several upcoming or formerly readable races refuse and none can be read.
        ApiError: there are more new races than were requested, and every request failed.
    """
    if all(race.race_id in known for race in listed):
        return False
    evidence = find_readable_race(session, _candidates(session, listed))
    verdict = _judge_listing(session, listed, evidence)
    if verdict is Verdict.REJECTED:
        mark_credential_rejected(session, REFUSED_EVERY_RACE)
    if verdict is Verdict.UNDECIDED and evidence.failures and not evidence.is_exhausted:
        raise evidence.failures[0]
    return verdict is Verdict.WORKS


def _judge_listing(session: PartnerSession, listed: Sequence[Race], evidence: Evidence) -> Verdict:
    """Return what the evidence shows about the credential, given the listing that it got."""
    verdict = judge_credential(evidence)
    if verdict is Verdict.REJECTED and _lacks_public_race(session, listed, evidence.refused):
        return Verdict.UNDECIDED
    return verdict


def _lacks_public_race(session: PartnerSession, listed: Sequence[Race], refused: Sequence[AccessCandidate]) -> bool:
    """Return whether a listing lacks a public race that exists and refuses, which the public list would have.

    Such a listing was made for the partner, who lost access to that race.
    """
    unlisted = {race.race_id for race in refused} - {race.race_id for race in listed}
    races = containers.read_partner_races(session.conn, session.partner_id, sorted(unlisted), session.now())
    session.conn.rollback()
    return any(race.is_public for race in races)


def check_access(session: PartnerSession) -> Verdict | None:
    """Request the listing and then races. Record and return the verdict, None if no race has an event to request.

    Raises:
        ApiError: the listing or every requested race failed.
    """
    listed = session.client.races_page(1).races
    candidates = _candidates(session, listed)
    if not candidates:
        return None
    evidence = find_readable_race(session, candidates)
    verdict = _judge_listing(session, listed, evidence)
    if verdict is Verdict.UNDECIDED and evidence.failures and not evidence.refused:
        raise evidence.failures[0]
    if verdict is Verdict.REJECTED:
        credentials.mark_rejected(session.conn, session.credential_id, REFUSED_EVERY_RACE)
    return verdict


class Refusals:
    """The races that refused in one sync or slice, and what is concluded from them, once.

    `candidates` are the partner's races as stored before a refusal is recorded. By default they are read at the first one.
    """

    def __init__(self, session: PartnerSession, candidates: Sequence[AccessCandidate] = ()) -> None:
        self._session = session
        self._candidates = candidates
        self._reason = ""
        self._race_ids: set[int] = set()
        self._verdict: Verdict | None = None

    def note(self, race_id: int, error: ApiError) -> None:
        """Record an error of a race. Only a refusal of access counts."""
        if error.cause is not Cause.NO_ACCESS:
            return
        self._candidates = self._candidates or stored_candidates(self._session)
        self._reason = self._reason or str(error)
        self._race_ids.add(race_id)

    def decide(self, *, early: bool = False) -> Verdict:
        """Decide about the credential after refusals, if no race was read, and return the verdict.

        `early` decides only after MAX_REFUSALS refusals, when requesting the partner's other races would waste calls. A rejected
        credential with which nothing was read, as of a partner without upcoming events, is tried at one of its races.

        Raises:
            CredentialRejected: the refusals are about the credential and no other race can be read.
        """
        if self._verdict is not None:
            return self._verdict
        is_unread = not self._race_ids and self._session.partner.rejected_at is not None
        if is_unread and not early:
            self._candidates = self._candidates or stored_candidates(self._session)
        elif not self._race_ids or (early and len(self._race_ids) < MAX_REFUSALS):
            return Verdict.UNDECIDED
        self._verdict = Verdict.UNDECIDED
        if len(self._race_ids) < MIN_TELLING_REFUSALS and _is_verified_recently(self._session):
            self._verdict = Verdict.WORKS
            return self._verdict
        try:
            evidence = find_readable_race(
                self._session, [race for race in self._candidates if race.race_id not in self._race_ids]
            )
        except BudgetExhausted:
            self._session.log("no call is left to verify the credential")
            return self._verdict
        evidence.refused += [race for race in self._candidates if race.race_id in self._race_ids]
        self._verdict = judge_credential(evidence)
        if self._verdict is Verdict.REJECTED:
            mark_credential_rejected(self._session, self._reason or REFUSED_EVERY_RACE)
        return self._verdict


def _is_verified_recently(session: PartnerSession) -> bool:
    verified = session.partner.verified_at
    age = cadence.age(verified, session.now())
    return session.partner.rejected_at is None and age is not None and age < VERIFIED_RECENTLY


def find_readable_race(session: PartnerSession, candidates: Collection[AccessCandidate]) -> Evidence:
    """Request races, one call each, until one can be read, some refused, or some failed. Record a success.

    Raises:
        ApiError: the installation itself is rejected, or the call budget is used up.
    """
    evidence = Evidence()
    for race in order_candidates(candidates, session.now()):
        if len(evidence.refused) == MAX_REFUSALS or len(evidence.failures) == MAX_FAILURES:
            evidence.is_exhausted = False
            break
        try:
            session.client.participants_page(race.race_id, [race.event_id], after=0, size=1)
        except ApiError as error:
            if error.remedy in (Remedy.WAIT_FOR_BUDGET, Remedy.FAIL_CONFIGURATION):
                raise
            if error.cause is Cause.NO_ACCESS:
                evidence.refused.append(race)
            else:
                evidence.failures.append(error)
            continue
        credentials.mark_verified(session.conn, session.credential_id)
        evidence.readable = race.race_id
        break
    return evidence


def mark_credential_rejected(session: PartnerSession, reason: str) -> NoReturn:
    """Record that RunSignup rejects the partner's credential, and raise CredentialRejected."""
    credentials.mark_rejected(session.conn, session.credential_id, reason)
    raise CredentialRejected(
        f"RunSignup rejects the credential of partner {session.key} ({reason}): enter the right key and secret with"
        " `rsu partners add`."
    )


def _candidates(session: PartnerSession, listed: Sequence[Race]) -> list[AccessCandidate]:
    """Return the races that can be requested: those stored as listed, and those of a listing that are new or listed again."""
    stored = stored_candidates(session)
    known = {race.race_id for race in stored}
    unseen = [_candidate(race, session.now()) for race in listed if race.race_id not in known]
    return [*stored, *(race for race in unseen if race is not None)]


def _candidate(race: Race, now: dt.datetime) -> AccessCandidate | None:
    """Return a listed race as a candidate, or None if it has no event."""
    decoded, _ = decode_events(race)
    if not decoded:
        return None
    event = max(decoded, key=lambda item: _starts(item) or dt.datetime.min.replace(tzinfo=dt.UTC))
    starts_at = _starts(event)
    is_upcoming = not cadence.is_over(starts_at, None, now)
    return AccessCandidate(race.race_id, event.event_id, False, is_upcoming, starts_at)


def _starts(event: Event) -> dt.datetime | None:
    """Return an event's start as if its zone were UTC, which is close enough to sort by.

    As in `runsignup_events`, what is no time and a time of the year 1 or 9999 are no start.
    """
    try:
        return values.instant_in(str(event.start_time), dt.UTC) if event.start_time else None
    except ValueError:
        return None
