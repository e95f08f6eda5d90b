"""Apply erasures and purges to what is read later.

An erased person can return in three ways: a registration is transferred and gets another id, RunSignup merges two accounts,
or an older registration is read for the first time. So each staged page is first compared with what was erased. A transfer
may also be to another person, whose registration is kept: it counts as the same person unless it has another account.
"""

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from rsu_pipeline.eastern import EASTERN_SQL
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
    cur.execute(_IS_ANYTHING_KEPT_OUT)
    if cur.fetchone() != (True,):
        return
    for statement in (_CONFIRM_TRANSFERS, _NOTE_MERGED_ACCOUNTS, _NOTE_OF_ACCOUNTS):
        cur.execute(statement, params)
    while True:  # until the end of a chain of transfers
        cur.execute(_NOTE_TRANSFERS, params)
        if not cur.rowcount:
            break
    cur.execute(_HAS_MORE_TO_BLANK, params)
    if cur.fetchone() == (True,):
        _blank_stored(cur, params, row_hash)
    cur.execute(_BLANK_STAGED, params)


def _blank_stored(cur: Cursor, params: dict[str, object], row_hash: str) -> None:
    """Blank the partner's stored registrations that are now known to be an erased person's, and correct the pass's counts."""
    cur.execute(_NOTE_STORED_OF_ACCOUNTS, params)
    cur.execute(_NOTE_ACCOUNT, params)
    cur.execute(_CONFIRM_STORED_TRANSFERS, params)
    cur.execute(_RECOUNT.format(sign="-", row_hash=row_hash), params)
    cur.execute(ERASE, params)
    cur.execute(_RECOUNT.format(sign="+", row_hash=row_hash), params)
    cur.execute(ERASE_ENTRIES, params)
    cur.execute(_ERASE_QUARANTINED, params)


def blank_erased(conn: Connection, partner_id: int, race_id: int) -> int:
    """Blank the partner's recorded registrations of a race, and return how many."""
    with conn.cursor() as cur:
        cur.execute(_ERASE_OF_RACE, {"partner": partner_id, "race": race_id})
        return int(cur.rowcount)


def blank_erased_entries(conn: Connection, partner_id: int) -> int:
    """Blank the entries of recorded registrations in the partner's start lists, and return how many."""
    with conn.cursor() as cur:
        cur.execute(ERASE_ENTRIES, {"partner": partner_id})
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
# As a rebuild makes them from blank registrations. A rebuild follows, because these have changed.
ERASE_ENTRIES = f"""
UPDATE start_list_entries t SET {assignments(_ENTRY)}, changed_at = now()
WHERE t.timing_partner_id = %(partner)s AND num_nonnulls({", ".join(_ENTRY)}) > 0
    AND t.registration_id IN (SELECT p.registration_id FROM runsignup_participants p WHERE {is_erased("p")})
"""
_ERASE_QUARANTINED = f"""
UPDATE quarantined_rows q SET row_text = NULL
WHERE q.row_text IS NOT NULL AND q.timing_partner_id = %(partner)s
    AND q.registration_id IN (SELECT p.registration_id FROM runsignup_participants p WHERE {is_erased("p")})
"""
# Where nobody was erased and nothing purged, the statements below would read through each page for nothing.
_IS_ANYTHING_KEPT_OUT = """
SELECT EXISTS (SELECT FROM erased_registrations) OR EXISTS (SELECT FROM erased_users) OR EXISTS (SELECT FROM contact_retention)
"""
_HAS_MORE_TO_BLANK = f"""
SELECT EXISTS (
    SELECT FROM erased_registrations x JOIN LATERAL (
        SELECT * FROM runsignup_participants h
        WHERE h.timing_partner_id = %(partner)s AND h.registration_id = x.registration_id LIMIT 1) t ON true
    WHERE {_IS_HERE} AND {is_same_person("x", "t")}
        AND num_nonnulls({", ".join(f"t.{name}" for name in REGISTRATION if is_blanked_whole(name))}) > 0)
    OR EXISTS (
        SELECT FROM participants_stage s JOIN erased_registrations x USING (registration_id)
        JOIN erased_users u ON u.user_id = s.user_id WHERE {_IS_HERE} AND s.user_id <> x.user_id)
"""
"""SQL: whether a stored registration is to be blanked, or one arrived with another account of the person."""

# An account with which RunSignup sends a registration of an erased person is theirs too: two accounts were merged.
_NOTE_MERGED_ACCOUNTS = f"""
INSERT INTO erased_users (user_id, timing_partner_id, erased_at)
SELECT s.user_id, x.timing_partner_id, max(u.erased_at)
FROM participants_stage s JOIN erased_registrations x USING (registration_id)
JOIN erased_users u ON u.erased_user_id = x.erased_user_id
WHERE {_IS_HERE} AND NOT x.via_transfer AND s.user_id <> u.user_id
GROUP BY 1, 2
ON CONFLICT DO NOTHING
"""
_COLUMNS = "registration_id, timing_partner_id, erased_at, erased_user_id, user_id, via_transfer"
_NOTE_OF_ACCOUNTS = f"""
INSERT INTO erased_registrations ({_COLUMNS})
SELECT s.registration_id, u.timing_partner_id, u.erased_at, u.erased_user_id, u.user_id, false
FROM participants_stage s JOIN erased_users u ON u.user_id = s.user_id
WHERE coalesce(u.timing_partner_id, %(partner)s) = %(partner)s
    AND coalesce(s.registration_date AT TIME ZONE {EASTERN_SQL} <= u.erased_at, true)
ON CONFLICT DO NOTHING
"""
_NOTE_STORED_OF_ACCOUNTS = f"""
INSERT INTO erased_registrations (registration_id, timing_partner_id, erased_at, erased_user_id, user_id, via_transfer)
SELECT p.registration_id, u.timing_partner_id, max(u.erased_at), max(u.erased_user_id), max(u.user_id), false
FROM erased_users u JOIN runsignup_participants p ON p.user_id = u.user_id
WHERE coalesce(u.timing_partner_id, p.timing_partner_id) = p.timing_partner_id
    AND coalesce(p.registration_date AT TIME ZONE {EASTERN_SQL} <= u.erased_at, true)
GROUP BY 1, 2
ON CONFLICT DO NOTHING
"""
# So that the account's registrations are searched only once.
_NOTE_ACCOUNT = f"""
UPDATE erased_registrations x SET user_id = s.user_id FROM participants_stage s
WHERE x.registration_id = s.registration_id AND NOT x.via_transfer AND {_IS_HERE} AND s.user_id <> x.user_id
"""
# From what is staged and from what is stored: the transfers of a chain arrive in any order.
_NOTE_TRANSFERS = f"""
INSERT INTO erased_registrations ({_COLUMNS})
SELECT r.new_registration_id, x.timing_partner_id, max(x.erased_at), max(x.erased_user_id),
    max(coalesce(r.user_id, x.user_id)), true
FROM erased_registrations x JOIN (
    SELECT s.registration_id, s.user_id, s.new_registration_id FROM participants_stage s
    UNION ALL
    SELECT p.registration_id, p.user_id, p.new_registration_id FROM erased_registrations e JOIN runsignup_participants p
        ON p.timing_partner_id = %(partner)s AND p.registration_id = e.registration_id
) r USING (registration_id)
WHERE r.new_registration_id IS NOT NULL AND {_IS_HERE} AND {is_same_person("x", "r")}
GROUP BY 1, 2
ON CONFLICT DO NOTHING
"""
# Once the account shows that it is the person's, it stays so whatever account it is sent with later.
_CONFIRM_TRANSFERS = f"""
UPDATE erased_registrations x SET via_transfer = false FROM participants_stage s
WHERE x.registration_id = s.registration_id AND x.via_transfer AND {_IS_HERE}
    AND s.user_id IS NOT NULL AND {is_same_person("x", "s")}
"""
_CONFIRM_STORED_TRANSFERS = f"""
UPDATE erased_registrations x SET via_transfer = false FROM runsignup_participants t
WHERE x.via_transfer AND {_IS_HERE} AND t.timing_partner_id = %(partner)s AND t.registration_id = x.registration_id
    AND t.user_id IS NOT NULL AND {is_same_person("x", "t")}
"""
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
_BLANK_STAGED = f"""
UPDATE participants_stage s SET digest = NULL, {assignments(without_person("s"))} FROM erased_registrations x
WHERE x.registration_id = s.registration_id AND {_IS_HERE} AND {is_same_person("x", "s")};
UPDATE participants_stage s SET digest = NULL, {assignments(without_contact("s"))}
-- Where nothing was ever purged that is all; else the few events of a page are looked up, not all of the hub's read.
WHERE (SELECT before FROM contact_retention) IS NOT NULL AND s.event_id = ANY (ARRAY(
    SELECT e.event_id FROM runsignup_events e
    WHERE e.event_id IN (SELECT event_id FROM participants_stage)
        AND {ended_before("e", "(SELECT before FROM contact_retention)")}))
"""
