"""`rsu secrets`: the key that encrypts partners' secrets."""

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

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
    key_file = None if here.settings.secret_keys else here.settings.home / "secret.key"
    secret_box = here.secret_box
    with hub_connection("secrets rotate") as conn:
        if not finish and key_file is None and secret_box.key_count == 1:
            click.echo(
                f"Put this key and a comma in front of {VARIABLE} wherever the pipeline runs, restart it, and run"
            )
            click.echo("`rsu secrets rotate` again:\n")
            click.echo(generate_secret_key())
            return
        if finish:
            done = _drop_old_keys(conn, secret_box, key_file)
        else:
            _ensure_new_key(conn, secret_box, key_file)
            done = _reencrypt(conn, secret_box)
    click.echo(f"Re-encrypted {done.credentials.sealed} credentials, {done.credentials.unchanged} unchanged.")
    if finish:
        click.echo(_describe_dropped(done.dropped_keys, key_file))
    else:
        click.echo("The old keys still decrypt older data. Drop them with `rsu secrets rotate --finish`.")
    _report_unreadable(done)


@dataclass(frozen=True)
class _Reencrypted:
    """The credentials, the webhooks that no key decrypts, and the number of old keys that are no longer used."""

    credentials: credential_encryption.ReencryptionResult
    unreadable_webhooks: list[int]
    dropped_keys: int = 0


def _ensure_new_key(conn: Connection, secret_box: SecretBox, key_file: Path | None) -> None:
    """Add a new key to the file, unless an interrupted rotation did, or the keys are in RSU_SECRET_KEY."""
    with credential_encryption.exclusive_key_lock(conn):
        if key_file is not None and secret_box.key_count == 1:
            write_secret_keys(key_file, [generate_secret_key(), *read_secret_keys(key_file)])
            click.echo(f"Added a new key to {key_file}. Keep a copy of the file apart.")


def _drop_old_keys(conn: Connection, secret_box: SecretBox, key_file: Path | None) -> _Reencrypted:
    """Encrypt all secrets with the newest key, and remove the others from the file. Commits.

    Raises:
        SecretKeyError: calls are counted for an API key that only the old keys encrypt.
    """
    # No process may encrypt with a key that is being dropped.
    with credential_encryption.exclusive_key_lock(conn):
        done = _reencrypt(conn, secret_box)
        minutes = api_keys.minutes_until_forgotten(conn)
        if minutes is not None and secret_box.key_count > 1:
            raise SecretKeyError(
                "An API key that no partner has any more made calls within the last hour. They count if the key is"
                f" entered again. Run `rsu secrets rotate --finish` again in {math.ceil(minutes)} minutes."
            )
        api_keys.delete_unused(conn)
        conn.commit()
        dropped = secret_box.key_count - 1
        if key_file is not None and dropped:
            write_secret_keys(key_file, read_secret_keys(key_file)[:1])
    return replace(done, dropped_keys=dropped)


def _describe_dropped(dropped: int, key_file: Path | None) -> str:
    if not dropped:
        return "There is only one key, so none was dropped."
    if key_file is not None:
        return f"Dropped {dropped} old keys from {key_file}. Older backups need the old keys."
    return f"The old keys are no longer needed. Leave only the first in {VARIABLE}, and restart the pipeline."


def _report_unreadable(done: _Reencrypted) -> None:
    """Name what no key decrypts, and end the command with exit code 1 if anything is."""
    if done.credentials.closed:
        partners = ", ".join(map(str, done.credentials.closed))
        click.echo(
            f"No key decrypts the secrets of partner {partners}. Enter them again with `rsu partners add`.", err=True
        )
    if webhooks := ", ".join(map(str, done.unreadable_webhooks)):
        click.echo(f"No key decrypts webhook {webhooks}. Remove and add it again with `rsu webhooks add`.", err=True)
    if done.credentials.closed or webhooks:
        sys.exit(1)


def _reencrypt(conn: Connection, secret_box: SecretBox) -> _Reencrypted:
    """Encrypt all secrets with the newest key. Commits."""
    done = _Reencrypted(credential_encryption.reencrypt(conn, secret_box), webhook_store.reencrypt(conn, secret_box))
    conn.commit()
    return done
