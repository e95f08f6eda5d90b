"""Apply erasures and purges to what is read later.

An erased person can return in three ways: a registration is transferred and gets another id, RunSignup merges two accounts,
or an older registration is read for the first time. So each staged page is first compared with what was erased. A transfer
may also be to another person, whose registration is kept: it counts as the same person unless it has another account.
"""

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from rsu_pipeline.eastern import EASTERN_SQL
from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.event_times import ended_before
from rsu_pipeline.warehouse.privacy_classes import (
    assignments,
    comparable,
    entry_without_person,
    is_blanked_whole,
    typed,
    without_contact,
    without_person,
)
from rsu_pipeline.warehouse.registration_columns import REGISTRATION

_IS_HERE = "coalesce(x.timing_partner_id, %(partner)s) = %(partner)s"
"""SQL: whether an erasure is of this partner or of all."""


def is_same_person(erased: str, row: str) -> str:
    """Return SQL for whether a row with this registration id is the erased person's.

    A row that received the id by a transfer is the person's, unless it has an account that is none of theirs.
    """
    return (
        f"(NOT {erased}.via_transfer OR {row}.user_id IS NULL OR {row}.user_id = {erased}.user_id OR EXISTS ("
        f"SELECT FROM erased_users a WHERE a.user_id = {row}.user_id"
        f" AND a.timing_partner_id IS NOT DISTINCT FROM {erased}.timing_partner_id))"
    )


def is_erased(alias: str) -> str:
    """Return SQL for whether a registration of the partner is an erased person's."""
    return f"""
{alias}.timing_partner_id = %(partner)s
    AND {alias}.registration_id IN (SELECT x.registration_id FROM erased_registrations x WHERE {_IS_HERE})
    AND EXISTS (SELECT FROM erased_registrations x
        WHERE x.registration_id = {alias}.registration_id AND {_IS_HERE} AND {is_same_person("x", alias)})"""


def suppress_staged(cur: Cursor, params: dict[str, object], row_hash: str) -> None:
    """Blank in a staged page what must not be stored, so that for merge and reconciliation RunSignup never sent it.

    The erased person's other registrations that the page reveals are recorded, and those stored are blanked.

    Args:
        cur: In the transaction that merges the page.
        params: The page's source, from staging.params_of.
        row_hash: SQL for the hash of a stored registration `t`, by which the pass is reconciled.
    """
    cur.execute(_SQL["is_anything_kept_out"])
    if cur.fetchone() != (True,):
        return
    for statement in (_SQL["confirm_transfers"], _SQL["note_merged_accounts"], _SQL["note_staged_of_accounts"]):
        cur.execute(statement, params)
    while True:  # until the end of a chain of transfers
        cur.execute(_SQL["note_transfers"], params)
        if not cur.rowcount:
            break
    cur.execute(_SQL["has_more_to_blank"], params)
    if cur.fetchone() == (True,):
        _blank_stored(cur, params, row_hash)
    cur.execute(_SQL["blank_staged_persons"], params)
    cur.execute(_SQL["blank_staged_contact"], params)


def _blank_stored(cur: Cursor, params: dict[str, object], row_hash: str) -> None:
    """Blank the partner's stored registrations that are now known to be an erased person's, and correct the pass's counts."""
    cur.execute(_SQL["note_stored_of_accounts"], params)
    cur.execute(_SQL["note_account"], params)
    cur.execute(_SQL["confirm_stored_transfers"], params)
    cur.execute(_RECOUNT.format(sign="-", row_hash=row_hash), params)
    cur.execute(ERASE, params)
    cur.execute(_RECOUNT.format(sign="+", row_hash=row_hash), params)
    cur.execute(_SQL["erase_entries"], params)
    cur.execute(_SQL["erase_quarantined"], params)


def blank_erased(conn: Connection, partner_id: int, race_id: int) -> int:
    """Blank the partner's recorded registrations of a race, and return how many."""
    with conn.cursor() as cur:
        cur.execute(_ERASE_OF_RACE, {"partner": partner_id, "race": race_id})
        return int(cur.rowcount)


def blank_erased_entries(conn: Connection, partner_id: int) -> int:
    """Blank the entries of recorded registrations in the partner's start lists, and return how many."""
    with conn.cursor() as cur:
        cur.execute(_SQL["erase_entries"], {"partner": partner_id})
        return int(cur.rowcount)


def rewrite(columns: dict[str, str], which: str) -> str:
    """Return an UPDATE of the registrations of one partner (`t`) that skips those already blank."""
    held = ", ".join(comparable(name, f"t.{name}") for name in columns)
    new = ", ".join(comparable(name, f"b.{name}") for name in columns)
    return f"""
UPDATE runsignup_participants t SET {assignments({name: f"b.{name}" for name in columns})}, seal = NULL,
    changed_at = now(), fetched_date = now()
FROM (
    SELECT t.id, {", ".join(f"{typed(name, value)} AS {name}" for name, value in columns.items())}
    FROM runsignup_participants t WHERE {which}
) b
WHERE t.id = b.id AND ({held}) IS DISTINCT FROM ({new})
"""


ERASE = rewrite(without_person("t"), is_erased("t"))
"""SQL, parameter `partner`: blanks the recorded registrations."""
_ERASE_OF_RACE = rewrite(without_person("t"), f"{is_erased('t')} AND t.race_id = %(race)s")
_ENTRY = entry_without_person()

# For a full pass that has counted them: pages arrive in order of id, the removed ones after all pages.
_RECOUNT = f"""
UPDATE pass_counts c SET hash = c.hash {{sign}} r.hash
FROM (
    SELECT t.event_id, sum({{row_hash}}) AS hash FROM runsignup_participants t
    WHERE {is_erased("t")} AND t.race_id = %(race)s AND t.removed_at IS NULL
        AND t.registration_id < CASE WHEN EXISTS (SELECT FROM participants_stage WHERE removed_reason IS NOT NULL)
            THEN {2**63 - 1} ELSE (SELECT min(registration_id) FROM participants_stage) END
        AND NOT EXISTS (SELECT FROM pass_registrations m WHERE m.timing_partner_id = %(partner)s AND m.race_id = %(race)s
            AND m.mode = %(mode)s AND m.registration_id = t.registration_id AND m.missing)
    GROUP BY t.event_id
) r
WHERE c.timing_partner_id = %(partner)s AND c.race_id = %(race)s AND c.mode = %(mode)s AND c.event_id = r.event_id
"""
_SQL = load(
    __file__,
    IS_HERE=_IS_HERE,
    IS_ERASED=is_erased("p"),
    IS_SAME_AS_STORED=is_same_person("x", "t"),
    IS_SAME_AS_STAGED=is_same_person("x", "s"),
    IS_SAME_AS_EITHER=is_same_person("x", "r"),
    COLUMNS="registration_id, timing_partner_id, erased_at, erased_user_id, user_id, via_transfer",
    EASTERN=EASTERN_SQL,
    ENTRY=", ".join(_ENTRY),
    BLANK_ENTRY=assignments(_ENTRY),
    BLANKED_COLUMNS=", ".join(f"t.{name}" for name in REGISTRATION if is_blanked_whole(name)),
    WITHOUT_PERSON=assignments(without_person("s")),
    WITHOUT_CONTACT=assignments(without_contact("s")),
    ENDED_BEFORE=ended_before("e", "(SELECT before FROM contact_retention)"),
)
