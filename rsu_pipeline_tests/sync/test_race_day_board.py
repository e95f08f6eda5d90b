"""Which races are on the race-day board, what is wrong with each, and in which order they are."""

import datetime as dt
from typing import Any

import pytest

from rsu_pipeline.settings import load_settings
from rsu_pipeline.sync import race_day_board
from rsu_pipeline.sync.race_day_board import BoardRow, Urgency
from rsu_pipeline.warehouse.near_races import NearRace

NOW = dt.datetime(2026, 6, 13, 12, 0, tzinfo=dt.UTC)
SETTINGS = load_settings({})


def race(race_id: int = 1, *, starts_in: float | None = 1.0, hours: float = 6.0, **more: Any) -> NearRace:
    """Return a race that is well: read 5 s ago, every entrant with a bib.

    `starts_in` and `hours` of its one event, in hours.
    """
    start = None if starts_in is None else NOW + dt.timedelta(hours=starts_in)
    fields: dict[str, Any] = {
        "partner_id": 1,
        "key": "1-acme",
        "call_budget_id": 1,
        "race_id": race_id,
        "name": "Fun Run",
        "zone": None,
        "times": ((start, start and start + dt.timedelta(hours=hours)),),
        "is_rejected": False,
        "is_denied": False,
        "refused_events": 0,
        "read_at": NOW - dt.timedelta(seconds=5),
        "failed_at": None,
        "failure": None,
        "entrants": 10,
        "with_bib": 10,
        "duplicate_bibs": 0,
        "events_without_list": 0,
        "held_back": 0,
        "last_bib": None,
        "last_bib_kind": None,
        "last_bib_modified_at": None,
        "last_bib_recorded_at": None,
    }
    return NearRace(**(fields | more))


def board(*races: NearRace) -> list[BoardRow]:
    watched = race_day_board.select_watched(races, NOW, SETTINGS)
    allowed = race_day_board.longest_silence(watched, SETTINGS, 0.7)
    return race_day_board.build_board(races, NOW, {race.number: allowed[race.call_budget_id] for race in watched})


@pytest.mark.parametrize(
    ("more", "short", "urgency"),
    [
        ({"is_rejected": True}, "key rejected", Urgency.BLOCKED),
        ({"is_denied": True}, "no access", Urgency.BLOCKED),
        ({"failed_at": NOW, "failure": "HTTP 500"}, "read fails", Urgency.BLOCKED),
        ({"refused_events": 1}, "event refused", Urgency.BLOCKED),
        ({"read_at": None}, "never read", Urgency.BLOCKED),
        ({"read_at": NOW + dt.timedelta(minutes=6)}, "clock off", Urgency.BLOCKED),
        ({"read_at": NOW - dt.timedelta(seconds=61)}, "not polled", Urgency.BLOCKED),
        ({"held_back": 2}, "2 quarantined", Urgency.UNTIDY),
        ({"duplicate_bibs": 4}, "4 dup", Urgency.UNTIDY),
        ({"events_without_list": 1}, "1 no list", Urgency.UNTIDY),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, Any], short: str, urgency: Urgency) -> None:
    (row,) = board(race(**more))
    assert [problem.short for problem in row.problems] == [short]
    assert row.urgency is urgency


def test_a_race_that_is_well_has_no_problem() -> None:
    (row,) = board(race(read_at=NOW - dt.timedelta(seconds=59)))
    assert (row.problems, row.urgency, row.is_in_window) == ((), Urgency.WELL, True)


def test_a_race_may_wait_for_two_intervals_of_what_the_calls_in_flight_allow() -> None:
    # 60 races of one key share two calls in flight of 0.7 s, so that a round takes longer than the target of 20 s.
    others = [race(number) for number in range(2, 61)]
    late = race(1, read_at=NOW - dt.timedelta(seconds=70))
    assert board(late)[0].problems
    assert all(row.race.race_id != 1 or not row.problems for row in board(late, *others))


def test_a_race_that_came_into_its_window_just_now_is_not_late() -> None:
    """Read a quarter of an hour ago, by a visit. The watch has a minute to begin and then two intervals."""
    read_at = NOW - dt.timedelta(minutes=14)
    assert not board(race(starts_in=4 - 1 / 60, read_at=read_at))[0].problems
    assert board(race(starts_in=4 - 3 / 60, read_at=read_at))[0].problems


def test_a_race_outside_its_window_is_no_concern_of_the_watch() -> None:
    (row,) = board(race(starts_in=10, read_at=NOW - dt.timedelta(minutes=14)))
    assert not row.is_in_window and not row.problems


def test_the_worst_race_comes_first_then_the_nearest_start() -> None:
    rows = board(race(1, starts_in=3), race(2, duplicate_bibs=1), race(3, starts_in=2), race(4, is_denied=True))
    assert [row.race.race_id for row in rows] == [4, 2, 3, 1]


def test_the_start_is_the_next_one_or_the_last_once_all_have_started() -> None:
    times = tuple((NOW + dt.timedelta(hours=hours), NOW + dt.timedelta(hours=hours + 6)) for hours in (-1, 2, 3))
    (row,) = board(race(times=times))
    assert row.start == NOW + dt.timedelta(hours=2)
    (row,) = board(race(times=times[:1]))
    assert row.start == NOW - dt.timedelta(hours=1)
