"""Reconciliation: whether what a full read received equals what is stored, by count and hash.

A row's hash is of its content as text, computed by PostgreSQL from the staged row on one side and from the stored row on
the other. The sum over an event does not depend on the order.

A pass takes time, and an interrupted one is resumed over what other passes stored meanwhile. Later responses of RunSignup
replace what the pass received: the sum follows each such row, by its old and its new hash. So the sum is that of RunSignup's
latest content of every registration that the pass has passed, and equals what is stored unless storing failed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.cursors import END_UNCONFIRMED, REMOVALS_PENDING
from rsu_pipeline.warehouse.registration_columns import CONTENT, INCLUDED, Column
from rsu_pipeline.warehouse.staging import Source, params_of


def count_held_back(conn: Connection, source: Source, event_ids: Sequence[int]) -> None:
    """Add rows of a page that were received but not stored to the pass's counts, one for each event id given.

    An event that has any cannot be reconciled.
    """
    with conn.cursor() as cur:
        cur.execute(
            add_to_counts("SELECT unnest(%(events)s::bigint[]) AS event_id, 0 AS hash"),
            params_of(source) | {"events": list(event_ids)},
        )


def reconcile(conn: Connection, source: Source, event_ids: Sequence[int], *, is_resumed: bool) -> list[int]:
    """Record for each event what a full pass received and what is stored, and return the events for which they differ.

    It runs at the end of the pass, after the cursors moved. For a resumed pass a difference is not recorded, because something
    other than storing may explain it: such an event is read again.
    """
    with conn.cursor() as cur:
        cur.execute(_SQL["compare"], params_of(source) | {"events": list(event_ids), "resumed": is_resumed})
        equal = {event_id for event_id, is_equal in cur.fetchall() if is_equal}
    return [event_id for event_id in event_ids if event_id not in equal]


def _is_equal(counts: str) -> str:
    """Return SQL for whether an event stores what its last full read received."""
    return f"({counts}.read_rows, {counts}.read_hash) = ({counts}.stored_rows, {counts}.stored_hash)"


_IS_EXPLAINED = f"""
(coalesce(c.needs_full, '') IN ('{REMOVALS_PENDING}', '{END_UNCONFIRMED}') OR EXISTS (
    SELECT FROM quarantined_rows q
    WHERE q.timing_partner_id = c.timing_partner_id AND q.race_id = c.race_id AND q.resolved_at IS NULL AND NOT q.is_stored))
"""
"""SQL: whether it is known why an event cannot be equal: rows are quarantined, or removals or the end are to be confirmed.

A check or an alert of its own reports that.
"""
VERDICT = f"CASE WHEN {_is_equal('c')} THEN 'equal' WHEN {_IS_EXPLAINED} THEN 'explained' ELSE 'unequal' END"
"""SQL: the verdict of an event (c of event_cursors) that was compared, see Reconciliation."""


@dataclass(frozen=True)
class Reconciliation:
    """The last comparison of an event: rows received and stored, and the verdict.

    An event is `equal` if their number and the hash of their content are. It is `explained` if it is not, and quarantined rows
    or pending removals are the cause.
    """

    event_id: int
    read_rows: int
    stored_rows: int
    verdict: Literal["equal", "explained", "unequal"]


def read_reconciliations(conn: Connection, partner_id: int) -> list[Reconciliation]:
    """Return the last comparison of each of the partner's upcoming events that was ever read in full."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_reconciliations"], {"partner": partner_id})
        return [Reconciliation(*row) for row in cur.fetchall()]


def row_hash(alias: str) -> str:
    """Return SQL for a row's hash, a bigint, of its content as PostgreSQL stores it on both sides.

    JSON is hashed by value, so that 1.0 and 1.00 are equal. What has type `json` is hashed as its text: answers, which are always
    written in the same way, and the payload. The merge makes the payload's stored text follow the one received.
    """
    plain, documents = _split(alias, [column for column in CONTENT if column not in INCLUDED])
    hashes = [f"hashtextextended(ROW({plain})::text, 0)"]
    for seed, document in enumerate(documents, start=1):
        hashes.append(f"coalesce({_document_hash(document, seed)}, {seed})")
    return f"({' # '.join(hashes)}{_included_hash(alias)})"


def _included_hash(alias: str) -> str:
    """Return SQL that adds the columns that are sent on request to a row's hash.

    Without them a row has the hash that it had before there were any, so that its seal stays valid.
    """
    plain, documents = _split(alias, INCLUDED)
    json = "".join(
        f" # coalesce({_document_hash(document, seed)}, 0)" for seed, document in enumerate(documents, start=6)
    )
    return (
        f" # CASE WHEN num_nonnulls({plain}, {', '.join(value for value, _ in documents)}) > 0"
        f" THEN hashtextextended(ROW({plain})::text, 9){json} ELSE 0 END"
    )


def _document_hash(document: tuple[str, str], seed: int) -> str:
    """Return SQL for the hash of a JSON column, given with its type."""
    value, kind = document
    return f"hashtextextended({value}::text, {seed})" if kind == "json" else f"jsonb_hash_extended({value}, {seed})"


def _split(alias: str, columns: Sequence[Column]) -> tuple[str, list[tuple[str, str]]]:
    """Return SQL for the columns that are no JSON, and those that are, each with its type."""
    is_json = [column.type in ("json", "jsonb") for column in columns]
    plain = [f"{alias}.{column.name}" for column, is_document in zip(columns, is_json, strict=True) if not is_document]
    documents = [
        (f"{alias}.{column.name}", column.type)
        for column, is_document in zip(columns, is_json, strict=True)
        if is_document
    ]
    return ", ".join(plain), documents


def add_to_counts(rows: str) -> str:
    """Return SQL that adds rows (event_id, hash) to what a pass received."""
    return add_counts(f"SELECT %(mode)s AS mode, event_id, 1 AS n, hash FROM ({rows}) r")


def add_counts(rows: str) -> str:
    """Return SQL that adds rows (mode, event_id, n, hash) to what open passes received. n is 1, or -1 to subtract one."""
    return f"""
INSERT INTO pass_counts AS c (timing_partner_id, race_id, mode, event_id, rows, hash)
SELECT %(partner)s, %(race)s, mode, event_id, sum(n), sum(n * hash) FROM ({rows}) d GROUP BY mode, event_id
ON CONFLICT (timing_partner_id, race_id, mode, event_id) DO UPDATE
SET rows = c.rows + excluded.rows, hash = c.hash + excluded.hash
"""


def supersede(is_stale: str) -> str:
    """Return SQL to run before staged active rows are merged: they replace what other open full passes received of them.

    `is_stale` is SQL for a staged row i that its stored row t overrules.
    """
    return add_counts(
        f"""
    SELECT p.mode, d.event_id, d.n, d.hash
    FROM read_passes p CROSS JOIN LATERAL (
        SELECT i.registration_id, i.event_id, 1 AS n, {row_hash("i")} AS hash
        FROM participants_stage i LEFT JOIN LATERAL ({_STORED}) t ON true
        WHERE NOT {is_stale}
        UNION ALL
        SELECT t.registration_id, t.event_id, -1, {row_hash("t")}
        FROM participants_stage i CROSS JOIN LATERAL ({_STORED}) t
        WHERE t.removed_at IS NULL AND {_is_counted("p", "t.registration_id")}
    ) d
    WHERE {_IS_OPEN} AND p.mode <> %(mode)s AND {_is_passed("p", "d.registration_id")} AND d.event_id = ANY (p.event_ids)"""
    )


def _is_passed(alias: str, registration_id: str) -> str:
    """Return SQL for whether a pass has passed a registration id."""
    return f"({alias}.feed = 'removed' OR {registration_id} <= {alias}.after_registration_id)"


def _is_counted(alias: str, registration_id: str) -> str:
    """Return SQL for whether a pass saw a stored active registration that it has passed."""
    return f"""NOT EXISTS (SELECT FROM pass_registrations m
            WHERE m.timing_partner_id = {alias}.timing_partner_id AND m.race_id = {alias}.race_id AND m.mode = {alias}.mode
                AND m.registration_id = {registration_id})"""


_IS_OPEN = "p.timing_partner_id = %(partner)s AND p.race_id = %(race)s AND p.mode <> 'incremental'"
"""SQL: open full passes over the race."""
_STORED = """
            SELECT * FROM runsignup_participants h
            WHERE h.timing_partner_id = %(partner)s AND h.registration_id = i.registration_id LIMIT 1"""
_SQL = load(__file__, VERDICT=VERDICT, ROW_HASH=row_hash("t"), IS_EQUAL=_is_equal("s"))


# The pass's own feed of removals counts only for what was removed after its first page. If it names an older removal of
# what the pass saw active, RunSignup's feeds disagree, and the event is read again.
SUPERSEDED_BY_REMOVALS = f"""
    SELECT p.mode, t.event_id, -1 AS n, {row_hash("t")} AS hash
    FROM read_passes p
    JOIN compared v ON v.was_active
    JOIN runsignup_participants t ON t.id = v.held_id
    WHERE {_IS_OPEN} AND {_is_passed("p", "t.registration_id")} AND t.event_id = ANY (p.event_ids)
        AND {_is_counted("p", "t.registration_id")} AND (p.mode <> %(mode)s OR v.removed_epoch >= p.first_page_at)"""
"""SQL: stored rows t that a page of removals (compared v) removes from what open full passes received."""
