"""The registry of webhooks, with their encrypted addresses and secrets. Callers commit."""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.errors import RsuError
from rsu_pipeline.warehouse import credential_encryption
from rsu_pipeline.warehouse.secret_box import SecretBox, SecretKeyError

KINDS = (
    "bib.changed",
    "registration.removed",
    "registration.restored",
    "registration.transferred",
    "start_list.rebuilt",
)
"""Kinds of messages, as the triggers of migration webhooks write them."""
CHANNEL = "rsu_webhook_messages"
"""The channel that is notified of new messages and of changed webhooks."""


class WebhookError(RsuError):
    """A webhook cannot be used so. The text is one sentence: what is wrong, and the next step."""


@dataclass(frozen=True)
class Webhook:
    """A row of `webhooks`. `url` and `secret` are encrypted. `is_resting` means that it is left alone after a failure."""

    webhook_id: int
    partner_id: int | None
    partner: str | None
    host: str
    url: str
    secret: str
    kinds: list[str]
    created_at: dt.datetime
    disabled_at: dt.datetime | None
    failures: int
    failing_since: dt.datetime | None
    failing_for: dt.timedelta | None
    is_resting: bool
    last_error: str | None
    delivered_at: dt.datetime | None

    @property
    def name(self) -> str:
        """Its number and host, for people."""
        return f"webhook {self.webhook_id} ({self.host})"


def add_webhook(
    conn: Connection,
    secret_box: SecretBox,
    *,
    url: str,
    host: str,
    secret: str,
    kinds: Sequence[str],
    partner_id: int | None,
) -> int:
    """Add a webhook of a partner, or of all, and return its number."""
    credential_encryption.hold_keys(conn)
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO webhooks (timing_partner_id, host, url, secret, kinds) VALUES (%s, %s, %s, %s, %s) RETURNING webhook_id",
            (partner_id, host, secret_box.encrypt(url), secret_box.encrypt(secret), list(kinds)),
        )
        (number,) = cur.fetchone() or (0,)
        cur.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
    return int(number)


def list_webhooks(conn: Connection) -> list[Webhook]:
    """Return every webhook, the oldest first."""
    with conn.cursor() as cur:
        cur.execute(f"{_WEBHOOKS} ORDER BY w.webhook_id")
        return [Webhook(*row) for row in cur.fetchall()]


def list_enabled(conn: Connection) -> list[Webhook]:
    """Return the webhooks that are sent messages."""
    with conn.cursor() as cur:
        cur.execute(f"{_WEBHOOKS} WHERE w.disabled_at IS NULL ORDER BY w.webhook_id")
        return [Webhook(*row) for row in cur.fetchall()]


@dataclass(frozen=True)
class Backlog:
    """Messages of a webhook: those not delivered yet, since when the oldest of them waits, and those given up."""

    pending: int = 0
    oldest_pending_at: dt.datetime | None = None
    dead: int = 0


def read_backlogs(conn: Connection) -> dict[int, Backlog]:
    """Return the messages of each webhook that has undelivered ones, by its number."""
    with conn.cursor() as cur:
        cur.execute(
            # Each part by its index: most rows of the table are delivered.
            "SELECT webhook_id, count(*) FILTER (WHERE NOT is_dead)::int, min(created_at) FILTER (WHERE NOT is_dead),"
            " count(*) FILTER (WHERE is_dead)::int FROM ("
            " SELECT webhook_id, created_at, false AS is_dead FROM webhook_messages WHERE delivered_at IS NULL AND dead_at IS NULL"
            " UNION ALL SELECT webhook_id, created_at, true FROM webhook_messages WHERE dead_at IS NOT NULL) m GROUP BY webhook_id"
        )
        return {number: Backlog(*figures) for number, *figures in cur.fetchall()}


def find_webhook(conn: Connection, webhook_id: int) -> Webhook:
    """Return a webhook.

    Raises:
        WebhookError: there is none of this number.
    """
    for webhook in list_webhooks(conn):
        if webhook.webhook_id == webhook_id:
            return webhook
    raise WebhookError(f"There is no webhook {webhook_id}: `rsu webhooks list` shows them.")


def disable(conn: Connection, webhook_id: int) -> None:
    """Queue and send nothing more."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE webhooks SET disabled_at = coalesce(disabled_at, now()) WHERE webhook_id = %s", (webhook_id,)
        )


def remove_webhook(conn: Connection, webhook_id: int) -> None:
    """Remove a webhook and its messages, committing in steps so that no sync waits for long."""
    disable(conn, webhook_id)
    conn.commit()
    with conn.cursor() as cur:
        cur.execute("DELETE FROM webhook_messages WHERE webhook_id = %s", (webhook_id,))
        conn.commit()
        cur.execute("DELETE FROM webhooks WHERE webhook_id = %s", (webhook_id,))
        cur.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
    conn.commit()


def reencrypt(conn: Connection, secret_box: SecretBox) -> list[int]:
    """Encrypt every address and secret with the newest key. Return the webhooks that no key decrypts."""
    closed = []
    credential_encryption.hold_keys(conn)
    with conn.cursor() as cur:
        cur.execute("SELECT webhook_id, url, secret FROM webhooks ORDER BY 1 FOR NO KEY UPDATE")
        for webhook_id, *sealed in cur.fetchall():
            if all(map(secret_box.is_newest, sealed)):
                continue
            try:
                renewed = [secret_box.encrypt(secret_box.decrypt(text)) for text in sealed]
            except SecretKeyError:
                closed.append(int(webhook_id))
                continue
            cur.execute("UPDATE webhooks SET url = %s, secret = %s WHERE webhook_id = %s", (*renewed, webhook_id))
    return closed


def record_heartbeat(conn: Connection, machine: str) -> None:
    """Record that the process that delivers is at work."""
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO webhook_worker (machine, alive_at) VALUES (%s, clock_timestamp())"
            " ON CONFLICT (is_only) DO UPDATE SET machine = excluded.machine, alive_at = excluded.alive_at",
            (machine,),
        )


def read_seconds_silent(conn: Connection, *, has_files: bool) -> float | None:
    """Return how long ago the process that delivers was last at work, or since the first webhook was added if it never was.

    None means that there is nothing to deliver: no webhook is enabled, and it keeps no files (`has_files`). All by the database's
    clock.
    """
    with conn.cursor() as cur:
        cur.execute(
            "SELECT extract(epoch FROM clock_timestamp() - greatest(min(w.created_at), (SELECT alive_at FROM webhook_worker))),"
            " extract(epoch FROM clock_timestamp() - (SELECT alive_at FROM webhook_worker)), count(*)"
            " FROM webhooks w WHERE w.disabled_at IS NULL"
        )
        of_webhooks, alive, webhooks = cur.fetchone() or (None, None, 0)
    if webhooks:
        return float(of_webhooks)
    return float(math.inf if alive is None else alive) if has_files else None


def read_queue_share(conn: Connection) -> float:
    """Return how full PostgreSQL's queue of notifications is, from 0 to 1."""
    with conn.cursor() as cur:
        cur.execute("SELECT pg_notification_queue_usage()")
        (share,) = cur.fetchone() or (0.0,)
    return float(share)


_WEBHOOKS = """
SELECT w.webhook_id, w.timing_partner_id, t.partition_key, w.host, w.url, w.secret, w.kinds, w.created_at, w.disabled_at,
    w.failures, w.failing_since, clock_timestamp() - w.failing_since,
    coalesce(w.retry_at > clock_timestamp(), false), w.last_error, w.delivered_at
FROM webhooks w LEFT JOIN timing_partners t USING (timing_partner_id)
"""
