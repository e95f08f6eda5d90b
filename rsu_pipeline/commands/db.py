"""`rsu db`: the hub's database."""

import os
import shutil
import subprocess
import sys

import click
import psycopg2.extensions

from rsu_pipeline import installation
from rsu_pipeline.commands.common import hub
from rsu_pipeline.warehouse import database, pg_binaries


@click.group()
def db() -> None:
    """The hub's database: RSU_DATABASE_URL, or the embedded PostgreSQL when that is not set."""


@db.command()
def migrate() -> None:
    """Bring the schema up to date. Safe to repeat; `rsu up` does it too."""
    here = installation.current()
    with database.session(here.database_url, purpose="migrate") as conn:
        applied = database.migrate(conn)
    click.echo(f"Applied {', '.join(applied)}." if applied else "The schema is up to date.")


@db.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the hub's database; further ARGUMENTS are psql's.

    \b
    rsu db psql
    rsu db psql -c "SELECT count(*) FROM runsignup_participants"
    """
    with hub("psql"):
        pass
    parts = psycopg2.extensions.parse_dsn(installation.current().database_url)
    # The password travels in the environment: an argument would show in the list of processes.
    password = parts.pop("password", None)
    environment = dict(os.environ) | ({"PGPASSWORD": str(password)} if password else {})
    program = shutil.which("psql") or str(pg_binaries.psql_path(pg_binaries.wheel_binaries()))
    command = [program, "--dbname", psycopg2.extensions.make_dsn(**parts), *arguments]
    sys.stdout.flush()
    # Not replaced by exec: this process holds the embedded server open while psql runs.
    process = subprocess.Popen(command, env=environment)  # noqa: S603 - the operator's own psql
    while True:
        try:
            sys.exit(process.wait())
        except KeyboardInterrupt:
            # Ctrl-C is psql's: it cancels the query.
            continue
