"""Find runs that failed and have not been made good since, and runs that hang."""

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Sequence

from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts import alert_store, rule_queries
from rsu_pipeline.alerts.alert_store import Problem
from rsu_pipeline.alerts.rule_queries import FailedRead
from rsu_pipeline.display import counted, format_utc
from rsu_pipeline.warehouse import dagster_runs
from rsu_pipeline.warehouse.dagster_runs import FailedRun, UnfinishedRun

MONITORED_JOBS = frozenset(
    {"sync_partner", "sync_batch", "backfill_history", "watch", "retention", "check_fleet", "backup"}
)
"""Jobs whose failures are alerts."""
ASSET_JOB = "__ASSET_JOB"
"""The prefix of the jobs with which the Dagster UI materializes assets."""
FAILURES_WITHIN = dt.timedelta(hours=24)
"""A run that failed longer ago opens no alert. An alert that is open stays open until the failure is made good."""
RETRY_WITHIN = dt.timedelta(minutes=10)
"""If a retry that Dagster scheduled has not started by then, it will not."""
MAX_LISTED = 10
"""Races or assets that one sentence names."""
ALLOWED = {
    # Backfills are left out: they wait for each other by design.
    "QUEUED": (dt.timedelta(minutes=30), "has been waiting in the queue"),
    # A run takes 5 s to start and ends within 10 s, on a busy machine three times as long.
    "STARTING": (dt.timedelta(seconds=80), "has been starting"),
    "CANCELING": (dt.timedelta(seconds=80), "has been ending"),
    # A run logs something at every race. A slice of a backfill or of the watch lasts less.
    "STARTED": (dt.timedelta(minutes=15), "has logged nothing"),
}
"""How long a run may be in each state without logging anything."""


def find_run_problems(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    """Yield a problem for each failure that nothing has made good since, and for each run that hangs."""
    alerted = [
        alert.run_id for alert in alert_store.read_open_alerts(conn) if alert.kind == "run_failed" and alert.run_id
    ]
    failed = [
        run
        for run in dagster_runs.read_failed_runs(conn, now - FAILURES_WITHIN, alerted)
        if is_monitored(run.job) and not _is_retried(run, now)
    ]
    ids = [run.run_id for run in failed]
    yield from judge_failed(
        failed, rule_queries.read_failed_reads(conn, ids), rule_queries.find_runs_with_pending_removals(conn, ids)
    )
    yield from judge_unfinished(dagster_runs.read_unfinished_runs(conn), now)


def judge_failed(failed: Sequence[FailedRun], reads: Iterable[FailedRead], held_back: set[str]) -> list[Problem]:
    """Return the problems of failed runs, one per failed subject, linked to the newest of those runs.

    Args:
        failed: the runs, newest first.
        reads: what they could not read.
        held_back: the runs that failed because removals are pending confirmation, which is an alert of its own.
    """
    unread: dict[str, list[FailedRead]] = {}
    for read in reads:
        unread.setdefault(read.run_id, []).append(read)
    problems: dict[str, Problem] = {}
    for run in failed:
        if run.run_id in unread:
            for problem in _unread(run, unread[run.run_id]):
                problems.setdefault(problem.key, problem)
        elif run.run_id not in held_back and not run.is_made_good:
            problem = _failed(run)
            problems.setdefault(problem.key, problem)
    return list(problems.values())


def judge_unfinished(runs: Iterable[UnfinishedRun], now: dt.datetime) -> Iterator[Problem]:
    """Yield a problem for each run that has waited or worked for too long without logging anything."""
    for run in runs:
        if not is_monitored(run.job) or (run.status == "QUEUED" and run.lane == "backfill"):
            continue
        allowed, what = ALLOWED[run.status]
        if now - run.last_event_at > allowed:
            yield Problem(
                "run_stuck",
                run.run_id,
                run.partition,
                f"{_named(run)} {what} since {format_utc(run.last_event_at)}. Terminate it in the Dagster UI under Runs."
                " What it stored is kept, and the next run continues from there.",
                run.run_id,
            )


def is_monitored(job: str) -> bool:
    """Return whether a job is the pipeline's own, or one with which the Dagster UI materializes its assets."""
    return job in MONITORED_JOBS or job.startswith(ASSET_JOB)


def _is_retried(run: FailedRun, now: dt.datetime) -> bool:
    return run.is_retried or (run.will_retry and now - run.ended_at < RETRY_WITHIN)


def _failed(run: FailedRun) -> Problem:
    names = ["/".join(json.loads(name)) for name in run.assets]
    if run.job.startswith(ASSET_JOB):
        cause = f"assets:{run.partition or ''}:{'+'.join(names)}"
    else:
        cause = f"{run.job}:{run.partition or run.shard or ''}"
    missing = f" and left {', '.join(names[:MAX_LISTED])} unchanged" if names else ""
    return Problem(
        "run_failed",
        cause,
        run.partition,
        f"{_named(run)} failed{missing} at {format_utc(run.ended_at)}. Open the run to see the error. The next run that"
        " does the same work resolves this alert.",
        run.run_id,
    )


def _unread(run: FailedRun, reads: Iterable[FailedRead]) -> Iterator[Problem]:
    found: dict[str, list[FailedRead]] = {}
    for read in reads:
        if not read.is_read_since:
            found.setdefault(read.key, []).append(read)
    for key, its in found.items():
        races = tuple(dict.fromkeys(read.race_id for read in its))
        numbers = [str(race) for race in races if race is not None]
        what = (
            f"{counted(len(numbers), 'race')} could not be read: {', '.join(numbers[:MAX_LISTED])}" if numbers else ""
        )
        if None in races:
            what = "the listing of races could not be read" + (f", and {what}" if what else "")
        yield Problem(
            "run_failed",
            f"sync:{key}",
            key,
            f"{key}: {what} since {format_utc(run.ended_at)}. They are retried automatically. `rsu log --failed`"
            " shows the error, also of a sync that was a command.",
            run.run_id,
            races,
            is_at_runsignup=all(read.is_at_runsignup for read in its),
        )


def _named(run: FailedRun | UnfinishedRun) -> str:
    """Return a run as a sentence begins with it: its partition, if it has one, and its job."""
    job = "a materialization" if run.job.startswith(ASSET_JOB) else f"job {run.job}"
    return f"{run.partition}: {job}" if run.partition else job
