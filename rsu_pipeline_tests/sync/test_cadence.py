"""Tiers are pure functions of instants; zones and DST were applied when wall times were read."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.runsignup.payloads import Event, Race
from rsu_pipeline.sync import cadence
from rsu_pipeline.sync.rows import event_row

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


@given(
    start=st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2030, 1, 1), timezones=st.just(dt.UTC)),
    hours=st.floats(-2000, 2000),
    length=st.none() | st.floats(0, 800),
)
def test_tiers_only_ever_move_forward(start: dt.datetime, hours: float, length: float | None) -> None:
    order = ["later", "day", "window", "over"]
    end = None if length is None else start + dt.timedelta(hours=length)
    now = start + dt.timedelta(hours=hours)
    first, second = (order.index(cadence.tier(start, end, moment)) for moment in (now, now + HOUR))
    assert first <= second


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
    row, faults = event_row(event, Race(race_id=1, timezone=zone))
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
    row, _ = event_row(Event(event_id=1, start_time=wall, raw=b"{}"), Race(race_id=1, timezone="America/New_York"))
    assert row["starts_at"] == utc


def test_an_unknown_zone_is_told_and_eastern_used() -> None:
    from rsu_pipeline.sync.rows import race_row

    race = Race(race_id=1, timezone="America/Nowhere", raw=b"{}")
    _, faults = race_row(race)
    row, _ = event_row(Event(event_id=1, start_time="10/4/2026 07:30", raw=b"{}"), race)
    assert faults == ["timezone: 'America/Nowhere' is not known; US Eastern is used"]
    assert row["starts_at"] == "2026-10-04T11:30:00+00:00"
