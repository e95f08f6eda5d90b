"""Alert rules for delivery: the process that sends webhooks, each webhook, files of start lists, and PostgreSQL's queue."""

import datetime as dt
import math
from collections.abc import Iterable, Iterator

from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts.alert_store import Problem
from rsu_pipeline.display import counted, format_utc, sanitize_for_display
from rsu_pipeline.warehouse import start_list_folders, webhook_store
from rsu_pipeline.warehouse.start_list_folders import KeptFolder
from rsu_pipeline.warehouse.webhook_outbox import DEAD_LETTER_DAYS
from rsu_pipeline.warehouse.webhook_store import Backlog, Webhook

STOPPED_AFTER = 60.0
"""Seconds without a heartbeat of the process that delivers. It sends one every 10 s."""
FAILING_FOR = dt.timedelta(minutes=5)
"""How long a webhook may fail. Receivers are restarted now and then."""
FILES_FAILING_FOR = dt.timedelta(seconds=60)
"""How long files of start lists may be old. Scoring programs import them on race mornings."""
MAX_FOLDER_CHARS = 200
MAX_QUEUE_SHARE = 0.25
"""Share of PostgreSQL's queue of notifications. A full queue would fail every transaction that notifies, syncs among them."""

TITLES = {
    "delivery_stopped": "webhooks are not delivered",
    "webhook_failing": "a webhook does not accept messages",
    "webhook_dead_letters": "messages to a webhook were given up",
    "list_files_failing": "files of start lists are not current",
    "notification_queue": "a program keeps notifications from being deleted",
}


def find_problems_of_delivery(conn: Connection, *, has_files: bool = False) -> Iterator[Problem]:
    """Yield a problem for each webhook that fails, and for what keeps all of them from being delivered.

    `has_files` means that the process that delivers keeps files of start lists, too.
    """
    silent = webhook_store.read_seconds_silent(conn, has_files=has_files)
    if silent is not None and silent > STOPPED_AFTER:
        yield Problem(
            "delivery_stopped",
            "worker",
            None,
            f"No process has delivered webhooks {_duration(silent)}. Messages wait and are not lost, and files of start lists"
            " are not current. `rsu up` and the units of deploy/ start `rsu deliver`: check its log, and start it again.",
        )
    backlogs = webhook_store.read_backlogs(conn)
    for webhook in webhook_store.list_webhooks(conn):
        yield from judge_webhook(webhook, backlogs.get(webhook.webhook_id, Backlog()))
    for kept in _one_of_each_machine(start_list_folders.read_folders(conn)):
        yield from judge_folder(kept)
    share = webhook_store.read_queue_share(conn)
    if share > MAX_QUEUE_SHARE:
        yield Problem(
            "notification_queue",
            "queue",
            None,
            f"PostgreSQL's queue of notifications is {share:.0%} full, because a session that listens stays in a transaction."
            " A full queue stops every sync. docs/alerts.md has the statement that finds the session: end it.",
        )


def _one_of_each_machine(folders: Iterable[KeptFolder]) -> Iterable[KeptFolder]:
    """Return one process for each folder of a machine: one at work before one that is gone, then one that fails."""
    found: dict[tuple[str, str], KeptFolder] = {}
    for kept in sorted(folders, key=lambda kept: (kept.seconds_silent > STOPPED_AFTER, kept.failing_since is None)):
        found.setdefault((kept.host, kept.folder), kept)
    return found.values()


def judge_folder(kept: KeptFolder) -> Iterator[Problem]:
    """Yield what keeps the files of a folder from being current."""
    where = f"{sanitize_for_display(kept.folder, MAX_FOLDER_CHARS)} on {kept.host}"
    if kept.seconds_silent > STOPPED_AFTER:
        sentence = (
            f"No process has kept the files of start lists in {where} current {_duration(kept.seconds_silent)}. Start `rsu"
            " deliver` there again, as `rsu up` and the units of deploy/ do. A folder that nobody keeps is forgotten after a day."
        )
    elif kept.failing_since and kept.failing_for and kept.failing_for > FILES_FAILING_FOR:
        reason = sanitize_for_display(kept.last_error or "", MAX_FOLDER_CHARS)
        sentence = (
            f"Files of start lists in {where} have not all been written since {format_utc(kept.failing_since)}: {reason}."
            " Programs that import from there get an old list. It is tried again every two seconds: make room, or let the process"
            " write there."
        )
    else:
        return
    yield Problem("list_files_failing", f"{kept.host}:{kept.folder}", None, sentence)


def judge_webhook(webhook: Webhook, backlog: Backlog) -> Iterator[Problem]:
    """Yield what is wrong with a webhook."""
    number = webhook.webhook_id
    if webhook.disabled_at is not None:
        yield Problem(
            "webhook_failing",
            str(number),
            webhook.partner,
            f"The receiver of {webhook.name} has ended it (HTTP 410) since {format_utc(webhook.disabled_at)}. Nothing is sent"
            f" to it. Remove it with `rsu webhooks remove {number}`, or enable it with `rsu webhooks redeliver {number}`.",
        )
    elif webhook.failing_since and webhook.failing_for and webhook.failing_for > FAILING_FOR:
        yield Problem(
            "webhook_failing",
            str(number),
            webhook.partner,
            f"{webhook.name} has accepted nothing since {format_utc(webhook.failing_since)}: {webhook.last_error}."
            f" Pending: {counted(backlog.pending, 'message')}. It is tried every minute."
            f" `rsu webhooks test {number}` tries it now.",
        )
    if backlog.dead:
        yield Problem(
            "webhook_dead_letters",
            str(number),
            webhook.partner,
            f"Given up after a day: {counted(backlog.dead, 'message')} to {webhook.name}."
            f" `rsu webhooks redeliver {number}` sends them again, for {DEAD_LETTER_DAYS} days. Then they are deleted.",
        )


def _duration(seconds: float) -> str:
    if seconds == math.inf:
        return "on this database yet"
    return f"for {seconds:.0f} s" if seconds < 120 else f"for {seconds / 60:.0f} min"
