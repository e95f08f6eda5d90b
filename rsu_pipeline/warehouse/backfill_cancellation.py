"""Cancel backfill requests. Rows and checkpoints are kept."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection


@dataclass(frozen=True)
class OpenRequest:
    """A request that is neither finished nor cancelled. `run_id` and `backfill_id` are Dagster's ids of the last requester."""

    partner_id: int
    key: str
    last_requested_at: dt.datetime
    run_id: str | None
    backfill_id: str | None


def read_open_requests(conn: Connection) -> list[OpenRequest]:
    """Return the requests that are neither finished nor cancelled, of partners that have a partition."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT timing_partner_id, partition_key, last_requested_at, run_id, backfill_id"
            " FROM history_requests JOIN timing_partners USING (timing_partner_id)"
            " WHERE finished_at IS NULL AND cancelled_at IS NULL AND partition_key IS NOT NULL ORDER BY timing_partner_id"
        )
        return [OpenRequest(*row) for row in cur.fetchall()]


def cancel(conn: Connection, cancelled: Mapping[int, dt.datetime]) -> None:
    """Cancel the requests of these partners, in the caller's transaction.

    Args:
        conn: The hub's database.
        cancelled: When each was cancelled, by partner.
    """
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE history_requests h SET cancelled_at = c.at FROM unnest(%s::integer[], %s::timestamptz[]) AS c (partner, at)"
            " WHERE h.timing_partner_id = c.partner AND h.finished_at IS NULL AND h.cancelled_at IS NULL",
            (list(cancelled), list(cancelled.values())),
        )


def read_cancelled_at(conn: Connection, partner_id: int) -> dt.datetime | None:
    """Return when the partner's request was cancelled, or None. Ends the transaction."""
    with conn.cursor() as cur:
        cur.execute("SELECT cancelled_at FROM history_requests WHERE timing_partner_id = %s", (partner_id,))
        row = cur.fetchone()
    conn.rollback()
    return row[0] if row else None


def read_cancelled_keys(conn: Connection) -> dict[str, dt.datetime]:
    """Return when each cancelled request that is still open was cancelled, by partition key."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT partition_key, cancelled_at FROM history_requests JOIN timing_partners USING (timing_partner_id)"
            " WHERE finished_at IS NULL AND cancelled_at IS NOT NULL AND partition_key IS NOT NULL ORDER BY 2 DESC, 1"
        )
        return dict(cur.fetchall())
