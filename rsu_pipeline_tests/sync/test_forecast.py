"""What counts as late, and what the next hour costs: pure functions, at their borders."""

import dataclasses
import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.reading_settings import BudgetSettings, CadenceSettings, WatchSettings
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync import forecast
from rsu_pipeline.warehouse.freshness import EventRead

NOW = dt.datetime(2026, 10, 3, 12, 0, tzinfo=dt.UTC)
MINUTE, HOUR, DAY = dt.timedelta(minutes=1), dt.timedelta(hours=1), dt.timedelta(days=1)
EVERY = CadenceSettings()
SETTINGS = Settings(home=Path("/nowhere"))
LARGE = 501
"""Registrations of a race that is not read in full at every visit."""


def event(
    start: dt.timedelta | None,
    read: dt.timedelta | None = MINUTE,
    *,
    known: dt.timedelta = 90 * DAY,
    end: dt.timedelta | None = None,
    partner: int = 1,
    budget: int | None = None,
    race: int = 10,
    number: int = 100,
    rows: int = LARGE,
    full: bool = False,
) -> EventRead:
    """Return an event that starts that long after NOW and was read, or became known, that long before."""
    return EventRead(
        partner,
        f"{partner}-acme",
        partner if budget is None else budget,
        race,
        number,
        None if start is None else NOW + start,
        None if end is None else NOW + end,
        None if read is None else NOW - read,
        NOW - known,
        rows,
        full,
    )


def overdue(read: EventRead) -> dt.timedelta:
    (found,) = forecast.measure_freshness([read], NOW, EVERY)
    assert found.is_stale is (found.overdue > dt.timedelta(0)) is (found.share > 1)
    return found.overdue


@pytest.mark.parametrize(
    ("start", "allowed"),
    [
        pytest.param(None, 2 * 4 * HOUR + 10 * MINUTE, id="undated"),
        pytest.param(60 * HOUR, 2 * 4 * HOUR + 10 * MINUTE, id="later"),
        pytest.param(10 * HOUR, 40 * MINUTE, id="day"),
        pytest.param(2 * HOUR, 20 * MINUTE, id="window"),
        pytest.param(-30 * MINUTE, 20 * MINUTE, id="under way"),
    ],
)
def test_an_event_may_wait_for_twice_its_interval_and_ten_minutes(
    start: dt.timedelta | None, allowed: dt.timedelta
) -> None:
    assert overdue(event(start, allowed)) == dt.timedelta(0)
    assert overdue(event(start, allowed + MINUTE)) == MINUTE


@pytest.mark.parametrize(
    ("start", "read", "late"),
    [
        # Half an hour ago it was still more than 24 hours off, and last read as such.
        pytest.param(DAY - 30 * MINUTE, 4 * HOUR, False, id="in its day for less than may be waited for"),
        pytest.param(DAY - 41 * MINUTE, 4 * HOUR, True, id="in its day for longer"),
        pytest.param(DAY - MINUTE, 9 * HOUR, True, id="late before it came into its day"),
        pytest.param(4 * HOUR - MINUTE, 30 * MINUTE, False, id="just in its window"),
        pytest.param(4 * HOUR - 21 * MINUTE, 30 * MINUTE, True, id="in its window for longer than may be waited for"),
    ],
)
def test_a_nearer_tier_counts_from_when_the_event_came_into_it(
    start: dt.timedelta, read: dt.timedelta, late: bool
) -> None:
    assert (overdue(event(start, read)) > dt.timedelta(0)) is late


def test_an_event_never_read_waits_from_when_it_was_known() -> None:
    assert overdue(event(60 * HOUR, None, known=HOUR)) < dt.timedelta(0)
    assert overdue(event(60 * HOUR, None, known=9 * HOUR)) == 50 * MINUTE


def test_an_event_that_is_over_is_late_once_its_closing_read_is_and_the_latest_comes_first() -> None:
    assert overdue(event(-9 * HOUR, 9 * DAY)) == -10 * MINUTE
    assert overdue(event(-10 * HOUR, 9 * DAY)) == 50 * MINUTE
    assert overdue(event(-10 * HOUR, 8 * HOUR)) < dt.timedelta(0)
    reads = [
        event(60 * HOUR, 10 * HOUR, number=2),
        event(2 * HOUR, 9 * HOUR, number=3),
        event(60 * HOUR, HOUR, partner=2, number=4),
    ]
    found = forecast.measure_freshness(reads, NOW, EVERY)
    assert [item.read.event_id for item in found] == [3, 2, 4]
    assert {key: item.read.event_id for key, item in forecast.find_oldest_reads(found).items()} == {1: 3, 2: 4}
    assert forecast.compute_shares(found) == {"1-acme": pytest.approx(13.5), "2-acme": pytest.approx(60 / 490)}


def test_a_virtual_event_is_judged_as_it_is_read_after_its_first_day() -> None:
    assert overdue(event(-10 * DAY, 39 * MINUTE, end=20 * DAY)) < dt.timedelta(0)
    assert overdue(event(-10 * DAY, 41 * MINUTE, end=20 * DAY)) == MINUTE


SPANS = st.floats(-100, 100).map(lambda hours: dt.timedelta(hours=round(hours, 2)))


@given(st.none() | SPANS, st.none() | SPANS, st.floats(0, 50).map(lambda hours: dt.timedelta(hours=round(hours, 2))))
def test_whoever_waits_longer_is_never_less_late(
    start: dt.timedelta | None, end: dt.timedelta | None, read: dt.timedelta
) -> None:
    found = [forecast.measure_freshness([event(start, wait, end=end)], NOW, EVERY) for wait in (read, read + HOUR)]
    assert found[0][0].overdue <= found[1][0].overdue
    # Never red when read within ten minutes.
    assert found[0][0].overdue < dt.timedelta(0) or read > 10 * MINUTE


# The next hour's calls


def needs(*reads: EventRead, settings: Settings = SETTINGS) -> list[tuple[int, float, float]]:
    found = forecast.forecast_calls(sorted(reads, key=lambda read: (read.partner_id, read.race_id)), NOW, settings)
    return [(need.partner_id, round(need.routine, 3), round(need.watch, 3)) for need in found]


def test_calls_are_estimated_by_tier_with_the_listing() -> None:
    # The listing every 4 h is a quarter of a call an hour, and four calls where a race is within a day;
    # a visit is two calls, of a small race one.
    assert needs(event(60 * HOUR, rows=LARGE)) == [(1, 0.25 + 0.5, 0.0)]
    assert needs(event(10 * HOUR, rows=LARGE)) == [(1, 4 + 8, 0.0)]
    assert needs(event(2 * HOUR, rows=LARGE)) == [(1, 4, 222.0)]
    assert needs(event(60 * HOUR, rows=500)) == [(1, 0.25 + 0.25, 0.0)]
    assert needs(event(10 * HOUR, rows=500)) == [(1, 4 + 4, 0.0)]
    assert needs(event(2 * HOUR, rows=500)) == [(1, 4, 192.0)]
    assert needs() == []


def test_a_race_is_small_by_all_its_events() -> None:
    assert needs(event(10 * HOUR, rows=300), event(10 * HOUR, rows=300, number=2)) == [(1, 4 + 8, 0.0)]


def test_a_race_costs_as_the_nearest_of_its_events_and_by_what_the_hour_brings() -> None:
    assert needs(event(60 * HOUR), event(10 * HOUR, number=2)) == [(1, 12, 0.0)]
    assert needs(event(24.5 * HOUR)) == [(1, 12, 0.0)]
    # It enters its window, with a full read of 6,000: three pages.
    assert needs(event(4.5 * HOUR, rows=6000)) == [(1, 7, 222.0)]
    # Its window ends within the hour.
    assert needs(event(-30 * MINUTE)) == [(1, 4, 222.0)]


def test_what_is_due_a_full_read_costs_its_pages() -> None:
    assert needs(event(60 * HOUR, None, full=True)) == [(1, 1.75, 0.0)]
    assert needs(event(60 * HOUR, rows=5000, full=True), event(60 * HOUR, rows=9000, number=2)) == [(1, 3.75, 0.0)]


def test_the_partner_that_needs_most_comes_first_and_each_race_counts() -> None:
    found = needs(event(60 * HOUR), event(2 * HOUR, partner=2), event(2 * HOUR, partner=2, race=11))
    assert found == [(2, 4, 444.0), (1, 0.75, 0.0)]


def test_without_a_watch_the_window_is_visited() -> None:
    settings = dataclasses.replace(SETTINGS, watch=WatchSettings(bib_poll="sensor"))
    assert needs(event(2 * HOUR), settings=settings) == [(1, 4 + 24, 0.0)]


@pytest.mark.parametrize(
    ("routine", "watch", "short", "starved"),
    [(0.0, 1000.0, 0, 0), (1.0, 1000.0, 1, 0), (900.0, 100.0, 0, 0), (901.0, 0.0, 1, 1)],
)
def test_a_partner_is_short_of_calls_above_the_limit_and_starved_when_visits_alone_are_above_their_share(
    routine: float, watch: float, short: int, starved: int
) -> None:
    found = forecast.forecast_budget([forecast.CallForecast(1, "1-acme", 1, routine, watch)], SETTINGS)
    assert (found.limit, len(found.over_limit), len(found.over_routine_limit)) == (1000, short, starved)
    assert found.is_enough is (short == 0)


def test_partners_with_one_api_key_share_its_calls() -> None:
    apart = [forecast.CallForecast(number, f"{number}-acme", number, 0.0, 600.0) for number in (1, 2)]
    assert forecast.forecast_budget(apart, SETTINGS).most == 600 and forecast.forecast_budget(apart, SETTINGS).is_enough
    shared = [dataclasses.replace(need, call_budget_id=7) for need in apart]
    found = forecast.forecast_budget(shared, SETTINGS)
    assert (found.most, found.over_limit, found.over_routine_limit) == (1200, shared, [])
    # Neither needs more than its share alone.
    starved = [dataclasses.replace(need, routine=500.0) for need in shared]
    assert forecast.forecast_budget(starved, SETTINGS).over_routine_limit == starved
    reads = [event(2 * HOUR, partner=1, budget=7), event(2 * HOUR, partner=2, budget=7)]
    assert [need.call_budget_id for need in forecast.forecast_calls(reads, NOW, SETTINGS)] == [7, 7]


def test_calls_in_flight_have_to_do_for_the_visits_of_all() -> None:
    many = [forecast.CallForecast(number, f"{number}-acme", number, 6.0, 200.0) for number in range(1000)]
    assert forecast.forecast_budget(many[:800], SETTINGS).is_enough
    found = forecast.forecast_budget(many, SETTINGS)
    assert (found.over_limit, found.flight_limit, found.is_flight_enough, found.is_enough) == ([], 5142, False, False)
    apart = dataclasses.replace(SETTINGS, budget=BudgetSettings(in_flight_scope="credential"))
    assert forecast.forecast_budget(many, apart).is_enough
