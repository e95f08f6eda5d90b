"""`rsu log`: what was read when, why, and what it changed."""

import click
from rich.table import Column

from rsu_pipeline import installation
from rsu_pipeline.cli.common import find_partner_id, hub_connection, show_json
from rsu_pipeline.cli.display_table import DisplayTable, show_table
from rsu_pipeline.warehouse import sync_log
from rsu_pipeline.warehouse.sync_log import LoggedSync, describe_changes


@click.command()
@click.option("--partner", "name", metavar="ID", help="Only this partner, by id or key.")
@click.option("--race", "race_id", type=click.IntRange(1, 2**63 - 1), help="Only this race, by RunSignup's id.")
@click.option("--failed", is_flag=True, help="Only what failed.")
@click.option("--changed", is_flag=True, help="Only what changed something.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Rows, the newest first.")
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def log(name: str | None, race_id: int | None, failed: bool, changed: bool, limit: int, as_json: bool) -> None:
    """Show the sync log, newest first: what was read, when, why, how long it took and what it changed.

    One row is a read of one race, or a partner's listing of races. Polls of the watch that found nothing leave no row: `rsu
    status` and `rsu race-day` have the time of the last one. Times are in RSU_TIMEZONE.
    """
    with hub_connection("log") as conn:
        partner_id = find_partner_id(conn, name)
        found = sync_log.read_log(
            conn, limit, partner_id=partner_id, race_id=race_id, failed_only=failed, changed_only=changed
        )
    if as_json:
        show_json("log", found)
    elif not found:
        click.echo("The sync log has no such row.")
    else:
        show_table(_table(found), "`--json` has them")


def _table(found: list[LoggedSync]) -> DisplayTable:
    zone = installation.current().settings.timezone
    table = DisplayTable(
        f"when ({found[0].finished_at.astimezone(zone):%Z})",
        "partner",
        Column("race", min_width=12),
        "read",
        Column("took", justify="right", no_wrap=True),
        Column("changed", min_width=16),
        Column("why", min_width=16),
        optional=("took", "read"),
    )
    for row in found:
        table.add_row(
            f"{row.finished_at.astimezone(zone):%m-%d %H:%M:%S}",
            row.key,
            _race(row),
            row.operation,
            f"{row.seconds} s" if row.seconds else "<1 s",
            "FAILED" if row.status == "failed" else describe_changes(row.counts),
            row.why,
            style="bold red" if row.status == "failed" else "",
        )
    return table


def _race(row: LoggedSync) -> str:
    return "listing" if row.race_id is None else f"{row.race_id} {row.race or ''}"
