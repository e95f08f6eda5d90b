"""The store of alerts: open and resolved problems, and who was notified of them."""

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.advisory_locks import Only

_SQL = load(__file__)

RESOLUTION_NOTICE_WITHIN = dt.timedelta(days=7)
"""How long the hub tries to send that a problem is resolved."""
KEPT = dt.timedelta(days=90)
"""How long an alert is stored after it was resolved."""


@dataclass(frozen=True)
class Problem:
    """A problem that exists now.

    `key` is the same at every evaluation while the cause is the same. `partner` is a partition key. `races` are those that cannot
    be read, None among them for the listing. `is_at_runsignup` means that RunSignup answers no read of them.
    """

    kind: str
    key: str
    partner: str | None
    sentence: str
    run_id: str | None = None
    races: tuple[int | None, ...] = ()
    is_at_runsignup: bool = False

    @property
    def cause(self) -> tuple[str, str]:
        return self.kind, self.key


@dataclass(frozen=True)
class Alert:
    """A row of `alerts`. See the table's comments."""

    alert_id: int
    kind: str
    key: str
    partner: str | None
    sentence: str
    run_id: str | None
    first_seen_at: dt.datetime
    last_seen_at: dt.datetime
    looks_missed: int = 0
    told_at: dt.datetime | None = None
    failed_sends: int = 0
    cleared_at: dt.datetime | None = None
    cleared_told_at: dt.datetime | None = None

    @property
    def cause(self) -> tuple[str, str]:
        return self.kind, self.key

    @property
    def owes_resolution_notice(self) -> bool:
        """Whether its end is to be notified: it was notified, or should have been and could not."""
        return self.cleared_told_at is None and (self.told_at is not None or self.failed_sends > 0)


_COLUMNS = (
    "alert_id, kind, cause, partner, sentence, run_id, first_seen_at, last_seen_at, looks_missed, told_at, failed_sends,"
    " cleared_at, cleared_told_at"
)


@contextmanager
def lock_evaluation(conn: Connection) -> Iterator[bool]:
    """Acquire the right to evaluate alerts for a block, or yield False if another session has it. Nothing is notified twice."""
    with conn.cursor() as cur:
        cur.execute("SELECT pg_try_advisory_lock(%s, %s)", Only.ALERTS.key)
        (is_mine,) = cur.fetchone() or (False,)
    conn.commit()
    try:
        yield bool(is_mine)
    finally:
        if is_mine and not conn.closed:
            conn.rollback()
            with conn.cursor() as cur:
                cur.execute("SELECT pg_advisory_unlock(%s, %s)", Only.ALERTS.key)
            conn.commit()


def read_unsettled_alerts(conn: Connection, now: dt.datetime) -> list[Alert]:
    """Return the alerts that are open, and those whose end is still to be notified, in order of id."""
    with conn.cursor() as cur:
        cur.execute(
            f"SELECT {_COLUMNS} FROM alerts WHERE cleared_at IS NULL OR (cleared_at > %s AND cleared_told_at IS NULL"
            " AND (told_at IS NOT NULL OR failed_sends > 0)) ORDER BY alert_id",
            (now - RESOLUTION_NOTICE_WITHIN,),
        )
        return [Alert(*row) for row in cur.fetchall()]


def read_open_alerts(conn: Connection) -> list[Alert]:
    """Return the open alerts, oldest first."""
    with conn.cursor() as cur:
        cur.execute(f"SELECT {_COLUMNS} FROM alerts WHERE cleared_at IS NULL ORDER BY first_seen_at, alert_id")
        return [Alert(*row) for row in cur.fetchall()]


def read_last_change(conn: Connection) -> dt.datetime | None:
    """Return when an alert last opened or was resolved, None if there was never one."""
    with conn.cursor() as cur:
        cur.execute("SELECT greatest(max(first_seen_at), max(cleared_at)) FROM alerts")
        row: tuple[dt.datetime | None, ...] = cur.fetchone() or (None,)
    return row[0]


def record_problems(conn: Connection, problems: Sequence[Problem], now: dt.datetime, kinds: Collection[str]) -> None:
    """Record the problems found, and count the evaluation for open alerts of these kinds that were not found.

    Runs in the caller's transaction.
    """
    seen = {problem.cause: problem for problem in problems}
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE alerts SET looks_missed = looks_missed + 1 WHERE cleared_at IS NULL AND kind = ANY (%s)"
            " AND (kind, cause) NOT IN (SELECT * FROM unnest(%s::text[], %s::text[]))",
            (list(kinds), [kind for kind, _ in seen], [key for _, key in seen]),
        )
        cur.execute(
            _SQL["record_problems"],
            {
                "kinds": [problem.kind for problem in seen.values()],
                "causes": [problem.key for problem in seen.values()],
                "partner_keys": [problem.partner for problem in seen.values()],
                "sentences": [problem.sentence for problem in seen.values()],
                "runs": [problem.run_id for problem in seen.values()],
                "now": now,
            },
        )


def read_unsent_since(conn: Connection) -> dt.datetime | None:
    """Return since when no notifier accepts a message: when the first open alert was found that could not be sent."""
    with conn.cursor() as cur:
        cur.execute(
            # One refusal may be transient. The alert about it counts one more, so that it stays open until it was sent.
            "SELECT min(first_seen_at) FROM alerts WHERE cleared_at IS NULL AND told_at IS NULL"
            " AND failed_sends >= CASE kind WHEN 'notifier_failing' THEN 1 ELSE 2 END"
        )
        (since,) = cur.fetchone() or (None,)
    found: dt.datetime | None = since
    return found


def forget_unsent(conn: Connection) -> None:
    """Forget the messages that no notifier accepted, if there is no notifier any more. Runs in the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE alerts SET failed_sends = 0 WHERE cleared_at IS NULL AND told_at IS NULL AND failed_sends > 0"
        )


def resolve_alerts(conn: Connection, alert_ids: Collection[int], now: dt.datetime) -> None:
    """Resolve alerts, and delete those resolved long ago. Runs in the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE alerts SET cleared_at = %s WHERE cleared_at IS NULL AND alert_id = ANY (%s::bigint[])",
            (now, list(alert_ids)),
        )
        cur.execute("DELETE FROM alerts WHERE cleared_at < %s", (now - KEPT,))


def mark_notified(conn: Connection, causes: Collection[tuple[str, str]], now: dt.datetime) -> None:
    """Record that these open problems were notified. Runs in the caller's transaction."""
    _mark(conn, causes, "told_at = %s", [now])


def mark_notification_failed(conn: Connection, causes: Collection[tuple[str, str]]) -> None:
    """Record that no notifier accepted a message about these open problems. Runs in the caller's transaction."""
    _mark(conn, causes, "failed_sends = failed_sends + 1", [])


def _mark(conn: Connection, causes: Collection[tuple[str, str]], what: str, values: list[object]) -> None:
    with conn.cursor() as cur:
        cur.execute(
            f"UPDATE alerts SET {what} WHERE cleared_at IS NULL"
            " AND (kind, cause) IN (SELECT * FROM unnest(%s::text[], %s::text[]))",
            (*values, [kind for kind, _ in causes], [key for _, key in causes]),
        )


def mark_resolution_notified(conn: Connection, alert_ids: Collection[int], now: dt.datetime) -> None:
    """Record that the end of these alerts was notified. Runs in the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE alerts SET cleared_told_at = %s WHERE alert_id = ANY (%s::bigint[])", (now, list(alert_ids))
        )
