"""The process that delivers webhooks: it takes messages from the outbox and sends them, side by side but in order per subject.

One process of an installation delivers, the one that has the advisory lock. Another one waits for it. A killed process loses its
session and with it the lock, and what it was sending is sent again: a receiver may get a message twice, with the same webhook-id.

A webhook that fails is left alone for a moment that doubles up to a minute, then gets one message at a time until one is
accepted. The message itself waits for longer, so that one message that a receiver cannot take does not keep the others.
"""

import logging
import os
import queue
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import connection as Connection

from rsu_pipeline.setting_values import Network
from rsu_pipeline.warehouse import database, webhook_outbox, webhook_store
from rsu_pipeline.warehouse.advisory_locks import Only
from rsu_pipeline.warehouse.secret_box import SecretBox, SecretKeyError
from rsu_pipeline.warehouse.webhook_outbox import Message
from rsu_pipeline.warehouse.webhook_store import Webhook
from rsu_pipeline.webhooks.endpoint import Endpoint, SendOutcome
from rsu_pipeline.webhooks.signatures import sign

MAX_SIDE_BY_SIDE = 16
"""Messages that are sent to one webhook at once: 50 a second to a receiver that takes 0.3 s."""
POLL_SECONDS = 1.0
"""How often due retries are searched. New messages are notified."""
HEARTBEAT_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 60.0
RECONNECT_SECONDS = 1.0
DRAIN_SECONDS = 5.0
"""How long a process that ends waits for answers that are under way."""

Log = Callable[[str], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Sent:
    """A message that was sent, and what became of it."""

    message: Message
    failures: int
    outcome: SendOutcome


@dataclass
class _Receiver:
    """A webhook with its connections, its secret and the messages that are being sent to it."""

    webhook: Webhook
    endpoint: Endpoint
    secret: str

    def has_changed(self, webhook: Webhook) -> bool:
        return (webhook.url, webhook.secret) != (self.webhook.url, self.webhook.secret)


def backoff(failures: int) -> float:
    """Return how many seconds a webhook is left alone after this number of failures in a row, with jitter."""
    return float(min(MAX_BACKOFF_SECONDS, 0.5 * 2 ** min(failures, 10)) * random.uniform(0.8, 1.2))  # noqa: S311 - no secret


class DeliveryWorker:
    """Delivers until `stop` is called, from any thread or signal handler."""

    def __init__(self, url: str, secret_box: SecretBox, allowed: Sequence[Network], log: Log) -> None:
        self._url = url
        self._secret_box = secret_box
        self._allowed = allowed
        self._log = log
        self._machine = f"{socket.gethostname()}:{os.getpid()}"
        self._receivers: dict[int, _Receiver] = {}
        self._sending: dict[int, Message] = {}
        self._sent: queue.SimpleQueue[_Sent] = queue.SimpleQueue()
        self._unrecorded: list[_Sent] = []
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        os.set_blocking(self._wake_reader, False)
        self._is_stopping = False
        self._beat_at = 0.0

    def stop(self) -> None:
        """Ask the worker to end."""
        self._is_stopping = True
        self._wake()

    def run(self) -> None:
        """Deliver until stopped. A lost database is tried again."""
        while not self._is_stopping:
            try:
                with database.session(self._url, purpose="webhooks") as conn:
                    self._deliver(conn)
            except (database.DatabaseError, psycopg2.Error) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                self._log(f"webhooks are not delivered now: {reason}")
                self._wait(None, RECONNECT_SECONDS)
        for receiver in self._receivers.values():
            receiver.endpoint.close()

    def _deliver(self, conn: Connection) -> None:
        database.lease(conn)
        with conn.cursor() as cur:
            cur.execute(f"LISTEN {webhook_store.CHANNEL}")
            conn.commit()
            while not self._is_stopping and not self._try_lock(conn):
                self._wait(conn, POLL_SECONDS)
        while not self._is_stopping:
            self.step(conn)
            self._wait(conn, POLL_SECONDS)
        ends = time.monotonic() + DRAIN_SECONDS
        while self._sending and time.monotonic() < ends:
            self._record(conn)
            self._wait(conn, 0.1)

    def _try_lock(self, conn: Connection) -> bool:
        with conn.cursor() as cur:
            cur.execute("SELECT pg_try_advisory_lock(%s, %s)", Only.WEBHOOKS.key)
            (is_mine,) = cur.fetchone() or (False,)
        conn.commit()
        return bool(is_mine)

    def step(self, conn: Connection) -> None:
        """Record what was sent and send what is due."""
        self._record(conn)
        if time.monotonic() - self._beat_at > HEARTBEAT_SECONDS:
            webhook_store.record_heartbeat(conn, self._machine)
            self._beat_at = time.monotonic()
        webhooks = webhook_store.list_enabled(conn)
        for gone in self._receivers.keys() - {webhook.webhook_id for webhook in webhooks}:
            self._receivers.pop(gone).endpoint.close()
        for receiver in self._receivers.values():
            receiver.endpoint.cut_overdue()
        for webhook in webhooks:
            if not webhook.is_resting and (known := self._receiver(conn, webhook)):
                self._send_due(conn, known, webhook)
        conn.commit()

    def _receiver(self, conn: Connection, webhook: Webhook) -> _Receiver | None:
        known = self._receivers.get(webhook.webhook_id)
        if known is None or known.has_changed(webhook):
            try:
                address, secret = self._secret_box.decrypt(webhook.url), self._secret_box.decrypt(webhook.secret)
            except SecretKeyError as error:
                webhook_outbox.rest(conn, webhook.webhook_id, str(error), MAX_BACKOFF_SECONDS)
                return None
            known = _Receiver(webhook, Endpoint(address, self._allowed), secret)
            self._receivers[webhook.webhook_id] = known
        return known

    def _send_due(self, conn: Connection, receiver: _Receiver, webhook: Webhook) -> None:
        its = [number for number, message in self._sending.items() if message.webhook_id == webhook.webhook_id]
        room = (1 if webhook.failures else MAX_SIDE_BY_SIDE) - len(its)
        if room <= 0:
            return
        for message in webhook_outbox.take_due(conn, webhook.webhook_id, its, room):
            self._sending[message.message_id] = message
            threading.Thread(target=self._send, args=(receiver, message, webhook.failures), daemon=True).start()

    def _send(self, receiver: _Receiver, message: Message, failures: int) -> None:
        """Send a message. Runs in a thread of its own, so that no receiver delays another."""
        try:
            body = message.body.encode()
            outcome = receiver.endpoint.send(sign(receiver.secret, message.key, int(time.time()), body), body)
        except Exception as error:
            # A fault of this program, not of the receiver. The text may contain the address.
            outcome = SendOutcome(f"{receiver.webhook.host}: {type(error).__name__}")
        self._sent.put(_Sent(message, failures, outcome))
        self._wake()

    def _record(self, conn: Connection) -> None:
        """Record what became of messages. Until that is committed they count as being sent."""
        while not self._sent.empty():
            self._unrecorded.append(self._sent.get())
        if not self._unrecorded:
            return
        accepted = [item.message for item in self._unrecorded if item.outcome.error is None]
        if accepted:
            webhook_outbox.record_delivered(conn, accepted)
        for item in self._unrecorded:
            if item.outcome.error is not None:
                self._log(f"webhook {item.message.webhook_id}, message {item.message.key}: {item.outcome.error}")
                webhook_outbox.record_failed(
                    conn,
                    item.message,
                    item.outcome.error,
                    retry_after=max(backoff(item.failures), item.outcome.retry_after or 0.0),
                    is_gone=item.outcome.is_gone,
                )
        conn.commit()
        for item in self._unrecorded:
            self._sending.pop(item.message.message_id, None)
        self._unrecorded.clear()

    def _wake(self) -> None:
        try:
            os.write(self._wake_writer, b"x")
        except BlockingIOError:
            return  # it is awake

    def _wait(self, conn: Connection | None, seconds: float) -> None:
        """Wait for a notification, an answer or the end of the time."""
        sources: list[int] = [self._wake_reader]
        if conn is not None:
            conn.poll()  # notifications that came with the last answer are not at the socket
            if conn.notifies:
                conn.notifies.clear()
                return
            sources.append(conn.fileno())
        ready, _, _ = select.select(sources, [], [], seconds)
        if self._wake_reader in ready:
            os.read(self._wake_reader, 65536)
        if conn is not None and conn.fileno() in ready:
            conn.poll()
            conn.notifies.clear()
