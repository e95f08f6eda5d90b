"""`rsu export`: registrations, events and bib changes as files for analysts."""

import datetime as dt
from typing import get_args

import click

from rsu_pipeline.cli import export_files
from rsu_pipeline.cli.common import find_partner_id, hub_connection
from rsu_pipeline.display import counted
from rsu_pipeline.warehouse.export_queries import Subject, build_export

WRITERS = {
    "csv": export_files.write_csv,
    "json": export_files.write_json,
    "parquet": export_files.write_parquet,
}


@click.command("export")
@click.argument("subject", type=click.Choice(get_args(Subject)))
@click.option(
    "--csv", "csv_file", metavar="FILE", help="Write CSV for spreadsheets, UTF-8. Formulas get an apostrophe."
)
@click.option("--json", "json_file", metavar="FILE", help="Write a JSON array with an object a line.")
@click.option(
    "--parquet", "parquet_file", metavar="FILE", help="Write Parquet. Needs pip install 'rsu-pipeline[parquet]'."
)
@click.option("--partner", "name", metavar="ID", help="Only of the partner with this id or key.")
@click.option("--race", "race_id", type=click.IntRange(1, 2**63 - 1), metavar="ID", help="Only of this race.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]),
    help="Only what changed in the hub since this moment, UTC.",
)
def export(
    subject: Subject,
    csv_file: str | None,
    json_file: str | None,
    parquet_file: str | None,
    name: str | None,
    race_id: int | None,
    since: dt.datetime | None,
) -> None:
    """Write participants, events or bibs (the bib log) to a FILE. - is standard output, for CSV and JSON.

    Each row is wide and flat, with the names of race, event and partner, and without contact data. Active and removed
    registrations are both there: see the column status. A race of two partners is there once, unless --partner chooses.
    The file is replaced when it is whole.
    """
    given = {"csv": csv_file, "json": json_file, "parquet": parquet_file}
    chosen = [(kind, file) for kind, file in given.items() if file is not None]
    if len(chosen) != 1:
        raise click.UsageError("Give exactly one of --csv, --json and --parquet.")
    ((kind, file),) = chosen
    if kind == "parquet" and file == export_files.STDOUT:
        raise click.UsageError("--parquet needs a file.")
    with hub_connection("export") as conn, export_files.written_file(file) as output:
        rows = WRITERS[kind](
            conn,
            build_export(
                conn,
                subject,
                partner_id=find_partner_id(conn, name),
                race_id=race_id,
                since=None if since is None else since.replace(tzinfo=dt.UTC),
            ),
            output,
        )
    click.echo(f"Wrote {counted(rows, 'row')}.", err=True)
