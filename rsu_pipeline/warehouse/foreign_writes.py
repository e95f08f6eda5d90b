"""Writes of other programs to the hub's data, as triggers record them, and whether they are repaired.

A full read repairs what another program wrote. So every upcoming event that was last read in full before such a write is read in
full again, and the write is open until all are.
"""

import datetime as dt
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import format_utc
from rsu_pipeline.sql_files import load

_SQL = load(__file__)

REASON = "another program wrote to the tables"
"""Why an event is read in full."""
SHOWN_FOR = dt.timedelta(days=1)
"""How long a write is shown at least, even if it is repaired sooner."""
REPEATED_AFTER = dt.timedelta(hours=1)
"""The shortest time between two full reads of an event while another program keeps writing."""

NEEDS_FULL = f"""
CASE WHEN c.last_full_at < (SELECT max(last_at) FROM foreign_writes)
        AND c.last_full_at < now() - interval '{REPEATED_AFTER.seconds} seconds'
    THEN '{REASON}' END
"""
"""SQL: why an event (c of event_cursors) must be read in full after another program wrote, or NULL if it need not."""


@dataclass(frozen=True)
class ForeignWrite:
    """One program's open writes of one kind to a table. See table foreign_writes."""

    table_name: str
    operation: str
    login: str
    program: str
    address: str
    transactions: int
    first_at: dt.datetime
    last_at: dt.datetime

    def sentence(self) -> str:
        """Return who wrote what and when, in words."""
        program = self.program or "A program without a name"
        return (
            f"{program} (role {self.login}, from {self.address}) did {self.operation} on {self.table_name} in"
            f" {self.transactions} transactions from {format_utc(self.first_at)} to {format_utc(self.last_at)}."
        )


@dataclass(frozen=True)
class Findings:
    """Open writes, newest first, with what they leave to repair.

    These are upcoming events that wait for the full read which repairs them, and registrations of a race that their partner does
    not have, which no read repairs.
    """

    writes: list[ForeignWrite]
    events_waiting: int
    rows_of_no_partner: int


def read_open_writes(conn: Connection, now: dt.datetime) -> list[ForeignWrite]:
    """Return the writes of the last day, and older ones while an upcoming event waits for its full read since."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_open_writes"], {"since": now - SHOWN_FOR, "now": now})
        return [ForeignWrite(*row) for row in cur.fetchall()]


def find_foreign_writes(conn: Connection, now: dt.datetime) -> Findings:
    """Return the open writes and what they leave to repair. Scans the registrations."""
    writes = read_open_writes(conn, now)
    with conn.cursor() as cur:
        cur.execute(_SQL["count_events_waiting"], {"now": now})
        (waiting,) = cur.fetchone() or (0,)
        cur.execute(_SQL["count_rows_of_no_partner"])
        (strangers,) = cur.fetchone() or (0,)
    return Findings(writes, waiting, strangers)
