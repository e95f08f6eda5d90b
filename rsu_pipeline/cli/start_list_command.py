"""`rsu start-list`: an event's start list, for people, spreadsheets and programs."""

import datetime as dt

import click
from rich.table import Column

from rsu_pipeline.cli.common import find_partner_id, hub_connection, show_json, show_line
from rsu_pipeline.cli.display_table import DisplayTable, show_table
from rsu_pipeline.display import counted, make_printable
from rsu_pipeline.runsignup import values
from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.start_lists.list_formats import FORMATS, format_entries


@click.command("start-list")
@click.argument("event", type=click.IntRange(1, 2**63 - 1), required=False)
@click.option("--partner", "name", metavar="ID", help="Id or key of a partner, for example if two share the race.")
@click.option("--problems", "problems_only", is_flag=True, help="Only entrants with a problem.")
@click.option("--csv", "as_csv", is_flag=True, help="Output CSV for spreadsheets: UTF-8, one line per entrant.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(FORMATS)),
    help="Output a file for a scoring program; csv is that of --csv.",
)
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def start_list(
    event: int | None, name: str | None, problems_only: bool, as_csv: bool, kind: str | None, as_json: bool
) -> None:
    """Show the start list of EVENT, RunSignup's id of the event, in order of bib. Without EVENT, list the events.

    Start lists cover upcoming events and those that ended less than two days ago. Every sync and every new bib updates them.
    """
    kind = "csv" if as_csv and kind is None else kind
    if kind is not None and as_json:
        raise click.UsageError("--json excludes --csv and --format.")
    if event is None and (kind is not None or problems_only):
        raise click.UsageError("--csv, --format and --problems need an EVENT. `rsu start-list` lists them.")
    with hub_connection("start-list") as conn:
        partner_id = find_partner_id(conn, name)
        if event is None:
            _show_events(start_list_store.read_start_lists(conn, partner_id, dt.datetime.now(dt.UTC)), as_json=as_json)
            return
        found = start_list_store.read_start_list(conn, event, dt.datetime.now(dt.UTC), partner_id=partner_id)
        entries = start_list_store.read_entries(conn, found, problems_only=problems_only)
    if as_json:
        show_json("start-list EVENT", vars(found) | {"entries": entries})
    elif kind is not None:
        # Bytes, so that neither the terminal's encoding nor the platform's line ends change them.
        click.echo(format_entries(entries, kind).encode(), nl=False)
    else:
        show_line(_head(found))
        show_table(_table(entries), "`--csv` has them")


def _show_events(lists: list[start_list_store.StartList], *, as_json: bool) -> None:
    if as_json:
        show_json("start-list", lists)
        return
    if not lists:
        click.echo("No event has a start list: none is ahead, or none has been synced.")
        return
    table = DisplayTable(
        Column("EVENT", justify="right", no_wrap=True),
        Column("event", min_width=10),
        Column("race", min_width=12),
        "start",
        Column("entrants", justify="right", no_wrap=True),
        Column("no bib", justify="right", no_wrap=True),
        Column("partner", justify="right", no_wrap=True),
        optional=("partner",),
    )
    for one in lists:
        table.add_row(
            str(one.event_id),
            one.event,
            one.race,
            _start(one),
            f"{one.entrants:,}",
            f"{one.without_bib:,}",
            str(one.partner_id),
        )
    show_table(table, "`--json` has them")


def _start(found: start_list_store.StartList) -> str:
    zone = values.race_zone(found.timezone)
    return f"{found.start.replace(tzinfo=zone):%Y-%m-%d %H:%M %Z}" if found.start else "start unknown"


def _head(found: start_list_store.StartList) -> str:
    entrants = f"{counted(found.entrants, 'entrant')}, {found.without_bib:,} without a bib"
    text = f"{found.event}, {found.race} ({_start(found)}): {entrants}"
    for number, words in (
        (found.duplicate_bibs, "with a bib of another entrant"),
        (found.bibs_in_other_events, "with a bib of another event"),
        (found.out_of_range, "with a bib out of range"),
        (found.in_two_events, "in two events"),
    ):
        text += f", {number:,} {words}" if number else ""
    return make_printable(text)


def format_bib(entry: start_list_store.Entry) -> str:
    """Return the bib for people, with its source if it is not on the entrant's own row."""
    return f"{entry.bib} ({entry.bib_source})" if entry.bib_source in ("team", "bundle") else entry.bib or ""


def _table(entries: list[start_list_store.Entry]) -> DisplayTable:
    table = DisplayTable(
        Column("bib", justify="right", no_wrap=True),
        Column("name"),
        Column("age", justify="right", no_wrap=True),
        "gender",
        "city",
        "state",
        Column("team"),
        Column("problems"),
        "registration",
        optional=("city", "state", "gender", "age"),
    )
    for entry in entries:
        table.add_row(
            format_bib(entry),
            entry.name,
            "" if entry.age is None else str(entry.age),
            entry.gender,
            entry.city,
            entry.state,
            entry.team,
            ", ".join(problem.replace("_", " ") for problem in entry.problems),
            str(entry.registration_id),
        )
    return table
