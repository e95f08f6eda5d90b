"""Tiers are pure functions of instants.

Zones and DST were applied when wall times were read.
"""

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline import settings
from rsu_pipeline.reading_settings import CadenceSettings
from rsu_pipeline.runsignup.payloads import Event, Race
from rsu_pipeline.sync import cadence
from rsu_pipeline.sync.race_rows import event_row, race_row
from rsu_pipeline.warehouse.fleet import FleetPartner, FleetRace

START = dt.datetime(2026, 10, 4, 12, 30, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("before_start", "tier"),
    [
        (24 * HOUR + MINUTE, "later"),
        (24 * HOUR, "day"),
        (4 * HOUR + MINUTE, "day"),
        (4 * HOUR, "window"),
        (dt.timedelta(0), "window"),
        (-59 * MINUTE, "window"),
        (-60 * MINUTE, "over"),
        (-1000 * HOUR, "over"),
    ],
)
def test_the_tier_follows_the_hours_before_the_start(before_start: dt.timedelta, tier: str) -> None:
    assert cadence.tier(START, None, START - before_start) == tier


def test_an_event_of_several_days_stays_until_an_hour_after_its_end() -> None:
    end = START + dt.timedelta(days=3)
    assert cadence.tier(START, end, START + dt.timedelta(days=2)) == "window"
    assert cadence.tier(START, end, end + 59 * MINUTE) == "window"
    assert cadence.tier(START, end, end + HOUR) == "over"


def test_an_event_without_times_is_kept() -> None:
    assert cadence.over_at(None, None) is None
    assert cadence.tier(None, None, START) == "undated"


def test_an_end_before_the_start_is_taken_for_a_slip() -> None:
    assert cadence.tier(START, START - dt.timedelta(days=365), START - 30 * MINUTE) == "window"


def test_an_event_with_an_end_only_is_kept_until_it() -> None:
    assert cadence.tier(None, START, START - dt.timedelta(days=3)) == "later"
    assert cadence.tier(None, START, START) == "window"


def test_a_virtual_event_of_weeks_is_watched_on_its_first_day_only() -> None:
    end = START + dt.timedelta(days=30)
    assert cadence.tier(START, end, START + 23 * HOUR) == "window"
    assert cadence.tier(START, end, START + 24 * HOUR) == "day"
    assert cadence.tier(START, end, end + 59 * MINUTE) == "day"
    assert cadence.tier(START, end, end + HOUR) == "over"


@given(
    start=st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2030, 1, 1), timezones=st.just(dt.UTC)),
    hours=st.floats(-2000, 2000),
    length=st.none() | st.floats(0, 72),
)
def test_tiers_only_ever_move_forward(start: dt.datetime, hours: float, length: float | None) -> None:
    order = ["later", "day", "window", "over"]
    end = None if length is None else start + dt.timedelta(hours=length)
    now = start + dt.timedelta(hours=hours)
    first, second = (order.index(cadence.tier(start, end, moment)) for moment in (now, now + HOUR))
    assert first <= second


NOW = START
EVERY = CadenceSettings()


def partner(number: int = 1, listed: dt.timedelta | None = 5 * MINUTE, failed: bool = False) -> FleetPartner:
    return FleetPartner(number, f"{number}-acme", None if listed is None else NOW - listed, failed)


def race(
    start: dt.timedelta | None, tried: dt.timedelta | None, *, number: int = 1, failed: bool = False, race_id: int = 10
) -> FleetRace:
    """Return a race that starts that long after NOW and was tried that long before."""
    times = ((None if start is None else NOW + start, None),)
    return FleetRace(
        number, f"{number}-acme", number, race_id, times, (None if tried is None else NOW - tried,), failed
    )


@pytest.mark.parametrize(
    ("start", "tried", "is_due"),
    [
        (48 * HOUR, 4 * HOUR, True),
        (48 * HOUR, 4 * HOUR - MINUTE, False),
        (48 * HOUR, None, True),
        (24 * HOUR, 15 * MINUTE, True),
        (24 * HOUR, 14 * MINUTE, False),
        (24 * HOUR + MINUTE, 15 * MINUTE, False),
        (4 * HOUR, 4 * MINUTE, False),
        (4 * HOUR, 5 * MINUTE, True),
        (-HOUR, 9 * HOUR, True),
        (-2 * HOUR, 59 * MINUTE, False),
        (-2 * HOUR, 61 * MINUTE, True),
        (-9 * HOUR, 4 * HOUR, True),
        (None, 4 * HOUR, True),
        (None, 3 * HOUR, False),
    ],
)
def test_a_race_is_due_when_its_tiers_interval_has_passed(
    start: dt.timedelta | None, tried: dt.timedelta | None, is_due: bool
) -> None:
    visits = cadence.due([partner()], [race(start, tried)], NOW, EVERY)
    assert [visit.race_ids for visit in visits] == ([(10,)] if is_due else [])


def test_a_race_that_failed_is_tried_again_sooner() -> None:
    far = race(48 * HOUR, 20 * MINUTE, failed=True)
    assert cadence.due([partner()], [far], NOW, EVERY)[0].race_ids == (10,)
    assert cadence.due([partner()], [race(48 * HOUR, 10 * MINUTE, failed=True)], NOW, EVERY) == []


def test_a_look_half_an_interval_early_counts_so_that_no_read_slips_to_the_next() -> None:
    near = race(20 * HOUR, 13 * MINUTE)
    assert cadence.due([partner()], [near], NOW, EVERY) == []
    assert cadence.due([partner()], [near], NOW, EVERY, early=2.5 * MINUTE)


def test_each_event_of_a_race_is_judged_by_its_own_tier() -> None:
    # One event is at its start and polled by the watch; the other, tomorrow's, was read ten minutes ago.
    times = ((NOW, None), (NOW + 20 * HOUR, None))
    two = FleetRace(1, "1-acme", 1, 10, times, (NOW - dt.timedelta(seconds=20), NOW - 10 * MINUTE), False)
    assert cadence.due([partner()], [two], NOW, EVERY) == []
    (visit,) = cadence.due([partner()], [replace(two, tried_at=(NOW, NOW - 15 * MINUTE))], NOW, EVERY)
    assert (visit.race_ids, visit.tier) == ((10,), "day")
    (visit,) = cadence.due([partner()], [replace(two, tried_at=(NOW - 5 * MINUTE, NOW))], NOW, EVERY)
    assert (visit.race_ids, visit.tier) == ((10,), "window")


def test_intervals_are_settings() -> None:
    often = settings.load_settings(
        {"RSU_INTERVAL_LATER": "600", "RSU_INTERVAL_DAY": "120", "RSU_INTERVAL_WINDOW": "60"}
    ).cadence
    for start, pause in ((48 * HOUR, 10 * MINUTE), (None, 10 * MINUTE), (20 * HOUR, 2 * MINUTE), (HOUR, MINUTE)):
        assert cadence.due([partner()], [race(start, pause)], NOW, often)
        assert not cadence.due([partner(listed=MINUTE)], [race(start, pause - MINUTE / 2)], NOW, often)
    soon = settings.load_settings({"RSU_INTERVAL_AFTER_FAILURE": "60"}).cadence
    assert cadence.due([partner()], [race(48 * HOUR, MINUTE, failed=True)], NOW, soon)


def test_a_listing_is_due_every_four_hours_and_sooner_after_a_failure() -> None:
    def relist(listed: dt.timedelta | None, failed: bool = False) -> bool:
        return any(visit.relist for visit in cadence.due([partner(1, listed, failed)], [], NOW, EVERY))

    assert relist(None) and relist(4 * HOUR) and not relist(3 * HOUR)
    assert relist(15 * MINUTE, failed=True) and not relist(10 * MINUTE, failed=True)


def test_the_nearest_partner_comes_first_then_who_has_most_to_read_and_each_once() -> None:
    races = [
        race(48 * HOUR, None, number=1, race_id=1),
        race(20 * HOUR, None, number=2, race_id=2),
        race(48 * HOUR, None, number=2, race_id=3),
        race(48 * HOUR, None, number=3, race_id=4),
        race(48 * HOUR, None, number=3, race_id=5),
    ]
    visits = cadence.due([partner(1), partner(2), partner(3)], races, NOW, EVERY)
    assert [(visit.key, visit.race_ids, visit.tier) for visit in visits] == [
        ("2-acme", (2, 3), "day"),
        ("3-acme", (4, 5), "later"),
        ("1-acme", (1,), "later"),
    ]


@pytest.mark.parametrize(
    ("zone", "hours_behind"),
    [
        ("America/New_York", 4),
        ("America/Chicago", 5),
        ("America/Denver", 6),
        ("America/Phoenix", 7),
        ("America/Los_Angeles", 7),
        ("America/Anchorage", 8),
        ("Pacific/Honolulu", 10),
        ("America/Puerto_Rico", 4),
        ("UTC", 0),
    ],
)
def test_a_start_is_read_in_the_races_own_zone(zone: str, hours_behind: int) -> None:
    event = Event(event_id=1, start_time="10/4/2026 07:30", raw=b"{}")
    row, faults = event_row(event, Race(race_id=1, timezone=zone), assumed_hours=6)
    expected = dt.datetime(2026, 10, 4, 7, 30, tzinfo=dt.UTC) + dt.timedelta(hours=hours_behind)
    assert (row["starts_at"], faults) == (expected.isoformat(), [])
    assert row["start_time"] == "2026-10-04T07:30:00"


@pytest.mark.parametrize(
    ("wall", "utc"),
    [
        ("11/1/2026 01:30", "2026-11-01T05:30:00+00:00"),  # the hour that repeats: the first of the two
        ("11/1/2026 08:00", "2026-11-01T13:00:00+00:00"),  # standard time again
        ("3/8/2026 08:00", "2026-03-08T12:00:00+00:00"),  # daylight time since that morning
    ],
)
def test_daylight_saving_is_applied_on_the_mornings_it_changes(wall: str, utc: str) -> None:
    row, _ = event_row(
        Event(event_id=1, start_time=wall, raw=b"{}"), Race(race_id=1, timezone="America/New_York"), assumed_hours=6
    )
    assert row["starts_at"] == utc


def test_an_unknown_zone_is_told_and_eastern_used() -> None:
    race = Race(race_id=1, timezone="America/Nowhere", raw=b"{}")
    _, faults = race_row(race)
    row, _ = event_row(Event(event_id=1, start_time="10/4/2026 07:30", raw=b"{}"), race, assumed_hours=6)
    assert faults == ["timezone: 'America/Nowhere' is not known; US Eastern is used"]
    assert row["starts_at"] == "2026-10-04T11:30:00+00:00"
