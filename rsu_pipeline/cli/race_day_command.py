"""`rsu race-day`: whether each race near its start is in sync, which bibs changed, and who has none."""

import datetime as dt
import sys
import time
from collections.abc import Callable, Sequence
from zoneinfo import ZoneInfo

import click
from psycopg2.extensions import connection as Connection
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column
from rich.text import Text

from rsu_pipeline import installation
from rsu_pipeline.cli.common import find_partner_id, hub_connection, show_json, show_line
from rsu_pipeline.cli.display_table import DisplayTable, render, show_table
from rsu_pipeline.display import counted, make_printable, show_times_in
from rsu_pipeline.runsignup import values
from rsu_pipeline.sync import clocks, race_day_board
from rsu_pipeline.sync.race_day_board import BoardRow, Urgency
from rsu_pipeline.warehouse import near_races
from rsu_pipeline.warehouse.near_races import BibChange, Entrant

REFRESH_SECONDS = 5.0
"""How often --watch refreshes."""
_STYLES = {Urgency.BLOCKED: "bold red", Urgency.UNTIDY: "yellow", Urgency.WELL: ""}


@click.command("race-day")
@click.option("--partner", "name", metavar="ID", help="Only this partner, by id or key.")
@click.option("--race", "race_id", type=click.IntRange(1, 2**63 - 1), help="Only this race, by RunSignup's id.")
@click.option("--changes", "minutes", type=click.FloatRange(0, 1440), metavar="MINUTES",
              help="Show the bibs that changed within MINUTES, with names, instead.")  # fmt: skip
@click.option("--missing", is_flag=True, help="Show the entrants without a bib instead.")
@click.option("--watch", "follow", is_flag=True, help="Refresh every 5 seconds until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def race_day(
    name: str | None, race_id: int | None, minutes: float | None, missing: bool, follow: bool, as_json: bool
) -> None:
    """Show whether each race near its start is in sync, worst first.

    One line for each race that is in its window (from 4 hours before a start until the event is over) or starts within 24
    hours. The last column names the problem, and the lines below the table the next step. For an exit code use `rsu health`.

    \b
    Columns:
      start    next start, in the race's zone, and "in" is the time left
      read     time since the race was last read from RunSignup
      bibs     entrants with a bib, of all
      last bib the bib, when RunSignup changed it, seconds until it was stored
    """
    if missing and minutes is not None:
        raise click.UsageError("--changes and --missing exclude each other.")
    if follow and as_json:
        raise click.UsageError("--watch and --json exclude each other.")
    with hub_connection("race-day") as conn:
        partner_id = find_partner_id(conn, name)
        if minutes is not None:
            look = _changes(conn, partner_id, race_id, minutes, as_json)
        elif missing:
            look = _missing(conn, partner_id, race_id, as_json)
        else:
            look = _board(conn, partner_id, race_id, as_json)
        if follow:
            _follow(conn, look)
        else:
            _show_once(conn, look, None)


Evaluation = Callable[[dt.datetime, Live | None], None]
"""Shows what is stored at a time, on a live display if given."""


def _show_once(conn: Connection, look: Evaluation, live: Live | None) -> None:
    """Show what is stored now, by the believed clock. No transaction is open afterwards."""
    look(clocks.present(conn, installation.current().settings.sync.max_clock_skew), live)
    conn.rollback()


def _follow(conn: Connection, look: Evaluation) -> None:
    """Refresh until Ctrl-C. Without a terminal, print each view below the one before."""
    if not sys.stdout.isatty():
        while True:
            _show_once(conn, look, None)
            sys.stdout.flush()
            time.sleep(REFRESH_SECONDS)
    with Live(console=Console(markup=False, emoji=False, highlight=False), screen=True, auto_refresh=False) as live:
        while True:
            _show_once(conn, look, live)
            time.sleep(REFRESH_SECONDS)


def _show(live: Live | None, table: DisplayTable, lines: Sequence[str], now: dt.datetime) -> None:
    if live is None:
        show_table(table)
        for line in lines:
            show_line(line)
        return
    head = f"{now.astimezone(_zone()):%H:%M:%S %Z}, refreshed every {REFRESH_SECONDS:.0f} s, Ctrl-C ends"
    parts, _ = render(table, live.console.width)
    live.update(Group(Text(head), *parts, *(Text(line) for line in lines)), refresh=True)


def _board(conn: Connection, partner_id: int | None, race_id: int | None, as_json: bool) -> Evaluation:
    def look(now: dt.datetime, live: Live | None) -> None:
        rows = [
            row
            for row in race_day_board.read_board(conn, now, installation.current().settings)
            if partner_id in (None, row.race.partner_id) and race_id in (None, row.race.race_id)
        ]
        if as_json:
            show_json("race-day", [row.as_object(now) for row in rows])
        elif not rows:
            _show(live, DisplayTable(), ["No race is in its window or starts within 24 hours."], now)
        else:
            _show(live, _table(rows, now), _sentences(rows), now)

    return look


def _table(rows: Sequence[BoardRow], now: dt.datetime) -> DisplayTable:
    table = DisplayTable(
        Column("id", justify="right", no_wrap=True),
        # The only column that wraps, so that no figure is cut.
        Column("race", min_width=8),
        "start",
        Column("in", justify="right", no_wrap=True),
        Column("read", justify="right", no_wrap=True),
        Column("bibs", justify="right", no_wrap=True),
        "last bib",
        "state",
        gap=1,
    )
    for row in rows:
        race = row.race
        table.add_row(
            str(race.partner_id),
            race.name,
            _in_zone(row.start, race.zone, now),
            _span(row.start - now),
            "never" if race.read_at is None else _span(now - race.read_at),
            f"{race.with_bib}/{race.entrants}",
            _last_bib(row),
            row.state,
            style=_STYLES[row.urgency],
        )
    return table


def _sentences(rows: Sequence[BoardRow]) -> list[str]:
    """Return a line for each problem: the partner, the race and the next step."""
    return [
        make_printable(f"{row.race.key}, race {row.race.race_id}: {show_times_in(_zone(), problem.sentence)}.")
        for row in rows
        for problem in row.problems
    ]


def _zone() -> ZoneInfo:
    """Return the zone that the hub's people live by, for times that belong to no race."""
    return installation.current().settings.timezone


def _in_zone(start: dt.datetime, zone_name: str | None, now: dt.datetime) -> str:
    """Return a start as wall time in the race's zone, US Eastern if it has none, with the day if it is not today."""
    zone = values.race_zone(zone_name)
    local = start.astimezone(zone)
    is_today = local.date() == now.astimezone(zone).date()
    return f"{local:%H:%M %Z}" if is_today else f"{local:%a %H:%M %Z}"


def _span(span: dt.timedelta) -> str:
    """Return a duration in at most six characters, with a minus for the past."""
    seconds = span.total_seconds()
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    if seconds < 100:
        return f"{sign}{seconds:.0f}s"
    minutes = int(seconds // 60)
    if minutes < 100:
        return f"{sign}{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}h{minutes:02}" if hours < 48 else f"{sign}{hours // 24}d"


def _last_bib(row: BoardRow) -> str:
    """Return the last bib, when RunSignup changed it in the race's zone, and the seconds until it was stored."""
    race = row.race
    if race.last_bib_kind is None or race.last_bib_recorded_at is None:
        return "-"
    bib = race.last_bib if race.last_bib is not None else "cleared"
    zone = values.race_zone(race.zone)
    if race.last_bib_modified_at is None:
        return f"{bib} {race.last_bib_recorded_at.astimezone(zone):%H:%M:%S}"
    delay = (race.last_bib_recorded_at - race.last_bib_modified_at).total_seconds()
    return f"{bib} {race.last_bib_modified_at.astimezone(zone):%H:%M:%S}+{max(0.0, delay):.0f}s"


def _changes(
    conn: Connection, partner_id: int | None, race_id: int | None, minutes: float, as_json: bool
) -> Evaluation:
    def look(now: dt.datetime, live: Live | None) -> None:
        since = now - dt.timedelta(minutes=minutes)
        found = near_races.read_bib_changes(conn, now, since, partner_id=partner_id, race_id=race_id)
        if as_json:
            show_json("race-day --changes", found)
        else:
            last = f"{len(found):,} changes in {minutes:g} minutes."
            _show(live, _table_of_changes(found), [last], now)

    return look


def _table_of_changes(found: Sequence[BibChange]) -> DisplayTable:
    zone = _zone()
    table = DisplayTable("stored", "race", Column("event"), Column("name"), "change", "registration")
    for change in found:
        table.add_row(
            f"{change.recorded_at.astimezone(zone):%H:%M:%S %Z}",
            str(change.race_id),
            change.event,
            change.name,
            f"{change.old_bib or '-'} > {change.new_bib or '-'}",
            str(change.registration_id),
        )
    return table


def _missing(conn: Connection, partner_id: int | None, race_id: int | None, as_json: bool) -> Evaluation:
    def look(now: dt.datetime, live: Live | None) -> None:
        found = near_races.read_entrants_without_bib(conn, now, partner_id=partner_id, race_id=race_id)
        if as_json:
            show_json("race-day --missing", found)
        else:
            _show(live, _table_of_missing(found), [f"{counted(len(found), 'entrant')} without a bib."], now)

    return look


def _table_of_missing(found: Sequence[Entrant]) -> DisplayTable:
    table = DisplayTable("race", Column("event"), Column("name"), "registration")
    for entrant in found:
        table.add_row(str(entrant.race_id), entrant.event, entrant.name, str(entrant.registration_id))
    return table
