"""All partners at once: who is to be synced, which races there are to be read, and when each was last tried."""

import datetime as dt
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.credentials import PROVIDER

# Partners that are to be synced: switched on, with a credential that RunSignup did not refuse within the hour.
_ACTIVE = """
FROM timing_partners t
JOIN partner_provider_credentials c USING (timing_partner_id)
JOIN providers v ON v.provider_id = c.provider_id AND lower(v.name) = %(provider)s
"""
_IS_ACTIVE = r"""
t.disabled_at IS NULL AND t.partition_key IS NOT NULL
    AND c.principal ~ '\S' AND c.secret ~ '\S'
    AND (c.rejected_at IS NULL OR c.rejected_at < %(now)s - interval '1 hour')
"""


@dataclass(frozen=True)
class FleetPartner:
    """A partner that is to be synced. `listed_at` is when a run last read its listing or tried, `failed` whether the last
    try failed."""

    partner_id: int
    key: str
    listed_at: dt.datetime | None
    failed: bool


@dataclass(frozen=True)
class FleetRace:
    """A race of such a partner. `times` are its events' (start, end) instants, those long past left out; `tried_at` is
    when a run last read the race or tried, `failed` whether the last try failed."""

    partner_id: int
    key: str
    race_id: int
    times: tuple[tuple[dt.datetime | None, dt.datetime | None], ...]
    tried_at: dt.datetime | None
    failed: bool


def partners_to_sync(conn: Connection, now: dt.datetime) -> list[FleetPartner]:
    """Every partner that is to be synced, in order of number."""
    with conn.cursor() as cur:
        cur.execute(
            f"""
            SELECT t.timing_partner_id, t.partition_key, tried.finished_at, coalesce(tried.status = 'failed', false)
            {_ACTIVE}
            LEFT JOIN LATERAL (
                SELECT h.finished_at, h.status FROM sync_history h
                WHERE h.timing_partner_id = t.timing_partner_id AND h.race_id IS NULL
                ORDER BY h.finished_at DESC LIMIT 1
            ) tried ON true
            WHERE {_IS_ACTIVE}
            ORDER BY t.timing_partner_id
            """,
            {"provider": PROVIDER, "now": now},
        )
        return [FleetPartner(*row) for row in cur.fetchall()]


def races_to_read(conn: Connection, now: dt.datetime) -> list[FleetRace]:
    """Every race of those partners that has an event not long past at `now`."""
    with conn.cursor() as cur:
        cur.execute(
            f"""
            SELECT t.timing_partner_id, t.partition_key, l.race_id, e.starts, e.ends,
                greatest(tried.finished_at, read.last_read_at), coalesce(tried.status = 'failed', false)
            {_ACTIVE}
            JOIN partner_races l USING (timing_partner_id)
            JOIN LATERAL (
                SELECT array_agg(e.starts_at ORDER BY e.event_id) AS starts, array_agg(e.ends_at ORDER BY e.event_id) AS ends
                FROM runsignup_events e
                WHERE e.race_id = l.race_id AND e.gone_at IS NULL
                    AND coalesce(greatest(e.starts_at, e.ends_at) > %(now)s - interval '2 hours', true)
            ) e ON e.starts IS NOT NULL
            LEFT JOIN LATERAL (
                SELECT h.finished_at, h.status FROM sync_history h
                WHERE h.timing_partner_id = t.timing_partner_id AND h.race_id = l.race_id
                ORDER BY h.finished_at DESC LIMIT 1
            ) tried ON true
            LEFT JOIN LATERAL (
                SELECT min(k.last_read_at) AS last_read_at FROM event_cursors k
                WHERE k.timing_partner_id = t.timing_partner_id AND k.race_id = l.race_id
            ) read ON true
            WHERE {_IS_ACTIVE} AND NOT (l.access = 'denied' AND l.unlisted_at IS NOT NULL)
            ORDER BY t.timing_partner_id, l.race_id
            """,
            {"provider": PROVIDER, "now": now},
        )
        return [
            FleetRace(partner_id, key, race_id, tuple(zip(starts, ends, strict=True)), tried_at, failed)
            for partner_id, key, race_id, starts, ends, tried_at, failed in cur.fetchall()
        ]
