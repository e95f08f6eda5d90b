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
from rsu_pipeline.sql_files import load
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
    _count(conn, done, "quarantined_rows", _SQL["purge_quarantined"], {"before": before})
    if _has_adopted_rows(conn):
        _count(conn, done, "adopted_rows", _SQL["purge_adopted"], {"before": before})
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
        cur.execute(_SQL["note_user"], person)
        cur.execute(_SQL["note_registrations"], person)
        cur.execute(_SQL["find_partners_of_erased"], person)
        partners = [int(row[0]) for row in cur.fetchall()]
    if not dry_run:
        conn.commit()
    for partner in partners:
        _erase_at(conn, done, partner, None if dry_run else lock_timeout)
    _count(conn, done, "quarantined_rows", _SQL["erase_quarantined"], person)
    if _has_adopted_rows(conn):
        _count(conn, done, "adopted_rows", _SQL["erase_adopted"], person)
    return _log(conn, done, "erase", who, None, partner_id, dry_run)


def _erase_at(conn: Connection, done: Done, partner: int, lock_timeout: float | None) -> None:
    """Blank the recorded registrations of one partner, race by race, and their entries in start lists.

    No page is in flight while its race is locked. With `lock_timeout` None it works without locks, in the caller's transaction.
    """
    for race in _races(conn, partner, _SQL["find_races_to_erase"]):
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
        cur.execute(_SQL["find_events_to_purge"], {"partner": partner, "race": race, "before": before})
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
# Rows of the older program have its columns.
_ADOPTED_BARE = Members(("id", "timing_partner_id", "race_id", *BARE)).kept('a."row"')
_SQL = load(
    __file__,
    IS_TO_PURGE=_IS_TO_PURGE,
    ENDED_BEFORE=ended_before("e", "%(before)s::date"),
    ADOPTED_BARE=_ADOPTED_BARE,
)
