"""Past editions: read in slices, resumed, refused, retried, against a RunSignup in its own process."""

import datetime as dt
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.sync import access, history
from rsu_pipeline.sync.session import CredentialRejected
from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.backfill_state import PastEvent, list_waiting_requests
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

MakeHub = Callable[..., Hub]
NOW = dt.datetime(2026, 10, 4, tzinfo=dt.UTC)
SPEC = estate(partners=2, races=2, registrations=7)
PAST = (-100, -400, -800)
"""Days from now to the starts of past editions, the newest first."""


@given(st.integers(1, 1000))
def test_a_race_that_fails_again_and_again_is_tried_less_and_less_but_daily(failures: int) -> None:
    hour, day = dt.timedelta(hours=1), dt.timedelta(hours=24)
    assert hour <= history.retry_wait(failures) <= history.retry_wait(failures + 1) <= day


def test_editions_are_the_events_of_one_weekend_and_old_when_all_of_them_are() -> None:
    def event(number: int, edition: int, days: int) -> PastEvent:
        return PastEvent(number, edition, NOW - dt.timedelta(days=days))

    events = [event(1, 7, 300), event(2, 7, 301), event(3, 5, 700), event(4, 5, 700)]
    assert [[one.event_id for one in group] for group in history.group_editions(events)] == [[1, 2], [3, 4]]
    assert not history.is_old(events, NOW) and history.is_old(events[2:], NOW)
    assert not history.is_old([PastEvent(5, 5, None)], NOW)


def add_past(hub: Hub, race_id: int, *, count: int = 6, days: tuple[int, ...] = PAST) -> list[int]:
    """Add past editions of a race, and return them, the newest first."""
    admin = hub.sandbox.admin
    events = [
        admin.add_event(race_id, f"{-day} days ago", start_in_hours=24 * day, race_event_days_id=7000 - day)
        for day in days
    ]
    for event_id in events:
        admin.register(event_id, {"bib_num": 9}, count=count)
    return events


@pytest.fixture
def hub(make_hub: MakeHub) -> Hub:
    """Provide two partners with two races each. The first partner's have three past editions."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment |= {"RSU_CALL_ATTEMPTS": "1", "RSU_CALL_BACKOFF": "0"}
    for race in hub.sandbox.admin.truth(1)["races"]:
        add_past(hub, race["race_id"])
    # A detail that is read in the minute of its change is read once more.
    hub.sandbox.admin.clock(advance=600)
    hub.sync(1)
    hub.sandbox.admin.reset_stats()
    return hub


def races(hub: Hub, partner: int = 1) -> list[int]:
    return sorted(race["race_id"] for race in hub.sandbox.admin.truth(partner)["races"])


def calls(hub: Hub) -> Counter[str]:
    """Return calls by endpoint, except the listing with which a request begins."""
    return Counter(call["endpoint"] for call in hub.sandbox.admin.stats()["log"] if call["endpoint"] != "races")


def states(hub: Hub, partner: int = 1) -> dict[int, str]:
    rows = hub.rows("SELECT event_id, state FROM history_events WHERE timing_partner_id = %s", partner)
    return {row["event_id"]: row["state"] for row in rows}


def test_all_past_editions_are_read_with_the_fewest_calls(hub: Hub) -> None:
    done = hub.history()
    assert done.finished and (done.races, done.events, done.problems) == (2, 6, [])
    hub.assert_equal(past_too=True)
    # The details of both races are known since the sync. A race's past editions fit a page, and an empty one ends them.
    assert calls(hub) == {"participants": 4}
    assert hub.sandbox.admin.stats()["by_endpoint"]["races"] == 1
    progress = hub.history_progress()
    assert progress.is_complete
    assert (progress.races, progress.races_done, progress.events, progress.loaded) == (2, 2, 6, 6)
    assert progress.registrations == 36 and progress.calls == 5
    hub.assert_bib_log_replays()
    assert hub.value("SELECT count(*) FROM runsignup_bib_changes") == 0


def test_a_second_request_finds_nothing_to_read_and_one_for_anew_reads_all(hub: Hub) -> None:
    hub.history()
    changed = next(key for key, row in hub.truth(past_too=True).items() if key not in hub.truth())
    hub.sandbox.admin.bib(changed, 77)
    hub.sandbox.admin.reset_stats()
    assert hub.history().finished and calls(hub) == {}
    assert hub.history(reload=True).events == 6
    # A page a race, and another for what is not known to be the longest page yet.
    assert 2 <= calls(hub)["participants"] <= 4
    hub.assert_equal(past_too=True)
    hub.assert_bib_log_replays()


def test_only_the_years_asked_for(hub: Hub) -> None:
    starts = {
        row["event_id"]: row["start_time"] for row in hub.rows("SELECT event_id, start_time FROM runsignup_events")
    }
    now = hub.sandbox.admin.clock()
    years = sorted({start.year for start in starts.values() if start.timestamp() < now})
    hub.history(since_year=years[-1])
    wanted = {key for key, start in starts.items() if start.year == years[-1] and start.timestamp() < now}
    assert set(states(hub)) == wanted != set()
    # Earlier years follow when they are requested; what was read is not read again.
    hub.sandbox.admin.reset_stats()
    assert hub.history().finished
    assert len(states(hub)) == 6 and hub.history_progress().is_complete
    asked = [
        call["query"]["event_id"] for call in hub.sandbox.admin.stats()["log"] if call["endpoint"] == "participants"
    ]
    assert not wanted & {int(number) for text in asked for number in text.split(",")}


def test_the_newest_race_comes_first_and_a_slice_ends_between_races(hub: Hub) -> None:
    admin = hub.sandbox.admin
    new_race, (event_id,) = admin.add_race(1, [{"name": "Last month", "start_in_hours": -24 * 30}])
    admin.register(event_id)
    hub.sync(1)
    done = hub.history(seconds=0.0)
    assert (done.races, done.finished) == (0, False)
    order: list[int] = []
    while not done.finished:
        admin.reset_stats()
        with hub.partner_session(lane="backfill") as session:
            done = history.run_slice(session, 1.0, clock=iter([0.0, 0.5, 99.0, 99.0]).__next__)
        pages = [call["race_id"] for call in admin.stats()["log"] if call["endpoint"] == "participants"]
        order += dict.fromkeys(pages)
        if len(order) > 5:
            break
    assert order[0] == new_race and sorted(order) == races(hub)
    assert hub.value("SELECT slices FROM history_requests") == 4


def test_editions_that_runsignup_no_longer_gives_out_are_recorded_and_the_others_read(hub: Hub) -> None:
    hub.sandbox.admin.switch(old_after_days=365)
    done = hub.history()
    assert done.finished and (done.events, done.unavailable, done.problems) == (2, 4, [])
    assert Counter(states(hub).values()) == {"loaded": 2, "unavailable": 4}
    reasons = hub.rows("SELECT DISTINCT reason FROM history_events WHERE state = 'unavailable'")
    assert len(reasons) == 2 and all("no longer available" in row["reason"] for row in reasons)
    # For good: nothing is asked again, until it is requested again.
    hub.sandbox.admin.reset_stats()
    assert hub.history().finished and calls(hub) == {}
    hub.sandbox.admin.switch(old_after_days=0)
    assert hub.history(reload=True).events == 6
    hub.assert_equal(past_too=True)


def test_old_editions_answered_with_nothing_are_recorded_as_empty(hub: Hub) -> None:
    hub.sandbox.admin.switch(old_after_days=365, old_answer="empty")
    assert hub.history().finished
    assert Counter(states(hub).values()) == {"loaded": 2, "empty": 4}
    progress = hub.history_progress()
    assert (progress.loaded, progress.empty, progress.registrations) == (2, 4, 12)


@pytest.mark.parametrize("kind", ["http_500", "html_200", "unknown_shape", "truncated", "error_code"])
def test_a_failing_race_is_skipped_counted_and_retried_later(hub: Hub, kind: str) -> None:
    broken = races(hub)[0]
    more: dict[str, Any] = {"code": 12, "message": "no"} if kind == "error_code" else {}
    hub.sandbox.admin.fault(kind, 0, endpoint="participants", race_id=broken, **more)
    done = hub.history()
    assert not done.finished and len(done.problems) == 1 and f"race {broken}" in done.problems[0]
    progress = hub.history_progress()
    assert (progress.races_done, progress.failing, progress.is_complete) == (1, 1, False)
    assert progress.not_before > dt.datetime.now(dt.UTC) + dt.timedelta(minutes=50)
    failed = hub.rows("SELECT * FROM sync_history WHERE operation_type = 'history' AND status = 'failed'")
    assert {row["race_id"] for row in failed} == {broken}
    hub.sandbox.admin.clear_faults()
    hub.sandbox.admin.reset_stats()
    # Not before its time; an operator who asks again does not wait.
    assert not hub.history(ask=False).finished and calls(hub) == {}
    assert hub.history().finished
    hub.assert_equal(past_too=True)
    assert hub.history_progress().is_complete


def test_a_race_that_failed_and_that_a_sync_read_since_fails_no_more(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment |= {"RSU_CALL_ATTEMPTS": "1", "RSU_CALL_BACKOFF": "0"}
    hub.sync()
    hub.sandbox.admin.clock(advance=410 * 3600)
    hub.sandbox.admin.fault("http_503", 0, endpoint="participants", race_id=races(hub)[0])
    assert not hub.history().finished and hub.history_progress().failing == 1
    hub.sandbox.admin.clear_faults()
    assert not hub.sync().failures
    assert hub.history(ask=False).finished
    progress = hub.history_progress()
    assert (progress.failing, progress.loaded, progress.is_complete) == (0, 2, True)


def test_a_new_error_of_a_recent_edition_is_a_failure_not_unavailable(hub: Hub) -> None:
    recent = add_past(hub, races(hub)[0], days=(-20,))[0]
    hub.sync(1)
    hub.sandbox.admin.fault("error_code", 0, endpoint="participants", race_id=races(hub)[0], code=12, message="no")
    hub.history()
    assert recent not in states(hub)
    assert len(hub.rows("SELECT * FROM history_races WHERE error IS NOT NULL")) == 1


def test_a_revoked_key_is_found_out_after_a_few_races(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"races_per_partner": 6}, seed=7)
    for race_id in races(hub):
        add_past(hub, race_id, days=(-100,))
    hub.sync(1)
    hub.sandbox.admin.revoke(1)
    hub.sandbox.admin.reset_stats()
    with pytest.raises(CredentialRejected):
        hub.history()
    assert sum(calls(hub).values()) <= access.MAX_REFUSALS + 1
    hub.sandbox.admin.grant(1)
    with hub.partner_session(retry_rejected=True, lane="backfill") as session:
        history.run_slice(session, 1e6)
    assert hub.history().finished
    hub.assert_equal(past_too=True)


def test_an_empty_budget_ends_the_slice_and_the_next_goes_on_where_it_stopped(hub: Hub) -> None:
    hub.environment |= {"RSU_PAGE_SIZE": "4"}
    # Eleven calls a race of 18 registrations are unavailable: backfill may bring the hour to half of these.
    used = hub.value("SELECT count(*) FROM api_calls")
    hub.environment["RSU_CALLS_PER_HOUR"] = str(used * 2 + 6)
    done = hub.history()
    assert done.out_of_budget is not None and done.problems == [] and not done.finished
    stored = len(hub.stored())
    progress = hub.history_progress()
    assert progress.not_before > dt.datetime.now(dt.UTC) + dt.timedelta(minutes=30)
    # Race day still has calls, and gets them.
    with hub.partner_session(lane="race_day") as session:
        assert session.ledger.left() > 0
    hub.environment["RSU_CALLS_PER_HOUR"] = "100000"
    hub.sandbox.admin.reset_stats()
    assert hub.history(ask=False).finished
    pages = Counter(
        (call["race_id"], call["query"]["sort"], call["query"].get("after_registration_id"))
        for call in hub.sandbox.admin.stats()["log"]
        if call["endpoint"] == "participants" and "modified_after_timestamp" not in call["query"]
    )
    assert max(pages.values()) == 1 and len(hub.stored()) > stored
    hub.assert_equal(past_too=True)


def test_a_full_read_of_the_events_ahead_does_not_undo_an_unfinished_history_pass(hub: Hub) -> None:
    hub.environment |= {"RSU_PAGE_SIZE": "4"}
    race_id = races(hub)[0]
    hub.sandbox.admin.fault("http_500", 1, endpoint="participants", race_id=race_id, after_page=True)
    hub.history()
    before = hub.value("SELECT after_registration_id FROM read_passes WHERE mode = 'history' AND race_id = %s", race_id)
    assert before > 0
    hub.sandbox.admin.clear_faults()
    hub.sync(1, full=True)
    hub.assert_equal()
    assert before == hub.value(
        "SELECT after_registration_id FROM read_passes WHERE mode = 'history' AND race_id = %s", race_id
    )
    hub.sandbox.admin.reset_stats()
    assert hub.history().finished
    first = min(
        int(call["query"].get("after_registration_id", 0))
        for call in hub.sandbox.admin.stats()["log"]
        if call["race_id"] == race_id
        and "modified_after_timestamp" not in call["query"]
        # The highest registration, which shows the end, is no page.
        and call["query"].get("sort") != "registration_id DESC"
    )
    assert first == before
    hub.assert_equal(past_too=True)


def test_an_event_that_a_sync_read_after_it_was_over_is_not_read_again(hub: Hub) -> None:
    hub.sandbox.admin.clock(advance=500 * 3600)
    assert not hub.sync().failures
    hub.sandbox.admin.reset_stats()
    hub.history()
    asked = {
        int(number)
        for call in hub.sandbox.admin.stats()["log"]
        if call["endpoint"] == "participants"
        for number in call["query"]["event_id"].split(",")
    }
    assert len(asked) == 6 and hub.history_progress().loaded == 8


def test_two_partners_that_share_a_race_each_have_its_history(make_hub: MakeHub) -> None:
    hub = make_hub(scale="small", seed=7)
    for partner in hub.partners:
        hub.sync(partner)
        assert hub.history(partner).finished
        hub.assert_equal(partner, past_too=True)
        assert hub.history_progress(partner).is_complete


def test_without_a_call_left_for_the_listing_the_next_slice_begins_with_it(hub: Hub) -> None:
    new_race, (event_id,) = hub.sandbox.admin.add_race(1, [{"name": "Last month", "start_in_hours": -24 * 30}])
    hub.sandbox.admin.register(event_id)
    hub.environment["RSU_CALLS_PER_HOUR"] = "1"
    done = hub.history()
    assert done.out_of_budget is not None and not done.finished and done.calls == 0
    hub.environment["RSU_CALLS_PER_HOUR"] = "1000000"
    assert hub.history(ask=False).finished
    assert new_race in {row["race_id"] for row in hub.rows("SELECT race_id FROM event_cursors")}


def test_what_changed_behind_an_interrupted_pass_is_caught_up_or_the_race_is_read_again(hub: Hub) -> None:
    hub.environment |= {"RSU_PAGE_SIZE": "4"}
    race_id = races(hub)[0]
    hub.sandbox.admin.fault("http_500", 1, endpoint="participants", race_id=race_id, after_page=True)
    hub.history()
    first = min(key for key, row in hub.stored().items() if row["race_id"] == race_id and key not in hub.truth())
    hub.sandbox.admin.bib(first, 4711)
    # The pass goes on to its end, but what changed behind it cannot be had; then it can.
    hub.sandbox.admin.fault("http_500", 1, endpoint="removed", race_id=race_id)
    assert not hub.history().finished
    assert hub.history().finished
    hub.assert_equal(past_too=True)
    hub.assert_bib_log_replays()
    assert hub.stored()[first]["bib_num"] == "4711"


def test_a_finished_backfill_goes_on_with_a_race_that_is_new_to_the_partner(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    admin = hub.sandbox.admin
    hub.sync(2)
    assert hub.history(2).finished
    race_id, (event_id,) = admin.add_race(1, [{"name": "5K", "start_in_hours": -24 * 90}])
    admin.register(event_id, count=3)
    admin.grant(2, race_id)
    assert hub.history_progress(2).is_complete, "nothing of it is known yet"
    hub.sync(2)
    progress = hub.history_progress(2)
    assert (progress.finished_at, progress.is_complete) == (None, False)
    with database.session(hub.url, purpose="test") as conn:
        assert list_waiting_requests(conn, dt.datetime.now(dt.UTC)) == [hub.partners[2]]
    assert hub.history(2, ask=False).finished
    assert hub.history_progress(2).is_complete
    assert len([row for row in hub.stored(2).values() if row["event_id"] == event_id]) == 3
    hub.sync(2)
    assert hub.history_progress(2).is_complete, "nothing new, nothing to go on with"
