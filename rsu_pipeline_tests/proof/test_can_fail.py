"""The machine that proves convergence can fail: it finds each of five broken rules."""

import pytest

from rsu_pipeline_tests.proof.machine import Arena, run_programs
from rsu_pipeline_tests.proof.mutants import MUTANTS

# Seeds whose first failing program comes early; any seed finds each within some hundred programs.
SEEDS = {"page_numbers_instead_of_keyset": 2}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MUTANTS)
def test_the_machine_finds_a_broken_rule(arena: Arena, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises(AssertionError, match=r"registration|only stored|only at RunSignup"):
        run_programs(arena, 1000, SEEDS.get(name, 20261124))
