"""What was done: one row of `sync_history` per race and run, and the questions asked of it."""

import json
from collections.abc import Mapping, Sequence
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
    """Writes one row, in the caller's transaction. `counts` has at least read, quarantined."""
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
