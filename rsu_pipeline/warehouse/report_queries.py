"""Queries of the reports: the registrations of upcoming events, without personal data, and their bib changes."""

from zoneinfo import ZoneInfo

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load

_SQL = load(__file__)

Rows = list[dict[str, object]]


def read_registrations(conn: Connection, partner_id: int, zone: ZoneInfo) -> Rows:
    """Return the active registrations of a partner's upcoming events, without those of volunteers.

    The columns are id, event, race, day of registration, day it was first stored, whether it arrived with a bib and has one
    now, and the amount paid (None if RunSignup sent none). Days are of `zone`.
    """
    return _rows(conn, _SQL["read_registrations"], partner_id, zone)


def read_bib_changes(conn: Connection, partner_id: int, zone: ZoneInfo) -> Rows:
    """Return the bibs set and cleared of those registrations: id, day in `zone`, and 1 or -1.

    A bib changed for another is left out.
    """
    return _rows(conn, _SQL["read_bib_changes"], partner_id, zone)


def _rows(conn: Connection, query: str, partner_id: int, zone: ZoneInfo) -> Rows:
    with conn.cursor() as cur:
        cur.execute(query, {"partner": partner_id, "zone": zone.key})
        names = [column.name for column in cur.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cur.fetchall()]
