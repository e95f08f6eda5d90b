"""Promise 1: converges. After any sequence of changes, faults, crashes and restarts, one quiet sync makes the copy equal
to RunSignup; and the machine that says so finds each of five broken rules."""

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from rsu_pipeline_tests.proof.conftest import PROGRAMS, SEED
from rsu_pipeline_tests.proof.machine import Arena, Convergence
from rsu_pipeline_tests.proof.mutants import MUTANTS


def run_programs(arena: Arena, programs: int, number: int) -> None:
    """Runs so many programs from a seed; raises what the first failing one raised."""

    @seed(number)
    class Machine(Convergence):
        pass

    Machine.arena = arena
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=programs,
            stateful_step_count=14,
            deadline=None,
            database=None,
            # Shrinking would run hundreds of programs more; the seed finds the failing one again.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.mark.timeout(10_800)
def test_converges_after_any_changes_faults_and_kills(arena: Arena) -> None:
    print(f"{PROGRAMS} programs, RSU_PROOF_SEED={SEED}")
    run_programs(arena, PROGRAMS, SEED)
    assert arena.programs >= PROGRAMS


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MUTANTS)
def test_the_machine_finds_a_broken_rule(arena: Arena, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises(AssertionError, match=r"registration|only stored|only at RunSignup"):
        run_programs(arena, 600, 20261124)
