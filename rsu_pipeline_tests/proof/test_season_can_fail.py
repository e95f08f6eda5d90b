"""The season machine can fail: it finds each rule once it is broken."""

import pytest

from rsu_pipeline_tests.proof.season.arena import Arena
from rsu_pipeline_tests.proof.season.machine import run_programs
from rsu_pipeline_tests.proof.season.mutants import MUTANTS

SEED = 1
FIRST = {
    "one_refusal_rejects_the_credential": 1,
    "one_new_race_discards_the_listing": 6,
    "a_short_page_is_the_last": 11,
}
"""The number of a program of this seed that finds the mutant, 0 unless given. They age as steps change: the test then proves
the same, only slower."""
PROGRAMS = 60


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MUTANTS)
def test_the_season_finds_a_broken_rule(season: Arena, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    first = FIRST.get(name, 0)
    with pytest.raises(AssertionError, match="program 1:"):
        run_programs(season, range(first, first + PROGRAMS), SEED)
