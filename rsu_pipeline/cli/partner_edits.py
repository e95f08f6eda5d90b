"""`rsu partners rename`, `set`, `merge` and `remove`: change a partner that is there."""

import datetime as dt
import sys

import click

from rsu_pipeline import installation
from rsu_pipeline.cli.common import hub_connection
from rsu_pipeline.cli.in_process_runs import delete_partition
from rsu_pipeline.cli.partner_file import SCHEMES
from rsu_pipeline.display import counted, make_printable
from rsu_pipeline.included_fields import FLAGS, format_include, parse_include
from rsu_pipeline.warehouse import credentials, partner_changes, partner_removal


@click.command()
@click.argument("partner")
@click.argument("name")
def rename(partner: str, name: str) -> None:
    """Give PARTNER (id or key) another NAME. Its partition key stays, so that its runs and rows stay with it."""
    with hub_connection("partners rename") as conn:
        found = credentials.find_partner(conn, partner)
        partner_changes.rename(conn, found, name.strip())
        conn.commit()
    click.echo(make_printable(f"Partner {found.key or found.partner_id} is named {name.strip()!r}."))


@click.command("set")
@click.argument("partner")
@click.option(
    "--include",
    help="Optional fields to request: all, none, default (those of RSU_INCLUDE), or a list such as questions,corrals.",
)
@click.option("--scheme", type=click.Choice(SCHEMES), help="How the secret is sent. Causes a new first sync.")
@click.option(
    "--shared-key/--own-key", "shares_api_key", default=None, help="Whether another partner has its API key on purpose."
)
def set_(partner: str, include: str | None, scheme: str | None, shares_api_key: bool | None) -> None:
    """Change settings of PARTNER (id or key). `rsu partners add` changes its key and secret.

    When the optional fields change, the next sync reads its upcoming races in full, once.
    """
    if include is None and scheme is None and shares_api_key is None:
        raise click.UsageError("Nothing to set. Give at least one option.")
    names = None if include is None else _include(include)
    with hub_connection("partners set") as conn:
        found = credentials.find_partner(conn, partner)
        if scheme is not None or shares_api_key is not None:
            partner_changes.set_credential_options(conn, found, scheme=scheme, shares_api_key=shares_api_key)
            conn.commit()
        if include is not None:
            credentials.set_include(conn, found.partner_id, names)
    label = found.key or found.partner_id
    if include is None:
        click.echo(f"Changed partner {label}.")
        return
    effective = installation.current().settings.sync.include if names is None else names
    click.echo(
        f"Partner {label}: optional fields {format_include(effective)}{' (the default)' if names is None else ''}. If they"
        " change, the next sync reads upcoming races in full, once."
    )


def _include(text: str) -> tuple[str, ...] | None:
    """Return the named optional fields, None for the installation's."""
    if text.strip().lower() == "default":
        return None
    try:
        return parse_include(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{error} is no group of optional fields. Use all, none, default or a list of: {', '.join(FLAGS)}.",
            param_hint="--include",
        ) from None


@click.command()
@click.argument("partner")
@click.option("--archive", "kind", flag_value="archive", help="Keep the rows, marked as removed.")
@click.option("--erase", "kind", flag_value="erase", help="Keep the rows without anything about a person. Permanent.")
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
def remove(partner: str, kind: str | None, yes: bool) -> None:
    """Remove PARTNER (id or key): its credential, its partition, and its registrations from views and start lists.

    Give --archive or --erase. An archived partner comes back with `rsu partners add` and the same name. The bib log is kept in
    both cases. Exit code 1 if a race is just being read: run it again then.
    """
    if kind is None:
        raise click.UsageError("Give either --archive or --erase.")
    with hub_connection("partners remove") as conn:
        found = credentials.find_partner(conn, partner)
        races, registrations = partner_removal.count_rows(conn, found.partner_id)
        conn.rollback()
        what = (
            f"partner {found.key or found.partner_id} with {counted(registrations, 'registration')} of {races:,} races"
        )
        if not yes:
            question = (
                f"Archive {what}?" if kind == "archive" else f"Erase everything about people of {what} permanently?"
            )
            click.confirm(question, abort=True)
        done = partner_removal.remove(conn, found, now=dt.datetime.now(dt.UTC), erase=kind == "erase")
    _finish(found, done, f"{counted(done.removed, 'registration')} marked as removed, {done.erased:,} erased")


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
def merge(source: str, target: str, yes: bool) -> None:
    """Merge the partner SOURCE into TARGET (ids or keys), which have the same API key because one was entered twice.

    What only SOURCE has read is copied to TARGET, such as past editions and bibs given here. SOURCE is then archived, as by
    `rsu partners remove`. Exit code 1 if a race is just being read: run it again then.
    """
    with hub_connection("partners merge") as conn:
        gone, kept = credentials.find_partner(conn, source), credentials.find_partner(conn, target)
        if not yes:
            click.confirm(f"Merge {gone.key or gone.partner_id} into {kept.key or kept.partner_id}?", abort=True)
        done = partner_removal.merge(conn, gone, kept, now=dt.datetime.now(dt.UTC))
    _finish(gone, done, f"{counted(done.copied, 'registration')} copied to {kept.key or kept.partner_id}")


def _finish(partner: credentials.Partner, done: partner_removal.Removal, words: str) -> None:
    """Report what was done, and delete the partition once nothing was busy."""
    if done.busy:
        click.echo(f"{words}. Not finished: {done.busy[0]}. Run this again.", err=True)
        sys.exit(1)
    if partner.key:
        delete_partition(partner.key)
    click.echo(f"Removed partner {partner.key or partner.partner_id}: {words}.")
