"""Merge a staged page of registrations into the stored rows, and find what a pass did not show.

Every function works inside the caller's transaction, so that rows and position commit together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from rsu_pipeline.eastern import EASTERN_SQL
from rsu_pipeline.warehouse import reconciliation
from rsu_pipeline.warehouse.staging import COLUMNS, Counts, RejectedRow, Source, StagedLine, params_of, stage_and


def merge_active(
    conn: Connection,
    lines: Sequence[StagedLine],
    source: Source,
    *,
    full: bool,
    upto: int | None = None,
    is_first_load: bool = False,
) -> tuple[Counts, list[RejectedRow]]:
    """Merge active registrations: insert new ones, update changed ones, leave unchanged ones alone.

    Every bib that changed after its event's first load is logged by the same statement. An incremental pass ignores a row that
    is older than its removal. A full pass does not: RunSignup has just listed the registration as active, and a reactivation may
    leave the timestamp unchanged.

    Args:
        conn: In the page's transaction.
        lines: The page.
        source: Where the page came from.
        full: Whether the pass counts what it was sent, for its proof.
        upto: The registration id up to which rows are counted for the proof, or None for all.
        is_first_load: Whether none of its events was ever loaded.
    """
    params = params_of(source) | {"full": full, "upto": upto}

    def merge(cur: Cursor) -> Counts:
        cur.execute(reconciliation.supersede(_IS_STALE), params)
        counts, is_all = _insert_new(cur, params) if is_first_load else (Counts(), False)
        if not is_all:
            counts.add(_counted(cur, _MERGE_ACTIVE, params))
        return counts

    return stage_and(conn, lines, merge, params, row_hash=reconciliation.row_hash("t"))


def _insert_new(cur: Cursor, params: dict[str, object]) -> tuple[Counts, bool]:
    """Insert the staged registrations that are not stored, and return whether these were all.

    The others stay in the staging table.
    """
    cur.execute(_INSERT_NEW, params)
    ((staged, inserted, _),) = cur.fetchall()
    if len(inserted) < staged:
        cur.execute("DELETE FROM participants_stage WHERE registration_id = ANY (%s::bigint[])", (_array(inserted),))
    return Counts(read=len(inserted), inserted=len(inserted)), len(inserted) == staged


def _counted(cur: Cursor, merge: str, params: dict[str, object]) -> Counts:
    cur.execute(merge, params)
    *counts, _ = cur.fetchone() or (0,)
    return Counts(*counts)


def merge_removed(
    conn: Connection, lines: Sequence[StagedLine], source: Source, *, overlap: int = 0
) -> tuple[Counts, list[RejectedRow]]:
    """Mark removed registrations with their reason.

    A removal that is older than the stored active row is ignored. A removal of the same second wins unless the pass saw the
    registration active, for a full pass after that second. A removal that is older than a full pass by more than `overlap`
    seconds is ignored if the pass saw the registration active: RunSignup had enough time to show it everywhere.
    """
    params = params_of(source) | {"full": source.mode != "incremental", "overlap": overlap}
    return stage_and(
        conn,
        lines,
        lambda cur: _counted(cur, _MERGE_REMOVED, params),
        params,
        row_hash=reconciliation.row_hash("t"),
    )


def held_as_sent(
    conn: Connection, source: Source, sent: Sequence[tuple[int, int | None, int]], *, upto: int | None
) -> dict[int, bool]:
    """Return which registrations are stored exactly as a full pass received them, each with whether it has field errors.

    These are active and have the content that was made of that digest. They need not be staged. They are counted for the proof
    as `merge_active` counts, and their field errors are noted as seen again.

    Args:
        conn: In the page's transaction.
        source: Where the page came from.
        sent: Registration id, event id and digest of each row.
        upto: The registration id up to which the page is complete, or None for all.
    """
    with conn.cursor() as cur:
        columns = map(_array, zip(*sent, strict=True)) if sent else [_array([])] * len(_SENT)
        cur.execute(_HELD_AS_SENT, params_of(source) | dict(zip(_SENT, columns, strict=True)) | {"upto": upto})
        return dict(cur.fetchall())


def compute_digest(sent: int, *, has_field_errors: bool) -> int:
    """Return the digest of a staged line from that of the row as RunSignup sent it."""
    return sent ^ _FIELD_ERRORS_MARK if has_field_errors else sent


def note_missing(
    conn: Connection,
    source: Source,
    event_ids: Sequence[int],
    *,
    after: int,
    upto: int | None,
    seen: Sequence[int],
    is_certain: bool = True,
) -> None:
    """Note after a page of a full pass which active registrations of its id range the page did not have.

    Since pages follow each other by id, the notes of all pages together are what the pass did not see.

    Args:
        conn: In the page's transaction.
        source: Where the page came from.
        event_ids: The events that the pass reads.
        after: The id after which the page begins.
        upto: The id up to which the page is complete, or None for all.
        seen: The registrations of the page.
        is_certain: Whether what the page did not have counts as missing.
    """
    with conn.cursor() as cur:
        cur.execute(
            """
            INSERT INTO pass_registrations (timing_partner_id, race_id, mode, registration_id, event_id, missing)
            SELECT %(partner)s, %(race)s, %(mode)s, t.registration_id, e.id, %(certain)s
            -- Event by event, and `+ 0`, so that no planner without statistics of a new partner takes the index on the
            -- partner's registrations, which reads through those of all its races.
            FROM unnest(%(events)s::bigint[]) AS e (id) CROSS JOIN LATERAL (
                SELECT h.registration_id FROM runsignup_participants h
                WHERE h.timing_partner_id + 0 = %(partner)s AND h.event_id = e.id AND h.removed_at IS NULL
                    AND h.registration_id > %(after)s AND (%(upto)s IS NULL OR h.registration_id <= %(upto)s)
            ) t
            -- NOT IN over a subquery is hashed by every server; an anti-join here was planned as a nested loop.
            WHERE t.registration_id NOT IN (SELECT unnest(%(seen)s::bigint[]))
            ON CONFLICT DO NOTHING
            """,
            params_of(source)
            | {"events": list(event_ids), "after": after, "upto": upto, "seen": _array(seen), "certain": is_certain},
        )


def note_seen(conn: Connection, source: Source, seen: Sequence[tuple[int, int]]) -> None:
    """Note after an incremental page the (registration, event) ids it showed as active."""
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO pass_registrations (timing_partner_id, race_id, mode, registration_id, event_id, missing)"
            " SELECT %s, %s, 'incremental', registration_id, event_id, false"
            " FROM unnest(%s::bigint[], %s::bigint[]) AS s (registration_id, event_id) ON CONFLICT DO NOTHING",
            (source.partner_id, source.race_id, _array(pair[0] for pair in seen), _array(pair[1] for pair in seen)),
        )


@dataclass(frozen=True)
class Missing:
    """What a complete full pass did not see of one event: `missing` of the `held` active registrations."""

    event_id: int
    missing: int
    held: int


def find_missing(conn: Connection, partner_id: int, race_id: int, mode: str) -> list[Missing]:
    """Return per event the active registrations that a current full pass did not see, with the number stored."""
    with conn.cursor() as cur:
        cur.execute(
            """
            SELECT m.event_id, count(*)::int, (
                SELECT count(*) FROM runsignup_participants h
                WHERE h.timing_partner_id = %(partner)s AND h.event_id = m.event_id AND h.removed_at IS NULL)::int
            FROM pass_registrations m
            JOIN runsignup_participants t USING (timing_partner_id, registration_id)
            WHERE m.timing_partner_id = %(partner)s AND m.race_id = %(race)s AND m.mode = %(mode)s AND m.missing
                AND t.removed_at IS NULL AND t.event_id = m.event_id
            GROUP BY m.event_id
            """,
            {"partner": partner_id, "race": race_id, "mode": mode},
        )
        return [Missing(*row) for row in cur.fetchall()]


def has_unexplained(conn: Connection, partner_id: int, event_ids: Sequence[int], since: int) -> bool:
    """Return whether one of these events has a registration that went missing without a reason since then, Unix seconds."""
    with conn.cursor() as cur:
        cur.execute(
            """
            SELECT EXISTS (
                SELECT FROM runsignup_participants t
                -- `+ 0` as in note_missing.
                WHERE t.timing_partner_id + 0 = %s AND t.event_id = ANY (%s::bigint[])
                    AND t.removed_reason = 'missing_upstream' AND t.removed_at >= to_timestamp(%s))
            """,
            (partner_id, list(event_ids), since),
        )
        (found,) = cur.fetchone() or (False,)
    return bool(found)


def remove_missing(conn: Connection, source: Source, event_ids: Sequence[int]) -> int:
    """Mark what a complete full pass did not see of these events as `missing_upstream`, and return how many."""
    with conn.cursor() as cur:
        cur.execute(
            """
            UPDATE runsignup_participants t
            SET removed_at = to_timestamp(%(server_time)s), removed_reason = 'missing_upstream', removed_epoch = NULL,
                new_registration_id = NULL, changed_at = now(), fetched_date = now(), source_at = to_timestamp(%(server_time)s)
            FROM pass_registrations m
            WHERE m.timing_partner_id = %(partner)s AND m.race_id = %(race)s AND m.mode = %(mode)s AND m.missing
                AND m.event_id = ANY (%(events)s::bigint[])
                AND t.timing_partner_id = m.timing_partner_id AND t.registration_id = m.registration_id
                AND t.event_id = m.event_id AND t.removed_at IS NULL
            """,
            params_of(source) | {"events": list(event_ids)},
        )
        return int(cur.rowcount)


def removal_context(conn: Connection, partner_id: int) -> tuple[int, int]:
    """Return how many active registrations the partner has, and how many went missing without a reason within a day."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT count(*) FILTER (WHERE removed_at IS NULL),"
            " count(*) FILTER (WHERE removed_reason = 'missing_upstream' AND changed_at > now() - interval '24 hours')"
            " FROM runsignup_participants WHERE timing_partner_id = %s",
            (partner_id,),
        )
        active, recently = cur.fetchone() or (0, 0)
    return int(active), int(recently)


def is_any_above(conn: Connection, partner_id: int, event_ids: Sequence[int], registration_id: int) -> bool:
    """Return whether one of these events has an active registration with a higher id."""
    with conn.cursor() as cur:
        cur.execute(
            """
            SELECT EXISTS (
                SELECT FROM runsignup_participants t
                -- `+ 0` as in note_missing.
                WHERE t.timing_partner_id + 0 = %s AND t.event_id = ANY (%s::bigint[]) AND t.removed_at IS NULL
                    AND t.registration_id > %s)
            """,
            (partner_id, list(event_ids), registration_id),
        )
        (found,) = cur.fetchone() or (False,)
    return bool(found)


def read_active_ids(conn: Connection, partner_id: int, event_ids: Sequence[int]) -> set[int]:
    """Return the active registrations of these events."""
    with conn.cursor() as cur:
        cur.execute(
            # `+ 0` as in note_missing.
            "SELECT registration_id FROM runsignup_participants"
            " WHERE timing_partner_id + 0 = %s AND event_id = ANY (%s::bigint[]) AND removed_at IS NULL",
            (partner_id, list(event_ids)),
        )
        return {registration_id for (registration_id,) in cur.fetchall()}


def count_active(conn: Connection, partner_id: int, event_ids: Sequence[int]) -> int:
    """Count the active registrations of these events."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT count(*) FROM runsignup_participants"
            " WHERE timing_partner_id = %s AND event_id = ANY (%s::bigint[]) AND removed_at IS NULL",
            (partner_id, list(event_ids)),
        )
        (count,) = cur.fetchone() or (0,)
    return int(count)


def _array(numbers: Iterable[int]) -> str:
    """Format numbers as the text of a bigint[].

    psycopg2 writes a list as an expression for each member. For a page that costs more than the lookup of its rows.
    """
    return f"{{{','.join(map(str, numbers))}}}"


_SENT = ("registrations", "events", "digests")
_FIELD_ERRORS_MARK = 1
"""A row with field errors has a digest that differs by this, and so a seal by which it is not taken for one without."""
_UPTO = "(%(upto)s IS NULL OR registration_id <= %(upto)s)"
"""SQL: rows above `upto` come again with the next page."""

# Its content is hashed again, so that a row altered here does not count as unchanged. A row with field errors has them noted.
# A row of which another version is quarantined goes through the merge, which resolves that. A row of an erased person is blanked
# there.
_HELD_AS_SENT = f"""
WITH same AS MATERIALIZED (
    SELECT s.registration_id, s.event_id, t.hash, t.seal <> s.digest # t.hash AS has_field_errors
    FROM unnest(%(registrations)s::bigint[], %(events)s::bigint[], %(digests)s::bigint[]) AS s (registration_id, event_id, digest)
    CROSS JOIN LATERAL (
        SELECT h.event_id, h.race_id, h.removed_at, h.seal, {reconciliation.row_hash("h")} AS hash FROM runsignup_participants h
        WHERE h.timing_partner_id = %(partner)s AND h.registration_id = s.registration_id LIMIT 1) t
    WHERE t.event_id = s.event_id AND t.race_id = %(race)s AND t.removed_at IS NULL
        AND t.seal IN (s.digest # t.hash, s.digest # t.hash # {_FIELD_ERRORS_MARK})
        AND (SELECT bool_and(q.is_stored) FROM quarantined_rows q WHERE q.timing_partner_id = %(partner)s
            AND q.registration_id = s.registration_id AND q.resolved_at IS NULL)
            IS NOT DISTINCT FROM CASE WHEN t.seal <> s.digest # t.hash THEN true END
        AND NOT EXISTS (SELECT FROM erased_registrations x WHERE x.registration_id = s.registration_id)
),
counted AS ({reconciliation.add_to_counts(f"SELECT event_id, hash FROM same WHERE {_UPTO}")}),
unmissed AS (
    DELETE FROM pass_registrations m USING same s
    WHERE m.timing_partner_id = %(partner)s AND m.race_id = %(race)s AND m.registration_id = s.registration_id
        AND m.mode <> 'incremental'
),
noted AS (
    UPDATE quarantined_rows q SET last_seen_at = now()
    -- As an array, which the index is searched by. A join was planned as a nested loop over all of both.
    WHERE q.timing_partner_id = %(partner)s AND q.resolved_at IS NULL
        AND q.registration_id = ANY (ARRAY(SELECT s.registration_id FROM same s WHERE s.has_field_errors))
)
SELECT registration_id, has_field_errors FROM same
"""

_NAMES = ", ".join(COLUMNS)
_NEW = ", ".join(f"i.{name}" for name in COLUMNS)
_COMPARED = [name for name in COLUMNS if name != "payload"]
_DIFFERS = f"({', '.join(f'i.{name}' for name in _COMPARED)}) IS DISTINCT FROM ({', '.join(f't.{name}' for name in _COMPARED)})"
_TEXT_DIFFERS = "i.payload::text IS DISTINCT FROM t.payload::text"
"""SQL: whether the payloads of a staged row i and its stored row t differ as text. Then they are compared as values."""
_CHANGES = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "registration_id")
_BIB = "rsu_bib({0}.bib_num, {0}.team_info)"
"""SQL for the bib that counts for a registration. The bib log records its changes."""
_DERIVED = "registered_at, last_modified"
_DERIVATION = (
    f"i.registration_date AT TIME ZONE {EASTERN_SQL}, to_timestamp(i.last_modified_epoch) AT TIME ZONE {EASTERN_SQL}"
)

_NOTIFY = """
    (SELECT count(rsu_notify_participants(%(partner)s, race_id, event_id)) FROM (SELECT DISTINCT race_id, event_id FROM {0}) e)"""
"""SQL: notifies listeners of each event of which a CTE has registrations that were written."""
_NOTIFY_WRITTEN = _NOTIFY.format("written")
_IS_STALE = "(NOT %(full)s AND coalesce(t.removed_at IS NOT NULL AND i.last_modified_epoch < t.removed_epoch, false))"
"""SQL: whether a staged row i is older than the stored removal t, and its pass is no evidence against that."""

# A row is written only if it is new, differs, or returns after a removal that is overruled. Finding each row by LATERAL uses
# the index whatever the planner estimates for a table that was just filled. The wide columns are compared and written straight
# from the staging table, never materialized. A row that differs only in its seal, or in how its payload is written, gets these
# and nothing else.
_MERGE_ACTIVE = f"""
WITH hashed AS MATERIALIZED (
    SELECT i.registration_id, i.event_id, {reconciliation.row_hash("i")} AS hash, i.digest FROM participants_stage i
),
counted AS ({reconciliation.add_to_counts(f"SELECT event_id, hash FROM hashed WHERE %(full)s AND {_UPTO}")}),
compared AS MATERIALIZED (
    SELECT i.registration_id, i.race_id, i.event_id, {_BIB.format("i")} AS bib, i.last_modified_epoch,
        s.hash # s.digest AS seal, t.id AS held_id, {_BIB.format("t")} AS held_bib, t.removed_at IS NOT NULL AS was_removed,
        t.id IS NOT NULL AND t.removed_at IS NULL AND NOT {_DIFFERS} AND CASE WHEN {_TEXT_DIFFERS}
            THEN i.payload::jsonb IS NOT DISTINCT FROM t.payload::jsonb ELSE true END AS is_same,
        CASE WHEN t.id IS NOT NULL AND {_TEXT_DIFFERS} THEN i.payload END AS payload,
        {_IS_STALE} AS is_stale,
        greatest(t.source_at, c.last_read_at) AS held_at, c.first_loaded_at IS NOT NULL AS is_loaded
    FROM participants_stage i
    JOIN hashed s USING (registration_id)
    LEFT JOIN LATERAL (
        SELECT * FROM runsignup_participants h
        WHERE h.timing_partner_id = %(partner)s AND h.registration_id = i.registration_id LIMIT 1) t ON true
    LEFT JOIN event_cursors c ON c.timing_partner_id = %(partner)s AND c.event_id = i.event_id
    WHERE t.id IS NULL OR t.removed_at IS NOT NULL OR {_TEXT_DIFFERS} OR {_DIFFERS}
        OR t.seal IS DISTINCT FROM s.hash # s.digest
),
sealed AS (
    UPDATE runsignup_participants t SET seal = v.seal, payload = coalesce(v.payload, t.payload)
    FROM compared v WHERE t.id = v.held_id AND v.is_same
),
written AS (
    INSERT INTO runsignup_participants ({_NAMES}, {_DERIVED}, timing_partner_id, first_bib, source_at, credentials_used, seal)
    SELECT {_NEW}, {_DERIVATION}, %(partner)s, CASE WHEN NOT v.is_loaded THEN v.bib END,
        to_timestamp(%(server_time)s), %(key)s, v.seal
    FROM compared v JOIN participants_stage i USING (registration_id)
    WHERE NOT v.is_stale AND NOT v.is_same
    ON CONFLICT (timing_partner_id, registration_id) DO UPDATE SET {_CHANGES},
        registered_at = excluded.registered_at, last_modified = excluded.last_modified,
        removed_at = NULL, removed_reason = NULL, removed_epoch = NULL, new_registration_id = NULL,
        changed_at = now(), fetched_date = now(), source_at = excluded.source_at,
        credentials_used = excluded.credentials_used, seal = excluded.seal
    RETURNING registration_id, race_id, event_id
),
logged AS (
    INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, old_bib, new_bib,
        modified_epoch, last_seen_old, first_seen_new, run_id)
    SELECT %(partner)s, v.race_id, v.event_id, v.registration_id,
        CASE WHEN v.held_bib IS NULL THEN 'assigned' WHEN v.bib IS NULL THEN 'cleared' ELSE 'changed' END,
        v.held_bib, v.bib, v.last_modified_epoch, v.held_at, to_timestamp(%(server_time)s), %(run)s
    FROM compared v JOIN written USING (registration_id)
    WHERE v.held_bib IS DISTINCT FROM v.bib AND (v.held_id IS NOT NULL OR v.is_loaded)
    RETURNING 1
),
unmissed AS (
    DELETE FROM pass_registrations m USING participants_stage i
    WHERE m.timing_partner_id = %(partner)s AND m.race_id = i.race_id
        AND m.registration_id = i.registration_id AND m.mode <> 'incremental'
),
resolved AS (
    UPDATE quarantined_rows q SET resolved_at = now() FROM participants_stage i
    WHERE q.timing_partner_id = %(partner)s AND q.registration_id = i.registration_id AND q.resolved_at IS NULL
)
SELECT staged.n, new.n, changed.n, staged.n - new.n - changed.n - back.n - stale.n, back.n, 0, stale.n,
    (SELECT count(*) FROM logged)::int,{_NOTIFY_WRITTEN}
FROM (SELECT count(*)::int AS n FROM participants_stage) staged,
    (SELECT count(*)::int AS n FROM compared WHERE held_id IS NULL) new,
    (SELECT count(*)::int AS n FROM compared WHERE held_id IS NOT NULL AND NOT was_removed AND NOT is_same) changed,
    (SELECT count(*)::int AS n FROM compared WHERE was_removed AND NOT is_stale) back,
    (SELECT count(*)::int AS n FROM compared WHERE is_stale) stale
"""

# Registrations of events of which nothing is stored yet need no comparison and have no bib changes to log. A registration
# that is stored all the same, for another event, is left to the merge. So is one of an erased person, which has no digest.
_NEW_COUNTED = f"""
SELECT w.event_id, w.seal # i.digest AS hash FROM written w JOIN participants_stage i USING (registration_id) WHERE {_UPTO}
"""
_INSERT_NEW = f"""
WITH written AS (
    INSERT INTO runsignup_participants ({_NAMES}, {_DERIVED}, timing_partner_id, first_bib, source_at, credentials_used, seal)
    SELECT {_NEW}, {_DERIVATION}, %(partner)s, {_BIB.format("i")}, to_timestamp(%(server_time)s), %(key)s,
        {reconciliation.row_hash("i")} # i.digest
    FROM participants_stage i WHERE i.digest IS NOT NULL
    ON CONFLICT (timing_partner_id, registration_id) DO NOTHING
    RETURNING registration_id, race_id, event_id, seal
),
counted AS ({reconciliation.add_to_counts(_NEW_COUNTED)}),
resolved AS (
    UPDATE quarantined_rows q SET resolved_at = now() FROM written w
    WHERE q.timing_partner_id = %(partner)s AND q.registration_id = w.registration_id AND q.resolved_at IS NULL
)
SELECT (SELECT count(*) FROM participants_stage), ARRAY(SELECT registration_id FROM written),{_NOTIFY_WRITTEN}
"""

# A full pass saw what it did not note as unseen. An incremental pass saw what it noted.
_SEEN = (
    "CASE WHEN %(full)s THEN s.registration_id IS NULL AND t.event_id = ANY (p.event_ids)"
    " ELSE s.registration_id IS NOT NULL END"
)

_MERGE_REMOVED = f"""
WITH compared AS MATERIALIZED (
    SELECT i.*, t.id AS held_id, t.removed_at IS NULL AS was_active
    FROM participants_stage i
    LEFT JOIN read_passes p ON p.timing_partner_id = %(partner)s AND p.race_id = %(race)s AND p.mode = %(mode)s
    LEFT JOIN LATERAL (
        SELECT * FROM runsignup_participants h
        WHERE h.timing_partner_id = %(partner)s AND h.registration_id = i.registration_id LIMIT 1) t ON true
    LEFT JOIN pass_registrations s ON s.timing_partner_id = %(partner)s AND s.race_id = %(race)s AND s.mode = %(mode)s
        AND s.registration_id = i.registration_id
    WHERE t.id IS NULL
        OR (t.removed_at IS NULL AND (
            (%(full)s AND s.missing)
            OR (i.removed_epoch > coalesce(t.last_modified_epoch, 0)
                AND NOT (%(full)s AND {_SEEN} AND i.removed_epoch < p.first_page_at - %(overlap)s))
            OR (coalesce(i.removed_epoch >= coalesce(t.last_modified_epoch, 0), true)
                AND NOT ({_SEEN} AND (NOT %(full)s OR coalesce(i.removed_epoch < p.first_page_at, true))))))
        OR (t.removed_at IS NOT NULL AND coalesce(i.removed_epoch >= t.removed_epoch, true)
            AND (i.removed_reason, i.removed_epoch, i.new_registration_id)
                IS DISTINCT FROM (t.removed_reason, t.removed_epoch, t.new_registration_id))
),
marked AS (
    UPDATE runsignup_participants t
    SET removed_at = coalesce(to_timestamp(i.removed_epoch), to_timestamp(%(server_time)s)),
        removed_reason = i.removed_reason, removed_epoch = i.removed_epoch, new_registration_id = i.new_registration_id,
        changed_at = now(), fetched_date = now(), source_at = to_timestamp(%(server_time)s)
    FROM compared i
    WHERE t.id = i.held_id
    RETURNING i.was_active
),
superseded AS ({reconciliation.add_counts(reconciliation.SUPERSEDED_BY_REMOVALS)}),
inserted AS (
    INSERT INTO runsignup_participants ({_NAMES}, {_DERIVED}, timing_partner_id, first_bib, source_at, credentials_used,
        removed_at, removed_reason, removed_epoch, new_registration_id)
    SELECT {_NEW}, {_DERIVATION}, %(partner)s, {_BIB.format("i")}, to_timestamp(%(server_time)s), %(key)s,
        coalesce(to_timestamp(i.removed_epoch), to_timestamp(%(server_time)s)), i.removed_reason, i.removed_epoch,
        i.new_registration_id
    FROM compared i WHERE i.held_id IS NULL
    ON CONFLICT (timing_partner_id, registration_id) DO NOTHING
    RETURNING race_id, event_id
)
SELECT 0, 0, 0, 0, 0, (SELECT count(*) FROM marked WHERE was_active)::int, 0, 0,{_NOTIFY.format("inserted")}
"""
