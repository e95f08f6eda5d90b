"""What the commands share."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from psycopg2.extensions import connection as Connection
from rich.console import Console
from rich.table import Table

from rsu_pipeline import installation
from rsu_pipeline.runsignup.errors import ApiError
from rsu_pipeline.settings import SettingsError
from rsu_pipeline.sync.desk import CredentialRejected
from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.credentials import PartnerError
from rsu_pipeline.warehouse.embedded import EmbeddedError
from rsu_pipeline.warehouse.sealing import SecretKeyError

FORESEEN = (
    ApiError,
    CredentialRejected,
    database.DatabaseError,
    database.PartnerBusy,
    EmbeddedError,
    PartnerError,
    SecretKeyError,
    SettingsError,
)
"""Failures whose text is a sentence for the operator; anything else is a bug of ours and keeps its traceback."""


@contextmanager
def hub(purpose: str) -> Iterator[Connection]:
    """A session at the hub's database, its schema up to date; the caller commits."""
    with database.session(installation.current().migrated_database_url, purpose=purpose) as conn:
        yield conn


def show_table(table: Table) -> None:
    """Prints a table; names in it are text, never markup. Where no terminal sets a width, nothing is cut off."""
    Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 240).print(table)


def show_json(value: object) -> None:
    """Prints JSON for programs; times as ISO 8601."""
    click.echo(json.dumps(value, indent=2, default=lambda item: item.isoformat()))
