"""`rsu db export` and `rsu db import`: the whole hub as one file, for a backup or a move to another machine."""

import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import click
from psycopg2.extensions import connection as Connection

from rsu_pipeline import installation
from rsu_pipeline.cli.common import show_line
from rsu_pipeline.cli.output_files import find_replaceable_file
from rsu_pipeline.display import counted
from rsu_pipeline.local import client_programs, dumps
from rsu_pipeline.warehouse import bibs, credentials, database
from rsu_pipeline.warehouse.secret_box import SecretKeyError


@contextmanager
def _plain_refusals(file: Path) -> Iterator[None]:
    """Turn an error of the file system into one sentence about the file."""
    try:
        yield
    except OSError as error:
        raise click.UsageError(
            f"{file.absolute()} cannot be written ({error.strerror}). Choose a folder that this user may write to."
        ) from None


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite FILE if it exists.")
def export_(file: Path, force: bool) -> None:
    """Write the whole hub to FILE: registrations, cursors, call ledger, credentials (encrypted) and Dagster's runs.

    This works while everything runs, and FILE is a snapshot of one moment. The encryption key is not in it: keep secret.key
    of RSU_HOME, or RSU_SECRET_KEY, apart. FILE contains personal data, and only you can read it.

    A database of an older or newer version is exported unchanged, so that a backup can be made before an upgrade.
    """
    file = find_replaceable_file(file)
    with _plain_refusals(file):
        if file.exists() and not force:
            raise click.UsageError(f"{file} already exists. Choose another name, or overwrite it with --force.")
        if not file.absolute().parent.is_dir():
            raise click.UsageError(f"There is no folder {file.absolute().parent}. Create it, or choose another.")
    with _plain_refusals(file), _shown_progress("Writing", dumps.part_path(file)) as show:
        dumps.write_dump(installation.current().database_url, file, show)
    show_line(
        f"Wrote {file} ({file.stat().st_size / 1e6:,.1f} MB). It does not contain the encryption key:"
        f" keep {'RSU_SECRET_KEY' if installation.current().settings.secret_keys else _key_file()} apart from it."
    )


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_(file: Path) -> None:
    """Restore a FILE of `rsu db export` into the hub's database, which must be empty.

    The restore is one transaction. Put the old machine's secret.key into RSU_HOME first, or set its RSU_SECRET_KEY. Afterwards
    `rsu up` continues where the other machine stopped. Never run both: each would spend the other's calls.
    """
    with file.open("rb") as stream:
        dump_format = client_programs.read_format(stream.read(16))
    if dump_format is None:
        raise click.UsageError(f"{file} is not a file of `rsu db export`.")
    url = installation.current().database_url
    arguments, environment = dumps.connection_arguments(url)
    with database.session(url, purpose="import") as conn:
        if tables := _tables(conn):
            raise click.UsageError(
                f"The database at {database.describe_server(url)} has {tables} tables already. Import into an empty database."
            )
        server, settings = client_programs.Server.of(conn), _settings(conn)
        found = client_programs.find_programs("pg_restore")
        program = client_programs.choose_pg_restore(found, server, dump_format)
        _refuse_what_is_no_hub_of_ours(file, program)
        restore = [str(program.path), "--no-owner", "--no-privileges", "--exit-on-error"]
        if program.major > server.major:
            psql = [str(program.path.with_name("psql")), *arguments, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
            _restore_through_psql([*restore, "--file=-", str(file)], psql, environment, settings)
        else:
            _run([*restore, *arguments, "--single-transaction", str(file)], environment)
    # Another session, because it finds the tables in the schema that the file has them in.
    with database.session(url, purpose="import") as conn:
        database.migrate(conn)
        bibs.skip_numbers(conn)
        conn.commit()
        present = [partner for partner in credentials.list_partners(conn) if partner.credential_id]
        closed = [str(partner.key or partner.partner_id) for partner in present if not _opens(conn, partner.partner_id)]
    if closed:
        raise database.DatabaseError(
            f"Everything is restored, but the secrets of {', '.join(closed[:10])} cannot be decrypted with the key of this"
            f" machine. Put the other machine's secret.key at {_key_file()}, or set RSU_SECRET_KEY."
        )
    click.echo(
        f"Everything is restored: {counted(len(present), 'partner')}, whose secrets can be decrypted. Continue with `rsu up`."
    )


def _refuse_what_is_no_hub_of_ours(file: Path, pg_restore: client_programs.ClientProgram) -> None:
    """Refuse a dump of another program's database, or of a newer version of this one.

    Raises:
        UsageError: the file is such a dump.
    """
    command = [str(pg_restore.path), "--data-only", "--table=schema_migrations", "--file=-", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 - PostgreSQL's own
    if done.returncode:
        raise database.DatabaseError(dumps.describe_failure("pg_restore", done.stderr))
    # The data of a table are lines of columns separated by tabs: a number, a name, a digest and a time.
    versions = [int(number) for number in re.findall(r"^(\d+)\t.*\.sql\t", done.stdout, re.MULTILINE)]
    known = database.list_migrations()[-1][0]
    if not versions:
        raise click.UsageError(
            f"{file} is not a hub of this program. Restore another program's database with pg_restore, and take it over with"
            " `rsu db adopt`."
        )
    if max(versions) > known:
        raise click.UsageError(
            f"{file} was written by a newer program. Its schema is at version {max(versions)}, this program knows {known}."
            " Install the newer program first."
        )


def _opens(conn: Connection, partner_id: int) -> bool:
    try:
        credentials.open_credential(conn, installation.current().secret_box, partner_id)
    except SecretKeyError:
        return False
    finally:
        conn.rollback()
    return True


def _key_file() -> Path:
    return installation.current().settings.home / "secret.key"


def _tables(conn: Connection) -> int:
    with conn.cursor() as cur:
        cur.execute(
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"
            " AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"
        )
        (count,) = cur.fetchone() or (0,)
    conn.rollback()
    return int(count)


def _settings(conn: Connection) -> set[str]:
    """Return the names of the settings that the server knows."""
    with conn.cursor() as cur:
        cur.execute("SELECT name FROM pg_settings")
        names = {str(name) for (name,) in cur.fetchall()}
    conn.rollback()
    return names


def _restore_through_psql(
    restore: list[str], psql: list[str], environment: dict[str, str], settings: Collection[str]
) -> None:
    """Run pg_restore's script through psql, without the settings that the server does not know.

    This function begins and commits the transaction: psql commits at the end of its input, however pg_restore ended.

    Raises:
        DatabaseError: either program failed. The message has its first error.
    """
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(restore, stdout=subprocess.PIPE, stderr=complaints) as source,  # noqa: S603 - PostgreSQL's own
        subprocess.Popen(  # noqa: S603
            psql, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints
        ) as target,
    ):
        script, commands = cast(IO[bytes], source.stdout), cast(IO[bytes], target.stdin)
        with suppress(BrokenPipeError):  # psql has ended, and its output has the reason
            commands.write(b"BEGIN;\n")
            for line in itertools.islice(script, client_programs.FIRST_LINES):
                if client_programs.is_known_setting(line, settings):
                    commands.write(line)
            shutil.copyfileobj(script, commands, 1 << 20)
            if source.wait() == 0:
                commands.write(b"COMMIT;\n")
        with suppress(BrokenPipeError):
            commands.close()
        # A program that waits for its output to be read would wait indefinitely.
        script.close()
        codes = (source.wait(), target.wait())
        complaints.seek(0)
        if any(codes):
            raise database.DatabaseError(dumps.describe_failure("pg_restore", complaints.read()))


def _run(command: list[str], environment: dict[str, str]) -> None:
    """Run a program to its end, and show the progress.

    Raises:
        DatabaseError: the program failed. The message has its first error.
    """
    with _shown_progress("Reading", None) as show:
        dumps.run_program(command, environment, show)


@contextmanager
def _shown_progress(verb: str, growing: Path | None) -> Iterator[Callable[[float], None]]:
    """Provide a function that shows on a terminal how long something takes, and how large a growing file is."""
    shown = 0.0

    def show(seconds: float) -> None:
        nonlocal shown
        if sys.stderr.isatty() and seconds - shown > 1:
            shown = seconds
            size = f", {growing.stat().st_size / 1e6:,.0f} MB" if growing else ""
            click.echo(f"\r{verb} ... {seconds:.0f} s{size} ", nl=False, err=True)

    try:
        yield show
    finally:
        if shown:
            click.echo("", err=True)
