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

    `last_sync` is when something was last read without failing, also by a poll of the watch that found nothing. `last_error` is
    the newest failure since then, if any.
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
                greatest(good.finished_at, cursors.last_read_at), bad.reason, bad.finished_at,
                (SELECT count(*) FROM api_calls a JOIN partner_provider_credentials c
                    ON c.api_key_id = a.api_key_id
                        OR a.api_key_id IS NULL AND c.partner_provider_credential_id = a.credential_id
                 WHERE c.timing_partner_id = t.timing_partner_id AND a.granted_at > now() - interval '1 hour')
            FROM timing_partners t
            -- Polls of the watch that find nothing leave no row in the log. The cursors have them.
            LEFT JOIN LATERAL (
                SELECT max(k.last_read_at) AS last_read_at FROM event_cursors k
                WHERE k.timing_partner_id = t.timing_partner_id) cursors ON true
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


def list_read_partners(conn: Connection) -> set[int]:
    """Return the partners of which something was ever read without failing: those with a `PartnerStatus.last_sync`."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT t.timing_partner_id FROM timing_partners t"
            " WHERE EXISTS (SELECT FROM sync_history h WHERE h.timing_partner_id = t.timing_partner_id"
            " AND h.status IN ('completed', 'partial'))"
            " OR EXISTS (SELECT FROM event_cursors k WHERE k.timing_partner_id = t.timing_partner_id"
            " AND k.last_read_at IS NOT NULL)"
        )
        return {partner_id for (partner_id,) in cur.fetchall()}


def count_synced_partners(conn: Connection) -> int:
    """Return how many partners' races were ever read without failing."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT count(*) FROM timing_partners t WHERE EXISTS (SELECT FROM sync_history h WHERE h.race_id IS NOT NULL"
            " AND h.timing_partner_id = t.timing_partner_id AND h.status IN ('completed', 'partial'))"
        )
        (count,) = cur.fetchone() or (0,)
    return int(count)


@dataclass(frozen=True)
class LoggedSync:
    """A row of the sync log: a read of a race, or a listing, which has no race.

    `why` is the reason of the read, or its error if it failed. `counts` are those of `data_snapshot`.
    """

    key: str | None
    race_id: int | None
    race: str | None
    operation: str
    status: Status
    why: str
    finished_at: dt.datetime
    seconds: int
    counts: dict[str, int]
    run_id: str | None


def read_log(
    conn: Connection,
    limit: int,
    *,
    partner_id: int | None = None,
    race_id: int | None = None,
    failed_only: bool = False,
    changed_only: bool = False,
) -> list[LoggedSync]:
    """Return the newest rows of the sync log, newest first."""
    with conn.cursor() as cur:
        cur.execute(
            """
            SELECT t.partition_key, h.race_id, r.name, coalesce(h.operation_type, ''), h.status, coalesce(h.reason, ''),
                h.finished_at, coalesce(h.duration_seconds, 0), coalesce(h.data_snapshot, '{}'), h.run_id
            FROM sync_history h
            LEFT JOIN timing_partners t USING (timing_partner_id)
            LEFT JOIN runsignup_races r ON r.race_id = h.race_id
            WHERE (%(partner)s::int IS NULL OR h.timing_partner_id = %(partner)s)
                AND (%(race)s::bigint IS NULL OR h.race_id = %(race)s)
                AND (NOT %(failed)s OR h.status = 'failed')
                AND (NOT %(changed)s OR EXISTS (
                    SELECT FROM jsonb_each(h.data_snapshot) n
                    WHERE n.key = ANY (%(changes)s) AND n.value NOT IN ('0', 'null')))
            ORDER BY h.finished_at DESC, h.sync_history_id DESC LIMIT %(limit)s
            """,
            {
                "partner": partner_id,
                "race": race_id,
                "failed": failed_only,
                "changed": changed_only,
                "changes": [name for name, _ in CHANGES],
                "limit": limit,
            },
        )
        return [LoggedSync(*row) for row in cur.fetchall()]


CHANGES = (
    ("inserted", "new"),
    ("updated", "changed"),
    ("reactivated", "active again"),
    ("removed", "removed"),
    ("bib_changes", "bib changes"),
    ("quarantined", "quarantined"),
    ("races_written", "races written"),
    ("events_written", "events written"),
    ("events_gone", "events gone"),
    ("races_lost", "races lost"),
)
"""Counts of the sync log that are changes of what is stored, and how messages name them."""


def describe_changes(counts: Mapping[str, int]) -> str:
    """Return what a read changed, as in `3 new, 2 bib changes`, or `nothing`."""
    return ", ".join(f"{counts[name]:,} {word}" for name, word in CHANGES if counts.get(name)) or "nothing"
