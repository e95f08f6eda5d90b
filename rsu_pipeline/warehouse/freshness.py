"""The health of the whole fleet: a row per partner, and when each upcoming event was last read.

Every query is one statement, for any number of partners.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.backfill_state import PAST_EVENTS
from rsu_pipeline.warehouse.credentials import PROVIDER
from rsu_pipeline.warehouse.event_times import IS_UPCOMING, NEEDS_CLOSING_READ
from rsu_pipeline.warehouse.fleet import CALL_BUDGET

_SQL = load(
    __file__,
    IS_UPCOMING=IS_UPCOMING,
    NEEDS_CLOSING_READ=NEEDS_CLOSING_READ,
    PAST_EVENTS=PAST_EVENTS,
    CALL_BUDGET=CALL_BUDGET,
)

CredentialState = Literal["off", "none", "incomplete", "refused", "untried", "unverified", "works"]


@dataclass(frozen=True)
class PartnerHealth:
    """A partner in figures.

    `credential` is off for a disabled partner, incomplete for one whose key or secret is blank, unverified for one that was tried
    without a race that could be read. `failures` counts what failed at
    its last attempt: races with upcoming events, the listing, and past editions. `changed` and the bibs are of the last 24 hours.
    Bib seconds run from RunSignup's change to the stored row, and are None if nothing changed. `past_events` is None if no backfill
    was requested. `calls` are those of the last hour with the partner's API key: partners with the same `call_budget_id` share the
    key, and have the same.
    """

    partner_id: int
    key: str | None
    credential: CredentialState
    races_ahead: int
    events_ahead: int
    last_sync: dt.datetime | None
    failures: int
    call_budget_id: int | None
    calls: int
    registrations: int
    changed: int
    held_back: int
    with_faults: int
    bibs: int
    bib_seconds_p95: float | None
    bib_seconds_max: float | None
    past_events: int | None
    past_events_settled: int | None
    history_complete: bool | None

    @property
    def is_synced(self) -> bool:
        """Whether this partner is to be synced. A rejected credential is to be corrected, not ignored."""
        return self.key is not None and self.credential in ("refused", "untried", "unverified", "works")


def read_partner_health(conn: Connection, now: dt.datetime) -> list[PartnerHealth]:
    """Return every partner, in order of id, disabled ones included."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_partner_health"], {"provider": PROVIDER, "now": now})
        return [PartnerHealth(*row) for row in cur.fetchall()]


@dataclass(frozen=True)
class EventRead:
    """An upcoming event of a partner that is to be synced.

    `read_at` is None if it was never read to its end, `known_since` is when both the event and the present credential were known.
    Partners with the same `call_budget_id` share one API key and its calls.
    """

    partner_id: int
    key: str
    call_budget_id: int
    race_id: int
    event_id: int
    starts_at: dt.datetime | None
    ends_at: dt.datetime | None
    read_at: dt.datetime | None
    known_since: dt.datetime
    registrations: int
    needs_full: bool


def read_event_reads(conn: Connection, now: dt.datetime) -> list[EventRead]:
    """Return every event that is upcoming at `now` or due for a closing read, of every partner to sync."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_event_reads"], {"provider": PROVIDER, "now": now})
        return [EventRead(*row) for row in cur.fetchall()]


def list_synced_partners(conn: Connection, now: dt.datetime) -> set[int]:
    """Return the partners of which everything upcoming at `now` was read, or tried without success."""
    with conn.cursor() as cur:
        cur.execute(_SQL["list_synced_partners"], {"now": now})
        return {partner_id for (partner_id,) in cur.fetchall()}


def count_bibs_by_hour(conn: Connection, now: dt.datetime) -> list[tuple[dt.datetime, int, float | None]]:
    """Return, for each of the last 24 hours with bib changes, its beginning, their count, and their 95th percentile of seconds."""
    with conn.cursor() as cur:
        cur.execute(_SQL["count_bibs_by_hour"], {"now": now})
        return cur.fetchall()
