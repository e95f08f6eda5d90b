"""How many programs: RSU_PROOF_PROGRAMS (100 unless set), from RSU_PROOF_SEED (a new one unless set, and printed)."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rsu_pipeline_tests.conftest import databases
from rsu_pipeline_tests.proof.machine import Arena
from rsu_pipeline_tests.proof.season.arena import Arena as SeasonArena

# Read at import: the tests themselves run with a clean environment.
PROGRAMS = int(os.environ.get("RSU_PROOF_PROGRAMS", "100"))
SEED = int(os.environ.get("RSU_PROOF_SEED") or secrets.randbelow(2**32))
"""Each process that runs tests draws its own, which the test prints."""


def parts(total: int, size: int) -> list[range]:
    """Return numbers from 0 in parts of this size, each of them a test of its own, so that processes share them."""
    return [range(first, min(first + size, total)) for first in range(0, total, size)]


def name_of(part: range) -> str:
    """Return a part's first and last number."""
    return f"{part.start}-{part.stop - 1}"


@pytest.fixture
def arena(make_database: Callable[[], str], tmp_path: Path) -> Iterator[Arena]:
    """Provide servers for programs."""
    arena = Arena(make_database, tmp_path)
    yield arena
    arena.close()


@pytest.fixture(scope="module")
def season(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeasonArena]:
    """Provide servers for programs of the season machine."""
    with databases(server, "rsu_season", template) as make_database:
        arena = SeasonArena(make_database, tmp_path_factory.mktemp("season"))
        yield arena
        arena.close()
