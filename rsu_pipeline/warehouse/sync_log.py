"""The sync log: one row of `sync_history` per race and run, and its queries."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import counted
from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.credentials import PROVIDER

_SQL = load(__file__)

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
            _SQL["record"],
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
        cur.execute(_SQL["read_partner_status"])
        return [PartnerStatus(*row) for row in cur.fetchall()]


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
            _SQL["read_log"],
            {
                "partner": partner_id,
                "race": race_id,
                "failed": failed_only,
                "changed": changed_only,
                "changes": [name for name, _, _ in CHANGES],
                "limit": limit,
            },
        )
        return [LoggedSync(*row) for row in cur.fetchall()]


CHANGES = (
    ("inserted", "new", "new"),
    ("updated", "changed", "changed"),
    ("reactivated", "active again", "active again"),
    ("removed", "removed", "removed"),
    ("bib_changes", "bib change", "bib changes"),
    ("quarantined", "quarantined", "quarantined"),
    ("races_written", "race written", "races written"),
    ("events_written", "event written", "events written"),
    ("events_gone", "event gone", "events gone"),
    ("races_lost", "race lost", "races lost"),
)
"""Counts of the sync log that are changes of what is stored, and how messages name one and several."""


def describe_changes(counts: Mapping[str, int]) -> str:
    """Return what a read changed, as in `3 new, 2 bib changes`, or `nothing`."""
    return ", ".join(counted(counts[name], one, many) for name, one, many in CHANGES if counts.get(name)) or "nothing"
