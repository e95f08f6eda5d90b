"""Full or incremental, and why: each rule of the planner."""

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.sync.read_plan import PlannedRead, plan_reads, whole_visit_rows
from rsu_pipeline.warehouse.cursors import EventCursor
from rsu_pipeline.warehouse.events import StoredEvent

NOW = dt.datetime(2026, 9, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)


def event(number: int = 1, race: int = 10, start: dt.timedelta | None = 60 * DAY, **more: object) -> StoredEvent:
    """Return an event that starts that long after NOW. None is undated."""
    made = StoredEvent(
        event_id=number,
        race_id=race,
        race_name="Race",
        name="Event",
        starts_at=None if start is None else NOW + start,
        ends_at=None,
        volunteer=False,
        is_bundle=False,
        lost=False,
    )
    return replace(made, **more)


def cursor(number: int = 1, full: dt.timedelta = HOUR, **more: object) -> EventCursor:
    """Return a cursor whose last full read was that long before NOW."""
    made = EventCursor(
        event_id=number,
        modified_after=1000 + number,
        removed_after=900 + number,
        last_full_at=NOW - full,
        last_read_at=NOW - HOUR,
        needs_full=None,
        registrations=100,
    )
    return replace(made, **more)


def decision(one: StoredEvent, held: EventCursor | None, **options: object) -> tuple[str, str]:
    made = plan_reads([one], {held.event_id: held} if held else {}, NOW, **options)  # type: ignore[arg-type]
    (item,) = made.events
    return item.mode, item.reason


def test_an_event_never_read_is_read_in_full() -> None:
    assert decision(event(), None) == ("full", "first read")


def test_a_recent_full_read_makes_the_next_one_incremental() -> None:
    assert decision(event(), cursor())[0] == "incremental"


def test_an_old_full_read_is_repeated() -> None:
    assert decision(event(), cursor(full=7 * DAY))[0] == "full"
    assert decision(event(), cursor(full=7 * DAY - HOUR))[0] == "incremental"
    assert decision(event(), cursor(full=2 * DAY), incremental_days=1)[0] == "full"
    assert decision(event(), cursor(full=HOUR), incremental_days=0)[0] == "full"


def test_the_last_week_has_a_full_read_daily() -> None:
    assert decision(event(start=6 * DAY), cursor(full=25 * HOUR)) == ("full", "daily in its last week")
    assert decision(event(start=6 * DAY), cursor(full=23 * HOUR))[0] == "incremental"
    assert decision(event(start=8 * DAY), cursor(full=25 * HOUR))[0] == "incremental"


def test_entering_the_hours_before_the_start_has_one_full_read() -> None:
    near = event(start=3 * HOUR)
    assert decision(near, cursor(full=2 * HOUR)) == ("full", "entering the hours before its start")
    assert decision(near, cursor(full=dt.timedelta(minutes=50)))[0] == "incremental"


def test_a_forced_sync_reads_in_full() -> None:
    assert decision(event(), cursor(), force_full=True) == ("full", "requested")


def test_what_an_earlier_sync_asked_for_is_read_in_full_and_said() -> None:
    assert decision(event(), cursor(needs_full="incremental read failed: throttled")) == (
        "full",
        "incremental read failed: throttled",
    )


def test_a_small_race_is_read_in_full_at_every_visit_only_when_set() -> None:
    assert decision(event(), cursor(registrations=80), full_read_up_to_rows=80) == ("full", "small enough for one call")
    assert decision(event(), cursor(registrations=81), full_read_up_to_rows=80)[0] == "incremental"
    assert decision(event(), cursor(registrations=0), full_read_up_to_rows=0)[0] == "incremental"


def test_a_race_is_small_by_its_upcoming_registrations_whatever_past_editions_are_stored() -> None:
    events = [event(1), event(2, start=-400 * DAY), event(3, lost=True)]
    held = {1: cursor(1, registrations=80), 2: cursor(2, registrations=3000), 3: cursor(3, registrations=3000)}
    made = plan_reads(events, held, NOW, full_read_up_to_rows=80)
    assert [(read.event_ids, read.reason) for read in made.reads] == [((1,), "small enough for one call")]


def test_a_visit_of_all_races_reads_in_full_what_fits_one_page() -> None:
    assert [whole_visit_rows(up_to, 2500) for up_to in (0, 1, 500, 3000)] == [0, 2499, 2499, 3000]


def test_of_the_distant_races_that_fit_one_page_the_largest_is_read_first() -> None:
    sizes = {1: 50, 2: 70, 3: 90, 4: 99, 5: 101}
    events = [event(number, race=number, start=number * 50 * HOUR) for number in sizes]
    events.append(event(6, race=6, start=2 * HOUR))
    held = {number: cursor(number, registrations=rows) for number, rows in (sizes | {6: 10}).items()}
    made = plan_reads(events, held, NOW, full_read_up_to_rows=100)
    assert [read.race_id for read in made.reads] == [6, 4, 1, 2, 3, 5]


def test_a_new_event_in_a_known_race_is_read_in_full_and_the_others_incrementally() -> None:
    made = plan_reads([event(1), event(2), event(3)], {1: cursor(1), 2: cursor(2)}, NOW)
    assert made.reads == [
        PlannedRead(10, "Race", (3,), "full", "first read"),
        PlannedRead(10, "Race", (1, 2), "incremental", made.events[0].reason, 1001),
    ]


def test_events_that_are_over_and_settled_are_left_out_and_undated_ones_kept() -> None:
    events = [event(1, start=-2 * HOUR), event(2, start=None), event(3, start=-9 * 24 * HOUR)]
    made = plan_reads(events, {1: cursor(1, full=HOUR / 2)}, NOW)
    assert [item.event.event_id for item in made.events] == [2]


def test_an_event_that_is_over_is_read_in_full_until_a_read_began_after_it() -> None:
    made = plan_reads([event(1, start=-2 * HOUR)], {1: cursor(1, full=1.2 * HOUR)}, NOW)
    assert [(read.mode, read.reason) for read in made.reads] == [("full", "final read after it was over")]


def test_a_lost_race_is_left_out() -> None:
    assert [read.race_id for read in plan_reads([event(1, race=1, lost=True), event(2, race=2)], {}, NOW).reads] == [2]


def test_the_nearest_race_is_read_first_and_undated_ones_last() -> None:
    made = plan_reads([event(1, race=1, start=None), event(2, race=2), event(3, race=3, start=HOUR)], {}, NOW)
    assert [read.race_id for read in made.reads] == [3, 2, 1]


@given(
    st.lists(
        st.tuples(
            st.integers(1, 5),
            st.none() | st.integers(-100, 2000),
            st.none() | st.integers(0, 400),
        ),
        max_size=12,
    )
)
def test_every_future_event_is_read_exactly_once(items: list[tuple[int, int | None, int | None]]) -> None:
    events, held = [], {}
    for number, (race, start, full) in enumerate(items):
        events.append(event(number, race, None if start is None else start * HOUR))
        if full is not None:
            held[number] = cursor(number, full * HOUR)
    made = plan_reads(events, held, NOW)
    read = [event_id for each in made.reads for event_id in each.event_ids]
    assert sorted(read) == sorted(item.event.event_id for item in made.events)
    assert all((each.modified_after is None) == (each.mode == "full") for each in made.reads)


@pytest.mark.parametrize("name", ["tier", "next_read", "reason", "starts_at", "over_at"])
def test_the_plan_says_what_it_decided(name: str) -> None:
    (item,) = plan_reads([event()], {}, NOW).events
    assert item.row()[name]
