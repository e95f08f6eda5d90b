"""`rsu status`: what is stored, and when it was last read."""

import datetime as dt

import click
from rich.table import Column, Table

from rsu_pipeline.commands.common import hub, show_json, show_table
from rsu_pipeline.commands.partners import state
from rsu_pipeline.warehouse import credentials, history


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show per partner: events, future events, participants, last sync, last error, calls used this hour."""
    with hub("status") as conn:
        rows = history.partner_status(conn)
        states = {partner.partner_id: state(partner) for partner in credentials.partners(conn)}
    if as_json:
        show_json([vars(row) | {"credential": states[row.partner_id]} for row in rows])
        return
    if not rows:
        click.echo("No partner yet: `rsu partners add NAME` enters one.")
        return
    table = Table(
        Column("partner", no_wrap=True),
        "credential",
        "events",
        "future",
        "participants",
        "held back",
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
            _age(row.last_sync),
            str(row.calls_this_hour),
            (row.last_error or "")[:60],
        )
    show_table(table)


def _age(moment: dt.datetime | None) -> str:
    if moment is None:
        return "never"
    minutes = (dt.datetime.now(dt.UTC) - moment).total_seconds() / 60
    if minutes < 1:
        return "just now"
    if minutes < 120:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.0f} h ago" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days ago"
