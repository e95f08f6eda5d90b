"""The season machine can fail: it finds each rule once it is broken."""

import itertools

import pytest

from rsu_pipeline_tests.proof.search import TIMEOUT, find
from rsu_pipeline_tests.proof.season.arena import Arena
from rsu_pipeline_tests.proof.season.machine import Season, run_program
from rsu_pipeline_tests.proof.season.mutants import MUTANTS
from rsu_pipeline_tests.proof.season.programs import steps_of

SEED = 1
FOUND_BY: dict[str, tuple[str, list[int]]] = {
    "one_refusal_rejects_the_credential": ("race_refuses new_race", [6, 3, 2]),
    "one_new_race_discards_the_listing": ("new_race_that_cannot_be_read new_race", [0, 1, 2]),
    "the_clock_says_when_an_event_is_over": ("register set_bib", [0, 1, 2]),
    "a_short_page_is_the_last": ("clamp_pages register new_race", [0, 9, 10]),
    "removals_are_not_guarded": ("answer_empty set_bib", [1, 7, 10]),
    "a_detail_without_events_is_believed": ("answer_detail_without_events", [1, 3, 2]),
    "rows_stay_when_their_race_is_gone": ("delete_race delete_event hand_race_over", [1, 0, 2]),
    "a_reactivation_has_to_move_its_stamp": ("leave_and_come_back reactivate remove", [2, 0, 1]),
    "a_stamp_is_a_version": ("edit_race_twice_within_a_minute", [0, 1, 2]),
    "one_clock_is_believed": ("hub_clock_steps set_bib register", [3, 9, 8]),
    "an_erased_person_comes_back": ("erase_person edit transfer", [0, 2, 1]),
    "one_refused_event_stops_its_race": ("event_refuses register set_bib", [9, 8, 0]),
    "a_moved_start_is_seen_at_the_next_listing": ("start_moves_while_it_is_watched", [2, 3, 1]),
    "small_races_are_read_incrementally": ("visit_after_a_bib_without_a_stamp", [0, 6, 9]),
}
"""The kinds of steps that programs use beside the hub's, few since those meet more often, and the numbers of programs of
SEED that find the mutant."""


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("name", MUTANTS)
def test_the_season_finds_a_broken_rule(season: Arena, name: str, request: pytest.FixtureRequest) -> None:
    steps, numbers = FOUND_BY[name]
    enabled = frozenset(steps.split())
    assert enabled <= {step.name for step in steps_of(Season)}
    find(
        MUTANTS[name],
        lambda number: run_program(season, SEED, number, enabled),
        numbers,
        f"program {SEED}:",
        itertools.count(),
        request.node.nodeid,
    )
