"""`rsu report`: how upcoming events are filling, as a page for people."""

import datetime as dt
from pathlib import Path

import click

from rsu_pipeline import installation
from rsu_pipeline.cli.common import choose_partners, hub_connection
from rsu_pipeline.display import counted
from rsu_pipeline.warehouse import report_queries


@click.command()
@click.option(
    "--partner", "names", multiple=True, metavar="ID", help="Id or key of a partner. May be repeated. Default: all."
)
@click.option(
    "--html", "path", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file to write."
)
def report(names: tuple[str, ...], path: Path) -> None:
    """Write a report of upcoming events to one HTML file: registrations, bibs, amounts paid.

    The file is self-contained and has no personal data.
    """
    from rsu_pipeline.reports import page

    zone = installation.current().settings.timezone
    now = dt.datetime.now(zone)
    made = []
    chosen = choose_partners(names)
    with hub_connection("report") as conn:
        for partner in chosen:
            rows, changes = (
                ask(conn, partner.partner_id, zone)
                for ask in (report_queries.read_registrations, report_queries.read_bib_changes)
            )
            made.append(page.build_report(partner.name, rows, changes, now.date(), zone))
    try:
        path.write_text(page.render_html(made, now), encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"Cannot write {path}: {error.strerror}.") from None
    click.echo(f"{path}: {counted(len(made), 'partner')}, {counted(sum(len(item.events) for item in made), 'event')}")
