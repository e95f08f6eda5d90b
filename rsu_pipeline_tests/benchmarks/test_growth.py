"""Growth, measured small: what is loaded in steps is all there, and each visit finds exactly what was changed."""

from dataclasses import replace

import pytest

from benchmarks import growth
from benchmarks.hub import Measured
from benchmarks.measure import Report


def test_a_partner_is_loaded_in_steps_and_visited_after_each() -> None:
    first, second = growth.registrations(200, steps=(1, 3), visits=2)
    assert (first.stored, second.stored) == (200, 600)
    # The second step's figures are of everything from nothing on.
    assert second.wall > first.wall > 0
    assert second.calls > first.calls
    assert second.bytes > first.bytes
    assert second.database_bytes >= first.database_bytes
    # One call to each feed of the one race, and the empty page that ends what changed.
    assert first.visit_calls == second.visit_calls == 3
    assert growth.Grown(registrations=[first, second]).visit_ratio == second.visit_wall / first.visit_wall


def test_a_run_that_did_something_else_does_not_count() -> None:
    measured = Measured(Report(rows=20, inserted=20), {}, 0, 1, 0.0, 0.0)
    growth._right(measured, rows=20, inserted=20)
    for wrong in (
        Report(rows=20, inserted=19),
        Report(rows=19, inserted=20),
        Report(rows=20, inserted=20, removed=1),
        Report(rows=20, inserted=20, problems=["a race failed"]),
        Report(rows=20, inserted=20, unequal=1),
    ):
        with pytest.raises(AssertionError):
            growth._right(replace(measured, report=wrong), rows=20, inserted=20)
