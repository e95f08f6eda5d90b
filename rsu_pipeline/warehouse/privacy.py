"""Personal data that is no longer kept: contact data of past events, and everything about a person on request.

Rows stay, and so do counts, bibs and the bib log. The personal columns are blanked, also in the payload, where only fields
that are known to be harmless stay. `privacy_classes` declares which. What was ordered is stored in `contact_retention`,
`erased_users` and `erased_registrations`, and `erasures` blanks a staged page accordingly, with the same expressions, before
it is merged. So for merge and reconciliation RunSignup seems to have sent the blanked row, a later read changes nothing, and
the copy stays reconciled. Such a row has no fingerprint, which would reveal something about the blanked content.
"""

import datetime as dt
import getpass
import os
import socket
from dataclasses import dataclass, field

from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json

from rsu_pipeline.errors import RsuError
from rsu_pipeline.warehouse import race_locks
from rsu_pipeline.warehouse.erasures import blank_erased, blank_erased_entries, rewrite
from rsu_pipeline.warehouse.event_times import ended_before
from rsu_pipeline.warehouse.kept_members import Members
from rsu_pipeline.warehouse.privacy_classes import holds_contact, without_contact
from rsu_pipeline.warehouse.registration_columns import BARE


class PrivacyError(RsuError):
    """The request cannot be fulfilled. The text is one sentence: what is wrong, and the next step."""


@dataclass(frozen=True)
class Done:
    """Rows changed, by table. `busy` are partners whose sync took too long, for which it is to be run again."""

    rows: dict[str, int] = field(default_factory=dict)
    busy: list[int] = field(default_factory=list)

    def note_busy(self, partner: int) -> None:
        """Record that a race of the partner was being read for too long."""
        if partner not in self.busy:
            self.busy.append(partner)


LOCK_TIMEOUT_SECONDS = 300.0
"""How long a purge or an erasure waits for a race that is being read."""
_RACES = "SELECT race_id FROM partner_races WHERE timing_partner_id = %(partner)s ORDER BY 1"
_RACES_TO_ERASE = """
SELECT race_id FROM partner_races WHERE timing_partner_id = %(partner)s
UNION SELECT p.race_id FROM runsignup_participants p JOIN erased_registrations x USING (registration_id)
WHERE p.timing_partner_id = %(partner)s
ORDER BY 1
"""
"""SQL: all races of the partner, because a page with a new registration of the person may be in flight in any of them."""


def operator() -> str:
    """Return the user of the operating system and the machine, for the log."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user id without a name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def purge_contact_rows(
    conn: Connection,
    before: dt.date,
    *,
    now: dt.datetime,
    who: str,
    dry_run: bool = False,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> Done:
    """Blank the contact data of registrations whose event ended before a day, or that were removed before it.

    Later reads leave it out for events that ended before. Commits event by event. A dry run rolls each back.

    Raises:
        PrivacyError: the day is in the future.
    """
    if before > now.date():
        raise PrivacyError(
            f"{before} is in the future, and contact data of upcoming events is needed: give a day up to today."
        )
    done = Done({"runsignup_participants": 0})
    if not dry_run:
        with conn.cursor() as cur:
            # First, so that no read brings in what is blanked below.
            cur.execute(
                "INSERT INTO contact_retention AS c (before) VALUES (%s) ON CONFLICT (is_set) DO UPDATE"
                " SET before = excluded.before, set_at = now() WHERE c.before < excluded.before",
                (before,),
            )
        conn.commit()
    for partner in _partners(conn):
        for race in _races(conn, partner):
            try:
                with race_locks.race_lock(conn, partner, race, wait=lock_timeout):
                    for event in _events_to_purge(conn, partner, race, before):
                        parameters: dict[str, object] = {"partner": partner, "event": event, "before": before}
                        if _count(conn, done, "runsignup_participants", _PURGE, parameters):
                            _drop_passes(conn, partner, race)
                        conn.rollback() if dry_run else conn.commit()
            except race_locks.ReadElsewhere:
                done.note_busy(partner)
    _count(conn, done, "quarantined_rows", _PURGE_QUARANTINED, {"before": before})
    if _has_adopted_rows(conn):
        _count(conn, done, "adopted_rows", _PURGE_ADOPTED, {"before": before})
    return _log(conn, done, "purge", who, before, None, dry_run)


def erase_person(
    conn: Connection,
    *,
    user_id: int | None = None,
    registration_id: int | None = None,
    partner_id: int | None = None,
    who: str,
    dry_run: bool = False,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> Done:
    """Erase a person from every registration that a RunSignup account made up to now, or from one registration.

    It applies to one partner or to all, and to later reads.
    """
    done = Done({"runsignup_participants": 0})
    person: dict[str, object] = {"user": user_id, "registration": registration_id, "partner": partner_id}
    with conn.cursor() as cur:
        # First, so that no read brings in what is blanked below.
        cur.execute(_NOTE_USER, person)
        cur.execute(_NOTE_REGISTRATIONS, person)
        cur.execute(_PARTNERS_OF_ERASED, person)
        partners = [int(row[0]) for row in cur.fetchall()]
    if not dry_run:
        conn.commit()
    for partner in partners:
        _erase_at(conn, done, partner, None if dry_run else lock_timeout)
    _count(conn, done, "quarantined_rows", _ERASE_QUARANTINED, person)
    if _has_adopted_rows(conn):
        _count(conn, done, "adopted_rows", _ERASE_ADOPTED, person)
    return _log(conn, done, "erase", who, None, partner_id, dry_run)


def _erase_at(conn: Connection, done: Done, partner: int, lock_timeout: float | None) -> None:
    """Blank the recorded registrations of one partner, race by race, and their entries in start lists.

    No page is in flight while its race is locked. With `lock_timeout` None it works without locks, in the caller's transaction.
    """
    for race in _races(conn, partner, _RACES_TO_ERASE):
        if lock_timeout is None:
            _erase_at_race(conn, done, partner, race)
            continue
        try:
            with race_locks.race_lock(conn, partner, race, wait=lock_timeout):
                _erase_at_race(conn, done, partner, race)
                conn.commit()
        except race_locks.ReadElsewhere:
            done.note_busy(partner)
    _add(done, "start_list_entries", blank_erased_entries(conn, partner))
    if lock_timeout is not None:
        conn.commit()


def _erase_at_race(conn: Connection, done: Done, partner: int, race: int) -> None:
    if rows := blank_erased(conn, partner, race):
        _add(done, "runsignup_participants", rows)
        _drop_passes(conn, partner, race)


def _partners(conn: Connection) -> list[int]:
    with conn.cursor() as cur:
        cur.execute("SELECT timing_partner_id FROM timing_partners ORDER BY 1")
        found = [int(row[0]) for row in cur.fetchall()]
    conn.commit()
    return found


def _races(conn: Connection, partner: int, query: str = _RACES) -> list[int]:
    with conn.cursor() as cur:
        cur.execute(query, {"partner": partner})
        return [int(row[0]) for row in cur.fetchall()]


def _events_to_purge(conn: Connection, partner: int, race: int, before: dt.date) -> list[int]:
    """Return the race's events with a registration that still has something to blank.

    The content of the rows decides, not the time of the last purge, so that nothing that was added or changed since is missed.
    """
    with conn.cursor() as cur:
        cur.execute(_EVENTS_TO_PURGE, {"partner": partner, "race": race, "before": before})
        found = [int(row[0]) for row in cur.fetchall()]
    conn.commit()
    return found


def _count(conn: Connection, done: Done, table: str, statement: str, parameters: dict[str, object]) -> int:
    with conn.cursor() as cur:
        cur.execute(statement, parameters)
        changed = int(cur.rowcount)
    _add(done, table, changed)
    return changed


def _add(done: Done, table: str, rows: int) -> None:
    done.rows[table] = done.rows.get(table, 0) + rows


def _drop_passes(conn: Connection, partner: int, race: int) -> None:
    """Delete interrupted passes, which have counted the rows as they were before. They start from scratch."""
    with conn.cursor() as cur:
        cur.execute(
            "DELETE FROM read_passes WHERE timing_partner_id = %s AND race_id = %s AND mode IN ('full', 'history')",
            (partner, race),
        )


def _has_adopted_rows(conn: Connection) -> bool:
    with conn.cursor() as cur:
        cur.execute("SELECT to_regclass('adopted_rows') IS NOT NULL")
        (found,) = cur.fetchone() or (False,)
    return bool(found)


def _log(
    conn: Connection, done: Done, kind: str, who: str, before: dt.date | None, partner: int | None, dry_run: bool
) -> Done:
    if dry_run:
        conn.rollback()
        return done
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO privacy_log (who, kind, before, timing_partner_id, counts) VALUES (%s, %s, %s, %s, %s)",
            (who, kind, before, partner, Json(done.rows | {"partners_busy": len(done.busy)})),
        )
    conn.commit()
    return done


# `+ 0` as in participants.note_missing.
_IS_TO_PURGE = (
    "t.timing_partner_id + 0 = %(partner)s AND (t.removed_at < %(before)s::date"
    f" OR EXISTS (SELECT FROM runsignup_events e WHERE e.event_id = t.event_id AND {ended_before('e', '%(before)s::date')}))"
    f" AND {holds_contact('t')}"
)
_PURGE = rewrite(without_contact("t"), f"t.event_id = %(event)s AND {_IS_TO_PURGE}")
_EVENTS_TO_PURGE = f"""
SELECT o.event_id FROM runsignup_events o
WHERE o.race_id = %(race)s
    AND EXISTS (SELECT FROM runsignup_participants t WHERE t.event_id = o.event_id AND {_IS_TO_PURGE})
ORDER BY 1
"""
# Its trigger blanks a row of a past event. Others are blanked by the time they were last seen.
_PURGE_QUARANTINED = f"""
UPDATE quarantined_rows q SET row_text = NULL
WHERE q.row_text IS NOT NULL AND (q.last_seen_at < %(before)s::date OR EXISTS (
    SELECT FROM runsignup_participants t JOIN runsignup_events e USING (event_id)
    WHERE t.timing_partner_id = q.timing_partner_id AND t.registration_id = q.registration_id
        AND (t.removed_at < %(before)s::date OR {ended_before("e", "%(before)s::date")})))
"""
_ERASE_QUARANTINED = r"""
UPDATE quarantined_rows q SET row_text = NULL
WHERE q.row_text IS NOT NULL AND coalesce(%(partner)s, q.timing_partner_id) = q.timing_partner_id
    AND (q.registration_id IN (SELECT registration_id FROM erased_registrations)
        OR substring(q.row_text FROM '"registration_id"\s*:\s*"?([0-9]{1,18})')::bigint = %(registration)s
        OR substring(q.row_text FROM '"user_id"\s*:\s*"?([0-9]{1,18})')::bigint = %(user)s)
"""
# Rows of the older program have its columns.
_ADOPTED_BARE = Members(("id", "timing_partner_id", "race_id", *BARE)).kept('a."row"')
_PURGE_ADOPTED = f"""
UPDATE adopted_rows a SET "row" = {_ADOPTED_BARE}
WHERE a.table_name = 'runsignup_participants' AND a.moved_at < %(before)s::date AND a."row" <> {_ADOPTED_BARE}
"""
_ERASE_ADOPTED = f"""
UPDATE adopted_rows a SET "row" = {_ADOPTED_BARE}
WHERE a.table_name = 'runsignup_participants' AND a."row" <> {_ADOPTED_BARE}
    AND coalesce(%(partner)s::text, a."row" ->> 'timing_partner_id') IS NOT DISTINCT FROM a."row" ->> 'timing_partner_id'
    AND (a."row" ->> 'registration_id' = %(registration)s::text OR a."row" ->> 'user_id' = %(user)s::text)
"""
_NOTE_USER = """
INSERT INTO erased_users (user_id, timing_partner_id)
SELECT %(user)s, %(partner)s WHERE %(user)s IS NOT NULL ON CONFLICT (user_id, coalesce(timing_partner_id, 0))
DO UPDATE SET erased_at = now()
"""
# The person's registrations, and those they were before a transfer and became by one. A registration of another account
# belongs to another person, to whom the entry was transferred.
_NOTE_REGISTRATIONS = """
WITH RECURSIVE theirs AS (
    SELECT p.registration_id, p.user_id, p.new_registration_id FROM runsignup_participants p
    WHERE (p.registration_id = %(registration)s OR p.user_id = %(user)s)
        AND coalesce(%(partner)s, p.timing_partner_id) = p.timing_partner_id
    UNION
    SELECT p.registration_id, coalesce(p.user_id, t.user_id), p.new_registration_id
    FROM theirs t JOIN runsignup_participants p
        ON p.registration_id = t.new_registration_id OR p.new_registration_id = t.registration_id
    WHERE coalesce(%(partner)s, p.timing_partner_id) = p.timing_partner_id
        AND (p.user_id IS NULL OR p.user_id = t.user_id)
),
noted AS (
    SELECT %(registration)s::bigint AS registration_id, NULL::bigint AS user_id, false AS via_transfer
    UNION ALL
    SELECT registration_id, user_id, false FROM theirs
    UNION ALL
    -- What it became is not stored yet, or is another person's: that is told when it is staged.
    SELECT new_registration_id, user_id, true FROM theirs
)
INSERT INTO erased_registrations AS x (registration_id, timing_partner_id, erased_user_id, user_id, via_transfer)
SELECT registration_id, %(partner)s::integer, (
    SELECT u.erased_user_id FROM erased_users u
    WHERE u.user_id = %(user)s AND u.timing_partner_id IS NOT DISTINCT FROM %(partner)s), max(user_id), bool_and(via_transfer)
FROM noted WHERE registration_id IS NOT NULL GROUP BY registration_id
ON CONFLICT (registration_id, coalesce(timing_partner_id, 0)) DO UPDATE
SET via_transfer = x.via_transfer AND excluded.via_transfer, user_id = coalesce(x.user_id, excluded.user_id),
    erased_user_id = coalesce(x.erased_user_id, excluded.erased_user_id)
"""
# Every partner with a recorded registration, so that one that was busy the last time is included.
_PARTNERS_OF_ERASED = """
SELECT DISTINCT p.timing_partner_id FROM runsignup_participants p JOIN erased_registrations x USING (registration_id)
WHERE coalesce(x.timing_partner_id, p.timing_partner_id) = p.timing_partner_id
    AND coalesce(%(partner)s, p.timing_partner_id) = p.timing_partner_id
ORDER BY 1
"""
