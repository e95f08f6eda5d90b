"""Times in which no sync finished, by the sync log and the call ledger, and what was stored of them since."""

import datetime as dt
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.event_times import NEEDS_CLOSING_READ, OVER_AT, WINDOW_BEFORE

SHOWN_FOR = dt.timedelta(days=3)
"""How long after its end a gap is reported."""
MIN_GAP = dt.timedelta(minutes=30)
"""Shorter gaps are ignored. Races that are near are read every 15 minutes."""
NAMELESS_WITHIN = dt.timedelta(hours=4)
"""Time after a gap in which a removal without a date counts as made in it.

RunSignup does not send when some registrations were removed. Those that are found missing this soon after a gap count as
removed in it.
"""


@dataclass(frozen=True)
class Gap:
    """A time without a finished sync or call.

    `until` is None while it lasts. `had_window` means that a race was in its window meanwhile.
    """

    since: dt.datetime
    until: dt.datetime | None
    had_window: bool


@dataclass(frozen=True)
class CaughtUp:
    """What happened to a partner's races and registrations in a gap, as stored by now.

    It counts races that ended, bibs set, registrations that are new, changed or removed, and events that still wait for a full
    read after their end.
    """

    partner_id: int
    races_over: int
    bibs: int
    new: int
    changed: int
    removed: int
    reads_left: int


_SQL = load(__file__, OVER_AT=OVER_AT, NEEDS_CLOSING_READ=NEEDS_CLOSING_READ)


def find_gaps(conn: Connection, now: dt.datetime) -> list[Gap]:
    """Return the gaps that ended within SHOWN_FOR or still last, newest first."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["find_gaps"], {"from": now - SHOWN_FOR, "now": now, "shortest": MIN_GAP, "window": WINDOW_BEFORE}
        )
        return [Gap(*row) for row in cur.fetchall()]


def find_caught_up(conn: Connection, gap: Gap, now: dt.datetime) -> list[CaughtUp]:
    """Return what is stored of a gap by now, for every enabled partner."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["find_caught_up"],
            {"since": gap.since, "until": gap.until or now, "now": now, "nameless": NAMELESS_WITHIN},
        )
        return [CaughtUp(*row) for row in cur.fetchall()]
