"""`rsu schema`: what RunSignup sends that this program does not know."""

import sys

import click
from rich.table import Column

from rsu_pipeline import installation
from rsu_pipeline.cli.common import hub_connection, show_json
from rsu_pipeline.cli.display_table import DisplayTable, show_table
from rsu_pipeline.display import format_time
from rsu_pipeline.warehouse import credentials, schema_drift

MEANING = {
    "unknown": "new field, kept in payload",
    "form": "form not known, kept in payload",
    "type": "type changed, column is NULL",
}


@click.command()
@click.option("--partner", help="Only this partner (id or key).")
@click.option(
    "--accept", multiple=True, metavar="FIELD", help="Accept a new field, so that no check reports it. Repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def schema(partner: str | None, accept: tuple[str, ...], as_json: bool) -> None:
    """Show fields of registrations that RunSignup sends and this program does not know.

    Each is shown with the number of registrations that were read with it, and when that was first and last. Exit code 1 if a known
    field changed its type.
    """
    with hub_connection("schema") as conn:
        if never := schema_drift.accept(conn, list(accept)) if accept else []:
            raise click.BadParameter(f"No registration was read with {', '.join(never)}.", param_hint="--accept")
        partner_id = credentials.find_partner(conn, partner).partner_id if partner else None
        found = schema_drift.read_drift(conn, partner_id)
    if as_json:
        show_json("schema", [vars(one) for one in found])
    elif not found:
        click.echo("Every field that was read is known.")
    else:
        zone = installation.current().settings.timezone
        table = DisplayTable(
            Column("field", no_wrap=True),
            Column("what"),
            "registrations",
            "races",
            "first read",
            "last read",
            optional=("first read",),
        )
        for one in found:
            table.add_row(
                one.field,
                MEANING[one.kind] + (", accepted" if one.is_accepted else ""),
                str(one.occurrences),
                str(one.races),
                format_time(one.first_seen_at, zone),
                format_time(one.last_seen_at, zone),
            )
        show_table(table, "`--json` has them")
    if any(one.is_error for one in found):
        sys.exit(1)
