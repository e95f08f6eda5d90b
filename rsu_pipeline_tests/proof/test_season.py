"""Promise 1 through a season.

Races, events, credentials and clocks change, the hub is down for days, and after a night by itself the copy equals
RunSignup.
"""

import os

import pytest

from rsu_pipeline_tests.proof.conftest import SEED, name_of, parts
from rsu_pipeline_tests.proof.season.arena import Arena
from rsu_pipeline_tests.proof.season.machine import run_programs

# Read at import: the tests themselves run with a clean environment.
PROGRAMS = int(os.environ.get("RSU_SEASON_PROGRAMS", "40"))
FIRST = int(os.environ.get("RSU_SEASON_FIRST", "0"))
"""The number of the first program, so that one that failed is run again alone."""


@pytest.mark.timeout(10_800)
@pytest.mark.parametrize("part", parts(PROGRAMS, 50), ids=name_of)
def test_converges_through_a_season(season: Arena, part: range) -> None:
    print(f"RSU_SEASON_FIRST={FIRST + part.start} RSU_SEASON_PROGRAMS={len(part)} RSU_PROOF_SEED={SEED}")
    before = season.programs
    run_programs(season, range(FIRST + part.start, FIRST + part.stop), SEED)
    assert season.programs - before == len(part)
