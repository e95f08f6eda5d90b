"""Remove registrations together with their event, their race, or the access to it, and restore them.

`sync.losses` and `sync.vanished` decide what is gone. Here it is recorded, one partner at a time: a partner's rows are
written only under the lock of their race. A row keeps the reason of its first removal. What comes back is read in full,
which activates the rows that RunSignup still has.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse import race_locks
from rsu_pipeline.warehouse.event_times import CLOSING_READ_WITHIN, ENDS_AT, IS_UPCOMING, OVER_AT

LossReason = Literal["race_deleted", "access_lost"]

AWAITS_RETURN = "back after it was gone or not readable"
"""Why an event needs a full read once RunSignup has it again."""
TRANSFERRED_WITHIN = dt.timedelta(days=7)
"""How long after its deletion the entrants of an event are searched in other events of the race."""


@dataclass(frozen=True)
class PartnerRace:
    """A partner's access to a race.

    The fields are RunSignup's last answer and since when it is the same, whether the last listing had the race, whether it is
    public, and why it is lost (None: it is not).
    """

    race_id: int
    access: str
    since: dt.datetime | None
    is_listed: bool
    is_public: bool
    is_upcoming: bool
    lost_reason: LossReason | None


@dataclass(frozen=True)
class RaceToCheck:
    """A race that is lost or unlisted, with its events, the latest first, by which it can be requested."""

    race_id: int
    event_ids: list[int]
    is_lost: bool
    is_upcoming: bool


def read_partner_races(
    conn: Connection, partner_id: int, race_ids: Sequence[int], now: dt.datetime
) -> list[PartnerRace]:
    """Return the partner's access to these races."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["read_partner_races"],
            {"partner": partner_id, "races": list(race_ids), "now": now},
        )
        return [PartnerRace(*row) for row in cur.fetchall()]


def read_races_to_check(conn: Connection, partner_id: int, now: dt.datetime) -> list[RaceToCheck]:
    """Return the partner's lost and unlisted races to request from RunSignup now, those with upcoming events first."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["find_races_to_check"],
            {"partner": partner_id, "now": now},
        )
        return [RaceToCheck(*row) for row in cur.fetchall()]


def check_next_at(conn: Connection, partner_id: int, race_id: int, at: dt.datetime | None) -> None:
    """Record when a lost or unlisted race is requested next."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE partner_races SET check_at = %s WHERE timing_partner_id = %s AND race_id = %s",
            (at, partner_id, race_id),
        )


def mark_lost(conn: Connection, partner_id: int, race_id: int, reason: LossReason, now: dt.datetime) -> None:
    """Record that the partner cannot read the race any more. Nothing of it is due until it can."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE partner_races SET lost_at = coalesce(lost_at, %s), lost_reason = %s"
            " WHERE timing_partner_id = %s AND race_id = %s",
            (now, reason, partner_id, race_id),
        )
        cur.execute(
            "UPDATE history_races SET error = NULL, retry_at = NULL, failures = 0"
            " WHERE timing_partner_id = %s AND race_id = %s",
            (partner_id, race_id),
        )


def read_races_to_settle(
    conn: Connection, partner_id: int, now: dt.datetime, race_ids: Sequence[int] | None = None
) -> list[int]:
    """Return the races of the partner, of these or of all, for which take_along or restore_old has something to do."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["find_races_to_settle"],
            {
                "partner": partner_id,
                "now": now,
                "awaits": AWAITS_RETURN,
                "due": CLOSING_READ_WITHIN,
                "races": None if race_ids is None else list(race_ids),
            },
        )
        return [race_id for (race_id,) in cur.fetchall()]


def update_registrations(conn: Connection, partner_id: int, race_id: int, now: dt.datetime) -> int:
    """Mark the partner's active registrations of the race's gone events as removed, or all of them if the race is lost.

    Return how many. An event of a race that the partner has no link to was moved there.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["remove_registrations"], {"partner": partner_id, "race": race_id, "now": now, "awaits": AWAITS_RETURN}
        )
        (removed,) = cur.fetchone() or (0,)
    return int(removed)


def restore_old(conn: Connection, partner_id: int, race_id: int, now: dt.datetime) -> int:
    """Activate the registrations of the race's events that are back and too old to be read again, and return how many."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["restore_old"],
            {
                "partner": partner_id,
                "race": race_id,
                "now": now,
                "awaits": AWAITS_RETURN,
                "due": CLOSING_READ_WITHIN,
            },
        )
        (restored,) = cur.fetchone() or (0,)
    return int(restored)


def link_transfers(conn: Connection, partner_id: int, now: dt.datetime) -> int:
    """Give registrations of deleted events a pointer to their successors, and return how many.

    RunSignup returns nothing about a deleted event, its transfers included. The successor is the only active registration
    of the same account, name and birth date in the same race that was added after the event was last read.
    """
    race_locks.wait_for_turn(conn, partner_id)
    with conn.cursor() as cur:
        cur.execute(_SQL["link_transfers"], {"partner": partner_id, "since": now - TRANSFERRED_WITHIN})
        return int(cur.rowcount)


def settle_owners(conn: Connection, partner_id: int) -> None:
    """Set the owner of the partner's races and their events to the partner that can read them now.

    Rows that another partner's sync is writing are left to that sync.
    """
    with conn.cursor() as cur:
        cur.execute(_SQL["settle_owners"], {"partner": partner_id})


_IS_TAKEN = "(e.gone_at IS NOT NULL OR l.race_id IS NULL OR l.lost_at IS NOT NULL)"
"""SQL: whether an event (e) is gone, or its race is lost to the partner (l, a left join)."""

_IS_BACK = f"(c.needs_full = %(awaits)s AND NOT {_IS_TAKEN} AND {OVER_AT} <= %(now)s::timestamptz - %(due)s::interval)"
"""SQL: whether an event (e), its cursor (c) and the partner's link to its race (l) are back and too old to be read again."""

_SQL = load(__file__, ENDS_AT=ENDS_AT, IS_UPCOMING=IS_UPCOMING, IS_TAKEN=_IS_TAKEN, IS_BACK=_IS_BACK)
