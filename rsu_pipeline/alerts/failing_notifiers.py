"""Notifiers that accept nothing while others do. Each is tried again by itself until it accepts a message."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts.notify import Delivery

FIRST_RETRY = dt.timedelta(seconds=10)
"""From the first refusal to the second try, at the next evaluation."""
RETRY_INTERVAL = dt.timedelta(minutes=5)
"""Between two further tries."""
MAX_TRIES_UNREPORTED = 1
"""One refusal may be a moment's."""


@dataclass(frozen=True)
class FailingNotifier:
    """A notifier that did not accept the last `tries` messages. `position` counts RSU_ALERT_URLS from 1."""

    position: int
    scheme: str
    failing_since: dt.datetime
    tried_at: dt.datetime
    tries: int


def read_all(conn: Connection) -> list[FailingNotifier]:
    """Return the failing notifiers in the order of their addresses."""
    with conn.cursor() as cur:
        cur.execute("SELECT position, scheme, failing_since, tried_at, tries FROM failing_notifiers ORDER BY position")
        return [FailingNotifier(*row) for row in cur.fetchall()]


def is_due(notifier: FailingNotifier, now: dt.datetime) -> bool:
    """Return whether a notifier is to be tried again. A try that is dated in the future does not count."""
    interval = RETRY_INTERVAL if notifier.tries > MAX_TRIES_UNREPORTED else FIRST_RETRY
    return not notifier.tried_at <= now < notifier.tried_at + interval


def record(conn: Connection, results: Sequence[tuple[int, Delivery]], now: dt.datetime) -> None:
    """Record which notifiers accepted a message, by their position. In the caller's transaction."""
    with conn.cursor() as cur:
        for position, sent in results:
            if sent.is_accepted:
                cur.execute("DELETE FROM failing_notifiers WHERE position = %s", (position,))
                continue
            cur.execute(
                """
                INSERT INTO failing_notifiers AS f (position, scheme, failing_since, tried_at, tries) VALUES (%s, %s, %s, %s, 1)
                ON CONFLICT (position) DO UPDATE SET scheme = excluded.scheme, tried_at = excluded.tried_at, tries = f.tries + 1
                """,
                (position, sent.scheme, now, now),
            )


def forget_removed(conn: Connection, count: int) -> None:
    """Forget notifiers whose position is above the number of addresses. In the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute("DELETE FROM failing_notifiers WHERE position > %s", (count,))
