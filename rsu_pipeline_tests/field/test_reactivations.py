"""A registration that was removed and is active again with its earlier stamp.

RunSignup's list of active registrations decides, whatever the stamps are.
"""

from rsu_pipeline_tests.field.scripted import Field

STAMP = 1_760_000_000


def entered(field: Field) -> None:
    """Enter two registrations, one of which is removed after the first sync."""
    field.runsignup.race(1, field.runsignup.event(101))
    for registration_id in (2001, 2002):
        field.runsignup.enter(101, registration_id, last_modified=STAMP, bib_num=registration_id)
    field.sync()
    field.runsignup.remove(101, 2001, "cleared")
    field.sync()
    assert list(field.registrations()) == [2002]


def test_a_reactivated_registration_with_its_old_stamp_is_active_after_a_full_sync(field: Field) -> None:
    entered(field)
    field.runsignup.enter(101, 2001, last_modified=STAMP, bib_num=2001)
    outcome = field.full_sync()
    assert (outcome.failures, outcome.unequal_events) == ([], [])
    assert sorted(field.registrations()) == [2001, 2002]
    for full in (False, True):
        assert not field.sync(full=full).counts.removed
    field.assert_log_replays()


def test_a_reactivated_registration_that_the_removed_feed_goes_on_to_name_is_active(field: Field) -> None:
    field.runsignup.clock = 1_799_000_000
    field.runsignup.tell()
    entered(field)
    removal = field.removed()[2001]
    named = {"registration_id": 2001, "removed_reason": "cleared", "last_modified_ts": removal["removed_epoch"]}
    pages = [{"event": {"event_id": 101, "participants": [named]}}]
    field.runsignup.enter(101, 2001, last_modified=STAMP, bib_num=2001)
    for seconds in (1, 3600, 3600):
        field.runsignup.clock += seconds
        field.runsignup.answer("removed-participants", pages, times=1)
        outcome = field.full_sync()
        field.runsignup.behave()
    assert (outcome.failures, outcome.unequal_events) == ([], [])
    assert sorted(field.registrations()) == [2001, 2002]


def test_a_registration_removed_while_a_full_read_goes_on_is_removed(field: Field) -> None:
    """The page of active registrations was answered before, the removed feed after."""
    entered(field)
    page = [{"event": {"event_id": 101}, "participants": [row for row in field.runsignup._rows[101].values()]}]
    field.runsignup.remove(101, 2002, "cleared")
    field.runsignup.enter(101, 2003, last_modified=STAMP)
    field.runsignup.answer("participants", page, times=1)
    field.full_sync()
    assert not field.sync().failures
    assert field.removed()[2002]["removed_reason"] == "cleared"
    assert sorted(field.registrations()) == [2003]
