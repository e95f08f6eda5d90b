"""One evaluation: record the open problems, and send the notifications that are due."""

import datetime as dt
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts import alert_store, failing_notifiers
from rsu_pipeline.alerts.alert_store import Alert, Problem
from rsu_pipeline.alerts.notify import Delivery, send
from rsu_pipeline.alerts.rules import HUB_KINDS, TITLES
from rsu_pipeline.alerts.transitions import plan_notifications
from rsu_pipeline.display import format_utc, show_times_in
from rsu_pipeline.service_settings import AlertSettings

Send = Callable[[Sequence[str], str, str], list[Delivery]]
SENDING_SECONDS = 25.0
"""How long one evaluation starts new messages. The rest are sent at the next one. Dagster abandons a tick after 60 s."""
MAX_LINES = 20
"""Problems that one message spells out."""


@dataclass
class AlertEvaluation:
    """The result of an evaluation: open problems, messages accepted and not accepted by a service, the services that failed."""

    wrong: int = 0
    notified: int = 0
    cleared: int = 0
    sent: int = 0
    unsent: int = 0
    failing: set[str] = field(default_factory=set)


def evaluate_alerts(
    conn: Connection,
    problems: Sequence[Problem],
    settings: AlertSettings,
    now: dt.datetime,
    log: Callable[[str], None],
    *,
    zone: dt.tzinfo,
    kinds: Collection[str] = HUB_KINDS,
    send: Send = send,
) -> AlertEvaluation:
    """Record the open problems and send what is due, one message per kind. Commits.

    A message that no service accepted stays due and is sent again at the next evaluation. Alerts of other `kinds` are left
    alone. Messages have times in `zone`, and what is stored has them in UTC.
    """

    def send_in_zone(urls: Sequence[str], title: str, body: str) -> list[Delivery]:
        return send(urls, title, show_times_in(zone, body))

    before = [alert for alert in alert_store.read_unsettled_alerts(conn, now) if alert.kind in kinds]
    to_tell, over = plan_notifications(before, problems, now)
    alert_store.record_problems(conn, problems, now, kinds)
    alert_store.resolve_alerts(conn, [alert.alert_id for alert in over], now)
    failing_notifiers.forget_removed(conn, len(settings.urls))
    if not settings.urls:
        alert_store.forget_unsent(conn)
    conn.commit()
    done = AlertEvaluation(wrong=len({problem.cause for problem in problems}))
    if not settings.urls:
        return done
    sender = _Sender(conn, settings, now, log, send_in_zone, done)
    # Resolved alerts first: a problem that came back before its end was sent is then sent as new.
    sender.send_resolved(over)
    sender.send_open(to_tell, {alert.cause for alert in before if alert.cleared_at is None and alert.told_at})
    if sender.has_time():
        _retry_notifiers(conn, settings.urls, now, send_in_zone)
    return done


class _Sender:
    """Sends the messages of one evaluation, one for each kind, within SENDING_SECONDS, and counts them in `done`. Commits."""

    def __init__(
        self,
        conn: Connection,
        settings: AlertSettings,
        now: dt.datetime,
        log: Callable[[str], None],
        send: Send,
        done: AlertEvaluation,
    ) -> None:
        self._conn = conn
        self._settings = settings
        self._now = now
        self._log = log
        self._send = send
        self._done = done
        self._ends = time.monotonic() + SENDING_SECONDS

    def has_time(self) -> bool:
        return time.monotonic() < self._ends

    def send_resolved(self, over: Sequence[Alert]) -> None:
        """Notify of the ends of alerts."""
        for kind in TITLES:
            gone = [alert for alert in over if alert.kind == kind and alert.owes_resolution_notice]
            if gone and self._deliver(f"Resolved: {TITLES[kind]}", _cleared_lines(gone)):
                alert_store.mark_resolution_notified(self._conn, [alert.alert_id for alert in gone], self._now)
                self._done.cleared += len(gone)
                self._conn.commit()

    def send_open(self, problems: Sequence[Problem], told_before: set[tuple[str, str]]) -> None:
        """Notify of open problems."""
        for kind in TITLES:
            its = [problem for problem in problems if problem.kind == kind]
            if not its:
                continue
            causes = [problem.cause for problem in its]
            if self._deliver(f"RunSignup hub: {TITLES[kind]}", _lines(its, self._settings.link, told_before)):
                alert_store.mark_notified(self._conn, causes, self._now)
                self._done.notified += len(its)
            else:
                alert_store.mark_notification_failed(self._conn, causes)
            self._conn.commit()

    def _deliver(self, title: str, lines: list[str]) -> bool:
        """Send a message while there is time, and return whether a notifier accepted it."""
        if not self.has_time():
            return False
        sent = self._send(self._settings.urls, title, "\n".join(lines))
        failing_notifiers.record(self._conn, list(enumerate(sent, start=1)), self._now)
        for one in sent:
            if not one.is_accepted:
                self._done.failing.add(one.scheme)
                self._log(f"the notifier of kind {one.scheme} did not accept a message")
        is_accepted = any(one.is_accepted for one in sent)
        self._done.sent += is_accepted
        self._done.unsent += not is_accepted
        return is_accepted


def _retry_notifiers(conn: Connection, urls: Sequence[str], now: dt.datetime, send: Send) -> None:
    """Send a message to the notifiers that did not accept the last one, so that their alert is resolved by itself. Commits."""
    for notifier in failing_notifiers.read_all(conn):
        if failing_notifiers.is_due(notifier, now):
            text = f"This notifier accepted no message since {format_utc(notifier.failing_since)}."
            (sent,) = send([urls[notifier.position - 1]], "RunSignup hub: this notifier accepts messages again", text)
            failing_notifiers.record(conn, [(notifier.position, sent)], now)
            conn.commit()


def _lines(problems: list[Problem], link: str, told_before: set[tuple[str, str]]) -> list[str]:
    lines = [
        ("Still: " if problem.cause in told_before else "")
        + problem.sentence
        + (f" {link}/runs/{problem.run_id}" if problem.run_id else "")
        for problem in problems[:MAX_LINES]
    ]
    return [*lines, *_more(len(problems))]


def _cleared_lines(gone: list[Alert]) -> list[str]:
    lines = [
        f"Resolved. Since {format_utc(alert.first_seen_at)}: {alert.sentence}"
        + ("" if alert.told_at else " (No notification could be sent while it lasted.)")
        for alert in gone[:MAX_LINES]
    ]
    return [*lines, *_more(len(gone))]


def _more(total: int) -> list[str]:
    rest = total - MAX_LINES
    return [f"… and {rest} more: `rsu alerts list` shows all."] if rest > 0 else []
