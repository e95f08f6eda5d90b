"""How far the history is that was asked for."""

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
    """How far a partner's history is. Counts are of the races and past events that were asked for; `registrations` are
    the active ones stored of them, `failing` the races that failed at their last try, the first of which is tried again
    at `retry_at`."""

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
        """Past events that nothing is left to be read of."""
        return self.loaded + self.empty + self.unavailable

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left, of races and events either that came to be past since the last slice."""
        return self.finished_at is not None and not self.failing and self.settled == self.events

    @property
    def is_open(self) -> bool:
        """Return whether slices are still to be read."""
        return self.finished_at is None and self.cancelled_at is None

    @property
    def calls_left(self) -> int:
        """An estimate: what is left costs as many calls a race as what is done, and two where nothing is."""
        left = self.races - self.races_done
        return round(left * (self.calls / self.races_done if self.races_done and self.calls else 2))


def progress(conn: Connection, partner_id: int, now: dt.datetime) -> Progress | None:
    """How far the partner's history is at `now`; None when it was never asked for."""
    return _progress(conn, partner_id, now).get(partner_id)


def progress_of_all(conn: Connection, now: dt.datetime) -> dict[int, Progress]:
    """How far each history that was asked for is at `now`, by partner."""
    return _progress(conn, None, now)


def _progress(conn: Connection, partner_id: int | None, now: dt.datetime) -> dict[int, Progress]:
    with conn.cursor() as cur:
        cur.execute(_PROGRESS, {"partner": partner_id, "now": now, "race": None})
        return {found: Progress(*row) for found, *row in cur.fetchall()}
