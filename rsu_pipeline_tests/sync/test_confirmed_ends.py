"""An empty answer ends a feed only if something else supports it: a page with fewer rows than requested, or another moment."""

import datetime as dt
from collections.abc import Callable

import pytest

from rsu_pipeline.runsignup.client import Client
from rsu_pipeline.warehouse import backfill_state, cursors
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

WAIT = backfill_state.CONFIRMED_AFTER + dt.timedelta(seconds=1)


def answer_empty(hub: Hub, race_id: int, times: int) -> None:
    """Let the next answers with registrations of a race have none."""
    hub.sandbox.admin.fault("raw", times, endpoint="participants", race_id=race_id, body="W10=")


def let_an_hour_pass(hub: Hub) -> None:
    """Move the times by which an unconfirmed end is read again into the past."""
    hub.execute("UPDATE history_events SET read_at = read_at - %s", WAIT)
    hub.execute("UPDATE history_races SET retry_at = retry_at - %s", WAIT)


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    hub = make_hub(spec=estate(events=1, registrations=3), seed=7)
    hub.sync()
    return hub


@pytest.fixture
def past(hub: Hub) -> tuple[int, int]:
    """Provide race and event of a past edition with two registrations."""
    race_id, (event_id,) = hub.sandbox.admin.add_race(1, [{"name": "Last month", "start_in_hours": -24 * 30}])
    hub.sandbox.admin.register(event_id, count=2)
    return race_id, event_id


def test_a_past_edition_that_is_answered_empty_at_a_bad_moment_is_read_again_later(
    hub: Hub, past: tuple[int, int]
) -> None:
    answer_empty(hub, past[0], 2)
    done = hub.history()
    assert not done.finished and not done.problems
    progress = hub.history_progress()
    assert not progress.is_complete and progress.settled == progress.events - 1
    assert hub.value("SELECT state FROM history_events WHERE event_id = %s", past[1]) == "unconfirmed"
    assert hub.history(ask=False).calls == 0, "not before an hour has passed"
    let_an_hour_pass(hub)
    assert hub.history(ask=False).finished
    assert hub.history_progress().is_complete
    hub.assert_equal(past_too=True)


def test_a_past_edition_that_is_empty_at_two_moments_is_empty(hub: Hub) -> None:
    hub.sandbox.admin.add_race(1, [{"name": "Nobody came", "start_in_hours": -24 * 60}])
    assert not hub.history().finished
    let_an_hour_pass(hub)
    assert hub.history(ask=False).finished
    assert hub.history_progress().is_complete and hub.history_progress().empty == 1
    assert hub.history(ask=False).calls == 0
    hub.assert_equal(past_too=True)


def test_an_event_that_is_gone_does_not_wait_for_its_second_read(hub: Hub, past: tuple[int, int]) -> None:
    answer_empty(hub, past[0], 2)
    hub.history()
    assert hub.history_progress().unconfirmed == 1
    hub.execute("UPDATE runsignup_events SET gone_at = now() WHERE event_id = %s", past[1])
    assert hub.history_progress().unconfirmed == 0


def test_a_slice_that_begins_earlier_confirms_nothing(hub: Hub, past: tuple[int, int]) -> None:
    answer_empty(hub, past[0], 4)
    assert not hub.history().finished
    # As after a kill between the page and the time of the next read.
    hub.execute("UPDATE history_races SET retry_at = NULL")
    done = hub.history(ask=False)
    assert not done.finished and done.events == 1
    let_an_hour_pass(hub)
    assert hub.history(ask=False).finished
    hub.assert_equal(past_too=True)


def test_a_sync_does_not_settle_a_past_edition_that_waits_for_its_second_read(hub: Hub, past: tuple[int, int]) -> None:
    answer_empty(hub, past[0], 2)
    hub.history()
    hub.sync(full=True)
    assert not hub.history_progress().is_complete


@pytest.mark.parametrize("times", [1, 2])
def test_what_is_behind_a_full_page_is_not_lost_at_a_first_load(make_hub: Callable[..., Hub], times: int) -> None:
    hub = make_hub(spec=estate(events=1, registrations=7), seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "4"
    (race_id,) = {row["race_id"] for row in hub.sandbox.admin.truth(1)["races"]}
    hub.sandbox.admin.fault("raw", times, endpoint="participants", race_id=race_id, body="W10=", after_page=True)
    outcome = hub.sync()
    assert not outcome.failures
    if times == 2:
        assert hub.value("SELECT count(*) FROM runsignup_participants") == 4
        assert hub.value("SELECT needs_full FROM event_cursors") == cursors.END_UNCONFIRMED
        assert not hub.sync().failures
    hub.assert_equal()
    assert hub.value("SELECT needs_full FROM event_cursors") is None


def test_what_is_behind_a_full_page_is_not_lost_if_the_pass_was_resumed_there(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=estate(events=1, registrations=7), seed=7)
    hub.environment |= {"RSU_PAGE_SIZE": "4", "RSU_CALL_ATTEMPTS": "1"}
    (race_id,) = {row["race_id"] for row in hub.sandbox.admin.truth(1)["races"]}
    hub.sandbox.admin.fault("http_500", 1, endpoint="participants", after_page=True)
    assert hub.sync().failures
    answer_empty(hub, race_id, 3)
    outcome = hub.sync()
    assert outcome.reads[0].is_resumed and not outcome.failures
    assert hub.value("SELECT needs_full FROM event_cursors") == cursors.END_UNCONFIRMED
    assert not hub.sync().failures
    hub.assert_equal()


def test_what_is_behind_a_full_page_is_removed_only_if_two_reads_agree(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=estate(events=1, registrations=6), seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "4"
    hub.sync()
    (race_id,) = {row["race_id"] for row in hub.sandbox.admin.truth(1)["races"]}
    hub.sandbox.admin.fault("raw", 2, endpoint="participants", race_id=race_id, body="W10=", after_page=True)
    outcome = hub.sync(full=True)
    assert outcome.counts.removed == 0 and not outcome.failures
    assert len(hub.stored()) == 6
    keys = sorted(hub.stored())
    for key in keys[4:]:
        hub.sandbox.admin.remove(key, silent=True)
    outcome = hub.sync()
    assert outcome.counts.removed == 2 and not outcome.failures
    hub.assert_equal()


def test_the_highest_registration_confirms_a_race_whose_registrations_fill_pages_exactly(
    make_hub: Callable[..., Hub],
) -> None:
    hub = make_hub(spec=estate(events=1, registrations=8), seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "4"
    hub.sandbox.admin.reset_stats()
    hub.sync()
    assert hub.value("SELECT needs_full FROM event_cursors") is None
    # Two full pages, an empty one, and the highest.
    assert hub.sandbox.admin.stats()["by_endpoint"]["participants"] == 4 + 1
    hub.assert_equal()


@pytest.mark.parametrize("times", [1, 2, 3, 4])
@pytest.mark.parametrize("is_limit", [False, True])
def test_what_is_behind_a_short_page_of_a_past_edition_is_not_lost(
    hub: Hub, past: tuple[int, int], times: int, is_limit: bool
) -> None:
    race_id, event_id = past
    admin = hub.sandbox.admin
    admin.register(event_id, count=3)
    if is_limit:
        admin.switch(most_rows={"participants": 2})
    admin.fault("few_rows", endpoint="participants", race_id=race_id, size=2)
    admin.fault("few_rows", times, endpoint="participants", race_id=race_id, size=0)
    # The highest registration is answered empty, the next page, and that once more.
    assert hub.history().finished == (times < 3)
    if times >= 3:
        admin.clear_faults()
        let_an_hour_pass(hub)
        assert hub.history(ask=False).finished
    hub.assert_equal(past_too=True)


def test_a_server_that_returns_few_rows_takes_no_call_more(hub: Hub, past: tuple[int, int]) -> None:
    hub.sandbox.admin.register(past[1], count=5)
    hub.sandbox.admin.switch(most_rows={"participants": 3})
    hub.sandbox.admin.reset_stats()
    assert hub.history().finished
    # Three pages and the highest registration, which shows that the third is the last.
    log = [call for call in hub.sandbox.admin.stats()["log"] if call["race_id"] == past[0]]
    assert [call["rows"] for call in log if call["endpoint"] == "participants"] == [3, 1, 3, 1]
    hub.assert_equal(past_too=True)


def test_a_highest_registration_that_cannot_be_read_is_no_evidence(hub: Hub, past: tuple[int, int]) -> None:
    (last,) = hub.sandbox.admin.register(past[1])
    hub.sandbox.admin.edit(last, {"registration_id": "unknown"})
    assert not hub.history().problems
    let_an_hour_pass(hub)
    assert hub.history(ask=False).finished
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE event_id = %s", past[1]) == 2


def test_a_server_that_ignores_the_order_is_read_to_an_empty_page(
    hub: Hub, past: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Client.participants_page
    monkeypatch.setattr(Client, "participants_page", lambda *args, **how: ask(*args, **how | {"order": "ASC"}))
    hub.sandbox.admin.reset_stats()
    assert hub.history().finished
    log = [call for call in hub.sandbox.admin.stats()["log"] if call["race_id"] == past[0]]
    assert [call["rows"] for call in log if call["endpoint"] == "participants"] == [2, 1, 0]
    hub.assert_equal(past_too=True)


def test_a_race_without_registrations_is_not_read_more_often(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=estate(events=1, registrations=0), seed=7)
    hub.sync()
    assert hub.value("SELECT needs_full FROM event_cursors") is None


def test_races_that_a_backfill_has_just_listed_show_whether_the_credential_works(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=estate(races=2, events=1, registrations=2), seed=7)
    admin = hub.sandbox.admin
    hub.sync()
    for race in admin.truth(1)["races"]:
        admin.add_event(race["race_id"], "Last year", start_in_hours=-24 * 200, race_event_days_id=race["race_id"])
        admin.fault("error_code", 0, endpoint="participants", race_id=race["race_id"], code=7)
    race_id, (event_id,) = admin.add_race(1, [{"name": "Handed over", "start_in_hours": -24 * 300}])
    admin.register(event_id)
    hub.history()
    assert hub.value("SELECT rejected_at FROM partner_provider_credentials") is None
    assert race_id in {row["race_id"] for row in hub.rows("SELECT race_id FROM runsignup_participants")}
