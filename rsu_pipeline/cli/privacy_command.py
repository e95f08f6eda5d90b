"""`rsu privacy`: remove personal data that is no longer kept."""

import datetime as dt
import sys

import click

from rsu_pipeline.cli.common import hub_connection
from rsu_pipeline.warehouse import credentials
from rsu_pipeline.warehouse.privacy import Done, erase_person, operator, purge_contact_rows

NAMES = {
    "runsignup_participants": "registrations",
    "start_list_entries": "start list entries",
    "quarantined_rows": "quarantined rows",
    "adopted_rows": "rows of the older program",
}


@click.group()
def privacy() -> None:
    """Remove personal data: contact data of past events, and everything about a person on request.

    The rows stay, and with them counts, bibs and the bib log. Later reads bring nothing back. Older backups still contain the
    data. See docs/security.md.
    """


@privacy.command()
@click.option(
    "--before",
    required=True,
    metavar="DATE",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Events that ended, and registrations that were removed, before this day.",
)
@click.option("--dry-run", is_flag=True, help="Count what would be changed, and change nothing.")
def purge(before: dt.datetime, dry_run: bool) -> None:
    """Remove contact data of past registrations: e-mail, phone, street, postal code, birth date, picture and unknown fields.

    Names, ages, towns, bibs and amounts stay. Exit code 1 if a partner was busy: run it again then. RSU_CONTACT_RETENTION_DAYS
    does the same every night.
    """
    with hub_connection("privacy purge") as conn:
        done = purge_contact_rows(conn, before.date(), now=dt.datetime.now(dt.UTC), who=operator(), dry_run=dry_run)
    _report(done, dry_run)


@privacy.command()
@click.option("--user", "user_id", type=click.IntRange(1, 2**63 - 1), metavar="ID", help="A RunSignup account.")
@click.option("--registration", "registration_id", type=click.IntRange(1, 2**63 - 1), metavar="ID",
    help="A registration, for people without an account.")  # fmt: skip
@click.option("--partner", "name", metavar="ID", help="At one partner only. Default: all, future partners included.")
@click.option("--dry-run", is_flag=True, help="Count what would be changed, and change nothing.")
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
def erase(user_id: int | None, registration_id: int | None, name: str | None, dry_run: bool, yes: bool) -> None:
    """Erase a person, names and towns included, from every registration of an account, or from one registration.

    Amounts, bibs and the registration id stay. Later registrations of the person are stored again. This cannot be undone. Erase
    the person at RunSignup as well. Exit code 1 if a partner was busy: run it again then.
    """
    if (user_id is None) == (registration_id is None):
        raise click.UsageError("Give either --user or --registration.")
    if not dry_run and not yes:
        what = f"account {user_id}" if user_id else f"registration {registration_id}"
        click.confirm(f"Erase the person of {what} permanently?", abort=True)
    with hub_connection("privacy erase") as conn:
        done = erase_person(
            conn,
            user_id=user_id,
            registration_id=registration_id,
            partner_id=credentials.find_partner(conn, name).partner_id if name else None,
            who=operator(),
            dry_run=dry_run,
        )
    _report(done, dry_run)


def _report(done: Done, dry_run: bool) -> None:
    counts = ", ".join(f"{count:,} {NAMES[table]}" for table, count in done.rows.items() if count)
    click.echo(f"{'Would change' if dry_run else 'Changed'} {counts or 'nothing, it was already done'}.")
    if done.busy:
        click.echo(f"A sync of partner {', '.join(map(str, done.busy))} took too long. Run this again.", err=True)
        sys.exit(1)
