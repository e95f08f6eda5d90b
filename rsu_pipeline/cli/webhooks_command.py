"""`rsu webhooks`: addresses that are sent bib changes, removals, transfers and rebuilt start lists."""

import datetime as dt
import json
import os
import sys
import time
import uuid
from pathlib import Path

import click
from rich.table import Column

from rsu_pipeline import installation
from rsu_pipeline.cli.common import find_partner_id, hub_connection, show_json
from rsu_pipeline.cli.display_table import DisplayTable, show_table
from rsu_pipeline.cli.webhook_lines import describe_state
from rsu_pipeline.display import counted, format_time
from rsu_pipeline.private_files import write_new_private_file
from rsu_pipeline.warehouse import webhook_outbox, webhook_store
from rsu_pipeline.warehouse.webhook_store import Backlog
from rsu_pipeline.webhooks import signatures
from rsu_pipeline.webhooks.endpoint import Endpoint, parse_url, refuse_unreachable


@click.group()
def webhooks() -> None:
    """Send changes to other programs as signed HTTPS requests.

    Each change is sent at least once, in order per registration, and again until the receiver accepts it. docs/webhooks.md
    describes the messages and has a receiver.
    """


@webhooks.command()
@click.argument("url")
@click.option("--partner", "name", metavar="ID", help="Only changes of this partner (id or key). Default: of all.")
@click.option(
    "--kind", "kinds", type=click.Choice(webhook_store.KINDS), multiple=True, help="Only this kind. May be repeated."
)
@click.option(
    "--new-secret",
    "secret_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Make a secret and write it to this new file, which only you can read.",
)
def add(url: str, name: str | None, kinds: tuple[str, ...], secret_file: Path | None) -> None:
    """Add a webhook at URL, which must begin with https://.

    An address that is not public is refused, unless RSU_WEBHOOK_NETWORKS allows its network.

    The secret that signs its messages is made with --new-secret, else read from RSU_WEBHOOK_SECRET, from standard input if that
    is not a terminal, or from a prompt. It is never shown.
    """
    target = parse_url(url)
    refuse_unreachable(target, installation.current().settings.webhooks.networks)
    secret = signatures.generate_secret() if secret_file else _secret()
    signatures.check_secret(secret)
    with hub_connection("webhooks add") as conn:
        partner_id = find_partner_id(conn, name)
        if secret_file:
            write_new_private_file(secret_file, f"{secret}\n")
        webhook_id = webhook_store.add_webhook(
            conn,
            installation.current().secret_box,
            url=url,
            host=target.shown,
            secret=secret,
            kinds=kinds or webhook_store.KINDS,
            partner_id=partner_id,
        )
        conn.commit()
    click.echo(f"Added webhook {webhook_id} at {target.shown}. It is sent what is stored from now on.")
    if secret_file:
        click.echo(f"Its secret is in {secret_file}. Give it to the receiver.")
    click.echo(f"Check the receiver with `rsu webhooks test {webhook_id}`.")


def _secret() -> str:
    if secret := os.environ.get("RSU_WEBHOOK_SECRET"):
        return secret.strip()
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    return str(click.prompt("Secret (whsec_...)", hide_input=True)).strip()


@webhooks.command("list")
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def list_(as_json: bool) -> None:
    """Show every webhook, what waits for it, and what was given up. Addresses and secrets are not shown."""
    with hub_connection("webhooks list") as conn:
        found = webhook_store.list_webhooks(conn)
        backlogs = webhook_store.read_backlogs(conn)
    shown = [(webhook, backlogs.get(webhook.webhook_id, Backlog())) for webhook in found]
    if as_json:
        show_json(
            "webhooks list",
            [vars(webhook) | vars(backlog) | {"state": describe_state(webhook)} for webhook, backlog in shown],
        )
        return
    if not found:
        click.echo("No webhook yet. Add one with `rsu webhooks add URL`.")
        return
    zone = installation.current().settings.timezone
    table = DisplayTable(
        Column("id", justify="right", no_wrap=True),
        "partner",
        Column("host"),
        Column("kinds"),
        Column("state"),
        "last delivery",
        "pending",
        "dead",
    )
    for webhook, backlog in shown:
        table.add_row(
            str(webhook.webhook_id),
            "all" if webhook.partner_id is None else webhook.partner or str(webhook.partner_id),
            webhook.host,
            "all" if set(webhook.kinds) >= set(webhook_store.KINDS) else ", ".join(webhook.kinds),
            describe_state(webhook),
            format_time(webhook.delivered_at, zone) if webhook.delivered_at else "never",
            f"{backlog.pending:,}",
            f"{backlog.dead:,}",
        )
    show_table(table)
    if any(backlog.dead for _, backlog in shown):
        click.echo(
            f"Dead: given up after a day. Each is deleted {webhook_outbox.DEAD_LETTER_DAYS} days later. `rsu webhooks redeliver"
            " WEBHOOK` sends them again."
        )


@webhooks.command()
@click.argument("webhook", type=int)
def test(webhook: int) -> None:
    """Send a message of kind webhook.test to WEBHOOK now. Exit code 1 if it is not accepted."""
    here = installation.current()
    with hub_connection("webhooks test") as conn:
        found = webhook_store.find_webhook(conn, webhook)
    key, body = str(uuid.uuid4()), _test_message()
    endpoint = Endpoint(here.secret_box.decrypt(found.url), here.settings.webhooks.networks)
    outcome = endpoint.send(signatures.sign(here.secret_box.decrypt(found.secret), key, int(time.time()), body), body)
    endpoint.close()
    if outcome.error is not None:
        click.echo(f"The message was not accepted: {outcome.error}.", err=True)
        sys.exit(1)
    click.echo(f"{found.host} accepted the message {key}.")


def _test_message() -> bytes:
    present = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return json.dumps({"type": "webhook.test", "timestamp": present, "data": {}}).encode()


@webhooks.command()
@click.argument("webhook", type=int)
def redeliver(webhook: int) -> None:
    """Send what was given up for WEBHOOK again, and enable it if its receiver had ended it."""
    with hub_connection("webhooks redeliver") as conn:
        webhook_store.find_webhook(conn, webhook)
        count = webhook_outbox.redeliver(conn, webhook)
        conn.commit()
    click.echo(f"Queued again: {counted(count, 'message')}.")


@webhooks.command()
@click.argument("webhook", type=int)
def remove(webhook: int) -> None:
    """Remove WEBHOOK and everything that waits for it."""
    with hub_connection("webhooks remove") as conn:
        found = webhook_store.find_webhook(conn, webhook)
        webhook_store.remove_webhook(conn, webhook)
    click.echo(f"Removed {found.name}.")
