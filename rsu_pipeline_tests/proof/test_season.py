"""Promise 1 through a season: races, events, credentials and clocks change, the hub is down for days, and after a night by
itself the copy equals RunSignup."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rsu_pipeline_tests.proof.conftest import SEED
from rsu_pipeline_tests.proof.season.arena import Arena
from rsu_pipeline_tests.proof.season.machine import run_programs

# Read at import: the tests themselves run with a clean environment.
PROGRAMS = int(os.environ.get("RSU_SEASON_PROGRAMS", "40"))


@pytest.fixture
def season(make_database: Callable[[], str], tmp_path: Path) -> Iterator[Arena]:
    """Servers for programs."""
    arena = Arena(make_database, tmp_path)
    yield arena
    arena.close()


@pytest.mark.timeout(10_800)
def test_converges_through_a_season(season: Arena) -> None:
    print(f"{PROGRAMS} programs, RSU_PROOF_SEED={SEED}")
    run_programs(season, range(PROGRAMS), SEED)
    assert season.programs == PROGRAMS
