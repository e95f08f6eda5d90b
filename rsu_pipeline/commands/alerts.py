"""`rsu alerts`: who is told when somebody must act."""

import sys

import click
from rich.table import Column

from rsu_pipeline import installation
from rsu_pipeline.commands.common import DisplayTable, hub, show_json, show_table
from rsu_pipeline.warehouse import alerts as kept


@click.group()
def alerts() -> None:
    """What somebody must act on, and who is told.

    The sensor `alerts` tells each cause once, by the notifiers of RSU_ALERT_URLS. docs/alerts.md says what each kind
    means and what to do.
    """


@alerts.command()
def test() -> None:
    """Send one message to every address in RSU_ALERT_URLS.

    Shows the kind of each service and whether it took the message; the addresses are secrets. Exit code 1 when one
    failed, 2 when none is set.
    """
    settings = installation.current().settings.alerts
    if not settings.urls:
        click.echo("Error: RSU_ALERT_URLS is not set, so nobody is told of anything.", err=True)
        sys.exit(2)
    from rsu_pipeline.alerts.send import send

    sent = send(settings.urls, "RunSignup hub: a test", f"This is a test; nothing is wrong. {settings.link}")
    for one in sent:
        click.echo(f"{one.scheme}: {'took the message' if one.ok else 'failed'}")
    if not all(one.ok for one in sent):
        sys.exit(1)


@alerts.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(as_json: bool) -> None:
    """Show what is open, the oldest first."""
    with hub("alerts list") as conn:
        found = kept.open_alerts(conn)
    if as_json:
        names = ("kind", "partner", "sentence", "run_id", "first_seen_at", "last_seen_at", "told_at", "failed_sends")
        show_json([{"cause": alert.key} | {name: getattr(alert, name) for name in names} for alert in found])
        return
    if not found:
        click.echo("Nothing is open.")
        return
    table = DisplayTable(Column("kind", no_wrap=True), "what", Column("since (UTC)", no_wrap=True), "told", box=None)
    for alert in found:
        table.add_row(
            alert.kind,
            alert.sentence,
            f"{alert.first_seen_at:%Y-%m-%d %H:%M}",
            f"{alert.told_at:%Y-%m-%d %H:%M}" if alert.told_at else "no",
        )
    show_table(table)
