"""The proof that a copy equals RunSignup: what a full read was sent, and what is stored, counted and hashed alike.

A row's hash is of its content as text, taken by PostgreSQL from the staged row on one side and from the stored row on
the other; the sum over an event does not depend on the order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.cursors import REMOVALS_HELD_BACK
from rsu_pipeline.warehouse.staging import COLUMNS, JSON_COLUMNS, Source, params_of


def count_held_back(conn: Connection, source: Source, event_ids: Sequence[int]) -> None:
    """After a page of a full pass: adds rows that were sent and not stored to the pass's counts, one for each event id
    given; an event that has any cannot be proved equal."""
    with conn.cursor() as cur:
        cur.execute(
            add_to_counts("SELECT unnest(%(events)s::bigint[]) AS event_id, 0 AS hash"),
            params_of(source) | {"events": list(event_ids)},
        )


def compare(conn: Connection, source: Source, event_ids: Sequence[int]) -> list[int]:
    """At the end of a full pass, cursors moved: notes for each event what was sent beside what is stored, and returns
    the events for which they differ."""
    with conn.cursor() as cur:
        cur.execute(_COMPARE, params_of(source) | {"events": list(event_ids)})
        return [event_id for event_id, equal in cur.fetchall() if not equal]


IS_EQUAL = "(c.read_rows, c.read_hash) = (c.stored_rows, c.stored_hash)"
"""SQL: whether an event (c of event_cursors) holds what its last full read was sent."""
IS_EXPLAINED = f"""
(c.needs_full IS NOT DISTINCT FROM '{REMOVALS_HELD_BACK}' OR EXISTS (
    SELECT FROM quarantined_rows q
    WHERE q.timing_partner_id = c.timing_partner_id AND q.race_id = c.race_id AND q.resolved_at IS NULL AND NOT q.is_stored))
"""
"""SQL: whether it is known, and told by a check or an alert of its own, why an event cannot be equal: rows of its race are
held back, or removals wait to be confirmed."""


@dataclass(frozen=True)
class Proof:
    """The last comparison of an event: rows sent and stored, whether their content hashed alike; for one that does not,
    whether it `is_explained` by rows or removals that are held back."""

    event_id: int
    read_rows: int
    stored_rows: int
    is_equal: bool
    is_explained: bool


def proofs(conn: Connection, partner_id: int) -> list[Proof]:
    """The last comparison of each of the partner's future events that was ever read in full."""
    with conn.cursor() as cur:
        cur.execute(
            f"""
            SELECT c.event_id, c.read_rows, c.stored_rows, {IS_EQUAL}, NOT ({IS_EQUAL}) AND {IS_EXPLAINED}
            FROM event_cursors c JOIN future_events f USING (timing_partner_id, event_id)
            WHERE c.timing_partner_id = %s AND c.compared_at IS NOT NULL
            ORDER BY c.event_id
            """,
            (partner_id,),
        )
        return [Proof(*row) for row in cur.fetchall()]


def row_hash(alias: str) -> str:
    """SQL for a row's hash, a bigint: of its content as PostgreSQL holds it on both sides. JSON is hashed as the value it is,
    as the merge compares it, so that 1.0 and 1.00 are the same."""
    plain = ", ".join(f"{alias}.{name}" for name in COLUMNS if name not in JSON_COLUMNS)
    json = "".join(
        f" # coalesce(jsonb_hash_extended({alias}.{name}, {seed}), {seed})"
        for seed, name in enumerate(JSON_COLUMNS, start=1)
    )
    return f"(hashtextextended(ROW({plain})::text, 0){json})"


def add_to_counts(rows: str) -> str:
    """SQL that adds rows (event_id, hash) to what a pass was sent."""
    return f"""
INSERT INTO pass_counts AS c (timing_partner_id, race_id, mode, event_id, rows, hash)
SELECT %(partner)s, %(race)s, %(mode)s, event_id, count(*), sum(hash) FROM ({rows}) r GROUP BY event_id
ON CONFLICT (timing_partner_id, race_id, mode, event_id) DO UPDATE
SET rows = c.rows + excluded.rows, hash = c.hash + excluded.hash
"""


_COMPARE = f"""
WITH stored AS MATERIALIZED (
    SELECT e.id AS event_id, s.rows, s.hash
    FROM unnest(%(events)s::bigint[]) AS e (id) CROSS JOIN LATERAL (
        SELECT count(*) AS rows, sum({row_hash("t")}) AS hash FROM runsignup_participants t
        -- `+ 0` as in participants.note_missing.
        WHERE t.timing_partner_id + 0 = %(partner)s AND t.event_id = e.id AND t.removed_at IS NULL
    ) s
),
sides AS (
    SELECT e.event_id, coalesce(r.rows, 0) AS read_rows, coalesce(r.hash, 0) AS read_hash,
        coalesce(s.rows, 0) AS stored_rows, coalesce(s.hash, 0) AS stored_hash
    FROM unnest(%(events)s::bigint[]) AS e (event_id)
    LEFT JOIN pass_counts r ON r.timing_partner_id = %(partner)s AND r.race_id = %(race)s AND r.mode = %(mode)s
        AND r.event_id = e.event_id
    LEFT JOIN stored s ON s.event_id = e.event_id
)
UPDATE event_cursors c
SET read_rows = s.read_rows, read_hash = s.read_hash, stored_rows = s.stored_rows, stored_hash = s.stored_hash,
    compared_at = now(),
    proved_equal_at = CASE WHEN (s.read_rows, s.read_hash) = (s.stored_rows, s.stored_hash) THEN now()
        ELSE c.proved_equal_at END
FROM sides s
WHERE c.timing_partner_id = %(partner)s AND c.event_id = s.event_id
RETURNING c.event_id, (s.read_rows, s.read_hash) = (s.stored_rows, s.stored_hash)
"""
