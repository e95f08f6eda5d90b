"""A clock of RunSignup's that is ahead of the hub's moves no cursor beyond the present."""

import email.utils
import time

import pytest

from rsu_pipeline_tests.hub import Hub


@pytest.mark.parametrize("seconds", [3600, 86_400, 365 * 86_400])
@pytest.mark.parametrize("full", [True, False])
def test_what_changes_after_an_answer_dated_ahead_is_seen_by_the_next_incremental_read(
    shared: Hub, seconds: int, full: bool
) -> None:
    admin = shared.sandbox.admin
    admin.fault("date", 0, endpoint="participants", message=email.utils.formatdate(time.time() + seconds, usegmt=True))
    assert not shared.sync(full=full).failures
    admin.clear_faults()
    assert shared.value("SELECT max(modified_after) FROM event_cursors") < time.time()
    number = min(shared.stored())
    admin.bib(number, int(time.time() * 1000) % 100_000)
    outcome = shared.sync()
    assert {read.read.mode for read in outcome.reads} == {"incremental"} and not outcome.failures
    shared.assert_equal()
