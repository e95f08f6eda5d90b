"""`rsu secrets`: the key that seals partners' secrets."""

import math
import sys

import click

from rsu_pipeline import installation
from rsu_pipeline.commands.common import hub
from rsu_pipeline.warehouse import api_keys, credentials, sealing

VARIABLE = "RSU_SECRET_KEY"


@click.group()
def secrets() -> None:
    """The key that seals partners' secrets in the database.

    It is RSU_SECRET_KEY (several keys, the newest first, separated by commas) or else a file that `rsu` makes at first
    use, .rsu/secret.key. Keep a copy apart from the database's backups: without it the stored secrets cannot be opened.
    """


@secrets.command("new-key")
def new_key() -> None:
    """Print a fresh key for RSU_SECRET_KEY."""
    click.echo(sealing.new_key())


@secrets.command()
@click.option("--finish", is_flag=True, help="Drop the old keys, when everything is sealed with the newest.")
def rotate(finish: bool) -> None:
    """Seal every stored secret with a new key, while everything runs.

    \b
    Key file: run it; keep a copy of the file; run it again with --finish.
      What runs on this machine takes the new key over by itself.
    RSU_SECRET_KEY: run it, and it prints a new key; put that in front
      wherever the pipeline runs, and restart it; run it again; then with
      --finish, and take the old key out.

    Safe to repeat: one that was cut short goes on. Exit code 1 when a credential opens with no key.
    """
    here = installation.current()
    in_file = not here.settings.secret_keys
    key_file = here.settings.home / "secret.key"
    sealer = here.sealer
    with hub("secrets rotate") as conn:
        if finish:
            # Nobody may seal with a key that is being dropped.
            with credentials.keys_alone(conn):
                done = credentials.reseal(conn, sealer)
                minutes = api_keys.minutes_until_forgotten(conn)
                if minutes is not None and sealer.key_count > 1:
                    raise sealing.SecretKeyError(
                        "An API key that no partner has any more made calls within the last hour, which count if it is"
                        f" entered again: run `rsu secrets rotate --finish` again in {math.ceil(minutes)} minutes."
                    )
                api_keys.delete_unused(conn)
                conn.commit()
                dropped = sealer.key_count - 1
                if in_file and dropped:
                    sealing.write_keys(key_file, sealing.keys_of(key_file)[:1])
        else:
            if sealer.key_count == 1 and not in_file:
                click.echo(
                    f"Put this key and a comma in front of {VARIABLE} wherever the pipeline runs, restart it, and run"
                )
                click.echo("`rsu secrets rotate` again:\n")
                click.echo(sealing.new_key())
                return
            with credentials.keys_alone(conn):
                if sealer.key_count == 1:
                    sealing.write_keys(key_file, [sealing.new_key(), *sealing.keys_of(key_file)])
                    click.echo(f"A new key stands first in {key_file}; keep a copy of the file apart.")
            done = credentials.reseal(conn, sealer)
    click.echo(f"{done.sealed} credentials sealed anew, {done.unchanged} were so already.")
    if not finish:
        click.echo("The old keys still open what they sealed: `rsu secrets rotate --finish` drops them.")
    elif not dropped:
        click.echo("There is one key only, so none was dropped.")
    elif in_file:
        click.echo(f"Dropped {dropped} old keys from {key_file}. Backups made before open with the old ones only.")
    else:
        click.echo(f"Nothing needs the old keys: leave only the first in {VARIABLE}, and restart the pipeline.")
    if done.closed:
        partners = ", ".join(map(str, done.closed))
        click.echo(
            f"The secrets of partner {partners} open with no key: enter them again, `rsu partners add`.", err=True
        )
        sys.exit(1)
