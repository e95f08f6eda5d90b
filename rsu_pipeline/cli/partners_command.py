"""`rsu partners`: timing partners and their credentials."""

import datetime as dt
import sys

import click
from psycopg2.extensions import connection as Connection
from rich.table import Column

from rsu_pipeline import installation
from rsu_pipeline.cli import credential_entry, partner_check, partner_edits, partner_file
from rsu_pipeline.cli.common import hub_connection, show_json, show_line
from rsu_pipeline.cli.display_table import DisplayTable, show_table
from rsu_pipeline.display import format_time
from rsu_pipeline.warehouse import credential_undo, credentials, duplicate_partners, partner_access


@click.group()
def partners() -> None:
    """Manage timing partners and their RunSignup credentials.

    \b
    The same in SQL. Key and secret are encrypted at the next tick:
      INSERT INTO timing_partners (company_name) VALUES ('Acme Timing');
      INSERT INTO partner_provider_credentials (timing_partner_id, provider_id, principal, secret)
        SELECT t.timing_partner_id, p.provider_id, 'KEY', 'SECRET'
        FROM timing_partners t, providers p WHERE t.company_name = 'Acme Timing' AND p.name = 'RunSignup';
    """


@partners.command()
@click.argument("name")
@click.option("--key", envvar="RSU_PARTNER_KEY", help="API key. Default: RSU_PARTNER_KEY, else a prompt.")
@click.option(
    "--scheme",
    type=click.Choice(["api_key", "rsu_api_key", "sp_api_key"]),
    default="api_key",
    show_default=True,
    help="The kind of key, see below.",
)
@click.option(
    "--shared-key",
    is_flag=True,
    help="Accept an API key that another partner has. Both share its calls, and its registrations are stored for each.",
)
@click.option("--no-check", is_flag=True, help="Do not verify the credential at RunSignup now.")
@click.option("--keep", is_flag=True, help="Store the credential even if RunSignup rejects it.")
def add(name: str, key: str | None, scheme: str, shared_key: bool, no_check: bool, keep: bool) -> None:
    """Add the partner NAME, or give it a new key and secret.

    Prompts for the key, then for the secret, and reads a race at RunSignup to verify both. If RunSignup rejects them, nothing
    is stored. The secret is read from RSU_PARTNER_SECRET, from standard input if that is not a terminal, or from a prompt. It
    is never taken from the command line, where others could see it.

    --scheme names the kind of key. api_key is what RunSignup issues to timers, races and partners: key and secret are sent as
    parameters. rsu_api_key is a key of its API v2, whose secret is sent in a header, and sp_api_key is that of a super partner. If
    RunSignup rejects a pair, it is tried as api_key or rsu_api_key too, and the message names the scheme that works. OAuth tokens
    are not supported.
    """
    key = credential_entry.read_key(key)
    secret = credential_entry.read_secret()
    for what, text in (("name", name), ("key", key), ("secret", secret)):
        if not text.strip():
            raise click.UsageError(f"The {what} must not be empty.")
        # This also covers bytes that are not UTF-8: Python has them as lone surrogates, which do not print.
        if not text.strip().replace("\xa0", " ").isprintable():
            raise click.UsageError(f"The {what} has characters that do not print.")
    name, key, secret = name.strip(), key.strip(), secret.strip()
    if problem := credential_entry.find_form_problem(key, secret):
        raise click.UsageError(problem)
    with hub_connection("partners add") as conn:
        secret_box = installation.current().secret_box  # creates the key file, so only after the database was checked
        before = credential_undo.remember(conn, name)
        partner_id = credentials.add(
            conn, secret_box, name=name, principal=key, secret=secret, scheme=scheme, shares_api_key=shared_key
        )
        conn.commit()
        partner = credentials.find_partner(conn, str(partner_id))
    if not no_check and not keep:
        click.echo("Verifying the credential at RunSignup ...", err=True)
        if reason := _find_rejection(str(partner_id), key, secret, scheme):
            with hub_connection("partners add") as conn:
                credential_undo.undo(conn, partner_id, before)
            click.echo(f"{REJECTED} {reason}Nothing was stored. --keep stores it all the same.", err=True)
            sys.exit(1)
    click.echo(f"Added partner {partner.key}. Its partition appears in Dagster within a minute.")
    if not no_check:
        partner_check.check_one(str(partner_id))


REJECTED = "RunSignup rejects the credential."


def _find_rejection(name: str, key: str, secret: str, scheme: str) -> str | None:
    """Return why RunSignup rejects a credential, as far as that can be found out. None if it does not reject it."""
    # The modules that call RunSignup take long to import, and only this function needs them.
    from rsu_pipeline.runsignup.api_errors import ApiError
    from rsu_pipeline.sync import access

    with partner_check.open_checked_session(name) as session:
        try:
            if access.check_access(session) is not access.Verdict.REJECTED:
                return None
        except ApiError:
            return None  # reported by the check that follows
        found = credential_entry.find_alternative(session, key, secret, scheme)
    found = found or credential_entry.suspect_form(key, secret) or "Check key and secret."
    return f"{found} "


@partners.command("list")
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def list_(as_json: bool) -> None:
    """Show every partner and what its credential gives access to."""
    with hub_connection("partners list") as conn:
        found = credentials.list_partners(conn)
        access = partner_access.read_access(conn, dt.datetime.now(dt.UTC))
        shared = shared_api_keys(conn)
    if as_json:
        show_json("partners list", [vars(partner) | {"state": access[partner.partner_id].summary} for partner in found])
        return
    if not found:
        click.echo("No partner yet. Add one with `rsu partners add NAME`.")
        return
    zone = installation.current().settings.timezone
    table = DisplayTable("partner", Column("name"), Column("access"), "last verified")
    for partner in found:
        table.add_row(
            partner.key or str(partner.partner_id),
            partner.name,
            access[partner.partner_id].summary,
            format_time(partner.verified_at, zone) if partner.verified_at else "never",
        )
    show_table(table)
    for line in shared:
        show_line(line)


def shared_api_keys(conn: Connection) -> list[str]:
    """Return a sentence on each API key that several partners share."""
    groups = duplicate_partners.find_shared_api_keys(conn, intended=True)
    return [f"{' and '.join(item.label for item in group)} share one API key and its calls." for group in groups]


@partners.command()
@click.argument("partner")
def disable(partner: str) -> None:
    """Disable PARTNER (id or key). Its data is kept, and nothing more is read."""
    _switch(partner, True)


@partners.command()
@click.argument("partner")
def enable(partner: str) -> None:
    """Enable PARTNER (id or key) again."""
    _switch(partner, False)


def _switch(name: str, disabled: bool) -> None:
    with hub_connection("partners") as conn:
        partner = credentials.find_partner(conn, name)
        credentials.set_disabled(conn, partner.partner_id, disabled)
    click.echo(f"Partner {partner.key or partner.partner_id} is {'disabled' if disabled else 'enabled'}.")


for _command in (
    partner_check.check,
    partner_file.import_,
    partner_edits.rename,
    partner_edits.set_,
    partner_edits.merge,
    partner_edits.remove,
):
    partners.add_command(_command)
