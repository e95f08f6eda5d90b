"""The outbox of webhooks: which messages are due, and what became of them. Callers commit.

Triggers write it in the transaction that stores a change. A message is delivered, or given up: then it is a dead letter. Of a
subject (a registration, or an event's start list) only the oldest pending message is due, so that they are sent in order.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.webhook_store import CHANNEL

_SQL = load(__file__)

GIVE_UP_AFTER = dt.timedelta(hours=24)
"""How long after its first attempt a message is sent again. Then it is a dead letter."""
DEAD_LETTER_DAYS = 30
"""Days after which a dead letter is deleted. Nobody wants the bib changes of last month's race."""
MIN_ATTEMPTS = 5
"""No message is given up after fewer attempts."""
_RETRY_SECONDS = (1, 5, 30, 120, 600, 1800)
"""Seconds before the second, third, … attempt at a message. The last is for all that follow."""


@dataclass(frozen=True)
class Message:
    """A message to send. `body` is sent byte for byte, `key` identifies it at the receiver."""

    message_id: int
    webhook_id: int
    key: str
    body: str
    attempts: int


def take_due(conn: Connection, webhook_id: int, busy: Collection[int], limit: int) -> list[Message]:
    """Return the messages of a webhook that are due, oldest first, without those being sent (`busy`)."""
    with conn.cursor() as cur:
        cur.execute(_SQL["find_due_messages"], {"webhook": webhook_id, "busy": list(busy), "limit": limit})
        return [Message(*row) for row in cur.fetchall()]


def record_delivered(conn: Connection, messages: Sequence[Message]) -> None:
    """Record that receivers accepted these messages."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE webhook_messages SET delivered_at = clock_timestamp(), attempts = attempts + 1, retry_at = NULL,"
            " last_error = NULL, first_tried_at = coalesce(first_tried_at, clock_timestamp())"
            " WHERE message_id = ANY (%s::bigint[]) AND delivered_at IS NULL",
            ([message.message_id for message in messages],),
        )
        cur.execute(
            "UPDATE webhooks SET delivered_at = clock_timestamp(), failures = 0, failing_since = NULL, retry_at = NULL,"
            " last_error = NULL WHERE webhook_id = ANY (%s::int[])",
            ([message.webhook_id for message in messages],),
        )


def record_failed(conn: Connection, message: Message, error: str, *, retry_after: float, is_gone: bool = False) -> None:
    """Record that a message was not accepted, and when it and its webhook are tried again.

    `retry_after` is how many seconds the webhook is left alone. A webhook that `is_gone` is disabled.
    """
    wait = _RETRY_SECONDS[min(message.attempts, len(_RETRY_SECONDS) - 1)]
    with conn.cursor() as cur:
        cur.execute(
            _SQL["note_failure"],
            {
                "message": message.message_id,
                "error": error,
                "wait": max(wait, retry_after),
                "give_up": GIVE_UP_AFTER,
                "least": MIN_ATTEMPTS,
            },
        )
        cur.execute(
            # Messages that were sent side by side and failed count once.
            "UPDATE webhooks SET failures = failures + CASE WHEN retry_at > clock_timestamp() THEN 0 ELSE 1 END,"
            " failing_since = coalesce(failing_since, clock_timestamp()),"
            " last_error = %s, retry_at = clock_timestamp() + make_interval(secs => %s),"
            " disabled_at = CASE WHEN %s THEN coalesce(disabled_at, now()) ELSE disabled_at END WHERE webhook_id = %s",
            (error, retry_after, is_gone, message.webhook_id),
        )


def rest(conn: Connection, webhook_id: int, error: str, seconds: float) -> None:
    """Leave a webhook alone for some seconds, for a reason that no message shows."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE webhooks SET failures = failures + 1, failing_since = coalesce(failing_since, clock_timestamp()),"
            " last_error = %s, retry_at = clock_timestamp() + make_interval(secs => %s) WHERE webhook_id = %s",
            (error, seconds, webhook_id),
        )


def redeliver(conn: Connection, webhook_id: int) -> int:
    """Make the dead letters of a webhook pending again, enable it, and return how many they were."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE webhook_messages SET dead_at = NULL, retry_at = NULL, first_tried_at = NULL, attempts = 0"
            " WHERE webhook_id = %s AND dead_at IS NOT NULL",
            (webhook_id,),
        )
        count = cur.rowcount
        cur.execute(
            "UPDATE webhooks SET disabled_at = NULL, failures = 0, failing_since = NULL, retry_at = NULL, last_error = NULL"
            " WHERE webhook_id = %s",
            (webhook_id,),
        )
        cur.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
    return count
