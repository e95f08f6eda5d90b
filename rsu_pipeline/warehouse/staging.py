"""The staging table: a page of registrations is copied into it and merged from there in one statement.

Every function works inside the caller's transaction, so that rows and position commit together.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from rsu_pipeline.warehouse import erasures
from rsu_pipeline.warehouse.cursors import Mode
from rsu_pipeline.warehouse.registration_columns import CONTENT, INCLUDED, REMOVAL

COLUMNS = [column.name for column in CONTENT]
"""Content of a registration, in the order of a staged line. Derived columns are not listed."""
INCLUDED_COLUMNS = [column.name for column in INCLUDED]
"""Those that are NULL unless they are requested (see `included_fields`)."""
REMOVAL_COLUMNS = [column.name for column in REMOVAL]
LINE_COLUMNS = [*COLUMNS, *REMOVAL_COLUMNS, "digest"]
"""Columns of a staged line.

`digest` is that of the registration as RunSignup sent it (see participants.digest_of). It is NULL for a registration that must
not be recognised by it.
"""

StagedLine = bytes
"""A registration in COPY's text format: LINE_COLUMNS, without line end."""


@dataclass(frozen=True)
class Source:
    """Where a page came from.

    Attributes:
        server_time: RunSignup's clock at the response, Unix seconds.
        run_id: The run that requested it.
        mode: The mode of its pass.
    """

    partner_id: int
    key: str
    race_id: int
    server_time: int
    run_id: str
    mode: Mode


@dataclass
class Counts:
    """What happened to rows.

    Attributes:
        stale: Active rows that are older than their stored removal.
        quarantined: Rows that were not stored.
        with_faults: Rows that were stored with members left NULL.
    """

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    reactivated: int = 0
    removed: int = 0
    stale: int = 0
    bib_changes: int = 0
    quarantined: int = 0
    with_faults: int = 0

    @property
    def is_unchanged(self) -> bool:
        """Whether nothing was stored, removed or quarantined."""
        return self.read - self.stale == self.unchanged and not (self.removed or self.quarantined or self.with_faults)

    @property
    def has_changes(self) -> bool:
        """Whether a registration was stored, changed or marked removed."""
        return bool(self.inserted or self.updated or self.reactivated or self.removed)

    def add(self, other: "Counts") -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class RejectedRow:
    """A staged line that PostgreSQL refused, by its place in the page, and why."""

    index: int
    reason: str


def stage_and(
    conn: Connection,
    lines: Sequence[StagedLine],
    merge: Callable[[Cursor], Counts],
    params: dict[str, object],
    *,
    row_hash: str,
) -> tuple[Counts, list[RejectedRow]]:
    """Stage lines and merge them. If PostgreSQL refuses, the bad lines are found by halving and the rest are merged.

    Args:
        conn: In the transaction of the page.
        lines: What is staged.
        merge: Writes what is staged to the tables.
        params: The page's source, as `params_of` returns it.
        row_hash: SQL for the hash of a stored row `t`.
    """
    counts, refused = Counts(), []
    pending = [(0, list(lines))]
    while pending:
        start, part = pending.pop()
        try:
            with conn.cursor() as cur:
                cur.execute("SAVEPOINT page")
                doubles = _stage(conn, part)
                erasures.suppress_staged(cur, params, row_hash)
                merged = merge(cur)
                if merged.read:
                    merged.read += doubles
                    merged.unchanged += doubles
                cur.execute("RELEASE SAVEPOINT page")
            counts.add(merged)
        except (psycopg2.DataError, psycopg2.IntegrityError, psycopg2.errors.ProgramLimitExceeded) as error:
            with conn.cursor() as cur:
                cur.execute("ROLLBACK TO SAVEPOINT page")
            if len(part) == 1:
                refused.append(RejectedRow(start, _reason(error)))
                continue
            middle = len(part) // 2
            pending += [(start + middle, part[middle:]), (start, part[:middle])]
    return counts, refused


def params_of(source: Source) -> dict[str, object]:
    """Return the parameters by which statements name a page's source."""
    return {
        "partner": source.partner_id,
        "race": source.race_id,
        "key": source.key,
        "server_time": source.server_time,
        "run": source.run_id,
        "mode": source.mode,
    }


def _stage(conn: Connection, lines: Sequence[StagedLine]) -> int:
    """Fill the staging table with one row per registration, and return how many lines were left out.

    If a page has a registration twice, the newer stays. Of two equally new ones the later stays.
    """
    names = ", ".join(LINE_COLUMNS)
    with conn.cursor() as cur:
        cur.execute("SELECT to_regclass('pg_temp.participants_stage') IS NULL")
        if cur.fetchone() == (True,):
            cur.execute(_CREATE_STAGE)
            cur.execute(PREFER_LZ4)
        # Rows of an earlier part of the page. TRUNCATE would write to the catalog for every page.
        cur.execute("DELETE FROM participants_stage")
        cur.copy_expert(f"COPY participants_stage ({names}) FROM STDIN", io.BytesIO(b"\n".join((*lines, b""))))
        if len({line.split(b"\t", 3)[2] for line in lines}) == len(lines):
            return 0
        cur.execute(_DROP_DOUBLES)
        return int(cur.rowcount)


def _reason(error: psycopg2.Error) -> str:
    lines = [line.strip() for line in (error.diag.message_primary or str(error)).splitlines() if line.strip()]
    return f"PostgreSQL: {lines[0] if lines else type(error).__name__}"[:300]


_DROP_DOUBLES = """
DELETE FROM participants_stage s USING participants_stage d
WHERE s.registration_id = d.registration_id
    AND (coalesce(s.last_modified_epoch, -1), s.ctid) < (coalesce(d.last_modified_epoch, -1), d.ctid)
"""
# A page is not compressed while it is here. The table itself does that.
_CREATE_STAGE = f"""
CREATE TEMPORARY TABLE participants_stage WITH (toast_tuple_target = 8160) ON COMMIT DELETE ROWS AS
SELECT {", ".join(COLUMNS + REMOVAL_COLUMNS)}, NULL::bigint AS digest FROM runsignup_participants LIMIT 0
"""
# Equally small in half the time. Not every server was built with it, and PostgreSQL 13 does not have the setting. As a setting
# of the column it would be part of dumps, which other servers then could not restore.
PREFER_LZ4 = """
SELECT set_config('default_toast_compression', 'lz4', false) FROM pg_settings
WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
"""
