"""The progress of requested backfills."""

import datetime as dt
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.backfill_state import PAST_EVENTS, RACES_LEFT

_PROGRESS = f"""
WITH {RACES_LEFT}, past AS (
    SELECT l.timing_partner_id, count(*) AS events,
        count(*) FILTER (WHERE d.state = 'loaded' OR d.state IS NULL AND k.event_id IS NOT NULL) AS loaded,
        count(*) FILTER (WHERE d.state = 'empty') AS empty, count(*) FILTER (WHERE d.state = 'unavailable') AS unavailable,
        sum(n.registrations)::bigint AS registrations
    {PAST_EVENTS}
    LEFT JOIN event_cursors n ON n.timing_partner_id = l.timing_partner_id AND n.event_id = e.event_id
    WHERE (%(partner)s::integer IS NULL OR l.timing_partner_id = %(partner)s)
    GROUP BY l.timing_partner_id
)
SELECT q.timing_partner_id, t.partition_key, q.since_year, q.requested_at, q.finished_at, q.cancelled_at, q.not_before, seen.races,
    seen.races - coalesce(o.races, 0), failed.races, failed.retry_at, coalesce(p.events, 0), coalesce(p.loaded, 0),
    coalesce(p.empty, 0), coalesce(p.unavailable, 0), coalesce(p.registrations, 0), calls.n
FROM history_requests q
JOIN timing_partners t USING (timing_partner_id)
LEFT JOIN past p USING (timing_partner_id)
LEFT JOIN (SELECT timing_partner_id, count(*) AS races FROM races_left GROUP BY 1) o USING (timing_partner_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS races FROM partner_races l
    WHERE l.timing_partner_id = q.timing_partner_id AND l.lost_at IS NULL
) seen
CROSS JOIN LATERAL (
    SELECT count(*) AS races, min(h.retry_at) AS retry_at FROM history_races h
    WHERE h.timing_partner_id = q.timing_partner_id AND h.error IS NOT NULL
) failed
CROSS JOIN LATERAL (
    SELECT count(*) AS n
    FROM api_calls a JOIN partner_provider_credentials c ON c.partner_provider_credential_id = a.credential_id
    WHERE c.timing_partner_id = q.timing_partner_id AND a.lane = 'backfill' AND a.granted_at >= q.requested_at
) calls
WHERE %(partner)s::integer IS NULL OR q.timing_partner_id = %(partner)s
"""


@dataclass(frozen=True)
class Progress:
    """The progress of a partner's backfill.

    Counts are of the requested races and past events. `registrations` are the active ones stored of them, `failing` the races
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
        cur.execute(_PROGRESS, {"partner": partner_id, "now": now, "race": None})
        return {found: Progress(*row) for found, *row in cur.fetchall()}
