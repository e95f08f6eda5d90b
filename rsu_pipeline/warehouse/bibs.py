"""New rows of the bib log."""

import datetime as dt
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load

_SQL = load(__file__)

SKIPPED_NUMBERS = 1_000_000
"""More than a hub logs between a backup and the loss of its database."""

MAX_BIBS_AT_ONCE = 10_000
PARTNERS_AT_ONCE = 20
"""Partners whose changes are handled in one transaction."""
REPORT_WITHIN_DAYS = 2
"""Older changes were reported by the syncs since."""


@dataclass(frozen=True)
class NewBibs:
    """Bib changes of one partner that have not been handled yet.

    `slowest` is the longest time from RunSignup's change to the stored row, in seconds, or None if RunSignup sent no time.
    """

    partner_id: int
    key: str
    assigned: int
    changed: int
    cleared: int
    first_at: dt.datetime
    last_at: dt.datetime
    slowest: float | None

    @property
    def total(self) -> int:
        return self.assigned + self.changed + self.cleared


def claim_new_bibs(conn: Connection) -> list[NewBibs]:
    """Mark unhandled changes as handled and return them by partner, in the caller's transaction.

    These are the PARTNERS_AT_ONCE partners whose changes have waited longest. The others are returned by the next call.
    What acts on them commits with the mark. They are not found by a growing id, because rows become visible out of order.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["claim_new_bibs"],
            {"days": REPORT_WITHIN_DAYS, "limit": MAX_BIBS_AT_ONCE, "partners": PARTNERS_AT_ONCE},
        )
        return [NewBibs(*row) for row in cur.fetchall()]


def skip_numbers(conn: Connection) -> None:
    """Have the bib log of a hub that was restored continue far beyond the numbers that it had given since the backup.

    Programs know changes by number. One that remembers a number of before the restore would take another bib for seen.
    """
    with conn.cursor() as cur:
        sequence = "pg_get_serial_sequence('runsignup_bib_changes', 'bib_change_id')"
        cur.execute(f"SELECT setval({sequence}, nextval({sequence}) + %s)", (SKIPPED_NUMBERS,))
