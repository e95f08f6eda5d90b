"""`rsu bibs`: bibs given here at check-in, and sent to RunSignup where an event allows it."""

import datetime as dt
import logging
import sys
import uuid

import click
from psycopg2.extensions import connection as Connection
from rich.table import Column

from rsu_pipeline import installation
from rsu_pipeline.cli.common import find_partner_id, hub_connection, show_json
from rsu_pipeline.cli.display_table import DisplayTable, show_table
from rsu_pipeline.display import make_printable
from rsu_pipeline.start_lists.local_bibs import LocalBibChange, Registration, give_bib, take_bib
from rsu_pipeline.sync.bib_push import PushReport, push_bibs
from rsu_pipeline.sync.bib_push_plan import Decision, plan_pushes
from rsu_pipeline.sync.session import open_partner_session
from rsu_pipeline.warehouse import bib_pushes, privacy
from rsu_pipeline.warehouse.bib_pushes import PushEvent

_EVENT = click.argument("event", type=click.IntRange(1, 2**63 - 1))
_REGISTRATION = click.argument("registration", type=click.IntRange(1, 2**63 - 1))
_PARTNER = click.option("--partner", "name", metavar="ID", help="Id or key of a partner, if two share the race.")


@click.group()
def bibs() -> None:
    """Give bibs here (local_bib), and send them to RunSignup.

    A bib given here counts until RunSignup has one. Nothing is sent unless it was allowed for the event. A bib that RunSignup has
    is never replaced. docs/local-bibs.md describes the rules. Sending was not tried against RunSignup itself.
    """


@bibs.command()
@_REGISTRATION
@click.argument("bib")
@_PARTNER
@click.option("--even-if-taken", is_flag=True, help="Even if another entrant of the event has the bib.")
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def give(registration: int, bib: str, name: str | None, even_if_taken: bool, as_json: bool) -> None:
    """Give the entrant of REGISTRATION a BIB here. The start list shows it at once.

    REGISTRATION is RunSignup's id: `rsu race-day --missing` and `rsu start-list EVENT` show it. The bib counts until RunSignup has
    one, and no sync overwrites it. No call is made to RunSignup.
    """
    with hub_connection("bibs give") as conn:
        partner_id = find_partner_id(conn, name)
        change = give_bib(
            conn, registration, bib, dt.datetime.now(dt.UTC), partner_id=partner_id, even_if_taken=even_if_taken
        )
        conn.commit()
    _show_change("bibs give", change, as_json)


@bibs.command()
@_REGISTRATION
@_PARTNER
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def take(registration: int, name: str | None, as_json: bool) -> None:
    """Take back the bib that was given to REGISTRATION here. What RunSignup has stays.

    The start list shows it at once. No call is made to RunSignup.
    """
    with hub_connection("bibs take") as conn:
        partner_id = find_partner_id(conn, name)
        change = take_bib(conn, registration, dt.datetime.now(dt.UTC), partner_id=partner_id)
        conn.commit()
    _show_change("bibs take", change, as_json)


@bibs.command()
@_EVENT
@_PARTNER
def allow(event: int, name: str | None) -> None:
    """Allow that bibs of EVENT are sent to RunSignup. It is off until then."""
    with hub_connection("bibs allow") as conn:
        found = _find(conn, event, name)
        bib_pushes.allow(conn, found, privacy.operator())
        conn.commit()
    click.echo(f"Bibs of {_title(found)} may be sent to RunSignup. Nothing was sent yet.")
    click.echo(
        "This was not tried against RunSignup itself: send one first, with `rsu bibs push"
        f" {event} --registration REGISTRATION`, and check it there."
    )


@bibs.command()
@_EVENT
@_PARTNER
def forbid(event: int, name: str | None) -> None:
    """Stop sending bibs of EVENT to RunSignup. A command that is sending them ends after its present call."""
    with hub_connection("bibs forbid") as conn:
        found = _find(conn, event, name)
        bib_pushes.forbid(conn, found)
        conn.commit()
    click.echo(f"Bibs of {_title(found)} are no longer sent to RunSignup.")


@bibs.command("list")
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def list_(as_json: bool) -> None:
    """Show the events whose bibs may be sent, what is to be sent, and what became of what was sent."""
    with hub_connection("bibs list") as conn:
        listed = []
        for found in bib_pushes.list_allowed(conn):
            to_send = sum(item.kind == "send" for item in plan_pushes(bib_pushes.read_bibs(conn, found)))
            counts = bib_pushes.count_pushes(conn, found.partner_id, found.event_id)
            listed.append(vars(found) | vars(counts) | {"to_send": to_send})
    if as_json:
        show_json("bibs list", listed)
        return
    if not listed:
        click.echo("No event allows it. `rsu bibs allow EVENT` does.")
        return
    table = DisplayTable(
        Column("event", justify="right", no_wrap=True),
        "name",
        "partner",
        "to send",
        "unconfirmed",
        "confirmed",
        "other",
    )
    for item in listed:
        table.add_row(
            str(item["event_id"]),
            f"{item['event']}, {item['race']}",
            str(item["partner"]),
            f"{item['to_send']:,}",
            f"{item['open']:,}",
            f"{item['confirmed']:,}",
            f"{item['overtaken'] + item['refused']:,}",
        )
    show_table(table)


@bibs.command()
@_EVENT
@_PARTNER
@click.option("--dry-run", is_flag=True, help="Only show what would be sent by what is stored now. Makes no call.")
@click.option(
    "--registration",
    "registrations",
    type=click.IntRange(1, 2**63 - 1),
    multiple=True,
    help="Only this registration. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def push(event: int, name: str | None, dry_run: bool, registrations: tuple[int, ...], as_json: bool) -> None:
    """Send the bibs of EVENT that were given here to RunSignup, and read whether they arrived.

    The race is read before and after each call. Exit code 1 if a bib was not sent or not confirmed.
    """
    only = set(registrations) or None
    with hub_connection("bibs push") as conn:
        found = _find(conn, event, name)
        decisions = plan_pushes(bib_pushes.read_bibs(conn, found), only=only)
    if unknown := sorted(set(registrations) - {item.registration_id for item in decisions}):
        shown = ", ".join(map(str, unknown))
        raise bib_pushes.BibPushError(f"Event {event} has no bib given here for registration {shown}.")
    if dry_run:
        _show(PushReport(found, decisions), as_json, dry_run=True)
        return
    here = installation.current()
    with open_partner_session(
        here.migrated_database_url,
        here.secret_box,
        here.settings,
        str(found.partner_id),
        lane="routine",
        run_id=str(uuid.uuid4()),
        log=logging.getLogger(__name__).info,
    ) as session:
        report = push_bibs(session, found, who=privacy.operator(), only=only)
    _show(report, as_json, dry_run=False)
    sys.exit(0 if report.is_complete else 1)


def _find(conn: Connection, event: int, name: str | None) -> PushEvent:
    return bib_pushes.find_event(conn, event, find_partner_id(conn, name))


def _title(found: PushEvent) -> str:
    return make_printable(f"event {found.event_id} ({found.event}, {found.race}, partner {found.partner})")


def _show_change(command: str, change: LocalBibChange, as_json: bool) -> None:
    if as_json:
        show_json(command, vars(change.registration) | {"previous": change.previous, "holders": change.holders})
        return
    for line in _describe_change(change):
        click.echo(line)


def _describe_change(change: LocalBibChange) -> list[str]:
    """Return what was done, then what else an operator must know, a sentence each."""
    who, bib, previous = change.registration, change.registration.local_bib, change.previous
    place = f"registration {who.registration_id}, {who.event}, {who.race}, partner {who.partner}"
    entrant = make_printable(f"{who.name} ({place})" if who.name else place)
    lines = [f"Gave bib {bib} to {entrant}." if bib else f"Took bib {previous} back from {entrant}."]
    if bib and previous not in (None, bib):
        lines.append(f"It replaces bib {make_printable(previous or '')}, which was given here before.")
    if who.bib is None:
        lines.append("The entrant has no bib now.")
    elif who.bib_source != "local":
        lines.append(f"{_describe_source(who)}, and that one counts.")
    lines += [
        make_printable(f"Registration {holder.registration_id} ({holder.name}) has bib {bib} too.")
        for holder in change.holders
    ]
    if bib and who.problems:
        lines.append(f"Problems on the start list: {', '.join(who.problems).replace('_', ' ')}.")
    if not who.has_start_list:
        lines.append(f"Event {who.event_id} has no start list now: `rsu start-list` lists those that have one.")
    return lines


def _describe_source(who: Registration) -> str:
    bib = make_printable(who.bib or "")
    return {
        "team": f"The entrant's team has bib {bib} at RunSignup",
        "bundle": f"The bundle that the entrant took has bib {bib}",
    }.get(who.bib_source or "", f"RunSignup has bib {bib} for the entrant")


def _state(item: Decision, report: PushReport, *, dry_run: bool) -> str:
    """Return what became of a bib, or would."""
    number = item.registration_id
    if number in report.sent:
        answer = report.sent[number]
        return "confirmed" if number in report.confirmed else f"sent, not confirmed (RunSignup's answer: {answer})"
    if item.kind == "send":
        return "would be sent" if dry_run else "not sent"
    return "RunSignup has it" if item.kind == "present" else f"not sent: {item.reason}"


def _show(report: PushReport, as_json: bool, *, dry_run: bool) -> None:
    states = {item.registration_id: _state(item, report, dry_run=dry_run) for item in report.decisions}
    if as_json:
        show_json(
            "bibs push",
            {
                "event_id": report.event.event_id,
                "is_allowed": report.event.allowed_at is not None,
                "dry_run": dry_run,
                "failure": report.failure,
                "bibs": [
                    {"registration_id": item.registration_id, "bib": item.bib, "state": states[item.registration_id]}
                    for item in report.decisions
                ],
            },
        )
        return
    table = DisplayTable(
        Column("bib", justify="right", no_wrap=True), "name", Column("registration", justify="right"), "state"
    )
    shown = [item for item in report.decisions if item.kind != "present" or item.registration_id in report.sent]
    for item in shown:
        table.add_row(item.bib, item.name, str(item.registration_id), states[item.registration_id])
    if shown:
        show_table(table)
    present = len(report.decisions) - len(shown)
    to_send = sum(item.kind == "send" for item in report.decisions)
    done = f"{to_send:,} would be sent" if dry_run else f"{len(report.confirmed):,} sent and confirmed"
    click.echo(
        f"{done}, {len(report.unconfirmed):,} not confirmed, {len(report.problems):,} with a problem, {present:,} at RunSignup"
        " already."
    )
    if report.failure:
        click.echo(f"Stopped early: {report.failure}.", err=True)
    if dry_run and report.event.allowed_at is None:
        click.echo(f"It is not allowed for this event. `rsu bibs allow {report.event.event_id}` allows it.")
