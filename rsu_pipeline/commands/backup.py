"""`rsu db export` and `rsu db import`: the whole hub as one file, for a backup or a move to another machine."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
from psycopg2.extensions import connection as Connection

from rsu_pipeline import installation
from rsu_pipeline.warehouse import addresses, credentials, database, pg_binaries, schema_version
from rsu_pipeline.warehouse.sealing import SecretKeyError

MARK = b"PGDMP"
"""How a file of pg_dump's custom format begins."""


def connection(url: str) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment with which pg_dump and pg_restore find the hub's database."""
    conninfo, environment = addresses.parse(url).for_programs()
    return ["--dbname", conninfo], environment


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write over FILE when it is there.")
def export_(file: Path, force: bool) -> None:
    """Write the whole hub to FILE: registrations, cursors, call ledger, credentials (sealed) and Dagster's runs.

    It can be done while everything runs, and FILE is of one moment. The key that opens the secrets is not in it: keep
    secret.key of RSU_HOME, or RSU_SECRET_KEY, apart. FILE holds personal data; only you can read it.

    A database of an older or newer version is exported as it is, so that a backup can be made before an upgrade.
    """
    if file.exists() and not force:
        raise click.UsageError(f"{file} is there already: choose another name, or --force to write over it.")
    if not file.absolute().parent.is_dir():
        raise click.UsageError(f"There is no folder {file.absolute().parent}: make it, or choose another.")
    url = installation.current().database_url
    arguments, environment = connection(url)
    part = file.with_name(f"{file.name}.part")
    with database.session(url, purpose="export") as conn:
        found = schema_version.read_version(conn)
        if found.applied is None:
            raise schema_version.SchemaVersionError(
                f"The database at {database.place(url)} {schema_version.find_gap(found)} There is nothing to export yet."
            )
        program = _program("pg_dump", conn)
    try:
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
    except OSError as error:
        raise click.UsageError(
            f"{file.absolute()} cannot be written ({error.strerror}): choose a folder that this user may write to."
        ) from None
    command = [program, *arguments, "--format=custom", "--no-owner", "--no-privileges", "--file", str(part)]
    try:
        _run(command, environment, "Writing", part)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(file)
    click.echo(
        f"Wrote {file} ({file.stat().st_size / 1e6:,.1f} MB). The key of the secrets is not in it:"
        f" {'RSU_SECRET_KEY' if installation.current().settings.secret_keys else _key_file()} belongs to it, kept apart."
    )


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_(file: Path) -> None:
    """Bring a FILE of `rsu db export` into the hub's database, which must be empty.

    All of it or nothing. Put the old machine's secret.key into RSU_HOME first, or set its RSU_SECRET_KEY; afterwards
    `rsu up` goes on where the other machine stopped. Never run both: each would spend the other's calls.
    """
    with file.open("rb") as stream:
        if stream.read(len(MARK)) != MARK:
            raise click.UsageError(f"{file} is not a file of `rsu db export`.")
    url = installation.current().database_url
    arguments, environment = connection(url)
    with database.session(url, purpose="import") as conn:
        if tables := _tables(conn):
            raise click.UsageError(
                f"The database at {database.place(url)} has {tables} tables already; import into an empty one."
            )
        program = _program("pg_restore", conn)
        command = [program, *arguments, "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
        _run([*command, str(file)], environment, "Reading", None)
        database.migrate(conn)
        present = [partner for partner in credentials.partners(conn) if partner.credential_id]
        closed = [str(partner.key or partner.partner_id) for partner in present if not _opens(conn, partner.partner_id)]
    if closed:
        raise database.DatabaseError(
            f"Everything is in, but the secrets of {', '.join(closed[:10])} do not open with the key of this machine:"
            f" put the other machine's secret.key at {_key_file()}, or set RSU_SECRET_KEY."
        )
    click.echo(f"Everything is in: {len(present)} partners, whose secrets open. `rsu up` goes on from here.")


def _opens(conn: Connection, partner_id: int) -> bool:
    try:
        credentials.open_credential(conn, installation.current().sealer, partner_id)
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


def _program(name: str, conn: Connection) -> str:
    """A program of PostgreSQL's that knows the server: of its version or newer."""
    server = conn.server_version // 10_000
    found: Sequence[str | None] = (shutil.which(name), str(pg_binaries.wheel_binaries() / name))
    for program in found:
        if program and Path(program).exists():
            told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
            match = re.search(r"(\d+)(?:\.\d+)*", told)
            if match and int(match[1]) >= server:
                return program
    raise database.DatabaseError(
        f"The server is PostgreSQL {server}, and there is no {name} of that version or newer: install PostgreSQL's"
        f" client programs of version {server}."
    )


def _run(command: list[str], environment: dict[str, str], verb: str, growing: Path | None) -> None:
    """Runs a program to its end, telling how far it is. Raises DatabaseError with the last line it wrote."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)  # noqa: S603 - PostgreSQL's own
    began = told = time.monotonic()
    try:
        while process.poll() is None:
            time.sleep(0.05)
            if sys.stderr.isatty() and time.monotonic() - told > 1:
                told = time.monotonic()
                size = f", {growing.stat().st_size / 1e6:,.0f} MB" if growing else ""
                click.echo(f"\r{verb} ... {told - began:.0f} s{size} ", nl=False, err=True)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    if sys.stderr.isatty() and told > began:
        click.echo("", err=True)
    _, complaint = process.communicate()
    if process.returncode:
        lines = (
            [line for line in complaint.splitlines() if "error:" in line]
            or complaint.splitlines()
            or ["no reason given"]
        )
        raise database.DatabaseError(f"{Path(command[0]).name} failed, and nothing was changed: {lines[0][:300]}")
