"""What the commands share."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click
from psycopg2.extensions import connection as Connection

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


def show_json(value: object) -> None:
    """Prints JSON for programs; times as ISO 8601."""
    click.echo(json.dumps(value, indent=2, default=lambda item: item.isoformat()))
