"""Facts that must be true of all partners' rows, each checked by one statement.

Each result has both sides in numbers and a sample of what breaks the fact. Samples name partition keys and RunSignup ids,
never a person.
"""

from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.reconciliation import VERDICT

Sample = list[dict[str, Any]]


@dataclass(frozen=True)
class Duplicates:
    """Stored rows and their registrations, `doubled` of which have more than one row, and whether the unique index is valid."""

    rows: int
    registrations: int
    doubled: int
    is_guarded: bool
    sample: Sample


def find_duplicates(conn: Connection, sample: int) -> Duplicates:
    """Count the rows of the table itself, because a damaged index would hide duplicates. Ends the transaction."""
    with conn.cursor() as cur:
        for way in ("indexscan", "indexonlyscan", "bitmapscan"):
            cur.execute(f"SET LOCAL enable_{way} = off")
        cur.execute(
            """
            SELECT coalesce(sum(n), 0)::bigint, count(*), count(*) FILTER (WHERE n > 1),
                (array_agg(timing_partner_id || ' ' || registration_id || ' ' || n || ' ' || active) FILTER (WHERE n > 1))[:%s]
            FROM (
                SELECT timing_partner_id, registration_id, count(*) AS n, count(*) FILTER (WHERE removed_at IS NULL) AS active
                FROM runsignup_participants GROUP BY timing_partner_id, registration_id
            ) r
            """,
            (sample,),
        )
        rows, registrations, doubled, found = cur.fetchone() or (0, 0, 0, None)
        conn.rollback()
        cur.execute(
            """
            SELECT EXISTS (
                SELECT FROM pg_index i
                WHERE i.indrelid = 'runsignup_participants'::regclass AND i.indisunique AND i.indisvalid AND i.indisready
                    AND i.indpred IS NULL AND i.indnkeyatts = 2 AND (
                        SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
                        WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                    ) = ARRAY['registration_id', 'timing_partner_id'])
            """
        )
        (is_guarded,) = cur.fetchone() or (False,)
        cur.execute("SELECT timing_partner_id, partition_key FROM timing_partners")
        keys = dict(cur.fetchall())
    conn.rollback()
    numbers = [[int(part) for part in line.split()] for line in found or ()]
    wrong = [
        {"partner": keys.get(partner), "registration_id": registration, "rows": n, "active": active}
        for partner, registration, n, active in numbers
    ]
    return Duplicates(rows, registrations, doubled, is_guarded, wrong)


@dataclass(frozen=True)
class Replay:
    """The replay of the bib log.

    It counts the changes and their registrations, those `wrong` because first bib and log do not give today's bib, and active
    registrations without an entry, `unlogged` of which do not have their first bib.
    """

    changes: int
    registrations: int
    wrong: int
    without_log: int
    unlogged: int
    sample: Sample


def replay_bib_log(conn: Connection, sample: int) -> Replay:
    """Replay the bib log of all partners.

    Each change begins with the bib before it, the first one with the bib the row arrived with, and the last leaves the bib that
    an active registration has. Without an entry the bib is still the first.
    """
    with conn.cursor() as cur:
        cur.execute(
            """
            WITH log AS MATERIALIZED (
                SELECT timing_partner_id, registration_id, bib_change_id, old_bib, new_bib, lag(new_bib) OVER w AS before,
                    row_number() OVER w = 1 AS is_first, lead(bib_change_id) OVER w IS NULL AS is_last
                FROM runsignup_bib_changes
                WINDOW w AS (PARTITION BY timing_partner_id, registration_id ORDER BY bib_change_id)
            ), wrong AS (
                SELECT l.timing_partner_id, l.registration_id, min(l.bib_change_id) AS bib_change_id
                FROM log l LEFT JOIN runsignup_participants p USING (timing_partner_id, registration_id)
                WHERE p.id IS NULL
                    OR l.old_bib IS DISTINCT FROM CASE WHEN l.is_first THEN p.first_bib ELSE l.before END
                    OR (l.is_last AND p.removed_at IS NULL AND l.new_bib IS DISTINCT FROM rsu_bib(p.bib_num, p.team_info))
                GROUP BY l.timing_partner_id, l.registration_id
            ), bare AS (
                SELECT count(*) AS rows FROM runsignup_participants p
                WHERE p.removed_at IS NULL AND NOT EXISTS (SELECT FROM log l
                    WHERE l.timing_partner_id = p.timing_partner_id AND l.registration_id = p.registration_id)
            ), unlogged AS MATERIALIZED (
                SELECT p.timing_partner_id, p.registration_id FROM runsignup_participants p
                WHERE p.removed_at IS NULL AND rsu_bib(p.bib_num, p.team_info) IS DISTINCT FROM p.first_bib
                    AND NOT EXISTS (SELECT FROM log l
                    WHERE l.timing_partner_id = p.timing_partner_id AND l.registration_id = p.registration_id)
            ), shown AS (
                SELECT t.partition_key AS partner, w.registration_id, w.bib_change_id
                FROM (
                    SELECT timing_partner_id, registration_id, bib_change_id FROM wrong
                    UNION ALL SELECT timing_partner_id, registration_id, NULL FROM unlogged
                ) w JOIN timing_partners t USING (timing_partner_id)
                ORDER BY w.timing_partner_id, w.registration_id LIMIT %s
            )
            SELECT (SELECT count(*) FROM log), (SELECT count(*) FROM log WHERE is_first), (SELECT count(*) FROM wrong),
                (SELECT rows FROM bare), (SELECT count(*) FROM unlogged), (SELECT coalesce(json_agg(shown), '[]') FROM shown)
            """,
            (sample,),
        )
        return Replay(*(cur.fetchone() or (0, 0, 0, 0, 0, [])))


@dataclass(frozen=True)
class Equality:
    """The last comparison of each upcoming event that was ever read in full, over all partners.

    `explained` are events that cannot be equal because rows are quarantined or removals are pending confirmation. They are not
    among the `unequal`.
    """

    events: int
    rows_sent: int
    rows_stored: int
    explained: int
    unequal: int
    sample: Sample


def read_equality(conn: Connection, sample: int) -> Equality:
    """Return the reconciliations (see `reconciliation`) of all enabled partners."""
    with conn.cursor() as cur:
        cur.execute(
            f"""
            WITH compared AS MATERIALIZED (
                SELECT t.partition_key AS partner, c.event_id, c.read_rows AS sent, c.stored_rows AS stored,
                    {VERDICT} AS verdict
                FROM event_cursors c
                JOIN future_events f USING (timing_partner_id, event_id)
                JOIN timing_partners t USING (timing_partner_id)
                WHERE c.compared_at IS NOT NULL AND t.disabled_at IS NULL
            ), shown AS (
                SELECT partner, event_id, sent, stored FROM compared WHERE verdict = 'unequal' ORDER BY partner, event_id LIMIT %s
            )
            SELECT count(*), coalesce(sum(sent), 0)::bigint, coalesce(sum(stored), 0)::bigint,
                count(*) FILTER (WHERE verdict = 'explained'), count(*) FILTER (WHERE verdict = 'unequal'),
                (SELECT coalesce(json_agg(shown), '[]') FROM shown)
            FROM compared
            """,
            (sample,),
        )
        return Equality(*(cur.fetchone() or (0, 0, 0, 0, 0, [])))


@dataclass(frozen=True)
class UnstoredRows:
    """Unresolved quarantined rows: not stored at all, or stored with fields left NULL."""

    held_back: int
    with_faults: int
    partners: int
    sample: Sample


def read_unstored_rows(conn: Connection, sample: int) -> UnstoredRows:
    """Return the quarantined rows of all enabled partners. The sample has no reasons, because they may quote the row."""
    with conn.cursor() as cur:
        cur.execute(
            """
            WITH open AS MATERIALIZED (
                SELECT t.partition_key AS partner, q.race_id, q.registration_id, q.is_stored, q.quarantined_row_id
                FROM quarantined_rows q JOIN timing_partners t USING (timing_partner_id)
                WHERE q.resolved_at IS NULL AND t.disabled_at IS NULL
            ), shown AS (
                SELECT partner, race_id, registration_id, quarantined_row_id FROM open WHERE NOT is_stored
                ORDER BY quarantined_row_id LIMIT %s
            )
            SELECT count(*) FILTER (WHERE NOT is_stored), count(*) FILTER (WHERE is_stored),
                count(DISTINCT partner) FILTER (WHERE NOT is_stored), (SELECT coalesce(json_agg(shown), '[]') FROM shown)
            FROM open
            """,
            (sample,),
        )
        return UnstoredRows(*(cur.fetchone() or (0, 0, 0, [])))
