"""Dumps of the whole hub: written by pg_dump, verified by pg_restore, and kept for some days where a folder is configured.

A dump is written under a name that ends in `.part`, verified, and then renamed. So a file without that ending is complete.
"""

import datetime as dt
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsu_pipeline import cancellation
from rsu_pipeline.local import client_programs
from rsu_pipeline.warehouse import addresses, database, schema_version

NAME = re.compile(r"rsu-hub-(\d{8}T\d{6})Z\.dump")
"""Name of a backup, with the time when it was begun in UTC. Other files of the folder are left alone."""
TABLES = ("timing_partners", "runsignup_participants", "event_cursors", "runsignup_bib_changes")
"""Tables whose rows every dump must have."""


class DumpError(database.DatabaseError):
    """A dump could not be written, or is not complete. The text is one sentence."""


@dataclass(frozen=True)
class Backup:
    """A complete backup in the folder."""

    path: Path
    made_at: dt.datetime


def connection_arguments(url: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and environment with which pg_dump and pg_restore connect to the hub's database."""
    conninfo, environment = addresses.parse(url).for_programs()
    return ["--dbname", conninfo], environment


def part_path(file: Path) -> Path:
    """Return the file to which a dump is written until it is complete."""
    return file.with_name(f"{file.name}.part")


def write_dump(url: str, file: Path, on_progress: Callable[[float], None] = lambda seconds: None) -> None:
    """Write the whole hub to a file that only its owner can read. `on_progress` gets the seconds that have passed.

    Raises:
        SchemaVersionError: the database is empty.
        DatabaseError: pg_dump is missing or failed, or the dump is not complete. No file is left.
        OSError: the folder cannot be written.
    """
    with database.session(url, purpose="export") as conn:
        found = schema_version.read_version(conn)
        if found.applied is None:
            raise schema_version.SchemaVersionError(
                f"The database at {database.describe_server(url)} {schema_version.find_gap(found)} There is nothing to export yet."
            )
        server = client_programs.Server.of(conn)
    program = client_programs.choose_pg_dump(client_programs.find_programs("pg_dump"), server)
    arguments, environment = connection_arguments(url)
    part = part_path(file)
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    command = [str(program.path), *arguments, "--format=custom", "--no-owner", "--no-privileges", "--file", str(part)]
    try:
        run_program(command, environment, on_progress)
        verify_dump(part, server)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def verify_dump(file: Path, server: client_programs.Server) -> None:
    """Check that pg_restore lists the hub's tables in a dump, and can read all of it.

    Raises:
        DumpError: it does not.
        DatabaseError: no pg_restore reads the file.
    """
    with file.open("rb") as stream:
        dump_format = client_programs.read_format(stream.read(16))
    if dump_format is None:
        raise DumpError(f"{file.name} is no dump of pg_dump.")
    program = client_programs.choose_pg_restore(client_programs.find_programs("pg_restore"), server, dump_format)
    listed = _output_of([str(program.path), "--list", str(file)])
    missing = [name for name in TABLES if not re.search(rf" TABLE DATA \S+ {name} ", listed)]
    if missing:
        raise DumpError(f"{file.name} lacks the rows of {', '.join(missing)}.")
    # The list is at the beginning. Only reading all of it shows that the file is whole.
    _output_of([str(program.path), "--file=/dev/null", str(file)])


def back_up(url: str, folder: Path, days: int, now: dt.datetime) -> tuple[Backup, list[Path]]:
    """Write a backup into the folder, and delete those that are older than `days`. Return it, and what was deleted.

    Raises:
        DatabaseError: the backup failed. Nothing was deleted.
        OSError: the folder cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Backup(folder / f"rsu-hub-{now.astimezone(dt.UTC):%Y%m%dT%H%M%S}Z.dump", now)
    write_dump(url, made.path)
    outdated = [backup.path for backup in choose_outdated(list_backups(folder), days, now)]
    for path in outdated:
        path.unlink(missing_ok=True)
    return made, outdated


def list_backups(folder: Path) -> list[Backup]:
    """Return the complete backups of a folder, the newest first. A folder that does not exist has none."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := NAME.fullmatch(path.name):
            made_at = dt.datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=dt.UTC)
            found.append(Backup(path, made_at))
    return sorted(found, key=lambda backup: backup.made_at, reverse=True)


def choose_outdated(backups: Sequence[Backup], days: int, now: dt.datetime) -> list[Backup]:
    """Return the backups that are older than `days`. The newest is always kept."""
    before = now - dt.timedelta(days=days)
    newest = max((backup.made_at for backup in backups), default=now)
    return [backup for backup in backups if backup.made_at < before and backup.made_at != newest]


def run_program(
    command: Sequence[str], environment: dict[str, str], on_progress: Callable[[float], None] = lambda seconds: None
) -> None:
    """Run a program of PostgreSQL to its end. It is terminated if the wait for it ends with an error.

    Raises:
        DatabaseError: the program failed. The message has its first error.
    """
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)  # noqa: S603 - PostgreSQL's own
    began = time.monotonic()
    try:
        while process.poll() is None:
            cancellation.sleep(0.05)
            on_progress(time.monotonic() - began)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    _, complaint = process.communicate()
    if process.returncode:
        raise database.DatabaseError(describe_failure(Path(command[0]).name, complaint))


def describe_failure(name: str, complaint: str) -> str:
    """Return the sentence about a program that failed, with the first error that it wrote."""
    lines = [line for line in complaint.splitlines() if "error:" in line.lower()]
    return (
        f"{name} failed, and nothing was changed: {(lines or complaint.splitlines() or ['no reason given'])[0][:300]}"
    )


def _output_of(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 - PostgreSQL's own
    if done.returncode:
        raise DumpError(describe_failure("pg_restore", done.stderr))
    return done.stdout
