"""Bibs given here that are sent to RunSignup: the events that allow it, what is to be sent, and what became of it.

A push is recorded before the call. What it led to is settled by the merge of a read that shows it, in the statement that writes
the bib log. So a process may be killed anywhere: a bib that arrived is one row of the log, with `hub` as its source, and a bib
that did not arrive is none.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.errors import RsuError
from rsu_pipeline.sql_files import load


class BibPushError(RsuError):
    """Bibs cannot be sent. The text is one sentence: why, and the next step."""


@dataclass(frozen=True)
class PushEvent:
    """An event of a partner whose bibs could be sent. `allowed_at` is None unless that is allowed."""

    partner_id: int
    partner: str
    race_id: int
    race: str
    event_id: int
    event: str
    allowed_at: dt.datetime | None = None
    allowed_by: str | None = None


@dataclass(frozen=True)
class BibRow:
    """A registration with its bibs: `bib` counts at RunSignup, its own or its team's, and `local_bib` was given here."""

    registration_id: int
    name: str
    bib: str | None
    local_bib: str | None
    is_active: bool = True


@dataclass(frozen=True)
class PushCounts:
    """Pushes of an event by what became of them. `open` ones were sent, and no read has shown an outcome."""

    open: int = 0
    confirmed: int = 0
    overtaken: int = 0
    refused: int = 0


def find_event(conn: Connection, event_id: int, partner_id: int | None = None) -> PushEvent:
    """Return an event of this partner, or of the only one that can read it.

    Raises:
        BibPushError: there is none, or there are several.
    """
    with conn.cursor() as cur:
        cur.execute(_SQL["find_events"], {"event": event_id, "partner": partner_id})
        found = [PushEvent(*row) for row in cur.fetchall()]
    if not found:
        whose = "" if partner_id is None else f" of partner {partner_id}"
        raise BibPushError(f"There is no event {event_id}{whose}. `rsu sync` reads new events.")
    if len(found) > 1:
        partners = ", ".join(item.partner for item in found)
        raise BibPushError(f"Event {event_id} belongs to several partners ({partners}). Name one with --partner.")
    return found[0]


def list_allowed(conn: Connection) -> list[PushEvent]:
    """Return the events whose bibs may be sent."""
    with conn.cursor() as cur:
        cur.execute(_SQL["list_allowed"])
        return [PushEvent(*row) for row in cur.fetchall()]


def allow(conn: Connection, event: PushEvent, who: str) -> None:
    """Allow that the event's bibs are sent. The caller commits."""
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO bib_push_events (timing_partner_id, event_id, allowed_by) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (event.partner_id, event.event_id, who),
        )


def forbid(conn: Connection, event: PushEvent) -> None:
    """Allow it no longer. The caller commits."""
    with conn.cursor() as cur:
        cur.execute(
            "DELETE FROM bib_push_events WHERE timing_partner_id = %s AND event_id = %s",
            (event.partner_id, event.event_id),
        )


def is_allowed(conn: Connection, event: PushEvent) -> bool:
    """Return whether the event's bibs may be sent now."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT EXISTS (SELECT FROM bib_push_events WHERE timing_partner_id = %s AND event_id = %s)",
            (event.partner_id, event.event_id),
        )
        ((is_there,),) = cur.fetchall()
    return bool(is_there)


def read_bibs(conn: Connection, event: PushEvent) -> dict[int, BibRow]:
    """Return the event's registrations that have a bib, here or at RunSignup, by id. Removed ones have only what is here."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_bibs"], {"partner": event.partner_id, "event": event.event_id})
        return {row[0]: BibRow(*row) for row in cur.fetchall()}


def record_pushes(conn: Connection, event: PushEvent, bibs: Mapping[int, int], *, who: str, run_id: str) -> None:
    """Record that these bibs are sent, by registration id. The caller commits before the call."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["record_pushes"],
            {
                "partner": event.partner_id,
                "race": event.race_id,
                "event": event.event_id,
                # In one order, so that two sessions cannot wait for each other.
                "registrations": sorted(bibs),
                "bibs": [str(bibs[number]) for number in sorted(bibs)],
                "who": who,
                "run": run_id,
            },
        )


def record_answers(conn: Connection, event: PushEvent, bibs: Mapping[int, int], answers: Mapping[int, str]) -> None:
    """Record what RunSignup answered for each registration. The caller commits."""
    numbers = sorted(answers)
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE bib_pushes u SET answer = a.answer"
            " FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS a (registration_id, bib, answer)"
            " WHERE u.timing_partner_id = %s AND u.registration_id = a.registration_id AND u.bib = a.bib AND u.outcome IS NULL",
            (numbers, [str(bibs[n]) for n in numbers], [answers[n] for n in numbers], event.partner_id),
        )


def settle(conn: Connection, event: PushEvent, refused: Sequence[int]) -> None:
    """Settle pushes that a read has shown to be without effect: refused ones, and those of removed registrations.

    The caller commits.
    """
    with conn.cursor() as cur:
        cur.execute(_SQL["settle"], {"partner": event.partner_id, "event": event.event_id, "refused": sorted(refused)})


def count_pushes(conn: Connection, partner_id: int, event_id: int) -> PushCounts:
    """Return the pushes of an event by what became of them."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT coalesce(outcome, 'open'), count(*) FROM bib_pushes WHERE timing_partner_id = %s AND event_id = %s GROUP BY 1",
            (partner_id, event_id),
        )
        return PushCounts(**dict(cur.fetchall()))


_SQL = load(__file__)
