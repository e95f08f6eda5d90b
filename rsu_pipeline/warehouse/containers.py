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
            f"""
            SELECT l.race_id, l.access, l.access_changed_at, l.unlisted_at IS NULL,
                r.is_private_race IS FALSE AND r.is_draft_race IS FALSE,
                EXISTS (SELECT FROM runsignup_events e WHERE e.race_id = l.race_id AND e.gone_at IS NULL AND {IS_UPCOMING}),
                l.lost_reason
            FROM partner_races l JOIN runsignup_races r USING (race_id)
            WHERE l.timing_partner_id = %(partner)s AND l.race_id = ANY (%(races)s::bigint[])
            ORDER BY l.race_id
            """,
            {"partner": partner_id, "races": list(race_ids), "now": now},
        )
        return [PartnerRace(*row) for row in cur.fetchall()]


def read_races_to_check(conn: Connection, partner_id: int, now: dt.datetime) -> list[RaceToCheck]:
    """Return the partner's lost and unlisted races to request from RunSignup now, those with upcoming events first."""
    with conn.cursor() as cur:
        cur.execute(
            f"""
            SELECT race_id, event_ids, is_lost, is_upcoming FROM (
                SELECT e.race_id, l.lost_at IS NOT NULL AS is_lost, bool_or({IS_UPCOMING}) AS is_upcoming, l.check_at,
                    array_agg(e.event_id ORDER BY {ENDS_AT} DESC NULLS FIRST, e.event_id) AS event_ids
                FROM partner_races l JOIN runsignup_events e USING (race_id)
                WHERE l.timing_partner_id = %(partner)s AND e.gone_at IS NULL
                    AND (l.lost_at IS NOT NULL OR l.unlisted_at IS NOT NULL)
                    AND coalesce(l.check_at <= %(now)s, true)
                GROUP BY e.race_id, l.lost_at, l.check_at
            ) r
            ORDER BY is_upcoming DESC, check_at NULLS FIRST, race_id
            """,
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
            _RACES_TO_SETTLE,
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
        cur.execute(_TAKE_ALONG, {"partner": partner_id, "race": race_id, "now": now, "awaits": AWAITS_RETURN})
        (removed,) = cur.fetchone() or (0,)
    return int(removed)


def restore_old(conn: Connection, partner_id: int, race_id: int, now: dt.datetime) -> int:
    """Activate the registrations of the race's events that are back and too old to be read again, and return how many."""
    with conn.cursor() as cur:
        cur.execute(
            _RESTORE_OLD,
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
        cur.execute(_LINK_TRANSFERS, {"partner": partner_id, "since": now - TRANSFERRED_WITHIN})
        return int(cur.rowcount)


def settle_owners(conn: Connection, partner_id: int) -> None:
    """Set the owner of the partner's races and their events to the partner that can read them now.

    Rows that another partner's sync is writing are left to that sync.
    """
    with conn.cursor() as cur:
        cur.execute(_SETTLE_OWNERS, {"partner": partner_id})


_IS_TAKEN = "(e.gone_at IS NOT NULL OR l.race_id IS NULL OR l.lost_at IS NOT NULL)"
"""SQL: whether an event (e) is gone, or its race is lost to the partner (l, a left join)."""

_OF_PARTNER = """
(
    SELECT event_id FROM event_cursors WHERE timing_partner_id = %(partner)s
    UNION SELECT e.event_id FROM partner_races l JOIN runsignup_events e USING (race_id)
    WHERE l.timing_partner_id = %(partner)s
)
"""
"""SQL: the events of which the partner has registrations, or may have."""
_IS_BACK = f"(c.needs_full = %(awaits)s AND NOT {_IS_TAKEN} AND {OVER_AT} <= %(now)s - %(due)s)"
"""SQL: whether an event (e), its cursor (c) and the partner's link to its race (l) are back and too old to be read again."""

_RACES_TO_SETTLE = f"""
SELECT DISTINCT e.race_id
FROM {_OF_PARTNER} k
JOIN runsignup_events e USING (event_id)
LEFT JOIN partner_races l ON l.timing_partner_id = %(partner)s AND l.race_id = e.race_id
LEFT JOIN event_cursors c ON c.timing_partner_id = %(partner)s AND c.event_id = e.event_id
WHERE (%(races)s::bigint[] IS NULL OR e.race_id = ANY (%(races)s::bigint[])) AND ({_IS_BACK} OR {_IS_TAKEN} AND (
    c.needs_full IS DISTINCT FROM %(awaits)s AND c.event_id IS NOT NULL
    OR EXISTS (SELECT FROM future_events f WHERE f.timing_partner_id = %(partner)s AND f.event_id = e.event_id)
    -- `+ 0` as in participants.note_missing.
    OR EXISTS (SELECT FROM runsignup_participants t
        WHERE t.timing_partner_id + 0 = %(partner)s AND t.event_id = e.event_id AND t.removed_at IS NULL)))
ORDER BY 1
"""

_TAKE_ALONG = f"""
WITH taken AS MATERIALIZED (
    SELECT k.event_id,
        CASE WHEN e.gone_at IS NOT NULL THEN 'event_deleted' ELSE coalesce(l.lost_reason, 'access_lost') END AS reason
    FROM {_OF_PARTNER} k
    JOIN runsignup_events e USING (event_id)
    LEFT JOIN partner_races l ON l.timing_partner_id = %(partner)s AND l.race_id = e.race_id
    WHERE e.race_id = %(race)s AND {_IS_TAKEN}
),
removed AS (
    UPDATE runsignup_participants t
    SET removed_at = %(now)s, removed_reason = k.reason, removed_epoch = NULL, new_registration_id = NULL,
        changed_at = now(), fetched_date = now()
    FROM taken k
    -- `+ 0` as in participants.note_missing.
    WHERE t.timing_partner_id + 0 = %(partner)s AND t.event_id = k.event_id AND t.removed_at IS NULL
    RETURNING 1
),
awaiting AS (
    -- Closing reads are owed again, too.
    UPDATE event_cursors c SET needs_full = %(awaits)s, last_full_at = to_timestamp(0), registrations = 0
    FROM taken k
    WHERE c.timing_partner_id = %(partner)s AND c.event_id = k.event_id AND c.needs_full IS DISTINCT FROM %(awaits)s
),
planned AS (
    DELETE FROM future_events f USING taken k WHERE f.timing_partner_id = %(partner)s AND f.event_id = k.event_id
)
SELECT count(*) FROM removed
"""

_RESTORE_OLD = f"""
WITH old AS MATERIALIZED (
    SELECT c.event_id
    FROM event_cursors c
    JOIN runsignup_events e USING (event_id)
    LEFT JOIN partner_races l ON l.timing_partner_id = %(partner)s AND l.race_id = e.race_id
    WHERE c.timing_partner_id = %(partner)s AND e.race_id = %(race)s AND {_IS_BACK}
),
restored AS (
    UPDATE runsignup_participants t
    SET removed_at = NULL, removed_reason = NULL, new_registration_id = NULL, changed_at = now(), fetched_date = now()
    FROM old o
    WHERE t.timing_partner_id + 0 = %(partner)s AND t.event_id = o.event_id
        AND t.removed_reason IN ('event_deleted', 'race_deleted', 'access_lost')
    RETURNING 1
),
settled AS (
    UPDATE event_cursors c SET needs_full = NULL FROM old o
    WHERE c.timing_partner_id = %(partner)s AND c.event_id = o.event_id
)
SELECT count(*) FROM restored
"""

_LINK_TRANSFERS = """
WITH successors AS (
    SELECT o.id, min(n.registration_id) AS registration_id
    FROM runsignup_events e
    CROSS JOIN LATERAL (
        SELECT max(h.finished_at) AS finished_at FROM sync_history h
        WHERE h.timing_partner_id = %(partner)s AND h.race_id = e.race_id AND h.status <> 'failed'
            AND e.event_id = ANY (h.event_ids)
    ) last_read
    JOIN runsignup_participants o ON o.timing_partner_id + 0 = %(partner)s AND o.event_id = e.event_id
        AND o.removed_reason = 'event_deleted' AND o.new_registration_id IS NULL
    JOIN runsignup_events s ON s.race_id = e.race_id AND s.event_id <> e.event_id
    JOIN runsignup_participants n ON n.timing_partner_id + 0 = %(partner)s AND n.event_id = s.event_id
        AND n.removed_at IS NULL AND n.user_id = o.user_id AND n.registration_id > o.registration_id
        AND n.first_seen_at > last_read.finished_at
        AND (n.first_name, n.last_name, n.dob) IS NOT DISTINCT FROM (o.first_name, o.last_name, o.dob)
    WHERE e.gone_at > %(since)s
    GROUP BY o.id
    HAVING count(*) = 1
)
UPDATE runsignup_participants t SET new_registration_id = s.registration_id, changed_at = now(), fetched_date = now()
FROM successors s WHERE t.id = s.id
"""

_SETTLE_OWNERS = """
WITH wrong AS MATERIALIZED (
    SELECT r.race_id, o.timing_partner_id
    FROM runsignup_races r JOIN race_owners o USING (race_id)
    WHERE r.race_id IN (SELECT l.race_id FROM partner_races l WHERE l.timing_partner_id = %(partner)s)
        AND (r.timing_partner_id IS DISTINCT FROM o.timing_partner_id OR EXISTS (
            SELECT FROM runsignup_events e
            WHERE e.race_id = r.race_id AND e.timing_partner_id IS DISTINCT FROM o.timing_partner_id))
    ORDER BY r.race_id
    FOR UPDATE OF r SKIP LOCKED
),
races AS (
    UPDATE runsignup_races r SET timing_partner_id = w.timing_partner_id FROM wrong w
    WHERE r.race_id = w.race_id AND r.timing_partner_id IS DISTINCT FROM w.timing_partner_id
)
UPDATE runsignup_events e SET timing_partner_id = w.timing_partner_id FROM wrong w
WHERE e.race_id = w.race_id AND e.timing_partner_id IS DISTINCT FROM w.timing_partner_id
"""
