"""`rsu db`: the hub's database."""

import math
import subprocess
import sys

import click
import psycopg2.errors

from rsu_pipeline import adoption, installation
from rsu_pipeline.cli import backup, db_access, first_output
from rsu_pipeline.cli.common import describe_migrations, hub_connection, show_json
from rsu_pipeline.local import client_programs
from rsu_pipeline.warehouse import addresses, database, reachability, read_only, roles
from rsu_pipeline.warehouse.schema_version import SchemaVersionError
from rsu_pipeline.warehouse.secret_box import SecretBox


@click.group()
def db() -> None:
    """Manage the hub's database: RSU_DATABASE_URL, or the embedded PostgreSQL if that is not set."""


@db.command()
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0),
    is_flag=False,
    flag_value=math.inf,
    metavar="[SECONDS]",
    help="Wait for a database that cannot be reached yet. Without SECONDS there is no limit.",
)
def migrate(wait_seconds: float | None) -> None:
    """Migrate the schema to this program's version. Safe to repeat. Only this command and `rsu up` do it.

    Make a backup first: `rsu db export` works on the older schema. --wait waits for a server that is not up yet. Other
    errors, such as a wrong password, fail at once.
    """
    here = installation.current()
    if wait_seconds is not None:
        reachability.wait_until_reachable(
            here.database_url, timeout_seconds=wait_seconds, log=lambda line: click.echo(line, err=True)
        )
    applied = here.migrate()
    click.echo(describe_migrations(applied) if applied else "The schema is up to date.")


@db.command()
@click.option("--dry-run", is_flag=True, help="Do all of it, show the steps with counts of rows, and roll back.")
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
@click.option("--undo", is_flag=True, help="Undo the adoption: restore the older program's tables.")
def adopt(dry_run: bool, as_json: bool, undo: bool) -> None:
    """Take over the database of an older program, in place. Its tables stay, and the hub's are added.

    The adoption is one transaction and safe to repeat. Stop the programs that write to the database, and make a backup
    (pg_dump) first. See docs/adopting.md.
    """
    here = installation.current()
    url = here.database_url
    place = database.describe_server(url)
    if undo:
        _undo(url, here.secret_box, dry_run=dry_run)
        return

    def show(report: adoption.Report) -> None:
        click.echo(f"{'Would do' if dry_run else 'Doing'} at {place}:")
        for line in report.lines():
            click.echo(f"  {line}")

    with database.session(url, purpose="adopt") as conn:
        report = adoption.adopt(
            conn,
            zone=adoption.server_zone(url),
            dry_run=dry_run,
            on_plan=(lambda report: None) if as_json else show,
            log=lambda line: click.echo(line, err=True),
        )
        writers = read_only.list_writers(conn)
    if as_json:
        show_json(
            "db adopt", {"database": place, "dry_run": dry_run, "roles_that_may_write": writers} | report.as_json()
        )
    elif not report.steps:
        click.echo("Nothing to do: the database is already adopted.")
    elif dry_run:
        click.echo(
            f"The adoption works. All of it was done, which locked the tables for {report.locked_seconds:.0f} s, and rolled"
            " back. Nothing was changed."
        )
    else:
        click.echo(
            f"Adopted in {report.seconds:.0f} s. Continue with `rsu up`. The first sync of each partner is full."
        )
    if writers and not as_json:
        click.echo(
            f"Other roles that may write to the tables: {', '.join(writers)}. `rsu db roles --read-only ROLE` restricts the old"
            " program's role to reading."
        )


def _undo(url: str, secret_box: SecretBox, *, dry_run: bool) -> None:
    with database.session(url, purpose="adopt") as conn:
        notes = adoption.undo(conn, secret_box, dry_run=dry_run, log=lambda line: click.echo(line, err=True))
    for note in notes:
        click.echo(f"  {note}")
    click.echo(
        "The undo works. All of it was done and rolled back. Nothing was changed."
        if dry_run
        else f"The tables at {database.describe_server(url)} are the older program's again, with keys and secrets in clear text."
    )


@db.command("roles")
@click.option("--prefix", metavar="NAME", help="Prefix of the roles' names. Default: the database's name.")
@click.option(
    "--read-only",
    "reader",
    metavar="ROLE",
    help="Create no roles. Restrict ROLE, the old program's, to reading.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
def roles_(prefix: str | None, reader: str | None, dry_run: bool) -> None:
    """Create roles with no more rights than they need: PREFIX_owner, _writer, _reader, _start_lists.

    They cannot log in and have no password. Grant them to roles that do. docs/security.md has the commands. Run this as an
    administrator of the server, and again after an upgrade. Safe to repeat.
    """
    here = installation.current()
    with hub_connection("roles") as conn:
        try:
            sentences = (
                [read_only.make_read_only(conn, reader, dry_run=dry_run)]
                if reader
                else [step.sentence for step in roles.grant_roles(conn, prefix or conn.info.dbname, dry_run=dry_run)]
            )
        except psycopg2.errors.InsufficientPrivilege as error:
            raise click.UsageError(
                f"The server refused ({(error.diag.message_primary or '').strip()}), and nothing was changed. Run this as a"
                " role that may create roles and owns the tables."
            ) from None
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
            raise database.DatabaseError(
                "Other sessions use the tables, so their ownership cannot be changed, and nothing was changed. Stop the"
                " pipeline, and run this again."
            ) from None
    click.echo(f"{'Would do' if dry_run else 'Done'} at {database.describe_server(here.database_url)}:")
    for sentence in sentences:
        click.echo(f"  {sentence}")


@db.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the hub's database, at any version of the schema. Further ARGUMENTS are psql's.

    \b
    rsu db psql
    rsu db psql -c "SELECT count(*) FROM runsignup_participants"
    """
    try:
        _ = installation.current().migrated_database_url
    except SchemaVersionError as error:
        click.echo(f"{error} psql opens it unchanged.", err=True)
    url = installation.current().database_url
    with database.session(url, purpose="psql") as conn:
        server = client_programs.Server.of(conn)
    program = client_programs.choose_psql(client_programs.find_programs("psql"), server)
    if program.major < server.major:
        click.echo(
            f"The server is PostgreSQL {server.major} and psql is version {program.major}, so some of psql's own commands"
            f" may fail: {client_programs.package_hint(server.major)}.",
            err=True,
        )
    conninfo, environment = addresses.parse(url).for_psql()
    command = [str(program.path), "--dbname", conninfo, *arguments]
    sys.stdout.flush()
    first_output.cancel()
    # Not replaced by exec: this process keeps the embedded server running while psql runs.
    process = subprocess.Popen(command, env=environment)  # noqa: S603 - the operator's own psql
    while True:
        try:
            sys.exit(process.wait())
        except KeyboardInterrupt:
            # Ctrl-C belongs to psql: it cancels the query.
            continue


db.add_command(backup.export_)
db.add_command(backup.import_)
db.add_command(db_access.url_)
db.add_command(db_access.grant_reader)
