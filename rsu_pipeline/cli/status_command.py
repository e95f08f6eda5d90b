"""`rsu status`: what is stored, and when it was last read."""

import datetime as dt

import click
from rich.table import Column

from rsu_pipeline import installation
from rsu_pipeline.cli import metrics
from rsu_pipeline.cli.common import DisplayTable, hub_connection, show_json, show_table
from rsu_pipeline.cli.partners_command import shared_api_keys, state
from rsu_pipeline.cli.webhook_lines import describe_webhooks
from rsu_pipeline.sync import cadence, clocks, downtime
from rsu_pipeline.sync.downtime import Downtime
from rsu_pipeline.warehouse import backfill_progress, credentials, sync_log


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
@click.option(
    "--prometheus",
    "target",
    metavar="FILE|-",
    help="Write figures in Prometheus' text format instead.",
)
def status(as_json: bool, target: str | None) -> None:
    """Show per partner: events, future events, participants, last sync, last error, calls used this hour.

    For three days after a time without syncs it also shows what was caught up.
    """
    if target is not None:
        if as_json:
            raise click.UsageError("--json and --prometheus exclude each other.")
        with hub_connection("status") as conn:
            settings = installation.current().settings
            now = clocks.present(conn, settings.sync.max_clock_skew)
            figures = metrics.build_registry(conn, settings, now)
        metrics.write_metrics(figures, target)
        return
    with hub_connection("status") as conn:
        rows = sync_log.read_partner_status(conn)
        settings = installation.current().settings
        now = clocks.present(conn, settings.sync.max_clock_skew)
        histories = backfill_progress.read_progress_of_all(conn, now)
        downtimes = downtime.find_downtimes(conn, now, settings.cadence)
        states = {partner.partner_id: state(partner) for partner in credentials.list_partners(conn)}
        shared = shared_api_keys(conn)
        webhooks = describe_webhooks(conn)
    if as_json:
        rest = (
            {
                "credential": states[row.partner_id],
                "history": histories.get(row.partner_id),
                "downtimes": [_of_partner(item, row.partner_id) for item in downtimes],
            }
            for row in rows
        )
        show_json("status", [vars(row) | more for row, more in zip(rows, rest, strict=True)])
        return
    if not rows:
        click.echo("No partner yet. Add one with `rsu partners add NAME`.")
        return
    table = DisplayTable(
        Column("partner", no_wrap=True),
        "credential",
        "events",
        "future",
        "participants",
        "quarantined",
        "history",
        "last sync",
        "calls/h",
        "last error",
        box=None,
    )
    for row in rows:
        table.add_row(
            row.key or str(row.partner_id),
            states[row.partner_id],
            f"{row.events:,}",
            f"{row.future_events:,}",
            f"{row.participants:,}",
            f"{row.quarantined:,}",
            _history(histories.get(row.partner_id)),
            _age(row.last_sync, now),
            str(row.calls_this_hour),
            (row.last_error or "")[:60],
        )
    show_table(table)
    for line in (*shared, *webhooks, *downtime.describe(downtimes)):
        click.echo(line)


def _of_partner(item: Downtime, partner_id: int) -> dict[str, object]:
    """Return a downtime as JSON shows it, with what was caught up of one partner."""
    return vars(item) | next((vars(one) for one in item.partners if one.partner_id == partner_id), {})


def _history(found: backfill_progress.Progress | None) -> str:
    """Return how much of a backfill is settled, in per cent of its events."""
    if found is None:
        return "-"
    if found.is_complete:
        return "complete"
    share = f"{found.settled / found.events:.0%}" if found.events else "0%"
    if found.cancelled_at:
        return f"{share}, cancelled at {found.cancelled_at:%Y-%m-%d %H:%M} UTC"
    return f"{share}, {found.failing} races fail" if found.failing else share


def _age(moment: dt.datetime | None, now: dt.datetime) -> str:
    if moment is None:
        return "never"
    if cadence.is_ahead(moment, now):
        return "in the future"
    minutes = (now - moment).total_seconds() / 60
    if minutes < 1:
        return "just now"
    if minutes < 120:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.0f} h ago" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days ago"
