"""The machine that proves convergence can fail: it finds each of five broken rules."""

import pytest

from rsu_pipeline_tests.proof.machine import Arena, run_programs
from rsu_pipeline_tests.proof.mutants import MUTANTS

# Seeds whose first failing program comes early, within some 15; any seed finds each within some hundred. They age as the
# machine's rules change: the test then proves the same, only slower.
SEEDS = {"page_numbers_instead_of_keyset": 415, "sweep_after_a_partial_read": 333, "cursor_moved_early": 466}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MUTANTS)
def test_the_machine_finds_a_broken_rule(arena: Arena, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises(AssertionError, match=r"registration|only stored|only at RunSignup"):
        run_programs(arena, 1000, SEEDS.get(name, 20261124))
