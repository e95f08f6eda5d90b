"""Polls of the watch that fail, as the call ledger and the sync log record them."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.credentials import PROVIDER
from rsu_pipeline.warehouse.fleet import CALL_BUDGET

_SQL = load(__file__, CALL_BUDGET=CALL_BUDGET)

LOGGED_WITHIN_SECONDS = 45.0
"""How soon after its call the watch logs a read that failed on the answer, or whose rows waited for a lock until the timeout."""
UNNAMED = "the answer could not be used"
"""The cause of a failed poll for which none was recorded."""


@dataclass(frozen=True)
class FailedPoll:
    """The last poll of a race, which failed. `cause` is why, and `failed_at` when."""

    partner_id: int
    race_id: int
    call_budget_id: int
    cause: str
    failed_at: dt.datetime


def read_failed_polls(conn: Connection, races: Collection[tuple[int, int]]) -> list[FailedPoll]:
    """Return the last poll of each of these races, by partner and race, that no poll has read since."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["read_failed_polls"],
            {
                "provider": PROVIDER,
                "logged_within": LOGGED_WITHIN_SECONDS,
                "unnamed": UNNAMED,
                "partners": [partner_id for partner_id, _ in races],
                "races": [race_id for _, race_id in races],
            },
        )
        return [FailedPoll(*row) for row in cur.fetchall()]
