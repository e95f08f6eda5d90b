"""What `rsu export` reads, as SQL: one wide row for each registration, event or bib change, without contact data."""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.errors import RsuError
from rsu_pipeline.sql_files import load

Subject = Literal["participants", "events", "bibs"]

# A race of two partners is exported once, unless a partner is chosen.
_OWNED = "coalesce(o.timing_partner_id, r.timing_partner_id)"


_SQL = load(__file__, OWNED=_OWNED)


_PARTICIPANTS = """
SELECT * FROM {view} q
WHERE (%(partner)s IS NULL OR q.timing_partner_id = %(partner)s) AND (%(race)s IS NULL OR q.race_id = %(race)s)
    AND (%(since)s IS NULL OR q.changed_at >= %(since)s)
"""

# As in start lists: anybody can register with such a name, and a spreadsheet runs a cell that begins so.
_NEUTRALIZED = r"""regexp_replace({0}, '(^|;)(\s*)([=+@＝＋－＠-])', '\1''\2\3', 'g') AS {0}"""
_TEXT_TYPES = (25, 1043)


class ExportError(RsuError):
    """An export cannot be written. The text is one sentence: what is wrong, and the next step."""


@dataclass(frozen=True)
class Column:
    """A column of an export, with the number of its type in PostgreSQL."""

    name: str
    type_oid: int


@dataclass(frozen=True)
class Export:
    """A query with its values in place, and its columns."""

    query: str
    columns: tuple[Column, ...]

    def copy_as_csv(self, *, neutralized: bool) -> str:
        """Return the statement that sends all rows as CSV with a line of names.

        With `neutralized`, a text that a spreadsheet would treat as a formula gets an apostrophe in front. Without it, texts
        are as stored.
        """
        cells = [
            _NEUTRALIZED.format(column.name) if neutralized and column.type_oid in _TEXT_TYPES else column.name
            for column in self.columns
        ]
        return f"COPY (SELECT {', '.join(cells)} FROM ({self.query}) q) TO STDOUT WITH (FORMAT csv, HEADER true)"

    def copy_as_json(self) -> str:
        """Return the statement that sends all rows as JSON objects, one a line.

        JSON escapes control characters, so that neither the quotation mark nor the delimiter of this CSV occurs in it.
        """
        return (
            f"COPY (SELECT row_to_json(q) FROM ({self.query}) q)"
            " TO STDOUT WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
        )


def build_export(
    conn: Connection, subject: Subject, *, partner_id: int | None, race_id: int | None, since: dt.datetime | None
) -> Export:
    """Return the export of a subject, of one partner or all, of one race or all, of what changed here since a moment or all.

    Raises:
        ExportError: RunSignup never listed this race for this partner, or for any.
    """
    if race_id is not None:
        _check_race(conn, race_id, partner_id)
    queries = {
        "participants": _PARTICIPANTS.format(view="entrants" if partner_id is None else "partner_entrants"),
        "events": _SQL["read_events"],
        "bibs": _SQL["read_bib_changes"],
    }
    with conn.cursor() as cur:
        values = {"partner": partner_id, "race": race_id, "since": since}
        typed = queries[subject].replace("%(partner)s", "%(partner)s::integer").replace("%(race)s", "%(race)s::bigint")
        query = cur.mogrify(typed.replace("%(since)s", "%(since)s::timestamptz"), values).decode()
        cur.execute(f"SELECT * FROM ({query}) q LIMIT 0")
        columns = tuple(Column(item.name, item.type_code) for item in cur.description or ())
    return Export(query, columns)


def _check_race(conn: Connection, race_id: int, partner_id: int | None) -> None:
    with conn.cursor() as cur:
        cur.execute(
            "SELECT EXISTS (SELECT FROM partner_races WHERE race_id = %(race)s"
            " AND (%(partner)s::integer IS NULL OR timing_partner_id = %(partner)s))",
            {"race": race_id, "partner": partner_id},
        )
        (is_known,) = cur.fetchone() or (False,)
    if not is_known:
        whose = "" if partner_id is None else f" of partner {partner_id}"
        raise ExportError(f"There is no race {race_id}{whose}: `rsu export events --csv -` shows them.")
