"""The progress of requested backfills."""

import datetime as dt
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.backfill_state import PAST_EVENTS, RACES_LEFT

_SQL = load(__file__, PAST_EVENTS=PAST_EVENTS, RACES_LEFT=RACES_LEFT)


@dataclass(frozen=True)
class Progress:
    """The progress of a partner's backfill.

    Counts are of the requested races and past events. `unconfirmed` are events for which RunSignup has answered with no
    registration at one time only, `registrations` the active ones stored of all of them, `failing` the races
    whose last attempt failed, the first of which is retried at `retry_at`.
    """

    key: str
    since_year: int | None
    requested_at: dt.datetime
    finished_at: dt.datetime | None
    cancelled_at: dt.datetime | None
    not_before: dt.datetime
    races: int
    races_done: int
    failing: int
    retry_at: dt.datetime | None
    events: int
    loaded: int
    empty: int
    unavailable: int
    unconfirmed: int
    registrations: int
    calls: int

    @property
    def settled(self) -> int:
        """Past events of which nothing is left to read."""
        return self.loaded + self.empty + self.unavailable

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left, races and events that became past since the last slice included."""
        return self.finished_at is not None and not self.failing and self.settled == self.events

    @property
    def is_open(self) -> bool:
        """Whether slices are still to be read."""
        return self.finished_at is None and self.cancelled_at is None

    @property
    def calls_left(self) -> int:
        """Estimated calls: what is left costs as many calls per race as what is done, or two if nothing is done."""
        left = self.races - self.races_done
        return round(left * (self.calls / self.races_done if self.races_done and self.calls else 2))


def read_progress(conn: Connection, partner_id: int, now: dt.datetime) -> Progress | None:
    """Return the progress of the partner's backfill at `now`, or None if it was never requested."""
    return _progress(conn, partner_id, now).get(partner_id)


def read_progress_of_all(conn: Connection, now: dt.datetime) -> dict[int, Progress]:
    """Return the progress of every requested backfill at `now`, by partner."""
    return _progress(conn, None, now)


def _progress(conn: Connection, partner_id: int | None, now: dt.datetime) -> dict[int, Progress]:
    with conn.cursor() as cur:
        cur.execute(_SQL["read_progress"], {"partner": partner_id, "now": now, "race": None})
        return {found: Progress(*row) for found, *row in cur.fetchall()}
