"""`rsu status`: what is stored, and when it was last read."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import click
from psycopg2.extensions import connection as Connection
from rich.table import Column

from rsu_pipeline import installation
from rsu_pipeline.cli import metrics
from rsu_pipeline.cli.common import hub_connection, show_json, show_line
from rsu_pipeline.cli.display_table import DisplayTable, show_table
from rsu_pipeline.cli.partners_command import shared_api_keys
from rsu_pipeline.cli.webhook_lines import describe_webhooks
from rsu_pipeline.display import counted, format_time, make_printable, show_times_in
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync import cadence, clocks, downtime, forecast
from rsu_pipeline.sync.downtime import Downtime
from rsu_pipeline.sync.forecast import Freshness
from rsu_pipeline.warehouse import backfill_progress, freshness, partner_access, sync_log
from rsu_pipeline.warehouse.partner_access import PartnerAccess


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
@click.option(
    "--prometheus",
    "target",
    metavar="FILE|-",
    help="Write figures in Prometheus' text format instead.",
)
def status(as_json: bool, target: str | None) -> None:
    """Show per partner: access, events, registrations, last read, calls used this hour. Failures are below the table.

    For three days after a time without syncs it also shows what was caught up. Times are in RSU_TIMEZONE.

    \b
    Columns:
      future     events that are upcoming
      last read  time since anything of the partner was last read
      oldest     time since the last read of the event that is closest to late, or beyond it
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
        found = _read(conn, installation.current().settings)
    if as_json:
        show_json("status", [_as_object(found, row) for row in found.rows])
        return
    if not found.rows:
        click.echo("No partner yet. Add one with `rsu partners add NAME`.")
        return
    zone = installation.current().settings.timezone
    show_table(_table(found), "`rsu status --json` has them")
    for line in (*_failures(found, zone), *found.shared, *found.webhooks, *downtime.describe(found.downtimes, zone)):
        show_line(line)


@dataclass(frozen=True)
class _Status:
    """What the command shows. `stalest` has the most overdue event of each partner that is synced."""

    now: dt.datetime
    rows: list[sync_log.PartnerStatus]
    access: dict[int, PartnerAccess]
    stalest: dict[int, Freshness]
    histories: dict[int, backfill_progress.Progress]
    downtimes: list[Downtime]
    shared: list[str]
    webhooks: list[str]


def _read(conn: Connection, settings: Settings) -> _Status:
    now = clocks.present(conn, settings.sync.max_clock_skew)
    fresh = forecast.measure_freshness(freshness.read_event_reads(conn, now), now, settings.cadence)
    return _Status(
        now,
        sync_log.read_partner_status(conn),
        partner_access.read_access(conn, now),
        forecast.find_oldest_reads(fresh),
        backfill_progress.read_progress_of_all(conn, now),
        downtime.find_downtimes(conn, now, settings.cadence),
        shared_api_keys(conn),
        list(describe_webhooks(conn)),
    )


def _as_object(found: _Status, row: sync_log.PartnerStatus) -> dict[str, object]:
    """Return a partner as JSON shows it."""
    history, late = found.histories.get(row.partner_id), found.stalest.get(row.partner_id)
    return (
        vars(row)
        | {"credential": _credential(found.access[row.partner_id]), "access": _access(found.access[row.partner_id])}
        | {
            "stalest_event": late and late.read.event_id,
            "stalest_read": late and late.read.read_at,
            "minutes_overdue": late and max(0.0, round(late.overdue.total_seconds() / 60, 1)),
        }
        | {"history": history and vars(history) | {"is_complete": history.is_complete}}
        | {"downtimes": [_of_partner(item, row.partner_id) for item in found.downtimes]}
    )


def _credential(access: PartnerAccess) -> str:
    """Return the state of the key and secret alone: a partner without races may have a credential that works."""
    return "works" if access.has_lost or access.state == "no races yet" else access.summary


def _access(access: PartnerAccess) -> dict[str, object]:
    return {
        "state": access.state,
        "races": access.listed,
        "races_known": access.known,
        "races_lost": access.lost,
        "sentence": access.sentence,
        "back_at": access.back_at,
    }


def _table(found: _Status) -> DisplayTable:
    right = [
        Column(name, justify="right", no_wrap=True) for name in ("events", "future", "participants", "quarantined")
    ]
    table = DisplayTable(
        "partner",
        Column("access", min_width=10),
        *right,
        "history",
        "last read",
        "oldest",
        Column("calls/h", justify="right", no_wrap=True),
        optional=("history", "events", "quarantined", "calls/h", "future"),
    )
    for row in found.rows:
        late = found.stalest.get(row.partner_id)
        table.add_row(
            row.key or str(row.partner_id),
            found.access[row.partner_id].summary.partition(":")[0],
            f"{row.events:,}",
            f"{row.future_events:,}",
            f"{row.participants:,}",
            f"{row.quarantined:,}",
            _history(found.histories.get(row.partner_id)),
            _age(row.last_sync, found.now),
            "-" if late is None else _age(late.read.read_at, found.now) + (", late" if late.is_stale else ""),
            str(row.calls_this_hour),
        )
    return table


def _failures(found: _Status, zone: dt.tzinfo) -> Iterator[str]:
    """Yield a line for each thing that is wrong with a partner: which, since when and why."""
    for row in found.rows:
        key, late = row.key or str(row.partner_id), found.stalest.get(row.partner_id)
        access = found.access[row.partner_id]
        if access.is_rejected and not access.is_off:
            yield make_printable(
                f"{key}: RunSignup rejects the credential ({access.rejected_reason}). Enter it with `rsu partners add`."
            )
        if access.sentence:
            yield f"{key}: {access.sentence}"
        elif access.back_at and access.state == "works":
            races = counted(access.listed, "race")
            yield f"{key}: has access to {races}, lost ones are back since {format_time(access.back_at, zone)}."
        if row.last_error and row.last_error_at:
            yield make_printable(
                f"{key}: failed at {format_time(row.last_error_at, zone)}: {show_times_in(zone, row.last_error)}"
            )
        if row.quarantined:
            yield f"{key}: {row.quarantined:,} quarantined rows. `rsu db psql` on quarantined_rows shows them."
        if late is not None and late.is_stale:
            yield (
                f"{key}: event {late.read.event_id} of race {late.read.race_id} is late by {_span(late.overdue)}."
                " `rsu health` names what has stopped."
            )
        history = found.histories.get(row.partner_id)
        if history and history.cancelled_at:
            yield f"{key}: backfill cancelled at {format_time(history.cancelled_at, zone)}. `rsu backfill` resumes it."


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
        return f"{share}, cancelled"
    return f"{share}, {counted(found.failing, 'race')} failing" if found.failing else share


def _age(moment: dt.datetime | None, now: dt.datetime) -> str:
    if moment is None:
        return "never"
    if cadence.is_ahead(moment, now):
        return "in the future"
    return f"{_span(now - moment)} ago"


def _span(span: dt.timedelta) -> str:
    """Return a duration in its largest unit, of which there is more than one."""
    seconds = max(0.0, span.total_seconds())
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
