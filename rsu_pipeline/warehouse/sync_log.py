"""The sync log: one row of `sync_history` per race and run, and its queries."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.credentials import PROVIDER

Status = Literal["completed", "partial", "failed"]


def record(
    conn: Connection,
    *,
    partner_id: int,
    race_id: int | None,
    event_ids: Sequence[int],
    operation: str,
    status: Status,
    reason: str,
    run_id: str,
    seconds: float,
    counts: Mapping[str, int],
    error: Mapping[str, object] | None = None,
) -> None:
    """Write one row, in the caller's transaction. `counts` has at least read and quarantined."""
    with conn.cursor() as cur:
        cur.execute(
            """
            INSERT INTO sync_history (timing_partner_id, provider_id, event_id, operation_type, sync_direction,
                sync_time, status, num_of_synced_records, entries_success, entries_failed, error_details,
                data_snapshot, duration_seconds, reason, race_id, event_ids, run_id)
            VALUES (%(partner)s, (SELECT min(provider_id) FROM providers WHERE lower(name) = %(provider)s), %(event)s,
                %(operation)s, 'pull', localtimestamp - make_interval(secs => %(seconds)s), %(status)s, %(read)s,
                %(success)s, %(failed)s, %(error)s, %(counts)s, round(%(seconds)s), %(reason)s, %(race)s,
                %(events)s::bigint[], %(run)s)
            """,
            {
                "partner": partner_id,
                "provider": PROVIDER,
                "event": str(event_ids[0]) if len(event_ids) == 1 else None,
                "operation": operation,
                "seconds": seconds,
                "status": status,
                "read": counts.get("read", 0),
                "success": counts.get("read", 0) - counts.get("quarantined", 0),
                "failed": counts.get("quarantined", 0),
                "error": json.dumps(error) if error else None,
                "counts": json.dumps(dict(counts)),
                "reason": reason[:1000],
                "race": race_id,
                "events": list(event_ids),
                "run": run_id,
            },
        )


@dataclass(frozen=True)
class PartnerStatus:
    """A partner at a glance.

    `last_sync` is when a run last read something without failing, `last_error` the newest failure since then, if any.
    `calls_this_hour` are those with the partner's API key, by all partners that share it.
    """

    partner_id: int
    key: str | None
    name: str
    races: int
    events: int
    future_events: int
    participants: int
    quarantined: int
    last_sync: dt.datetime | None
    last_error: str | None
    last_error_at: dt.datetime | None
    calls_this_hour: int


def read_partner_status(conn: Connection) -> list[PartnerStatus]:
    """Return every partner, in order of id."""
    with conn.cursor() as cur:
        cur.execute(
            """
            SELECT t.timing_partner_id, t.partition_key, t.company_name,
                (SELECT count(*) FROM partner_races l WHERE l.timing_partner_id = t.timing_partner_id),
                (SELECT count(*) FROM partner_races l JOIN runsignup_events e USING (race_id)
                 WHERE l.timing_partner_id = t.timing_partner_id AND e.gone_at IS NULL),
                (SELECT count(*) FROM future_events f WHERE f.timing_partner_id = t.timing_partner_id
                    AND (f.over_at IS NULL OR f.over_at > now())),
                (SELECT count(*) FROM runsignup_participants p
                 WHERE p.timing_partner_id = t.timing_partner_id AND p.removed_at IS NULL),
                (SELECT count(*) FROM quarantined_rows q
                 WHERE q.timing_partner_id = t.timing_partner_id AND q.resolved_at IS NULL),
                good.finished_at, bad.reason, bad.finished_at,
                (SELECT count(*) FROM api_calls a JOIN partner_provider_credentials c
                    ON c.api_key_id = a.api_key_id
                        OR a.api_key_id IS NULL AND c.partner_provider_credential_id = a.credential_id
                 WHERE c.timing_partner_id = t.timing_partner_id AND a.granted_at > now() - interval '1 hour')
            FROM timing_partners t
            LEFT JOIN LATERAL (
                SELECT h.finished_at FROM sync_history h
                WHERE h.timing_partner_id = t.timing_partner_id AND h.status IN ('completed', 'partial')
                    AND h.race_id IS NOT NULL
                ORDER BY h.finished_at DESC LIMIT 1) good ON true
            LEFT JOIN LATERAL (
                SELECT h.reason, h.finished_at FROM sync_history h
                WHERE h.timing_partner_id = t.timing_partner_id AND h.status = 'failed'
                    AND NOT EXISTS (
                        SELECT FROM partner_races l
                        WHERE l.timing_partner_id = h.timing_partner_id AND l.race_id = h.race_id AND l.lost_at IS NOT NULL)
                    AND NOT EXISTS (
                        SELECT FROM sync_history n
                        WHERE n.timing_partner_id = h.timing_partner_id AND n.race_id IS NOT DISTINCT FROM h.race_id
                            AND n.finished_at > h.finished_at AND n.status <> 'failed')
                ORDER BY h.finished_at DESC LIMIT 1) bad ON true
            ORDER BY t.timing_partner_id
            """
        )
        return [PartnerStatus(*row) for row in cur.fetchall()]
