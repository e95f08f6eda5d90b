"""Personal data that is no longer kept: contact data of what is over, and all of a person who asked for it.

Rows stay, and so do counts, bibs and the bib log; the personal columns are blanked, in the payload too, where only members that
are known to be harmless stay. What was ordered stands in `contact_retention`, `erased_users` and `erased_registrations`, and
SUPPRESS_STAGED blanks a staged page by them, with the same expressions, before it is merged: so to merge and proof RunSignup
looks as if it had sent the blanked row, a later read changes nothing, and copy and proof stay equal. Such a row has no seal,
which would say something of what was blanked.
"""

import datetime as dt
import getpass
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json

from rsu_pipeline.warehouse import database

_MONEY = (
    "race_fee offline_payment_amount processing_fee processing_fee_paid_by_user processing_fee_paid_by_race partner_fee"
    " affiliate_profit extra_fees amount_paid usatf_discount_amount_in_cents"
)
_BARE = (
    "registration_id event_id bib_num chip_num registration_date last_modified last_modified_ts removed_reason"
    f" new_registration_id imported giveaway giveaway_option_id {_MONEY}"
)
_WITH_NAME = (
    f"{_BARE} age team_id team_name team_type_id team_type team_gender team_bib_num rsu_transaction_id transaction_id"
    " fundraiser_id fundraiser_charity_id fundraiser_charity_name team_fundraiser_id multi_race_bundle_id multi_race_bundle"
)


@dataclass(frozen=True)
class _Members:
    """The members of a JSON object that stay: those named, and of the one named `part` what stays `of_part`."""

    names: str
    part: str = ""
    of_part: "_Members | None" = None

    def kept(self, json: str, alias: str = "m") -> str:
        """SQL: the object without any other member; NULL for what is none."""
        value = f"{alias}.value"
        if self.of_part:
            rest = self.of_part.kept(value, f"{alias}m")
            value = f"CASE {alias}.key WHEN '{self.part}' THEN {rest} ELSE {value} END"
        return (
            f"CASE WHEN jsonb_typeof({json}) = 'object' THEN (SELECT coalesce(jsonb_object_agg({alias}.key, {value}), '{{}}')"
            f" FROM jsonb_each({json}) {alias} WHERE {alias}.key = ANY ({self._listed()})) END"
        )

    def exceeded(self, json: str) -> str:
        """SQL: whether anything would go; a tenth of the work of taking it away. Not true for what is NULL."""
        rest = f" OR {self.of_part.exceeded(f'({json} -> {self.part!r})')}" if self.of_part else ""
        is_more = f"{json} - {self._listed()} <> '{{}}'{rest}"
        return f"CASE WHEN jsonb_typeof({json}) = 'object' THEN {is_more} ELSE {json} <> 'null' END"

    def _listed(self) -> str:
        return f"'{{{','.join(f'{self.names} {self.part}'.split())}}}'::text[]"


_TOWN = _Members("city state country_code")
_USER = _Members("user_id first_name middle_name last_name gender", "address", _TOWN)
_CONTACT = ("email", "dob", "phone", "profile_image_url")
_CONTACT_IN = {
    "address": _TOWN,
    "additional_data": _Members(_WITH_NAME),
    "payload": _Members(_WITH_NAME, "user", _USER),
}
"""Columns that hold contact data and nothing else, and those that hold it beside what stays."""


def _without_contact(row: str) -> dict[str, str]:
    """SQL by column: what stays of a registration that is over."""
    return dict.fromkeys(_CONTACT, "NULL") | {name: of.kept(f"{row}.{name}") for name, of in _CONTACT_IN.items()}


def _holds_contact(row: str) -> str:
    """SQL: whether any of these columns of a registration would be another."""
    columns = ", ".join(f"{row}.{name}" for name in _CONTACT)
    beside = " OR ".join(of.exceeded(f"{row}.{name}") for name, of in _CONTACT_IN.items())
    return f"(num_nonnulls({columns}) > 0 OR {beside})"


def _without_person(row: str) -> dict[str, str]:
    """SQL by column: what stays of an erased person's registration."""
    gone = "user_id first_name middle_name last_name email dob gender phone profile_image_url age address team_info"
    return {
        **dict.fromkeys(gone.split(), "NULL"),
        "payment_info": _Members(_MONEY).kept(f"{row}.payment_info"),
        "additional_data": _Members(_BARE).kept(f"{row}.additional_data"),
        "payload": _Members(_BARE).kept(f"{row}.payload"),
    }


def _assignments(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in columns.items())


_OVER = "greatest(e.start_time, e.end_time) <"
"""SQL, a day to follow: events that were over before it by the race's own calendar; never an undated one."""

SUPPRESS_STAGED = f"""
INSERT INTO erased_registrations (registration_id, timing_partner_id, erased_at)
SELECT s.registration_id, u.timing_partner_id, u.erased_at
FROM participants_stage s JOIN erased_users u ON u.user_id = s.user_id
WHERE coalesce(u.timing_partner_id, %(partner)s) = %(partner)s
    AND coalesce(s.registration_date AT TIME ZONE 'America/New_York' <= u.erased_at, true)
ON CONFLICT DO NOTHING;
UPDATE participants_stage s SET digest = NULL, {_assignments(_without_person("s"))} FROM erased_registrations x
WHERE x.registration_id = s.registration_id AND coalesce(x.timing_partner_id, %(partner)s) = %(partner)s;
UPDATE participants_stage s SET digest = NULL, {_assignments(_without_contact("s"))}
-- Where nothing was ever purged that is all; else the few events of a page are looked up, not all of the hub's read.
WHERE (SELECT before FROM contact_retention) IS NOT NULL AND s.event_id = ANY (ARRAY(
    SELECT e.event_id FROM runsignup_events e
    WHERE e.event_id IN (SELECT event_id FROM participants_stage) AND {_OVER} (SELECT before FROM contact_retention)))
"""
"""Statements after a page is staged, before it is merged; parameter `partner`."""


class PrivacyError(ValueError):
    """What was asked for cannot be done; one sentence: what is wrong and what to do."""


@dataclass(frozen=True)
class Done:
    """Rows changed, by table; `busy` are partners at whom a sync was at work for too long: for them it is to be run
    again."""

    rows: dict[str, int] = field(default_factory=dict)
    busy: list[int] = field(default_factory=list)


def operator() -> str:
    """The user of the operating system, and the machine; for the log."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def purge(
    conn: Connection,
    before: dt.date,
    *,
    now: dt.datetime,
    who: str,
    dry_run: bool = False,
    patience: float = database.GIVE_WAY_SECONDS,
) -> Done:
    """Blanks the contact data of registrations whose event was over before a day, or that were removed before it, and has
    later reads leave it out for events that were over before. Commits event by event, and lets who waits for the partner
    in between; a rehearsal undoes each. Raises PrivacyError for a day to come."""
    if before > now.date():
        raise PrivacyError(f"{before} is yet to come: contact data of coming events is needed; give a day up to today.")
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
        try:
            with database.partner_lock(conn, partner, patience=patience):
                for race in _races(conn, partner):
                    for event in _events_to_purge(conn, partner, race, before):
                        parameters: dict[str, object] = {"partner": partner, "event": event, "before": before}
                        if _count(conn, done, "runsignup_participants", _PURGE, parameters):
                            _drop_passes(conn, partner, [race])
                        conn.rollback() if dry_run else conn.commit()
                        database.give_way(conn, partner)
                    database.give_way(conn, partner)
        except database.PartnerBusy:
            done.busy.append(partner)
    _count(conn, done, "quarantined_rows", _PURGE_QUARANTINED, {"before": before})
    if _has_adopted_rows(conn):
        _count(conn, done, "adopted_rows", _PURGE_ADOPTED, {"before": before})
    return _log(conn, done, "purge", who, before, None, dry_run)


def erase(
    conn: Connection,
    *,
    user_id: int | None = None,
    registration_id: int | None = None,
    partner_id: int | None = None,
    who: str,
    dry_run: bool = False,
    patience: float = database.GIVE_WAY_SECONDS,
) -> Done:
    """Blanks all of a person: of every registration that a RunSignup account made up to now, or of one registration; at
    one partner or at all. Later reads keep to it."""
    done = Done()
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
        if dry_run:
            _erase_at(conn, done, partner)
            continue
        try:
            with database.partner_lock(conn, partner, patience=patience):
                _erase_at(conn, done, partner)
                conn.commit()
        except database.PartnerBusy:
            done.busy.append(partner)
    _count(conn, done, "quarantined_rows", _ERASE_QUARANTINED, person)
    if _has_adopted_rows(conn):
        _count(conn, done, "adopted_rows", _ERASE_ADOPTED, person)
    return _log(conn, done, "erase", who, None, partner_id, dry_run)


def _erase_at(conn: Connection, done: Done, partner: int) -> None:
    """Blanks the registrations of one partner that are noted, and their places in start lists."""
    with conn.cursor() as cur:
        cur.execute(_ERASE, {"partner": partner})
        races = [int(row[0]) for row in cur.fetchall()]
    _add(done, "runsignup_participants", len(races))
    _drop_passes(conn, partner, races)
    _count(conn, done, "start_list_entries", _ERASE_ENTRIES, {"partner": partner})


def _partners(conn: Connection) -> list[int]:
    with conn.cursor() as cur:
        cur.execute("SELECT timing_partner_id FROM timing_partners ORDER BY 1")
        found = [int(row[0]) for row in cur.fetchall()]
    conn.commit()
    return found


def _races(conn: Connection, partner: int) -> list[int]:
    with conn.cursor() as cur:
        cur.execute("SELECT race_id FROM partner_races WHERE timing_partner_id = %s ORDER BY 1", (partner,))
        found = [int(row[0]) for row in cur.fetchall()]
    conn.commit()
    return found


def _events_to_purge(conn: Connection, partner: int, race: int, before: dt.date) -> list[int]:
    """The race's events with a registration of which something is left to go. What its rows hold is looked at, not when
    they were purged, so that nothing which came or changed since can be missed."""
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


def _drop_passes(conn: Connection, partner: int, races: Sequence[int]) -> None:
    """An interrupted pass has counted rows as they were before, and begins anew."""
    with conn.cursor() as cur:
        cur.execute(
            "DELETE FROM read_passes WHERE timing_partner_id = %s AND race_id = ANY (%s::bigint[])"
            " AND mode IN ('full', 'history')",
            (partner, sorted(set(races))),
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


def _rewritten(blanked: Callable[[str], dict[str, str]], which: str) -> str:
    """An UPDATE of the registrations of one partner (`t`) that leaves alone what is blank already."""
    columns = blanked("t")
    held = ", ".join(f"t.{name}" for name in columns)
    new = ", ".join(f"b.{name}" for name in columns)
    return f"""
UPDATE runsignup_participants t SET {_assignments({name: f"b.{name}" for name in columns})}, seal = NULL,
    changed_at = now(), fetched_date = now()
FROM (
    SELECT t.id, {", ".join(f"{_typed(name, value)} AS {name}" for name, value in columns.items())}
    FROM runsignup_participants t WHERE {which}
) b
WHERE t.id = b.id AND ({held}) IS DISTINCT FROM ({new})
"""


def _typed(name: str, value: str) -> str:
    """A NULL in a subquery needs its column's type."""
    kind = {"dob": "date", "user_id": "bigint", "age": "integer", "address": "jsonb", "team_info": "jsonb"}
    return f"NULL::{kind.get(name, 'text')}" if value == "NULL" else value


# `+ 0` as in participants.note_missing.
_IS_TO_PURGE = (
    "t.timing_partner_id + 0 = %(partner)s AND (t.removed_at < %(before)s::date"
    f" OR EXISTS (SELECT FROM runsignup_events e WHERE e.event_id = t.event_id AND {_OVER} %(before)s::date))"
    f" AND {_holds_contact('t')}"
)
_PURGE = _rewritten(_without_contact, f"t.event_id = %(event)s AND {_IS_TO_PURGE}")
_EVENTS_TO_PURGE = f"""
SELECT o.event_id FROM runsignup_events o
WHERE o.race_id = %(race)s
    AND EXISTS (SELECT FROM runsignup_participants t WHERE t.event_id = o.event_id AND {_IS_TO_PURGE})
ORDER BY 1
"""
_IS_ERASED = (
    "t.timing_partner_id = %(partner)s AND t.registration_id IN (SELECT x.registration_id FROM erased_registrations x"
    " WHERE coalesce(x.timing_partner_id, %(partner)s) = %(partner)s)"
)
_ERASE = _rewritten(_without_person, _IS_ERASED) + " RETURNING t.race_id"
# As a rebuild makes them of blank registrations; one follows at the partner's next visit, since these have changed.
_ERASE_ENTRIES = f"""
UPDATE start_list_entries t SET first_name = NULL, last_name = NULL, age = NULL, gender = NULL, city = NULL, state = NULL,
    team = NULL, changed_at = now()
WHERE {_IS_ERASED} AND num_nonnulls(first_name, last_name, age, gender, city, state, team) > 0
"""
# Its trigger blanks a row of an event that is over; others by when they were last met.
_PURGE_QUARANTINED = """
UPDATE quarantined_rows q SET row_text = NULL
WHERE q.row_text IS NOT NULL AND (q.last_seen_at < %(before)s::date OR EXISTS (
    SELECT FROM runsignup_participants t JOIN runsignup_events e USING (event_id)
    WHERE t.timing_partner_id = q.timing_partner_id AND t.registration_id = q.registration_id
        AND (t.removed_at < %(before)s::date OR greatest(e.start_time, e.end_time) < %(before)s::date)))
"""
_ERASE_QUARANTINED = r"""
UPDATE quarantined_rows q SET row_text = NULL
WHERE q.row_text IS NOT NULL AND coalesce(%(partner)s, q.timing_partner_id) = q.timing_partner_id
    AND (q.registration_id IN (SELECT registration_id FROM erased_registrations)
        OR substring(q.row_text FROM '"registration_id"\s*:\s*"?([0-9]{1,18})')::bigint = %(registration)s
        OR substring(q.row_text FROM '"user_id"\s*:\s*"?([0-9]{1,18})')::bigint = %(user)s)
"""
# Rows of the older program have its columns.
_ADOPTED_BARE = _Members(f"id timing_partner_id race_id {_BARE}").kept('a."row"')
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
_NOTE_REGISTRATIONS = """
INSERT INTO erased_registrations (registration_id, timing_partner_id)
SELECT %(registration)s, %(partner)s::integer WHERE %(registration)s IS NOT NULL
UNION
SELECT p.registration_id, %(partner)s::integer FROM runsignup_participants p
WHERE p.user_id = %(user)s AND coalesce(%(partner)s, p.timing_partner_id) = p.timing_partner_id
ON CONFLICT DO NOTHING
"""
# Every partner that holds a registration noted: one that was busy the last time is made good.
_PARTNERS_OF_ERASED = """
SELECT DISTINCT p.timing_partner_id FROM runsignup_participants p JOIN erased_registrations x USING (registration_id)
WHERE coalesce(x.timing_partner_id, p.timing_partner_id) = p.timing_partner_id
    AND coalesce(%(partner)s, p.timing_partner_id) = p.timing_partner_id
ORDER BY 1
"""
