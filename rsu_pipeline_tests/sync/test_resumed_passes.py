"""A resumed pass is still true, and a full pass decides.

What changed between its pages and now is no difference, what RunSignup lists as active is active, and what is removed
during a pass ends removed.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from rsu_pipeline.sync.sync_outcome import SyncOutcome
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(events=2, registrations=9)


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment |= {"RSU_PAGE_SIZE": "4", "RSU_CALL_ATTEMPTS": "1"}
    hub.sandbox.admin.clock(rate=0)
    hub.sync()
    hub.sandbox.admin.clock(advance=1000)
    return hub


def ids(hub: Hub) -> list[int]:
    return sorted(row["registration_id"] for row in hub.sandbox.admin.truth(1)["active"])


def removed_reason(hub: Hub, key: int) -> Any:
    """Return why a registration is removed, None for an active one."""
    return hub.value("SELECT removed_reason FROM runsignup_participants WHERE registration_id = %s", key)


def interrupt(hub: Hub, page: int = 2) -> None:
    """Have a full read end after a page: its first four or eight registrations are read."""
    for _ in range(page - 1):
        hub.sandbox.admin.fault("http_500", 1, endpoint="participants", after_page=True)
        assert hub.sync(full=True).failures
    assert hub.value("SELECT pages FROM read_passes WHERE mode = 'full'") == page - 1


def finish(hub: Hub) -> SyncOutcome:
    """Resume the interrupted read, which must be proved equal without reading anything twice."""
    outcome = hub.sync(full=True)
    first = outcome.reads[0]
    assert first.is_resumed and not outcome.failures
    assert (outcome.unequal_events, first.unsettled) == ([], [])
    assert hub.value("SELECT count(*) FROM event_cursors WHERE proved_equal_at IS DISTINCT FROM compared_at") == 0
    assert hub.value("SELECT count(*) FROM event_cursors WHERE needs_full IS NOT NULL") == 0
    return outcome


def incremental(hub: Hub) -> None:
    """Read incrementally, with the removals."""
    hub.sandbox.admin.clock(advance=200)
    outcome = hub.sync()
    assert {read.read.mode for read in outcome.reads} == {"incremental"} and not outcome.failures


def test_a_pass_resumed_over_newer_incremental_reads_is_proved_equal(hub: Hub) -> None:
    admin, keys = hub.sandbox.admin, ids(hub)
    interrupt(hub)
    events = sorted({row["event_id"] for row in hub.stored().values()})
    admin.bib(keys[0], 71)
    admin.edit(keys[1], {"first_name": "Meanwhile"})
    admin.remove(keys[2], "cleared")
    admin.transfer(keys[3], events[1])
    admin.bib(keys[10], 72)
    admin.remove(keys[11], "cleared")
    # The last page has one registration, so that no later pass has to confirm the end.
    admin.register(events[0], count=3)
    incremental(hub)
    admin.bib(keys[0], 73)
    incremental(hub)
    finish(hub)
    hub.assert_equal()
    hub.assert_removals()
    hub.assert_bib_log_replays()


def test_a_pass_resumed_over_a_late_registration_is_proved_equal(hub: Hub) -> None:
    """A row that the page lacked, though it was stored, and that shows again."""
    admin, keys = hub.sandbox.admin, ids(hub)
    admin.remove(keys[1], silent=True)
    interrupt(hub)
    assert hub.value("SELECT count(*) FROM pass_registrations WHERE missing") == 1
    hub.execute("UPDATE runsignup_participants SET first_name = 'x' WHERE registration_id = %s", keys[0])
    row = hub.stored()[keys[1]]
    new_id = admin.register(row["event_id"])[0]
    incremental(hub)
    outcome = hub.sync(full=True)
    assert outcome.unequal_events == [] and outcome.reads[0].unsettled, "the altered row is noticed"
    assert [read.read.reason for read in outcome.reads if read.read.mode == "full"][1:] == [
        "changed while an interrupted pass was under way"
    ]
    assert new_id in hub.stored() and not hub.sync(full=True).counts.updated
    hub.assert_equal()


def test_a_difference_is_found_in_a_resumed_pass(hub: Hub) -> None:
    """The proof is not blind: a row that storing altered after its page makes the event be read again."""
    interrupt(hub)
    hub.execute("UPDATE runsignup_participants SET bib_num = '999' WHERE registration_id = %s", ids(hub)[0])
    outcome = hub.sync(full=True)
    assert outcome.reads[0].unsettled and outcome.unequal_events == [] and outcome.counts.updated == 1
    assert hub.value("SELECT count(*) FROM event_cursors WHERE proved_equal_at IS DISTINCT FROM compared_at") == 0
    hub.assert_equal()


def test_a_row_that_cannot_be_stored_right_is_unequal_in_a_resumed_pass(hub: Hub) -> None:
    interrupt(hub)
    hub.execute(
        "CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.bib_num := '1'; RETURN NEW; END $$;"
        "CREATE TRIGGER sabotage BEFORE UPDATE ON runsignup_participants FOR EACH ROW"
        f" WHEN (NEW.registration_id = {ids(hub)[0]}) EXECUTE FUNCTION sabotage()",
        None,
    )
    hub.sandbox.admin.bib(ids(hub)[0], 77)
    incremental(hub)
    outcome = hub.sync(full=True)
    assert outcome.unequal_events, "the second read, from its first page, is the judge"


def test_a_registration_removed_behind_a_pass_ends_removed(hub: Hub) -> None:
    """It was active on an early page, and an incremental read saw the removal before the pass went on."""
    key = ids(hub)[0]
    interrupt(hub)
    hub.sandbox.admin.remove(key, "cleared")
    incremental(hub)
    finish(hub)
    assert removed_reason(hub, key) == "cleared"
    hub.assert_equal()
    hub.assert_removals()


def test_a_registration_removed_behind_a_pass_that_no_other_read_saw_ends_removed(hub: Hub) -> None:
    key = ids(hub)[0]
    interrupt(hub)
    hub.sandbox.admin.clock(advance=200)
    hub.sandbox.admin.remove(key, "cleared")
    finish(hub)
    hub.assert_equal()
    hub.assert_removals()


@pytest.mark.parametrize("seconds", [0, 1, 5000], ids=["same second", "a second later", "long after"])
def test_a_reactivation_that_moves_no_stamp_is_found_by_a_full_read(hub: Hub, seconds: int) -> None:
    admin, key = hub.sandbox.admin, ids(hub)[3]
    stamp = hub.stored()[key]["last_modified_epoch"]
    admin.remove(key, "cleared")
    incremental(hub)
    assert removed_reason(hub, key) == "cleared"
    admin.clock(advance=seconds)
    admin.reactivate(key, last_modified=stamp)
    outcome = hub.sync(full=True)
    assert (outcome.counts.reactivated, outcome.unequal_events) == (1, [])
    assert removed_reason(hub, key) is None
    admin.clock(advance=1)
    for full in (False, True):
        assert hub.sync(full=full).counts.removed == 0
    hub.assert_equal()


def test_a_reactivation_in_the_second_of_its_removal_is_found_by_a_full_read(hub: Hub) -> None:
    admin, key = hub.sandbox.admin, ids(hub)[3]
    admin.remove(key, "cleared")
    hub.sync()
    admin.reactivate(key)
    outcome = hub.sync(full=True)
    assert (outcome.counts.reactivated, outcome.unequal_events) == (1, [])
    hub.sync()
    hub.assert_equal()


def test_a_reactivation_found_by_a_resumed_pass_stays(hub: Hub) -> None:
    admin, keys = hub.sandbox.admin, ids(hub)
    key, stamp = keys[12], hub.stored()[keys[12]]["last_modified_epoch"]
    admin.remove(key, "cleared")
    incremental(hub)
    interrupt(hub)
    admin.reactivate(key, last_modified=stamp)
    incremental(hub)
    finish(hub)
    assert removed_reason(hub, key) is None
    hub.assert_equal()


def test_a_page_that_still_shows_a_removed_registration_brings_it_back_for_no_longer_than_the_pass(hub: Hub) -> None:
    """RunSignup's feed of active registrations lags behind that of removed ones."""
    admin, key = hub.sandbox.admin, ids(hub)[0]
    stale = next(row for row in admin.truth(1)["active"] if row["registration_id"] == key)
    admin.remove(key, "cleared")
    hub.sync()
    body = admin_page(hub, stale)
    admin.fault("raw", 1, endpoint="participants", body=body)
    outcome = hub.sync(full=True)
    assert outcome.counts.reactivated == 1
    assert removed_reason(hub, key) == "cleared"
    hub.sync(full=True)
    hub.assert_equal()
    hub.assert_removals()


def admin_page(hub: Hub, stale: dict[str, object]) -> str:
    """Return a first page of four registrations, one of them no longer active, as the fault `raw` sends it."""
    rows = sorted(hub.sandbox.admin.truth(1)["active"], key=lambda row: int(row["registration_id"]))[:3]
    page = [{"event": {"event_id": row["event_id"]}, "participants": [row]} for row in [stale, *rows]]
    return base64.b64encode(json.dumps(page).encode()).decode()
