"""The machine that proves convergence can fail: it finds each of five broken rules."""

import itertools

import pytest

from rsu_pipeline_tests.proof.machine import Arena, rules, run_programs
from rsu_pipeline_tests.proof.mutants import MUTANTS
from rsu_pipeline_tests.proof.search import TIMEOUT, find

FOUND_BY: dict[str, tuple[str, list[int]]] = {
    "cursor_from_last_stamp": ("sync edit set_bib register time_passes see_late", [3, 2, 1]),
    "cursor_moved_early": ("check_in set_bib edit register fault sync time_passes", [4, 12, 18]),
    "page_numbers_instead_of_keyset": ("sync_while remove sync_in_full sync", [5, 6]),
    "sweep_after_a_partial_read": ("fault sync_in_full set_bib register sync", [7, 1]),
    "dedupe_by_stamp": ("sync edit set_bib", [1]),
}
"""The rules of the machine that programs use, few since those meet more often, and the seeds of which one of the first programs
finds the mutant."""
PROGRAMS = 10
"""Programs of each seed."""


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("name", MUTANTS)
def test_the_machine_finds_a_broken_rule(arena: Arena, name: str, request: pytest.FixtureRequest) -> None:
    names, seeds = FOUND_BY[name]
    enabled = frozenset(names.split())
    assert enabled <= rules()
    find(
        MUTANTS[name],
        lambda seed: run_programs(arena, PROGRAMS, seed, enabled),
        seeds,
        r"registration|only stored|only at RunSignup",
        itertools.count(1),
        request.node.nodeid,
    )
