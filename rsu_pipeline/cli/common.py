"""Functions that the commands share."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from psycopg2.extensions import connection as Connection
from rich.console import Console, RenderableType
from rich.style import StyleType
from rich.table import Table

from rsu_pipeline import installation, settings
from rsu_pipeline.cli import json_types
from rsu_pipeline.display import make_printable
from rsu_pipeline.warehouse import credentials, database


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


def set_dagster_home() -> None:
    """Set the environment in which Dagster finds its instance and dagster.yaml."""
    os.environ.setdefault("DAGSTER_HOME", str(settings.project_root()))
    os.chdir(settings.project_root())


class DisplayTable(Table):
    """A table of text from outside, in which no cell controls the terminal."""

    def add_row(
        self, *renderables: RenderableType | None, style: StyleType | None = None, end_section: bool = False
    ) -> None:
        """Add a row of cells, each on one line and of characters that print."""
        cells = (make_printable(one) if isinstance(one, str) else one for one in renderables)
        super().add_row(*cells, style=style, end_section=end_section)


def measure_table_width() -> int | None:
    """Return the width of a table in columns: None for the terminal's, or enough to cut nothing off without a terminal."""
    return None if sys.stdout.isatty() else 240


def show_table(table: Table) -> None:
    """Print a table. Names in it are text, never markup."""
    Console(markup=False, emoji=False, highlight=False, width=measure_table_width()).print(table)


def show_json(command: str, value: object) -> None:
    """Print what `json_types.OUTPUTS` declares for a command of a value, as JSON, with times as ISO 8601."""
    echo_json(json_types.select_declared(json_types.OUTPUTS[command], value))


def echo_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, default=lambda item: item.isoformat()))
