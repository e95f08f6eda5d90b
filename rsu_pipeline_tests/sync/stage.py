"""A staging table in a real PostgreSQL, and the values that are thrown at it."""

import io
import json
from typing import Any

import psycopg2.extras
from hypothesis import strategies as st

from rsu_pipeline.runsignup.payload_decoding import decode_registration
from rsu_pipeline.runsignup.payloads import Registration
from rsu_pipeline.sync.registration_rows import stage_registration
from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.staging import COLUMNS, REMOVAL_COLUMNS

Row = dict[str, Any]
RACE = 190001
ALL_COLUMNS = COLUMNS + REMOVAL_COLUMNS


class Stage:
    """A temporary table shaped as the warehouse's, with the indexes that refuse what is too long for them."""

    def __init__(self, url: str) -> None:
        self.conn = database.connect(url, purpose="tests")
        names = ", ".join(ALL_COLUMNS)
        with self.conn.cursor() as cur:
            cur.execute(f"CREATE TEMPORARY TABLE stage AS SELECT {names} FROM runsignup_participants LIMIT 0")
            for column in ("bib_num", "email"):
                cur.execute(f"CREATE INDEX ON stage ({column})")
        self.conn.commit()

    def copy(self, *rows: Registration) -> tuple[list[Row], list[list[str]]]:
        """Return the rows as they come out of the table again, and the faults of each."""
        lines, faults = zip(*(stage_registration(row, RACE) for row in rows), strict=True)
        try:
            with self.conn.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cur:
                cur.execute("TRUNCATE stage")
                names = ", ".join(ALL_COLUMNS)
                cur.copy_expert(f"COPY stage ({names}) FROM STDIN", io.BytesIO(b"\n".join((*lines, b""))))
                cur.execute("SELECT * FROM stage ORDER BY ctid")
                got = [dict(row) for row in cur.fetchall()]
        finally:
            self.conn.rollback()
        return got, list(faults)

    def one(self, sent: Row | bytes, *, removed: bool = False) -> tuple[Row, list[str]]:
        raw = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        row = decode_registration(raw)
        if removed:
            row.removed_reason = row.removed_reason or "removed"
        (got,), (faults,) = self.copy(row)
        return got, faults


def without_nul(value: Any) -> Any:
    """Return what the table can hold of a value."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, list):
        return [without_nul(member) for member in value]
    if isinstance(value, dict):
        return {without_nul(key): without_nul(member) for key, member in value.items()}
    return value


TEXT = st.text(st.characters(codec="utf-8"), max_size=40) | st.lists(
    st.sampled_from(
        [*"\t\n\r\\\x00'\"/,.;N{}[]", "\\N", "\\.", "\\u0000", "😀", "é", "\u2028", "\x7f", "\ufeff", "\uffff"]
    ),
    max_size=10,
).map("".join)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(["$5.00", "1/2/2026 07:30", "2026-02-30", "9999-12-31 23:59:59", "12", "T"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
