"""Functions that the commands share."""

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from psycopg2.extensions import connection as Connection

from rsu_pipeline import installation, settings
from rsu_pipeline.cli import json_outputs
from rsu_pipeline.warehouse import credentials, database

MAX_NAMED_MIGRATIONS = 3
_UNBROKEN = re.compile(r"`[^`\n]*`|\d{4}-\d\d-\d\d \d\d:\d\d(?: [A-Z]{2,5}\b)?")


@contextmanager
def hub_connection(purpose: str) -> Iterator[Connection]:
    """Open a session at the hub's database. The caller commits.

    Raises:
        SchemaVersionError: the schema is not this program's.
    """
    with database.session(installation.current().migrated_database_url, purpose=purpose) as conn:
        yield conn


def choose_partners(names: Sequence[str]) -> list[credentials.Partner]:
    """Return the partners of these ids or keys, each once, or all active ones. Each of them has a key afterwards.

    Raises:
        PartnerError: a partner is unknown, or there is none at all.
    """
    with hub_connection("choose partners") as conn:
        if names:
            found = {
                partner.partner_id: partner for partner in (credentials.find_partner(conn, name) for name in names)
            }
            chosen = list(found.values())
        else:
            chosen = [partner for partner in credentials.list_partners(conn) if partner.is_active]
        for partner in chosen:
            credentials.ensure_key(conn, partner.partner_id)
        conn.commit()
        chosen = [credentials.find_partner(conn, str(partner.partner_id)) for partner in chosen]
    if not chosen:
        raise credentials.PartnerError("There is no partner to sync. Add one with `rsu partners add NAME`.")
    return chosen


def find_partner_id(conn: Connection, name: str | None) -> int | None:
    """Return the id of the partner that --partner names, by id or key, and None where it is not given: all partners.

    Raises:
        PartnerError: there is none of this name.
    """
    return None if name is None else credentials.find_partner(conn, name).partner_id


def refuse_disabled(chosen: Sequence[credentials.Partner]) -> None:
    """Refuse to read for a disabled partner that was named.

    Raises:
        PartnerError: one of them is disabled.
    """
    for partner in chosen:
        if partner.disabled_at is not None:
            raise credentials.PartnerError(
                f"Partner {partner.key} is disabled. Enable it with `rsu partners enable {partner.partner_id}`."
            )


def describe_migrations(applied: Sequence[str]) -> str:
    """Return which migrations were applied: each of a few, and the first and the last of many, as on a new database."""
    if len(applied) <= MAX_NAMED_MIGRATIONS:
        return f"Applied {', '.join(applied)}."
    return f"Applied {len(applied)} migrations, {applied[0]} to {applied[-1]}."


def set_dagster_home() -> None:
    """Set the environment in which Dagster finds its instance and dagster.yaml."""
    os.environ.setdefault("DAGSTER_HOME", str(settings.project_root()))
    os.chdir(settings.project_root())


def show_line(text: str) -> None:
    """Print a sentence, wrapped between words on a terminal.

    A command in backticks stays on one line, so that it can be copied, and so does a time with its zone.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    unbroken = _UNBROKEN.sub(lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(unbroken, width, break_long_words=False, break_on_hyphens=False) if width else [unbroken]
    click.echo("\n".join(lines).replace("\0", " "))


def show_json(command: str, value: object) -> None:
    """Print what `json_outputs.OUTPUTS` declares for a command of a value, as JSON, with times as ISO 8601."""
    echo_json(json_outputs.select_declared(json_outputs.OUTPUTS[command], value))


def echo_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, default=lambda item: item.isoformat()))
