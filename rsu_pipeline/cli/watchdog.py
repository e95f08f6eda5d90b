"""Notify from outside Dagster: of services that are down, and of everything else while the sensor `alerts` has stopped.

The sensor `alerts` is a part of what may stop. `rsu health --alert` runs this as a service beside the others, or every
minute from a timer. An alert is a row of table `alerts`, so that nothing is notified twice. Only an outage of the database
is recorded in a file.
"""

import datetime as dt
import json
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from rsu_pipeline.alerts import alert_store, automation_rules, rules
from rsu_pipeline.alerts.alert_store import Problem
from rsu_pipeline.alerts.evaluate import evaluate_alerts
from rsu_pipeline.alerts.notify import send
from rsu_pipeline.cli import health_command
from rsu_pipeline.display import format_utc, show_times_in
from rsu_pipeline.settings import Settings
from rsu_pipeline.warehouse import database

CHECKS = ("database", "code", "web", "location", "disk")
"""Checks of `rsu health` that the sensor `alerts` cannot make, because it needs what they check."""
STARTING_SECONDS = 90.0
"""How long the services that start beside this one have before their first check."""
RECHECK_SECONDS = 10.0
"""A check that fails is repeated after this time: a service that is restarting is no problem."""
TITLE = rules.TITLES[rules.SERVICE_KIND]

Log = Callable[[str], None]


@dataclass(frozen=True)
class Target:
    """What is watched: the installation's settings, the checks that apply here, and the addresses of web UI and code server."""

    settings: Settings
    checks: Collection[str] = CHECKS
    web: str | None = None
    code: str | None = None
    free_gb: float = health_command.FREE_GB

    def failures(self) -> list[health_command.Reason]:
        """Return the checks that fail now, with a sentence each."""
        return health_command.find_failing_checks(self.settings, self.checks, self.web, self.code, self.free_gb)


def run(target: Target, log: Log, every: float) -> None:
    """Evaluate once, or with `every` in that interval of seconds until the process ends, after the services had time to start."""
    if every:
        time.sleep(STARTING_SECONDS)
    while True:
        try:
            evaluate(target, dt.datetime.now(dt.UTC), log)
        except Exception as error:
            if not every:
                raise
            log(f"alerts could not be evaluated: {type(error).__name__}")  # the next evaluation may succeed
        if not every:
            return
        time.sleep(every)


def evaluate(
    target: Target, now: dt.datetime, log: Log, *, recheck: float = RECHECK_SECONDS
) -> list[health_command.Reason]:
    """Notify of services that are down, and of those that are up again. Return the checks that fail."""
    failed = target.failures()
    if failed:
        time.sleep(recheck)
        failing = {check for check, _ in failed}
        failed = [reason for reason in target.failures() if reason[0] in failing]
    away = next((sentence for check, sentence in failed if check == "database"), None)
    if away is None:
        try:
            _evaluate_stored(target, failed, now, log)
        except (database.DatabaseError, psycopg2.Error) as error:
            away = str(error).splitlines()[0]
            failed.append(("database", away))
    _note_database(target.settings, away, now, log)
    return failed


def _evaluate_stored(target: Target, failed: Sequence[health_command.Reason], now: dt.datetime, log: Log) -> None:
    settings = target.settings
    problems = [Problem(rules.SERVICE_KIND, check, None, sentence) for check, sentence in failed]
    kinds = {rules.SERVICE_KIND}
    with (
        database.session(health_command.database_url(settings), purpose="watchdog") as conn,
        alert_store.lock_evaluation(conn) as is_mine,
    ):
        if not is_mine:
            return
        # Without the sensor, or the daemon or code server that it needs, nothing else evaluates.
        is_alone = any(check in ("code", "location") for check, _ in failed) or any(
            problem.key in ("alerts", "daemon") for problem in automation_rules.find_stopped_automation(conn, now)
        )
        if is_alone:
            problems += rules.find_problems(conn, settings, now)
            kinds |= rules.HUB_KINDS
        evaluate_alerts(conn, problems, settings.alerts, now, log, zone=settings.timezone, kinds=kinds)


def _note_database(settings: Settings, away: str | None, now: dt.datetime, log: Log) -> None:
    """Notify once that the database is down, and once that it is back. The time, and whether it was sent, is in a file."""
    path = settings.home / "database-away.json"
    noted = _read(path)
    if away is None:
        if noted is None:
            return
        since, was_sent = noted
        if not was_sent or _send(
            settings, f"Resolved: {TITLE}", f"The database is back. It was down since {since}.", log
        ):
            path.unlink(missing_ok=True)
        return
    since, was_sent = noted or (format_utc(now), False)
    if not was_sent:
        text = (
            f"{away} Since {since}. Nothing is synced until it is back. Check the server. The hub continues by itself."
        )
        was_sent = _send(settings, f"RunSignup hub: {TITLE}", text, log)
    with suppress(OSError):  # a full disk is a problem of its own
        path.write_text(json.dumps({"since": since, "was_sent": was_sent}) + "\n")


def _read(path: Path) -> tuple[str, bool] | None:
    try:
        noted = json.loads(path.read_text())
        return str(noted["since"]), bool(noted["was_sent"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _send(settings: Settings, title: str, text: str, log: Log) -> bool:
    if not settings.alerts.urls:
        return True
    results = send(settings.alerts.urls, title, show_times_in(settings.timezone, text))
    for one in results:
        if not one.is_accepted:
            log(f"the notifier of kind {one.scheme} did not accept a message")
    return any(one.is_accepted for one in results)
