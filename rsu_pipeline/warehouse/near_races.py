"""Queries of the race-day board: each race near its start, recent bib changes, and entrants without a bib."""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.credentials import PROVIDER
from rsu_pipeline.warehouse.event_times import is_on_board
from rsu_pipeline.warehouse.fleet import ACTIVE, CALL_BUDGET

LAST_BIB_WITHIN = dt.timedelta(hours=24)
"""How far back the last bib of a race is searched."""


@dataclass(frozen=True)
class NearRace:
    """A race of a partner with a near event: one that is in its window or starts within a day.

    Attributes:
        call_budget_id: as in `fleet.FleetRace`.
        zone: RunSignup's name of the race's zone, None if it sends none.
        times: (start, end) instants of its near events.
        is_rejected: whether RunSignup rejects the partner's credential.
        is_denied: whether it denies access to this race.
        refused_events: near events that RunSignup refuses one by one.
        read_at: when the stalest near event was last read, None if one was never read.
        failed_at: when its last attempt failed, None if that succeeded.
        failure: why, in one sentence.
        entrants: entrants on the start lists of its near events. `with_bib` and `duplicate_bibs` likewise.
        events_without_list: near events that have no start list yet.
        held_back: quarantined rows of these events.
        last_bib: the last bib set, None if the last change cleared one, or none changed within a day.
        last_bib_kind: assigned, changed or cleared. None if none changed.
        last_bib_modified_at: when RunSignup changed the registration, by its clock.
        last_bib_recorded_at: when the change was stored here.
    """

    partner_id: int
    key: str
    call_budget_id: int
    race_id: int
    name: str
    zone: str | None
    times: tuple[tuple[dt.datetime | None, dt.datetime | None], ...]
    is_rejected: bool
    is_denied: bool
    refused_events: int
    read_at: dt.datetime | None
    failed_at: dt.datetime | None
    failure: str | None
    entrants: int
    with_bib: int
    duplicate_bibs: int
    events_without_list: int
    held_back: int
    last_bib: str | None
    last_bib_kind: Literal["assigned", "changed", "cleared"] | None
    last_bib_modified_at: dt.datetime | None
    last_bib_recorded_at: dt.datetime | None

    @property
    def number(self) -> tuple[int, int]:
        """The ids of the partner and of the race."""
        return self.partner_id, self.race_id

    @property
    def without_bib(self) -> int:
        """How many entrants have no bib."""
        return self.entrants - self.with_bib


@dataclass(frozen=True)
class BibChange:
    """A row of the bib log with the present name of the entrant."""

    key: str
    race_id: int
    event_id: int
    event: str
    registration_id: int
    name: str
    kind: Literal["assigned", "changed", "cleared"]
    old_bib: str | None
    new_bib: str | None
    modified_at: dt.datetime | None
    recorded_at: dt.datetime


@dataclass(frozen=True)
class Entrant:
    """An entrant of a near event without a bib."""

    key: str
    race_id: int
    event_id: int
    event: str
    registration_id: int
    name: str


_SQL = load(__file__, ACTIVE=ACTIVE, CALL_BUDGET=CALL_BUDGET, IS_ON_BOARD=is_on_board("%(now)s::timestamptz"))


def read_near_races(conn: Connection, now: dt.datetime) -> list[NearRace]:
    """Return every race with a near event, in order of partner and race."""
    with conn.cursor() as cur:
        cur.execute(_SQL["find_near_races"], _parameters(now, None, None))
        return [
            NearRace(*(*row[:6], tuple(zip(row[6], row[7], strict=True)), *row[8:]))  # the times of its events
            for row in cur.fetchall()
        ]


def read_bib_changes(
    conn: Connection,
    now: dt.datetime,
    since: dt.datetime,
    *,
    partner_id: int | None = None,
    race_id: int | None = None,
) -> list[BibChange]:
    """Return the changes of bibs in near events that were stored since then, newest first."""
    with conn.cursor() as cur:
        cur.execute(_SQL["find_bib_changes"], _parameters(now, partner_id, race_id) | {"since": since})
        return [BibChange(*row) for row in cur.fetchall()]


def read_entrants_without_bib(
    conn: Connection, now: dt.datetime, *, partner_id: int | None = None, race_id: int | None = None
) -> list[Entrant]:
    """Return the entrants of near events who have no bib, first start first, then by name."""
    with conn.cursor() as cur:
        cur.execute(_SQL["find_entrants_without_bib"], _parameters(now, partner_id, race_id))
        return [Entrant(*row) for row in cur.fetchall()]


def _parameters(now: dt.datetime, partner_id: int | None, race_id: int | None) -> dict[str, object]:
    return {
        "now": now,
        "provider": PROVIDER,
        "partner": partner_id,
        "race": race_id,
        "last_bib_within": LAST_BIB_WITHIN,
    }
