"""`rsu alerts`: open alerts and their notifications."""

import sys

import click
from rich.table import Column

from rsu_pipeline import installation
from rsu_pipeline.alerts import alert_store
from rsu_pipeline.cli.common import hub_connection, show_json
from rsu_pipeline.cli.display_table import DisplayTable, show_table
from rsu_pipeline.display import format_time, show_times_in


@click.group()
def alerts() -> None:
    """Show open alerts and test their notifications.

    The sensor `alerts` notifies operators once per problem, by the notifiers of RSU_ALERT_URLS. docs/alerts.md describes each
    kind of alert and what to do.
    """


@alerts.command()
def test() -> None:
    """Send one message to every address in RSU_ALERT_URLS.

    Shows the kind of each service and whether it accepted the message. The addresses are secrets. Exit code 1 if one
    failed, 2 if none is set.
    """
    settings = installation.current().settings.alerts
    if not settings.urls:
        click.echo("Error: RSU_ALERT_URLS is not set, so no notifications are sent.", err=True)
        sys.exit(2)
    from rsu_pipeline.alerts.notify import send

    sent = send(settings.urls, "RunSignup hub: a test", f"This is a test. Nothing is wrong. {settings.link}")
    for one in sent:
        click.echo(f"{one.scheme}: {'accepted the message' if one.is_accepted else 'failed'}")
    if not all(one.is_accepted for one in sent):
        sys.exit(1)


@alerts.command("list")
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def list_(as_json: bool) -> None:
    """Show the open alerts, oldest first."""
    with hub_connection("alerts list") as conn:
        found = alert_store.read_open_alerts(conn)
    if as_json:
        show_json("alerts list", [vars(alert) | {"cause": alert.key} for alert in found])
        return
    if not found:
        click.echo("No open alerts.")
        return
    zone = installation.current().settings.timezone
    table = DisplayTable("kind", Column("what"), "since", "notified", optional=("notified",))
    for alert in found:
        table.add_row(
            alert.kind,
            show_times_in(zone, alert.sentence),
            format_time(alert.first_seen_at, zone),
            format_time(alert.told_at, zone) if alert.told_at else "no",
        )
    show_table(table, "`--json` has them")
