"""`rsu secrets`: the key that seals partners' secrets."""

import click

from rsu_pipeline.warehouse import sealing


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
