"""Removed, transferred and reactivated registrations."""

import base64
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from rsu_pipeline.runsignup.payload_decoding import decode_registration
from rsu_pipeline.sync import listing
from rsu_pipeline.sync.registration_rows import stage_registration
from rsu_pipeline.warehouse import database, participants
from rsu_pipeline.warehouse.staging import Source
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

MakeHub = Callable[..., Hub]
SPEC = estate(events=2, registrations=20)


@pytest.fixture
def hub(make_hub: MakeHub) -> Hub:
    """Provide a hub synced once, with a stopped clock."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sandbox.admin.clock(rate=0)
    hub.sync()
    hub.sandbox.admin.clock(advance=600)
    return hub


def ids(hub: Hub) -> list[int]:
    return sorted(hub.truth())


def other_event(hub: Hub, registration_id: int) -> int:
    own = hub.truth()[registration_id]["event_id"]
    return next(event_id for event_id in {row["event_id"] for row in hub.truth().values()} if event_id != own)


def row(hub: Hub, registration_id: int) -> dict[str, Any]:
    (found,) = hub.rows("SELECT * FROM runsignup_participants WHERE registration_id = %s", registration_id)
    return found


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("reason", ["cleared", "removed", "deferred", "a word not known yet"])
def test_a_removed_registration_is_marked_with_its_reason_and_time(hub: Hub, reason: str, full: bool) -> None:
    gone = ids(hub)[3]
    hub.sandbox.admin.remove(gone, reason)
    outcome = hub.sync(full=full)
    assert outcome.counts.removed == 1
    found = row(hub, gone)
    assert found["removed_reason"] == reason
    assert int(found["removed_at"].timestamp()) == found["removed_epoch"] == int(hub.sandbox.admin.clock())
    assert found["last_name"], "what was known of the person stays"
    hub.assert_equal()
    hub.assert_removals()
    assert hub.sync(full=full).counts.removed == 0, "marked once"


def test_a_removal_costs_a_full_read_one_call_more_and_none_when_nothing_is_gone(hub: Hub) -> None:
    admin = hub.sandbox.admin
    admin.reset_stats()
    hub.sync(full=True)
    assert "removed" not in admin.stats()["by_endpoint"]
    admin.remove(ids(hub)[0], "removed")
    admin.reset_stats()
    hub.sync(full=True)
    assert admin.stats()["by_endpoint"]["removed"] == 2, "its page, and the empty one that ends the feed"


def test_a_transferred_registration_points_to_the_new_one(hub: Hub) -> None:
    old = ids(hub)[0]
    new = hub.sandbox.admin.transfer(old, other_event(hub, old))
    hub.sync()
    assert (row(hub, old)["removed_reason"], row(hub, old)["new_registration_id"]) == ("transferred", new)
    assert row(hub, new)["removed_at"] is None
    hub.assert_equal()


@pytest.mark.parametrize("hidden", ["new", "removed"])
def test_a_transfer_seen_on_one_feed_before_the_other_settles(hub: Hub, hidden: str) -> None:
    admin = hub.sandbox.admin
    old = ids(hub)[0]
    new = admin.transfer(old, other_event(hub, old), hide=hidden, hide_seconds=3)
    hub.sync()
    held = hub.stored()
    assert (old in held, new in held) == ((False, False) if hidden == "new" else (True, True))
    admin.clock(advance=4)
    hub.sync()
    hub.assert_equal()
    hub.assert_removals()


def test_a_reason_that_comes_late_is_learned_by_full_reads_alone_once(hub: Hub) -> None:
    admin = hub.sandbox.admin
    old = ids(hub)[0]
    new = admin.transfer(old, other_event(hub, old), hide="removed", hide_seconds=3)
    hub.sync(full=True)
    assert row(hub, old)["removed_reason"] == "missing_upstream"
    admin.clock(advance=3600)
    for calls in (2, 0):  # its page, and the empty one that ends the feed
        admin.reset_stats()
        hub.sync(full=True)
        assert admin.stats()["by_endpoint"].get("removed", 0) == calls
        assert (row(hub, old)["removed_reason"], row(hub, old)["new_registration_id"]) == ("transferred", new)
    hub.assert_removals()


def test_what_stays_without_a_reason_is_asked_after_once_more_and_then_let_be(hub: Hub) -> None:
    admin = hub.sandbox.admin
    admin.remove(ids(hub)[0], silent=True)
    asked = []
    for _ in range(3):
        admin.reset_stats()
        hub.sync(full=True)
        asked.append(admin.stats()["by_endpoint"].get("removed", 0))
        admin.clock(advance=3600)
    # Since the last read and among all, whose end is an empty page, and among all an hour later.
    assert asked == [3, 2, 0]
    hub.assert_removals()


def test_a_chain_of_transfers_between_two_syncs_can_be_followed(hub: Hub) -> None:
    admin = hub.sandbox.admin
    chain = [ids(hub)[0]]
    home, away = hub.truth()[chain[0]]["event_id"], other_event(hub, chain[0])
    for event in (away, home, away):
        chain.append(admin.transfer(chain[-1], event))
    hub.sync()
    for old, new in itertools.pairwise(chain):
        assert (row(hub, old)["removed_reason"], row(hub, old)["new_registration_id"]) == ("transferred", new)
    assert row(hub, chain[-1])["removed_at"] is None
    hub.assert_equal()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("seconds", [0, 40])
def test_a_reactivated_registration_is_active_again(hub: Hub, full: bool, seconds: int) -> None:
    admin = hub.sandbox.admin
    back = ids(hub)[2]
    admin.remove(back, "cleared")
    hub.sync(full=full)
    admin.clock(advance=seconds)
    admin.reactivate(back)
    outcome = hub.sync(full=full)
    assert outcome.counts.reactivated == 1
    assert row(hub, back)["removed_reason"] is None
    hub.assert_equal()


def test_a_removal_in_the_second_of_the_last_edit_counts(hub: Hub) -> None:
    admin = hub.sandbox.admin
    gone = ids(hub)[1]
    admin.edit(gone, {"first_name": "Edited"})
    hub.sync()
    admin.remove(gone, "removed")
    hub.sync()
    hub.assert_equal()
    hub.assert_removals()


def test_a_removal_older_than_the_active_row_is_ignored(hub: Hub) -> None:
    """The removed feed may list an old removal of a registration that has come back since."""
    from rsu_pipeline.runsignup.client import Client
    from rsu_pipeline.runsignup.payloads import Registration

    key = ids(hub)[0]
    hub.sandbox.admin.edit(key, {"first_name": "Back"})
    old = Registration(
        registration_id=key,
        event_id=hub.truth()[key]["event_id"],
        last_modified_ts=int(hub.sandbox.admin.clock()) - 60,
        removed_reason="cleared",
        raw=b"{}",
    )
    ask = Client.removed_page

    def with_old_removal(client: Client, *args: Any, **kwargs: Any) -> Any:
        page = ask(client, *args, **kwargs)
        page.rows.append(old)
        return page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "removed_page", with_old_removal)
        hub.sync()
    hub.assert_equal()


def test_what_a_complete_full_read_does_not_show_is_missing_upstream(hub: Hub) -> None:
    gone = ids(hub)[:2]
    for key in gone:
        hub.sandbox.admin.remove(key, silent=True)
    assert hub.sync().counts.removed == 0, "an incremental read cannot know"
    assert hub.sync(full=True).counts.removed == 2
    assert [row(hub, key)["removed_reason"] for key in gone] == ["missing_upstream"] * 2
    hub.assert_equal()


@pytest.mark.parametrize("kind", ["http_500", "truncated", "unknown_shape", "throttle_200", "reset"])
def test_a_full_read_that_failed_anywhere_marks_nothing(hub: Hub, kind: str) -> None:
    hub.environment |= {"RSU_PAGE_SIZE": "7", "RSU_CALL_ATTEMPTS": "1"}
    admin = hub.sandbox.admin
    for key in ids(hub)[:3]:
        admin.remove(key, silent=True)
    admin.fault(kind, 1, endpoint="participants", after_page=True)
    outcome = hub.sync(full=True)
    assert outcome.failures and outcome.counts.removed == 0
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE removed_at IS NOT NULL") == 0
    hub.sync(full=True)
    hub.assert_equal()


def test_a_mass_removal_marks_nothing_and_asks_a_person(hub: Hub) -> None:
    admin = hub.sandbox.admin
    event = min(row["event_id"] for row in hub.truth().values())
    gone = [key for key in ids(hub) if hub.truth()[key]["event_id"] == event][:8]
    for key in gone:
        admin.remove(key, silent=True)
    outcome = hub.sync(full=True)
    assert outcome.counts.removed == 0
    assert outcome.failures == [f"race {outcome.reads[0].read.race_id}: removals pending confirmation (event {event}: 8 of 20"
                                " registrations): confirm with confirm_removals"]  # fmt: skip
    assert len(hub.stored()) == 40
    again = hub.sync()
    assert again.reads[0].read.reason == "removals held back, waiting to be confirmed", "it stays red until confirmed"
    assert hub.sync(full=True, confirm_removals=True).counts.removed == 8
    hub.assert_equal()
    assert not hub.sync().failures


def test_removals_that_runsignup_itself_names_are_not_held_back(hub: Hub) -> None:
    for key in ids(hub)[:18]:
        hub.sandbox.admin.remove(key, "cleared")
    outcome = hub.sync(full=True)
    assert (outcome.counts.removed, outcome.failures) == (18, [])
    hub.assert_equal()
    hub.assert_removals()


def test_a_row_held_back_is_not_taken_for_missing(hub: Hub) -> None:
    key = ids(hub)[0]
    hub.sandbox.admin.edit(key, {"event_id": 1})
    outcome = hub.sync(full=True)
    assert outcome.counts.quarantined == 1
    assert row(hub, key)["removed_at"] is None


NO_DIGEST = b"\t\\N"


def test_a_registration_first_seen_removed_that_comes_back_with_another_bib_replays(hub: Hub) -> None:
    hub.sync()
    held = next(iter(hub.stored().values()))
    row = {
        "registration_id": 999_999_999,
        "event_id": held["event_id"],
        "user": {"user_id": 1},
        "last_modified_ts": 1_790_000_000,
    }
    source = Source(1, hub.partners[1], held["race_id"], 1_790_000_100, "test", "incremental")
    gone = decode_registration(json.dumps(row | {"bib_num": 12, "removed_reason": "cleared"}).encode())
    back = decode_registration(json.dumps(row | {"bib_num": 15, "last_modified": 1_790_000_050}).encode())
    with database.session(hub.url, purpose="tests") as conn:
        participants.merge_removed(conn, [stage_registration(gone, held["race_id"])[0] + NO_DIGEST], source)
        participants.merge_active(conn, [stage_registration(back, held["race_id"])[0] + NO_DIGEST], source, full=False)
        conn.commit()
    log = hub.rows("SELECT old_bib, new_bib FROM runsignup_bib_changes WHERE registration_id = 999999999")
    assert [(change["old_bib"], change["new_bib"]) for change in log] == [("12", "15")]
    hub.assert_bib_log_replays()


def test_an_empty_answer_to_a_full_read_of_many_small_events_removes_nobody(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(
        spec={"partners": 1, "races_per_partner": 1, "events_per_race": 40, "registrations_per_event": 5,
              "start_in_hours": 400},
        seed=3,
    )  # fmt: skip
    hub.sync()
    # Twice, since an empty answer is requested again at once.
    hub.sandbox.admin.fault("raw", 2, endpoint="participants", body="W10=")  # []
    outcome = hub.sync(full=True)
    assert outcome.counts.removed == 0 and "removals pending confirmation" in outcome.failures[0]
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE removed_at IS NULL") == 200
    assert not hub.sync().failures
    hub.assert_equal()


def test_empty_answers_for_many_small_races_remove_no_more_than_a_share_of_the_partner(
    make_hub: Callable[..., Hub],
) -> None:
    hub = make_hub(
        spec={"partners": 1, "races_per_partner": 10, "events_per_race": 1, "registrations_per_event": 5,
              "start_in_hours": 400},
        seed=3,
    )  # fmt: skip
    hub.sync()
    hub.sandbox.admin.fault("raw", 0, endpoint="participants", body="W10=")
    outcome = hub.sync(full=True)
    assert outcome.counts.removed == 0 and not outcome.failures, "one response is no evidence"
    outcome = hub.sync(full=True)
    assert outcome.counts.removed <= 10 and len(outcome.failures) >= 8
    hub.sandbox.admin.clear_faults()
    assert not hub.sync(full=True).failures
    hub.assert_equal()


@pytest.mark.parametrize("events", [None, []], ids=["no key", "empty list"])
def test_a_detail_without_events_marks_none_of_them_gone(hub: Hub, events: list[object] | None) -> None:
    race_id = hub.value("SELECT min(race_id) FROM runsignup_races")
    detail = {"race": {"race_id": race_id, "name": "Race"} | ({} if events is None else {"events": events})}
    body = base64.b64encode(json.dumps(detail).encode()).decode()
    hub.execute("UPDATE runsignup_races SET detail_as_of = NULL")
    hub.sandbox.admin.fault("raw", 1, endpoint="race", race_id=race_id, body=body)
    with hub.partner_session() as session:
        outcome = listing.refresh_events(session)
    assert any("its detail has no events" in problem for problem in outcome.problems)
    assert hub.value("SELECT count(*) FROM runsignup_events WHERE gone_at IS NOT NULL") == 0


@pytest.mark.parametrize("up_to", ["0", "500"])
@pytest.mark.parametrize("why", ["an empty answer", "an earlier stamp"])
def test_the_reason_of_a_removal_is_found_though_the_feed_did_not_show_it(
    make_hub: Callable[..., Hub], why: str, up_to: str
) -> None:
    hub = make_hub(spec=estate(events=1, registrations=12), seed=7)
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = up_to
    admin = hub.sandbox.admin
    admin.clock(rate=0)
    hub.sync()
    removed = min(hub.stored())
    now = admin.clock(advance=5000)
    if why == "an earlier stamp":
        admin.clock(set=now - 7200)
    admin.remove(removed, "deferred")
    now = admin.clock(set=now + 3000)
    if why == "an empty answer":
        admin.fault("few_rows", 4, endpoint="removed", size=0, until=now + 60)
    hub.sync()
    for _ in range(2):
        admin.clock(advance=4000)
        hub.sync(full=True)
    assert row(hub, removed)["removed_reason"] == "deferred"
    hub.assert_removals()
