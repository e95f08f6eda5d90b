"""`rsu backfill`: request past editions from the shell. The same runs read them as from the Dagster UI."""

import datetime as dt
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rsu_pipeline import installation
from rsu_pipeline.cli.common import (
    choose_partners,
    hub_connection,
    refuse_disabled,
    set_dagster_home,
    show_json,
    show_line,
)
from rsu_pipeline.cli.in_process_runs import run_in_process
from rsu_pipeline.display import counted, format_time
from rsu_pipeline.warehouse import backfill_cancellation, backfill_progress, backfill_state, credentials

POLL_SECONDS = 1.0
DAEMON_SECONDS = 90.0
"""A daemon without a heartbeat for this long counts as down. It sends one every 30 s."""


@click.command()
@click.option(
    "--partner", "names", multiple=True, metavar="ID", help="Id or key of a partner. May be repeated. Default: all."
)
@click.option("--since", type=click.IntRange(1900, 2200), metavar="YEAR", help="Leave out events of earlier years.")
@click.option("--restart", is_flag=True, help="Read again what was already read.")
@click.option("--wait", is_flag=True, help="Wait until it is complete, and show the progress.")
@click.option("--cancel", is_flag=True, help="Cancel it. Nothing more is read until it is requested again.")
@click.option("--json", "as_json", is_flag=True, help="Output the progress of each partner as JSON.")
def backfill(names: tuple[str, ...], since: int | None, restart: bool, wait: bool, cancel: bool, as_json: bool) -> None:
    """Read the registrations of past editions.

    A backfill is read in slices of minutes that run behind everything else. It continues by itself until it is complete, and
    can be requested again at any time: nothing stored is read twice. --cancel ends it until then, as terminating its run or
    cancelling the backfill in the Dagster UI does. Exit code 1 if a race failed. It is retried later.
    """
    if cancel and (wait or restart or since is not None):
        raise click.UsageError("--cancel reads nothing: leave out --wait, --restart and --since.")
    chosen = choose_partners(names)
    if cancel:
        _cancel(chosen, as_json=as_json)
        return
    refuse_disabled(chosen)
    set_dagster_home()
    with hub_connection("backfill") as conn:
        for partner in chosen:
            backfill_state.request_backfill(conn, partner.partner_id, since_year=since, reload=restart)
        conn.commit()
    daemon = _prepare([str(partner.key) for partner in chosen])
    if wait:
        _wait(chosen, daemon, silent=as_json)
    found = _progress(chosen)
    if as_json:
        show_json("backfill", {"partners": found})
    elif wait:
        for item in found:
            show_line(line(item))
    else:
        words = "it begins within a minute" if daemon else "no daemon is running. Start it with `rsu up`, or add --wait"
        show_line(
            f"Requested the backfill of {counted(len(chosen), 'partner')}: {words}. `rsu status` shows the progress."
        )
    sys.exit(1 if wait and not all(item.is_complete for item in found) else 0)


def line(item: backfill_progress.Progress) -> str:
    """Return the progress of a partner's backfill in a sentence."""
    zone = installation.current().settings.timezone
    text = (
        f"{item.key}: {item.settled} of {item.events} past events, {item.registrations:,}"
        f" registrations, {item.races_done} of {item.races} races"
    )
    if item.unavailable:
        text += f", {counted(item.unavailable, 'event')} no longer available"
    if item.unconfirmed:
        text += f", {counted(item.unconfirmed, 'event')} to be read again: one empty answer confirms nothing"
    if item.retry_at:
        text += f", {counted(item.failing, 'race')} FAILED (retried {format_time(item.retry_at, zone)})"
    if item.cancelled_at:
        return f"{text}, cancelled at {format_time(item.cancelled_at, zone)} (`rsu backfill` resumes it)"
    return text + (", complete" if item.is_complete else "")


def _cancel(chosen: Sequence[credentials.Partner], *, as_json: bool) -> None:
    """Cancel the partners' open requests, and terminate the runs that read them."""
    now = dt.datetime.now(dt.UTC)
    with hub_connection("backfill") as conn:
        numbers = {partner.partner_id for partner in chosen}
        cancelled = [item for item in backfill_cancellation.read_open_requests(conn) if item.partner_id in numbers]
        backfill_cancellation.cancel(conn, {item.partner_id: now for item in cancelled})
        conn.commit()
    set_dagster_home()
    unreached = _terminate([item.key for item in cancelled], now) if cancelled else []
    if as_json:
        keys = {item.key for item in cancelled}
        found = [item for item in _progress(chosen) if item.key in keys]
        show_json("backfill", {"partners": found})
        return
    if not cancelled:
        show_line("These partners have no open backfill. Nothing to cancel.")
        return
    show_line(
        f"Cancelled the backfill of {counted(len(cancelled), 'partner')} ({', '.join(item.key for item in cancelled)})."
        " What is stored is kept. `rsu backfill` resumes it."
    )
    for run_id in unreached:
        show_line(f"Run {run_id[:8]} could not be terminated from here. It ends after the race that it reads.")


def _terminate(keys: Sequence[str], at: dt.datetime) -> list[str]:
    """Terminate the partners' runs and show the cancellation in the Dagster UI. Return the runs that were not reached."""
    import dagster as dg

    from rsu_pipeline.orchestration import cancelled_runs

    with dg.DagsterInstance.get() as instance:
        for key in keys:
            instance.report_runless_asset_event(cancelled_runs.observation(key, at))
        return cancelled_runs.terminate_runs(instance, keys)


def _prepare(keys: Sequence[str]) -> bool:
    """Ensure that the partners have partitions, and return whether a daemon is running that will read their past editions."""
    import dagster as dg

    from rsu_pipeline.orchestration import partitions

    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(partitions.NAME, list(keys))
        beat = instance.get_daemon_heartbeats().get("SENSOR")
    return beat is not None and time.time() - beat.timestamp < DAEMON_SECONDS


def _progress(chosen: Sequence[credentials.Partner]) -> list[backfill_progress.Progress]:
    with hub_connection("backfill") as conn:
        found = backfill_progress.read_progress_of_all(conn, dt.datetime.now(dt.UTC))
    return [found[partner.partner_id] for partner in chosen if partner.partner_id in found]


def _wait(chosen: Sequence[credentials.Partner], daemon: bool, *, silent: bool) -> None:
    """Wait until every partner's backfill is complete, or only failed races are left. Without a daemon this process reads."""
    zone = installation.current().settings.timezone
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown: Any = nullcontext() if silent else Progress(*columns, console=Console(stderr=True))
    with shown as bar:
        tasks = {str(partner.key): bar.add_task(str(partner.key), total=None) for partner in chosen} if bar else {}
        last_words = ""
        while True:
            found = _progress(chosen)
            for item in found:
                if bar:
                    bar.update(tasks[item.key], total=item.events, completed=item.settled)
            open_ones = [item for item in found if item.is_open and not _only_failed(item)]
            if not open_ones:
                return
            now = dt.datetime.now(dt.UTC)
            ready = [item for item in open_ones if item.not_before <= now]
            if not daemon and ready:
                _read(ready[0].key)
                continue
            words = describe_wait(open_ones, now, zone)
            if bar and words != last_words:
                bar.console.print(words)
            last_words = words
            time.sleep(POLL_SECONDS)


def describe_wait(open_ones: Sequence[backfill_progress.Progress], now: dt.datetime, zone: dt.tzinfo) -> str:
    """Return what the open backfills wait for: calls, or the daemon, whose sensor `history` requests a slice every minute."""
    begins = min(item.not_before for item in open_ones)
    if begins > now and all(item.unconfirmed and item.settled + item.unconfirmed == item.events for item in open_ones):
        return f"waiting until {format_time(begins, zone)} to read again what RunSignup had no registrations for"
    if begins > now:
        return f"waiting until {format_time(begins, zone)} for calls to be free"
    return "waiting for the daemon: it requests the next slice within a minute, which runs behind everything else"


def _only_failed(item: backfill_progress.Progress) -> bool:
    """Return whether only races are left that failed and wait for a retry."""
    waits = item.retry_at is not None and item.retry_at > dt.datetime.now(dt.UTC)
    return waits and item.races - item.races_done <= item.failing


def _read(key: str) -> None:
    """Read one slice, as a run of this process."""
    ran = run_in_process(
        "backfill_history",
        key,
        lane="backfill",
        launched_by="rsu backfill",
        ops={"participant_history": {"config": {"resume_only": True}}},
    )
    if not ran.is_success:
        raise credentials.PartnerError(f"{key}: {ran.error}")
