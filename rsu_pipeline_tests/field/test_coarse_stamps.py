"""A race's `last_modified` is to the minute, and does not move with every change: it is no version of its events."""

import datetime as dt
from typing import Any

import pytest

from rsu_pipeline.runsignup import values
from rsu_pipeline_tests.field.scripted import Field

NOON = dt.datetime(2027, 5, 3, 12, 0, tzinfo=dt.UTC).timestamp()
HOUR, DAY = 3600, 86400


def minute(clock: float) -> str:
    """Return the stamp of a record that changed then."""
    wall = dt.datetime.fromtimestamp(clock, values.EASTERN)
    return f"{wall.month}/{wall.day}/{wall.year} {wall:%H:%M}"


@pytest.fixture
def field(field: Field) -> Field:
    at(field, NOON)
    return field


def at(field: Field, clock: float) -> None:
    field.runsignup.clock = clock
    field.runsignup.tell()


def details(field: Field) -> int:
    """Return how many details were read since this was last called."""
    return sum(call["feed"] == "race" for call in field.runsignup.calls())


def hold(field: Field, *event_ids: int, listed: tuple[int, ...] = (), **members: Any) -> None:
    """Have RunSignup hold a race with these events, of which its listing has some."""
    runsignup = field.runsignup
    events = {event_id: runsignup.event(event_id) for event_id in event_ids}
    shown = [events[event_id] for event_id in listed or event_ids]
    runsignup.race(1, *events.values(), listed={"events": shown}, **members)
    for event_id in event_ids:
        runsignup.enter(event_id, 2000 + event_id)


@pytest.mark.parametrize("seconds", [0, 20, 7 * HOUR], ids=["at once", "in the same minute", "at a later visit"])
def test_an_event_added_in_the_minute_in_which_the_detail_was_read_is_found(field: Field, seconds: float) -> None:
    stamp = minute(NOON)
    hold(field, 101, last_modified=stamp)
    field.sync()
    hold(field, 101, 102, listed=(101,), last_modified=stamp)
    at(field, NOON + seconds)
    field.sync()
    assert sorted(field.registrations()) == [2101, 2102]


def test_a_detail_read_in_the_minute_of_its_stamp_is_read_once_more_and_no_more(field: Field) -> None:
    hold(field, 101, last_modified=minute(NOON))
    read = []
    for seconds in (0, HOUR, 2 * HOUR, 3 * HOUR):
        at(field, NOON + seconds)
        field.sync()
        read.append(details(field))
    assert read == [1, 1, 0, 0]


def test_whether_a_minute_is_over_is_judged_by_runsignups_clock(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's clock is two hours ahead, so that by it the minute was over long before."""
    monkeypatch.setattr(field.sandbox.admin, "clock", lambda: field.runsignup.now() + 2 * HOUR)
    stamp = minute(NOON)
    hold(field, 101, last_modified=stamp)
    field.sync()
    hold(field, 101, 102, listed=(101,), last_modified=stamp)
    at(field, NOON + HOUR)
    field.sync()
    assert sorted(field.registrations()) == [2101, 2102]


def test_an_event_that_moves_no_stamp_is_found_within_a_day(field: Field) -> None:
    hold(field, 101)
    field.sync()
    hold(field, 101, 102, listed=(101,))
    at(field, NOON + 23 * HOUR)
    field.sync()
    assert sorted(field.registrations()) == [2101]
    at(field, NOON + 24 * HOUR)
    field.sync()
    assert sorted(field.registrations()) == [2101, 2102]


def test_the_next_edition_of_a_race_whose_listing_shows_a_past_one_is_found(field: Field) -> None:
    """At the first sync, when its record changes, and within a week when it does not."""
    runsignup = field.runsignup

    def edition(*ahead: int, **members: Any) -> None:
        past = runsignup.event(101, in_hours=-400 * 24 - (runsignup.now() - NOON) / HOUR)
        events = [past, *(runsignup.event(event_id) for event_id in ahead)]
        runsignup.race(1, *events, listed={"events": [past]}, next_date=None, **members)
        for event_id in ahead:
            runsignup.enter(event_id, 2000 + event_id)

    edition(102)
    field.sync()
    assert sorted(field.registrations()) == [2102]
    edition(102, 103, last_modified="10/1/2026 09:00")
    at(field, NOON + HOUR)
    field.sync()
    assert sorted(field.registrations()) == [2102, 2103]
    edition(102, 103, 104, last_modified="10/1/2026 09:00")
    at(field, NOON + 6 * DAY)
    field.sync()
    assert sorted(field.registrations()) == [2102, 2103]
    at(field, NOON + 7 * DAY + 2 * HOUR)
    field.sync()
    assert sorted(field.registrations()) == [2102, 2103, 2104]


def test_past_races_take_a_bounded_share_of_a_listing(field: Field) -> None:
    past = field.runsignup.event(101, in_hours=-9000)
    for race_id in range(1, 71):
        field.runsignup.race(race_id, past | {"event_id": 100 + race_id}, next_date=None)
    read = []
    for visit in range(4):
        at(field, NOON + visit * 4 * HOUR)
        field.sync()
        read.append(details(field))
    assert read == [50, 20, 0, 0]


def test_a_day_of_listings_costs_a_detail_for_each_upcoming_race(field: Field) -> None:
    for race_id in range(1, 11):
        field.runsignup.race(race_id, field.runsignup.event(100 + race_id))
    field.sync()
    details(field)
    for visit in range(1, 7):
        at(field, NOON + visit * 4 * HOUR)
        field.sync()
    assert details(field) == 10
