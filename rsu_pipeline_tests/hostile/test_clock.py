"""RunSignup's clock moves the cursors.

A clock that makes no sense moves none, and nothing that changed is missed.
"""

import time

import pytest

from rsu_pipeline_tests.hub import Hub

DATES = {
    "none": "",
    "garbage": "yesterday, at noon",
    "the year 9999": "Fri, 31 Dec 9999 23:59:59 GMT",
    "in seventy years": "Mon, 05 Jan 2099 10:00:00 GMT",
    "a year beyond all integers": "Mon, 05 Jan 99999999999999999999 10:00:00 GMT",
    "a zone beyond all integers": "Mon, 05 Jan 2026 10:00:00 +99999999999999999999",
    "before 1970": "Mon, 05 Jan 1903 10:00:00 GMT",
    "the year 1": "Mon, 01 Jan 0001 00:00:00 -2359",
    "last year's": "Sun, 05 Jan 2025 10:00:00 GMT",
    "of a megabyte": "Mon, " + "0" * 60_000,
}
PAST = ("the year 1", "last year's")
"""By these the last full read is long ago."""


@pytest.mark.parametrize(("what", "full"), [*((what, True) for what in DATES), ("in seventy years", False)])
def test_a_date_that_makes_no_sense_moves_no_cursor_beyond_the_present(shared: Hub, what: str, full: bool) -> None:
    admin = shared.sandbox.admin
    admin.fault("date", 0, endpoint="participants", message=DATES[what])
    assert not shared.sync(full=full).failures
    admin.clear_faults()
    for row in shared.rows("SELECT modified_after, extract(epoch FROM last_full_at) AS full_at FROM event_cursors"):
        # One that is too early only has more read again.
        assert row["modified_after"] < time.time() + 60 and row["full_at"] < time.time() + 60
    # What changes now is seen by the next incremental read.
    number = min(shared.stored())
    admin.bib(number, int(time.time() * 1000) % 100_000)
    outcome = shared.sync()
    assert not outcome.failures
    if what not in PAST:
        assert {read.read.mode for read in outcome.reads} == {"incremental"}
    shared.assert_equal()
