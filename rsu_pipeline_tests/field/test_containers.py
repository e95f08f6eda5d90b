"""Registrations go with their event, their race and the access to it, each time confirmed by a second answer, and come back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rsu_pipeline.sync import losses, vanished
from rsu_pipeline.sync.sync_outcome import SyncOutcome
from rsu_pipeline_tests.field.scripted import Field, RunSignup

ACME = {"partner": 1, "name": "Acme Timing", "key": "key-1", "secret": "secret-1"}
BOLT = {"partner": 2, "name": "Bolt Timing", "key": "key-2", "secret": "secret-2"}
HOUR = 3600


@pytest.fixture
def pair(database_url: str, tmp_path: Path, scripted: RunSignup) -> Field:
    """Provide a hub of two partners."""
    scripted.reset()
    scripted.partners = [ACME, BOLT]
    return Field(database_url, scripted, tmp_path)


def shown(field: Field) -> dict[str, list[tuple[int, str | None]]]:
    """Return what displays see: partner and bib of each registration, by last name."""
    found: dict[str, list[tuple[int, str | None]]] = {}
    for row in field.rows("SELECT last_name, timing_partner_id, bib_number FROM unified_participants ORDER BY 1, 2"):
        found.setdefault(row["last_name"], []).append((row["timing_partner_id"], row["bib_number"]))
    return found


def owners(field: Field) -> list[tuple[str, int]]:
    """Return event and partner as displays and other programs see them."""
    rows = field.rows("SELECT event_id, timing_partner_id FROM unified_events ORDER BY 1")
    named = field.rows(
        "SELECT event_id::varchar AS event_id, timing_partner_id FROM runsignup_events WHERE gone_at IS NULL ORDER BY 1"
    )
    assert rows == [row for row in named if row["event_id"] in {own["event_id"] for own in rows}]
    return [(row["event_id"], row["timing_partner_id"]) for row in rows]


def reasons_of_removal(field: Field, partner: int = 1) -> dict[int, str]:
    return {number: row["removed_reason"] for number, row in field.removed(partner).items()}


def lost(field: Field) -> dict[int, str]:
    rows = field.rows("SELECT race_id, lost_reason FROM partner_races WHERE lost_at IS NOT NULL")
    return {row["race_id"]: row["lost_reason"] for row in rows}


def wait(field: Field, hours: float) -> None:
    """Let time pass at RunSignup and in the hub."""
    field.runsignup.clock = field.runsignup.now() + hours * HOUR
    field.runsignup.tell()


def test_entrants_of_a_deleted_event_are_transferred_not_doubled(field: Field) -> None:
    """Field case 4."""
    world = field.runsignup
    one = world.event(101)
    world.race(1, one, world.event(102))
    world.enter(102, 21, bib_num=50, user={"user_id": 7, "last_name": "Okafor"})
    field.sync()
    world.forget(102, 21)
    world.enter(101, 41, bib_num=50, user={"user_id": 7, "last_name": "Okafor"})
    world.race(1, one)
    outcome = field.full_sync()
    assert not outcome.failures
    assert {number: row["bib_num"] for number, row in field.registrations().items()} == {41: "50"}
    (gone,) = field.removed().values()
    assert (gone["removed_reason"], gone["new_registration_id"]) == ("event_deleted", 41)
    assert shown(field) == {"Okafor": [(1, "50")]}
    field.rebuild_lists()
    assert list(field.start_list()) == [41]
    field.assert_log_replays()


def test_a_second_registration_of_long_ago_is_no_transfer(field: Field) -> None:
    world = field.runsignup
    one = world.event(101)
    world.race(1, one, world.event(102))
    world.enter(102, 21, user={"user_id": 7, "last_name": "Okafor"})
    world.enter(101, 41, user={"user_id": 7, "last_name": "Okafor"})
    field.sync()
    field.sync()
    world.race(1, one)
    field.full_sync()
    assert field.removed()[21]["new_registration_id"] is None


def test_a_race_handed_to_another_partner_is_shown_with_its_rows_only(pair: Field) -> None:
    """Field case 15."""
    world = pair.runsignup
    event = world.event(101)
    world.race(1, event, key="key-1")
    world.enter(101, 11, bib_num=7)
    pair.sync(1)
    pair.sync(2)
    world.race(1, event, key="key-2")
    world.enter(101, 11, bib_num=8)
    pair.sync(1)
    pair.sync(2)
    assert shown(pair) == {"Okafor 11": [(2, "8")]}
    assert owners(pair) == [("101", 2)]


def test_a_race_handed_on_is_removed_where_it_was_lost_and_comes_back(pair: Field) -> None:
    world = pair.runsignup
    event = world.event(101)
    world.race(1, event, key="key-1")
    world.race(2, world.event(201), key="key-1")
    world.enter(101, 11, bib_num=7)
    pair.sync(1)
    world.race(1, event, key="key-2")
    world.enter(101, 11, bib_num=8)
    assert not pair.sync(1).failures, "handing a race on is no failure"
    pair.sync(2)
    assert lost(pair) == {1: "access_lost"} and reasons_of_removal(pair) == {11: "access_lost"}
    assert not pair.sync(1).failures
    world.calls()
    pair.sync(1)
    assert [call["race"] for call in world.calls() if call["race"] == 1] == [], "a lost race is not requested each time"
    world.race(1, event, key="key-1")
    world.enter(101, 11, bib_num=9)
    pair.sync(2)
    pair.sync(1)
    row = pair.registrations(1)[11]
    assert (row["bib_num"], row["removed_reason"]) == ("9", None)
    assert shown(pair) == {"Okafor 11": [(1, "9")]} and owners(pair) == [("101", 1), ("201", 1)]
    pair.assert_log_replays()


def test_a_shared_race_is_shown_once_and_survives_the_loss_of_one_partner(pair: Field) -> None:
    world = pair.runsignup
    event = world.event(101)
    world.race(1, event)
    for key in ("key-1", "key-2"):
        world.race(int(key[-1]) + 1, world.event(200 + int(key[-1])), key=key)
    world.enter(101, 11, bib_num=7)
    pair.sync(1)
    pair.sync(2)
    assert shown(pair) == {"Okafor 11": [(1, "7")]}
    world.race(1, event, key="key-2")
    world.enter(101, 11, bib_num=8)
    pair.sync(2)
    pair.sync(1)
    assert reasons_of_removal(pair, 1) == {11: "access_lost"}
    assert list(pair.registrations(2)) == [11]
    assert shown(pair) == {"Okafor 11": [(2, "8")]}


def test_a_disabled_partner_is_not_shown_where_another_can_read(pair: Field) -> None:
    world = pair.runsignup
    world.race(1, world.event(101))
    world.enter(101, 11, bib_num=7)
    pair.sync(1)
    pair.sync(2)
    pair.execute("UPDATE timing_partners SET disabled_at = now() WHERE timing_partner_id = 1")
    world.enter(101, 11, bib_num=8)
    pair.sync(2)
    assert shown(pair) == {"Okafor 11": [(2, "8")]} and owners(pair) == [("101", 2)]


def test_a_deleted_race_takes_its_rows_along_and_is_no_failure(field: Field) -> None:
    world = field.runsignup
    world.race(1, world.event(101))
    world.race(2, world.event(201))
    world.enter(101, 11, bib_num=7)
    field.sync()
    field.rebuild_lists()
    world.delete_race(1)
    assert not field.sync().failures
    assert lost(field) == {1: "race_deleted"} and reasons_of_removal(field) == {11: "race_deleted"}
    field.rebuild_lists()
    assert field.start_list() == {} and shown(field) == {} and owners(field) == [("201", 1)]
    world.calls()
    assert not field.full_sync().failures
    assert [call for call in world.calls() if call["race"] == 1] == []


def test_a_deleted_race_that_comes_back_is_read_in_full_again(field: Field) -> None:
    world = field.runsignup
    event = world.event(101)
    world.race(1, event)
    world.enter(101, 11, bib_num=7)
    world.enter(101, 12)
    field.sync()
    world.delete_race(1)
    field.sync()
    world.race(1, event)
    world.remove(101, 12)
    world.enter(101, 11, bib_num=8)
    field.sync()
    assert lost(field) == {}
    assert {number: row["bib_num"] for number, row in field.registrations().items()} == {11: "8"}
    assert field.bib_log() == [(11, "7", "8")]
    field.assert_log_replays()


def test_a_visit_without_a_listing_keeps_a_race_that_the_listing_had(field: Field) -> None:
    world = field.runsignup
    world.race(1, world.event(101))
    world.race(2, world.event(201))
    world.enter(101, 11)
    field.sync()
    world.refuse("participants", 201, race=1)
    for _ in range(2):
        outcome = field.sync()
        assert outcome.failures and list(field.registrations()) == [11], "listed and not found: kept, and a failure"
    wait(field, 25)
    assert not field.sync().failures
    assert reasons_of_removal(field) == {11: "race_deleted"}
    world.behave()
    field.sync()
    assert list(field.registrations()) == [11]


@pytest.mark.parametrize("hours", [0.0, 20.0])
def test_access_refused_for_a_time_to_a_listed_race_removes_nothing(field: Field, hours: float) -> None:
    world = field.runsignup
    world.race(1, world.event(101))
    world.race(2, world.event(201))
    world.enter(101, 11)
    field.sync()
    world.refuse("participants", 7, race=1)
    field.sync()
    wait(field, hours)
    assert field.sync().failures
    assert list(field.registrations()) == [11]
    world.behave()
    field.sync()
    wait(field, 20)
    world.refuse("participants", 7, race=1, times=1)
    field.sync()
    assert lost(field) == {}, "each success begins the day again"


def test_an_unlisted_race_that_can_be_read_keeps_its_rows(field: Field) -> None:
    world = field.runsignup
    world.race(1, world.event(101))
    world.race(2, world.event(201))
    world.enter(101, 11)
    field.sync()
    world.answer("races", {"races": []}, times=2)
    field.sync()
    assert field.value("SELECT count(*) FROM partner_races WHERE unlisted_at IS NOT NULL") == 2
    assert list(field.registrations()) == [11] and lost(field) == {}


def test_a_rejected_credential_loses_no_race(field: Field) -> None:
    world = field.runsignup
    for race in (1, 2, 3):
        world.race(race, world.event(race * 100), key="key-1")
        world.enter(race * 100, race)
    field.sync()
    for race in (1, 2, 3):
        world.race(race, world.event(race * 100), key="key-new")
    for _ in range(3):
        try:
            field.sync(retry_rejected=True)
        except Exception as error:
            assert "credential" in str(error)
        wait(field, 30)
    assert lost(field) == {} and sorted(field.registrations()) == [1, 2, 3]


def test_a_past_race_that_is_refused_is_not_due_for_a_year(field: Field) -> None:
    world = field.runsignup
    world.clock = world.now()
    world.race(1, world.event(101, in_hours=1))
    world.race(2, world.event(201))
    world.enter(101, 11)
    field.sync()
    wait(field, 12)
    world.refuse("participants", 7, race=1)
    assert field.sync().failures, "its final read is due"
    wait(field, 25)
    assert not field.sync().failures
    assert lost(field) == {1: "access_lost"}
    world.calls()
    wait(field, 1)
    assert not field.sync().failures
    assert [call for call in world.calls() if call["race"] == 1] == []
    world.behave()
    wait(field, 24)
    field.sync()
    assert list(field.registrations()) == [11], "requested once a day, read when it can be"


def test_an_event_that_comes_back_is_read_in_full_again(field: Field) -> None:
    world = field.runsignup
    one, two = world.event(101), world.event(102)
    world.race(1, one, two)
    world.enter(102, 21, bib_num=5)
    field.sync()
    world.race(1, one)
    field.sync()
    assert reasons_of_removal(field) == {21: "event_deleted"}
    world.race(1, one, two)
    field.sync()
    assert field.registrations()[21]["removed_reason"] is None
    assert field.bib_log() == []
    field.assert_log_replays()


def test_a_detail_that_lacks_an_event_once_removes_nothing(field: Field) -> None:
    world = field.runsignup
    one, two = world.event(101), world.event(102)
    world.race(1, one, two)
    world.enter(102, 21)
    field.sync()
    detail = {"race": {"race_id": 1, "name": "Race 1", "last_modified": "10/1/2026 08:05", "events": [one]}}
    world.answer("race", detail, race=1, times=1)
    world.race(1, one, two, last_modified="10/1/2026 08:05")
    field.sync()
    assert "its detail lacks events 102, which have entrants" in field.reported()
    assert list(field.registrations()) == [21]
    field.sync()
    assert (
        field.value("SELECT count(*) FROM runsignup_events WHERE vanished_at IS NOT NULL OR gone_at IS NOT NULL") == 0
    )


def test_a_detail_without_the_key_events_is_reported(field: Field) -> None:
    """Field case 12."""
    world = field.runsignup
    world.race(1, world.event(101), world.event(102))
    world.enter(102, 21)
    field.sync()
    world.race(1, world.event(101), world.event(102), last_modified="10/1/2026 08:05")
    world.answer("race", {"race": {"race_id": 1, "name": "Race 1"}}, race=1, times=1)
    field.sync()
    assert "its detail has no events" in field.reported()
    assert field.value("SELECT count(*) FROM runsignup_events WHERE gone_at IS NOT NULL") == 0
    assert list(field.registrations()) == [21]


Answers = Callable[[Field], Any]


def sync_after(field: Field, minutes: float) -> SyncOutcome:
    wait(field, minutes / 60)
    return field.sync()


def test_an_event_without_a_telling_answer_is_gone_at_a_second_later_detail(field: Field) -> None:
    world = field.runsignup
    one = world.event(101)
    world.race(1, one, world.event(102))
    world.enter(101, 11)
    field.sync()
    world.race(1, one, last_modified="10/1/2026 08:05")
    world.answer("participants", [{"event": {"event_id": 102, "participants": []}}], event=102)
    field.sync()
    assert "its detail lacks events 102: they are kept until a later detail" in field.reported()
    field.sync()
    assert field.value("SELECT gone_at FROM runsignup_events WHERE event_id = 102") is None, "too soon after the first"
    sync_after(field, 11)
    assert field.value("SELECT gone_at FROM runsignup_events WHERE event_id = 102") is not None


def test_many_events_gone_by_details_alone_wait_for_a_person(field: Field) -> None:
    world = field.runsignup
    events = [world.event(100 + number) for number in range(20)]
    world.race(1, *events)
    for event in events:
        world.enter(event["event_id"], event["event_id"] * 10)
    field.sync()
    world.race(1, *events[:4], last_modified="10/1/2026 08:05")
    world.refuse("participants", 4, race=1)
    for _ in range(3):
        wait(field, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vanished, "MAX_REQUESTS", 1)
            field.sync()
    assert "confirm with confirm_removals" in field.reported()
    assert len(field.registrations()) == 20
    world.behave()
    world.answer("participants", [], race=1)
    field.sync(confirm_removals=True)
    assert field.value("SELECT count(*) FROM runsignup_events WHERE gone_at IS NOT NULL") == 16


def test_removals_with_a_container_do_not_count_as_unexplained(field: Field) -> None:
    world = field.runsignup
    one = world.event(101)
    world.race(1, one, world.event(102))
    for number in range(30):
        world.enter(102, 200 + number)
    world.enter(101, 11)
    field.sync()
    world.race(1, one)
    field.full_sync()
    world.calls()
    field.full_sync()
    assert {call["feed"] for call in world.calls() if call["race"]} == {"participants"}


def test_an_event_moved_to_another_race_takes_its_rows_along(field: Field) -> None:
    world = field.runsignup
    one, two = world.event(101), world.event(102)
    world.race(1, one, two)
    world.race(2, world.event(201))
    world.enter(102, 21, bib_num=5)
    field.sync()
    world.race(1, one, last_modified="10/1/2026 08:05")
    world.race(2, world.event(201), two, last_modified="10/1/2026 08:05")
    field.sync()
    field.sync()
    row = field.registrations()[21]
    assert (row["race_id"], row["bib_num"], row["removed_reason"]) == (2, "5", None)
    assert field.bib_log() == []


def test_judge_never_loses_a_race_from_one_answer() -> None:
    from rsu_pipeline.warehouse.containers import PartnerRace

    now = losses.dt.datetime(2027, 6, 1, tzinfo=losses.dt.UTC)
    for access in ("denied", "not_found"):
        for works in (False, True):
            race = PartnerRace(1, access, now, True, True, True, None)
            assert losses.judge_loss(race, now, credential_works=works) is None
