"""`rsu partners`: timing partners and their credentials."""

import os
import sys

import click
from psycopg2.extensions import connection as Connection
from rich.table import Column

from rsu_pipeline import installation
from rsu_pipeline.cli import partner_check, partner_edits, partner_file
from rsu_pipeline.cli.common import DisplayTable, hub_connection, show_json, show_table
from rsu_pipeline.warehouse import credentials, duplicate_partners


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
    help="api_key: key and secret as RunSignup issues them to timers. The others send the secret in a header.",
)
@click.option(
    "--shared-key",
    is_flag=True,
    help="Accept an API key that another partner has. Both share its calls, and its registrations are stored for each.",
)
@click.option("--no-check", is_flag=True, help="Do not verify the credential at RunSignup now.")
def add(name: str, key: str | None, scheme: str, shared_key: bool, no_check: bool) -> None:
    """Add the partner NAME, or give it a new key and secret.

    The secret is read from RSU_PARTNER_SECRET, from standard input if that is not a terminal, or from a prompt. It is
    never taken from the command line, where others could see it.
    """
    if not key and not sys.stdin.isatty():
        raise click.UsageError("No key. Give --key or set RSU_PARTNER_KEY. Standard input is for the secret.")
    secret = _secret()
    key = key or click.prompt("RunSignup API key")
    for what, text in (("name", name), ("key", key), ("secret", secret)):
        if not text.strip():
            raise click.UsageError(f"The {what} must not be empty.")
        # This also covers bytes that are not UTF-8: Python has them as lone surrogates, which do not print.
        if not text.strip().replace("\xa0", " ").isprintable():
            raise click.UsageError(f"The {what} has characters that do not print.")
    with hub_connection("partners add") as conn:
        secret_box = installation.current().secret_box  # creates the key file, so only after the database was checked
        partner_id = credentials.add(
            conn,
            secret_box,
            name=name.strip(),
            principal=key.strip(),
            secret=secret.strip(),
            scheme=scheme,
            shares_api_key=shared_key,
        )
        conn.commit()
        partner = credentials.find_partner(conn, str(partner_id))
    click.echo(f"Added partner {partner.key}. Its partition appears in Dagster within a minute.")
    if not no_check:
        partner_check.check_one(str(partner_id))


def _secret() -> str:
    if secret := os.environ.get("RSU_PARTNER_SECRET"):
        return secret
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline().decode(errors="surrogateescape")
    return str(click.prompt("RunSignup API secret", hide_input=True))


@partners.command("list")
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def list_(as_json: bool) -> None:
    """Show every partner and the state of its credential."""
    with hub_connection("partners list") as conn:
        found = credentials.list_partners(conn)
        shared = shared_api_keys(conn)
    if as_json:
        show_json("partners list", [vars(partner) | {"state": state(partner)} for partner in found])
        return
    if not found:
        click.echo("No partner yet. Add one with `rsu partners add NAME`.")
        return
    table = DisplayTable(Column("partner", no_wrap=True), "name", "credential", "last verified", box=None)
    for partner in found:
        table.add_row(
            partner.key or str(partner.partner_id),
            partner.name,
            state(partner),
            f"{partner.verified_at:%Y-%m-%d %H:%M}" if partner.verified_at else "never",
        )
    show_table(table)
    for line in shared:
        click.echo(line)


def shared_api_keys(conn: Connection) -> list[str]:
    """Return a sentence on each API key that several partners share."""
    groups = duplicate_partners.find_shared_api_keys(conn, intended=True)
    return [f"{' and '.join(item.label for item in group)} share one API key and its calls." for group in groups]


def state(partner: credentials.Partner) -> str:
    """Return the state of a partner's credential in one word or sentence."""
    if partner.disabled_at is not None:
        return "switched off"
    if partner.credential_id is None:
        return "none: not synced"
    if partner.rejected_at is not None:
        return f"refused: {partner.rejected_reason}"
    return "works" if partner.verified_at is not None else "not tried yet"


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
