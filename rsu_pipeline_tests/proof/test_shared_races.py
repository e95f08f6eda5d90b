"""The machine's programs of two syncs at once, one by one. They fail where races are not locked."""

import pytest

from rsu_pipeline.warehouse import race_locks
from rsu_pipeline_tests.proof.machine import Arena, Convergence

SECOND_SYNC, LOST_SESSION = 1, 2


def run_program(arena: Arena, pick: int, page: int) -> None:
    """Set a bib, and while a sync reads it start another, or end its session so that another takes over."""

    class Machine(Convergence):
        pass

    Machine.arena = arena
    machine = Machine()
    machine.start()
    machine.sync()
    machine.set_bib(3, 7)
    machine.sync_while(page, pick, "second sync")
    machine.teardown()


@pytest.mark.parametrize("pick", [SECOND_SYNC, LOST_SESSION])
@pytest.mark.parametrize("page", [1, 2])
def test_a_race_is_read_by_one_session_and_one_that_lost_it_cannot_write(arena: Arena, pick: int, page: int) -> None:
    run_program(arena, pick, page)


def test_the_machine_finds_races_that_are_not_locked(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race_locks, "acquire", lambda *which, wait=0.0: True)
    monkeypatch.setattr(race_locks, "release", lambda *which: None)
    with pytest.raises(AssertionError, match="without their race's lock"):
        run_program(arena, SECOND_SYNC, 1)
