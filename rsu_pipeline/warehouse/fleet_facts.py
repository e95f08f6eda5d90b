"""Facts that must be true of all partners' rows, each checked by one statement.

Each result has both sides in numbers and a sample of what breaks the fact. Samples name partition keys and RunSignup ids,
never a person.
"""

from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.reconciliation import VERDICT

Sample = list[dict[str, Any]]
_SQL = load(__file__, VERDICT=VERDICT)


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
        cur.execute(_SQL["count_duplicates"], {"sample": sample})
        rows, registrations, doubled, found = cur.fetchone() or (0, 0, 0, None)
        conn.rollback()
        cur.execute(_SQL["is_guarded"])
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
        cur.execute(_SQL["replay_bib_log"], {"sample": sample})
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
        cur.execute(_SQL["read_equality"], {"sample": sample})
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
        cur.execute(_SQL["read_unstored_rows"], {"sample": sample})
        return UnstoredRows(*(cur.fetchone() or (0, 0, 0, [])))
