"""What tests of whole installations fetch once from registries of packages, pinned by hash, into build/fetched.

`make clean` removes that folder.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from rsu_pipeline.settings import project_root

CACHE = project_root() / "build" / "fetched"
FETCH_SECONDS = 300
REQUIRED = bool(os.environ.get("RSU_TEST_REQUIRE_SERVERS"))
"""Whether a server that cannot be had fails the tests, as in .ci/run, or is reported as left to it."""


class NotAvailableError(RuntimeError):
    """A package cannot be fetched on this machine. The message has the reason."""


def left_to_ci(error: NotAvailableError) -> None:
    """Fail where servers are required, and skip with the reason elsewhere."""
    if REQUIRED:
        pytest.fail(f"What the tests need cannot be fetched: {error}.")
    pytest.skip(f"left to .ci/run: {error}")


@contextmanager
def fetch(name: str, *pins: Path) -> Iterator[Path | None]:
    """Give an empty folder with the pins to fetch into, or None where they were fetched already. Processes take turns.

    The folder gets its own name when the block ends well, so that one that was cut short is never taken for whole.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted = "".join(pin.read_text(encoding="utf-8") for pin in pins)
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
                shutil.copy(pin, folder)
            yield folder
            (folder / "pinned").write_text(wanted, encoding="utf-8")
            folder.rename(CACHE / name)


def run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotAvailableError(f"`{command[0]}` fetched nothing within {FETCH_SECONDS} s") from None
    if done.returncode:
        raise NotAvailableError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-300:]}")
