"""The season machine can fail: it finds each rule once it is broken."""

import pytest

from rsu_pipeline_tests.proof.season.arena import Arena
from rsu_pipeline_tests.proof.season.machine import run_programs
from rsu_pipeline_tests.proof.season.mutants import MUTANTS

SEED = 1
FIRST = {
    "one_refusal_rejects_the_credential": 104,
    "one_new_race_discards_the_listing": 125,
    "the_clock_says_when_an_event_is_over": 324,
    "a_short_page_is_the_last": 272,
    "removals_are_not_guarded": 37,
    "a_detail_without_events_is_believed": 275,
    "rows_stay_when_their_race_is_gone": 322,
    "a_reactivation_has_to_move_its_stamp": 20,
    "a_stamp_is_a_version": 34,
    "one_clock_is_believed": 38,
    "an_erased_person_comes_back": 239,
    "one_refused_event_stops_its_race": 47,
}
"""The number of a program of this seed that finds the mutant. They age as steps change: the test then proves the same, only
slower."""
PROGRAMS = 60


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MUTANTS)
def test_the_season_finds_a_broken_rule(season: Arena, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    first = FIRST.get(name, 0)
    with pytest.raises(AssertionError, match="program 1:"):
        run_programs(season, range(first, first + PROGRAMS), SEED)
