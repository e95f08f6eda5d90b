"""Schema drift: fields of RunSignup's registrations that this program does not know, or knows in another form.

Names are stored, never values. What was received stays in the payload.
"""

import datetime as dt
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load

_SQL = load(__file__)

Kind = Literal["unknown", "form", "type"]
"""`unknown`: a new field. `form`: an optional field whose form is not known. `type`: a list or an object instead of a value."""
REPORTED_FOR = dt.timedelta(days=7)
"""How long after it was last read a field is reported. One whose form is not known is reported until it is accepted."""
MAX_FIELDS_PER_PAGE = 50
OTHER = "(no identifier)"
"""Stands for names that are no identifiers, which may be anything."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,79}", re.ASCII)


@dataclass(frozen=True)
class Drift:
    """A field that differs from what is known, with its occurrences over the races of a partner, or of all."""

    field: str
    kind: Kind
    occurrences: int
    partners: int
    races: int
    first_seen_at: dt.datetime
    last_seen_at: dt.datetime
    is_accepted: bool

    @property
    def is_error(self) -> bool:
        """Whether a known field changed, so that its column may be wrong."""
        return self.kind == "type"


def record(conn: Connection, partner_id: int, race_id: int, found: Mapping[tuple[Kind, str], int]) -> None:
    """Count a page's fields, in the page's transaction."""
    counted: Counter[tuple[Kind, str]] = Counter()
    for (kind, field), rows in found.items():
        counted[kind, field if _NAME.fullmatch(field) else OTHER] += rows
    if not counted:
        return
    # In one order, so that two sessions cannot wait for each other.
    top = sorted(counted.most_common(MAX_FIELDS_PER_PAGE))
    with conn.cursor() as cur:
        cur.execute(
            _SQL["count_drift"],
            {
                "partner": partner_id,
                "race": race_id,
                "kinds": [kind for (kind, _), _ in top],
                "fields": [field for (_, field), _ in top],
                "occurrences": [rows for _, rows in top],
            },
        )


def read_drift(conn: Connection, partner_id: int | None = None, *, recent: bool = False) -> list[Drift]:
    """Return the fields of a partner, or of all, the gravest first. With `recent` only those to report."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_drift"], {"partner": partner_id})
        found = [Drift(*row) for row in cur.fetchall()]
        cur.execute("SELECT now()")
        ((now,),) = cur.fetchall()
    if not recent:
        return found
    # An unread form is counted only when its registration is stored, and an unchanged one is not stored again.
    return [
        one for one in found if not one.is_accepted and (one.kind == "form" or now - one.last_seen_at < REPORTED_FOR)
    ]


def accept(conn: Connection, fields: list[str]) -> list[str]:
    """Accept unknown fields, so that they are not reported, and return those of them that were never read. Commits."""
    known = {one.field for one in read_drift(conn)}
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO accepted_schema_drift (field) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING",
            ([field for field in fields if field in known],),
        )
    conn.commit()
    return [field for field in fields if field not in known]
