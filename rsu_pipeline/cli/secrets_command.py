"""`rsu secrets`: the key that encrypts partners' secrets."""

import math
import sys

import click
from psycopg2.extensions import connection as Connection

from rsu_pipeline import installation
from rsu_pipeline.cli.common import hub_connection
from rsu_pipeline.warehouse import api_keys, credential_encryption, webhook_store
from rsu_pipeline.warehouse.secret_box import (
    SecretBox,
    SecretKeyError,
    generate_secret_key,
    read_secret_keys,
    write_secret_keys,
)

VARIABLE = "RSU_SECRET_KEY"


@click.group()
def secrets() -> None:
    """Manage the key that encrypts partners' secrets in the database.

    It is RSU_SECRET_KEY (several keys, newest first, separated by commas) or else a file that `rsu` creates at first use,
    .rsu/secret.key. Keep a copy apart from the database's backups: without it the stored secrets cannot be decrypted.
    """


@secrets.command("new-key")
def new_key() -> None:
    """Print a new key for RSU_SECRET_KEY."""
    click.echo(generate_secret_key())


@secrets.command()
@click.option("--finish", is_flag=True, help="Drop the old keys once everything is encrypted with the newest.")
def rotate(finish: bool) -> None:
    """Encrypt every stored secret again with a new key, while everything runs.

    \b
    Key file: run it, keep a copy of the file, run it again with --finish.
      Processes on this machine pick up the new key by themselves.
    RSU_SECRET_KEY: run it, and it prints a new key. Put that in front
      wherever the pipeline runs, and restart it. Run it again, then with
      --finish, and take the old key out.

    Safe to repeat: an interrupted rotation continues. Exit code 1 if no key decrypts a credential.
    """
    here = installation.current()
    in_file = not here.settings.secret_keys
    key_file = here.settings.home / "secret.key"
    secret_box = here.secret_box
    with hub_connection("secrets rotate") as conn:
        if finish:
            # No process may encrypt with a key that is being dropped.
            with credential_encryption.exclusive_key_lock(conn):
                done, webhooks = _reencrypt(conn, secret_box)
                minutes = api_keys.minutes_until_forgotten(conn)
                if minutes is not None and secret_box.key_count > 1:
                    raise SecretKeyError(
                        "An API key that no partner has any more made calls within the last hour. They count if the key is"
                        f" entered again. Run `rsu secrets rotate --finish` again in {math.ceil(minutes)} minutes."
                    )
                api_keys.delete_unused(conn)
                conn.commit()
                dropped = secret_box.key_count - 1
                if in_file and dropped:
                    write_secret_keys(key_file, read_secret_keys(key_file)[:1])
        else:
            if secret_box.key_count == 1 and not in_file:
                click.echo(
                    f"Put this key and a comma in front of {VARIABLE} wherever the pipeline runs, restart it, and run"
                )
                click.echo("`rsu secrets rotate` again:\n")
                click.echo(generate_secret_key())
                return
            with credential_encryption.exclusive_key_lock(conn):
                if secret_box.key_count == 1:
                    write_secret_keys(key_file, [generate_secret_key(), *read_secret_keys(key_file)])
                    click.echo(f"Added a new key to {key_file}. Keep a copy of the file apart.")
            done, webhooks = _reencrypt(conn, secret_box)
    click.echo(f"Re-encrypted {done.sealed} credentials, {done.unchanged} unchanged.")
    if not finish:
        click.echo("The old keys still decrypt older data. Drop them with `rsu secrets rotate --finish`.")
    elif not dropped:
        click.echo("There is only one key, so none was dropped.")
    elif in_file:
        click.echo(f"Dropped {dropped} old keys from {key_file}. Older backups need the old keys.")
    else:
        click.echo(f"The old keys are no longer needed. Leave only the first in {VARIABLE}, and restart the pipeline.")
    if done.closed:
        partners = ", ".join(map(str, done.closed))
        click.echo(
            f"No key decrypts the secrets of partner {partners}. Enter them again with `rsu partners add`.", err=True
        )
    if webhooks:
        click.echo(
            f"No key decrypts webhook {', '.join(map(str, webhooks))}. Remove and add it again with `rsu webhooks add`.",
            err=True,
        )
    if done.closed or webhooks:
        sys.exit(1)


def _reencrypt(conn: Connection, secret_box: SecretBox) -> tuple[credential_encryption.ReencryptionResult, list[int]]:
    """Encrypt all secrets with the newest key. Return the credentials, and the webhooks that no key decrypts. Commits."""
    done = credential_encryption.reencrypt(conn, secret_box)
    webhooks = webhook_store.reencrypt(conn, secret_box)
    conn.commit()
    return done, webhooks
