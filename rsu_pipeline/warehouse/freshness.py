"""The health of the whole fleet: a row per partner, and when each upcoming event was last read.

Every query is one statement, for any number of partners.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.backfill_state import PAST_EVENTS
from rsu_pipeline.warehouse.credentials import PROVIDER
from rsu_pipeline.warehouse.event_times import IS_UPCOMING, NEEDS_CLOSING_READ
from rsu_pipeline.warehouse.fleet import CALL_BUDGET

CredentialState = Literal["off", "none", "incomplete", "refused", "untried", "unverified", "works"]


@dataclass(frozen=True)
class PartnerHealth:
    """A partner in figures.

    `credential` is off for a disabled partner, incomplete for one whose key or secret is blank, unverified for one that was tried
    without a race that could be read. `failures` counts what failed at
    its last attempt: races with upcoming events, the listing, and past editions. `changed` and the bibs are of the last 24 hours.
    Bib seconds run from RunSignup's change to the stored row, and are None if nothing changed. `past_events` is None if no backfill
    was requested. `calls` are those of the last hour with the partner's API key: partners with the same `call_budget_id` share the
    key, and have the same.
    """

    partner_id: int
    key: str | None
    credential: CredentialState
    races_ahead: int
    events_ahead: int
    last_sync: dt.datetime | None
    failures: int
    call_budget_id: int | None
    calls: int
    registrations: int
    changed: int
    held_back: int
    with_faults: int
    bibs: int
    bib_seconds_p95: float | None
    bib_seconds_max: float | None
    past_events: int | None
    past_events_settled: int | None
    history_complete: bool | None

    @property
    def is_synced(self) -> bool:
        """Whether this partner is to be synced. A rejected credential is to be corrected, not ignored."""
        return self.key is not None and self.credential in ("refused", "untried", "unverified", "works")


# As in fleet.races_to_read: events that are due for reads, of races that are listed or can be read.
_AHEAD = f"""
l.lost_at IS NULL AND e.gone_at IS NULL
    AND ({IS_UPCOMING} OR {NEEDS_CLOSING_READ})
"""
_CREDENTIAL = """
(SELECT c.*, c.principal ~ '\\S' AND c.secret ~ '\\S' AS is_complete
 FROM partner_provider_credentials c JOIN providers v USING (provider_id) WHERE lower(v.name) = %(provider)s) c
"""

_PARTNERS = f"""
WITH ahead AS (
    SELECT l.timing_partner_id, l.race_id, count(*) AS events, min(k.last_read_at) AS first_read_at,
        max(k.last_read_at) AS last_read_at
    FROM partner_races l
    JOIN runsignup_events e ON e.race_id = l.race_id
    LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
    WHERE {_AHEAD}
    GROUP BY l.timing_partner_id, l.race_id
), races AS (
    SELECT a.timing_partner_id, count(*) AS races, sum(a.events) AS events, max(a.last_read_at) AS last_read_at,
        count(*) FILTER (WHERE tried.status = 'failed' AND coalesce(tried.finished_at > a.first_read_at, true)) AS failures
    FROM ahead a
    LEFT JOIN LATERAL (
        SELECT h.finished_at, h.status FROM sync_history h
        WHERE h.timing_partner_id = a.timing_partner_id AND h.race_id = a.race_id
            AND h.operation_type IS DISTINCT FROM 'history'
        ORDER BY h.finished_at DESC LIMIT 1
    ) tried ON true
    GROUP BY a.timing_partner_id
), stored AS (
    SELECT p.timing_partner_id, count(*) FILTER (WHERE p.removed_at IS NULL) AS active,
        count(*) FILTER (WHERE p.changed_at > %(now)s - interval '24 hours') AS changed
    FROM runsignup_participants p GROUP BY p.timing_partner_id
), quarantine AS (
    SELECT q.timing_partner_id, count(*) FILTER (WHERE NOT q.is_stored) AS held_back,
        count(*) FILTER (WHERE q.is_stored) AS with_faults
    FROM quarantined_rows q WHERE q.resolved_at IS NULL GROUP BY q.timing_partner_id
), bibs AS (
    SELECT b.timing_partner_id, count(*) AS bibs, max(b.seconds) AS slowest,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY b.seconds) AS p95
    FROM (
        SELECT timing_partner_id, (greatest(extract(epoch FROM recorded_at), modified_epoch) - modified_epoch)::float AS seconds
        FROM runsignup_bib_changes WHERE recorded_at > %(now)s - interval '24 hours' AND recorded_at <= %(now)s
    ) b
    GROUP BY b.timing_partner_id
), past AS (
    SELECT l.timing_partner_id, count(*) AS events,
        count(*) FILTER (WHERE d.event_id IS NOT NULL OR k.event_id IS NOT NULL) AS settled
    {PAST_EVENTS}
    GROUP BY l.timing_partner_id
), past_failures AS (
    SELECT h.timing_partner_id, count(*) AS failures FROM history_races h WHERE h.error IS NOT NULL
    GROUP BY h.timing_partner_id
)
SELECT t.timing_partner_id, t.partition_key,
    CASE WHEN t.disabled_at IS NOT NULL THEN 'off' WHEN c.timing_partner_id IS NULL THEN 'none'
        WHEN c.is_complete IS NOT TRUE THEN 'incomplete' WHEN c.rejected_at IS NOT NULL THEN 'refused'
        WHEN c.verified_at IS NOT NULL THEN 'works' WHEN EXISTS (
            SELECT FROM sync_history n WHERE n.timing_partner_id = t.timing_partner_id AND n.finished_at >= c.entered_at)
        THEN 'unverified' ELSE 'untried' END,
    coalesce(r.races, 0), coalesce(r.events, 0)::bigint, greatest(good.finished_at, r.last_read_at),
    coalesce(r.failures, 0) + coalesce(f.failures, 0) + (listed.status IS NOT DISTINCT FROM 'failed')::int,
    CASE WHEN c.timing_partner_id IS NOT NULL THEN {CALL_BUDGET} END, calls.n,
    coalesce(s.active, 0), coalesce(s.changed, 0), coalesce(q.held_back, 0), coalesce(q.with_faults, 0),
    coalesce(b.bibs, 0), b.p95, b.slowest,
    CASE WHEN h.timing_partner_id IS NOT NULL THEN coalesce(p.events, 0) END,
    CASE WHEN h.timing_partner_id IS NOT NULL THEN coalesce(p.settled, 0) END,
    CASE WHEN h.timing_partner_id IS NOT NULL AND h.cancelled_at IS NULL THEN h.finished_at IS NOT NULL AND f.failures IS NULL
        AND coalesce(p.events, 0) = coalesce(p.settled, 0) END
FROM timing_partners t
LEFT JOIN {_CREDENTIAL} USING (timing_partner_id)
LEFT JOIN races r USING (timing_partner_id)
LEFT JOIN stored s USING (timing_partner_id)
LEFT JOIN quarantine q USING (timing_partner_id)
LEFT JOIN bibs b USING (timing_partner_id)
LEFT JOIN history_requests h USING (timing_partner_id)
LEFT JOIN past p USING (timing_partner_id)
LEFT JOIN past_failures f USING (timing_partner_id)
LEFT JOIN LATERAL (
    SELECT n.finished_at FROM sync_history n
    WHERE n.timing_partner_id = t.timing_partner_id AND n.status IN ('completed', 'partial') AND n.race_id IS NOT NULL
    ORDER BY n.finished_at DESC LIMIT 1
) good ON true
LEFT JOIN LATERAL (
    SELECT n.status FROM sync_history n WHERE n.timing_partner_id = t.timing_partner_id AND n.race_id IS NULL
    ORDER BY n.finished_at DESC LIMIT 1
) listed ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM api_calls a
    WHERE (a.api_key_id = c.api_key_id
        OR a.api_key_id IS NULL AND a.credential_id = c.partner_provider_credential_id)
        AND a.granted_at > %(now)s - interval '1 hour'
) calls
ORDER BY t.timing_partner_id
"""


def read_partner_health(conn: Connection, now: dt.datetime) -> list[PartnerHealth]:
    """Return every partner, in order of id, disabled ones included."""
    with conn.cursor() as cur:
        cur.execute(_PARTNERS, {"provider": PROVIDER, "now": now})
        return [PartnerHealth(*row) for row in cur.fetchall()]


@dataclass(frozen=True)
class EventRead:
    """An upcoming event of a partner that is to be synced.

    `read_at` is None if it was never read to its end, `known_since` is when both the event and the present credential were known.
    Partners with the same `call_budget_id` share one API key and its calls.
    """

    partner_id: int
    key: str
    call_budget_id: int
    race_id: int
    event_id: int
    starts_at: dt.datetime | None
    ends_at: dt.datetime | None
    read_at: dt.datetime | None
    known_since: dt.datetime
    registrations: int
    needs_full: bool


_EVENT_READS = f"""
SELECT t.timing_partner_id, t.partition_key, {CALL_BUDGET}, l.race_id, e.event_id, e.starts_at, e.ends_at, k.last_read_at,
    greatest(l.listed_at, e.created_at AT TIME ZONE current_setting('TimeZone'), c.entered_at),
    coalesce(k.registrations, 0), k.event_id IS NULL OR k.needs_full IS NOT NULL
FROM timing_partners t
JOIN {_CREDENTIAL} USING (timing_partner_id)
JOIN partner_races l USING (timing_partner_id)
JOIN runsignup_events e ON e.race_id = l.race_id
LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
WHERE t.disabled_at IS NULL AND t.partition_key IS NOT NULL AND c.is_complete AND {_AHEAD}
ORDER BY t.timing_partner_id, l.race_id, e.event_id
"""


def read_event_reads(conn: Connection, now: dt.datetime) -> list[EventRead]:
    """Return every event that is upcoming at `now` or due for a closing read, of every partner to sync."""
    with conn.cursor() as cur:
        cur.execute(_EVENT_READS, {"provider": PROVIDER, "now": now})
        return [EventRead(*row) for row in cur.fetchall()]


def count_bibs_by_hour(conn: Connection, now: dt.datetime) -> list[tuple[dt.datetime, int, float | None]]:
    """Return, for each of the last 24 hours with bib changes, its beginning, their count, and their 95th percentile of seconds."""
    with conn.cursor() as cur:
        cur.execute(
            """
            SELECT date_trunc('hour', recorded_at) AS hour, count(*), percentile_cont(0.95) WITHIN GROUP
                (ORDER BY (greatest(extract(epoch FROM recorded_at), modified_epoch) - modified_epoch)::float)
            FROM runsignup_bib_changes WHERE recorded_at > %(now)s - interval '24 hours' AND recorded_at <= %(now)s
            GROUP BY hour ORDER BY hour
            """,
            {"now": now},
        )
        return cur.fetchall()
