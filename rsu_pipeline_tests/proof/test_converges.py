"""Promise 1: converges.

After any sequence of changes, faults, crashes and restarts, one quiet sync makes the copy equal to RunSignup. And the
machine that checks it finds each of five broken rules.
"""

import pytest

from rsu_pipeline.reading_settings import SyncSettings
from rsu_pipeline_tests.proof.conftest import PROGRAMS, SEED, name_of, parts
from rsu_pipeline_tests.proof.machine import Arena, run_programs


@pytest.mark.timeout(10_800)
@pytest.mark.parametrize("part", parts(PROGRAMS, 50), ids=name_of)
def test_converges_after_any_changes_faults_and_kills(arena: Arena, part: range) -> None:
    seed = SEED + part.start
    print(f"RSU_PROOF_PROGRAMS={len(part)} RSU_PROOF_SEED={seed}")
    arena.full_read_up_to_rows = (0, SyncSettings().full_read_up_to_rows)
    run_programs(arena, len(part), seed)
    assert arena.programs >= len(part)
