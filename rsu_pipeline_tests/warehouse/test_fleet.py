"""Which partners and races there are to be read, and when each was last tried, asked of a real database."""

import datetime as dt
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsu_pipeline.sync import cadence
from rsu_pipeline.warehouse import fleet
from rsu_pipeline_tests.warehouse import thousand
from rsu_pipeline_tests.warehouse.fleet_rows import HOUR, MINUTE, NOW, Fleet

# Partners


def test_every_partner_with_a_credential_is_to_be_synced_in_order_of_number(put: Fleet) -> None:
    for number in (3, 1, 2):
        put.partner(number)
    found = fleet.select_partners_to_sync(put.conn, NOW)
    assert [(one.partner_id, one.key, one.listed_at, one.failed) for one in found] == [
        (number, f"{number}-acme", None, False) for number in (1, 2, 3)
    ]


SpoilPartner = Callable[[Fleet], None]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda put: put.sql("UPDATE timing_partners SET disabled_at = now()"), id="switched off"),
        pytest.param(lambda put: put.sql("UPDATE timing_partners SET partition_key = NULL"), id="not onboarded"),
        pytest.param(lambda put: put.sql("DELETE FROM partner_provider_credentials"), id="no credential"),
        pytest.param(lambda put: put.sql("UPDATE partner_provider_credentials SET secret = NULL"), id="no secret"),
        pytest.param(lambda put: put.sql("UPDATE partner_provider_credentials SET secret = ' \t'"), id="blank secret"),
        pytest.param(lambda put: put.sql("UPDATE partner_provider_credentials SET principal = ''"), id="blank key"),
        pytest.param(
            lambda put: put.sql("UPDATE partner_provider_credentials SET rejected_at = %s", NOW - 4 * MINUTE),
            id="rejected just now",
        ),
        pytest.param(
            lambda put: put.sql(
                "INSERT INTO providers (name) VALUES ('Elsewhere'); UPDATE partner_provider_credentials"
                " SET provider_id = (SELECT provider_id FROM providers WHERE name = 'Elsewhere')"
            ),
            id="of another provider only",
        ),
    ],
)
def test_a_partner_that_cannot_be_synced_is_left_out_with_its_races(put: Fleet, spoil: SpoilPartner) -> None:
    put.partner(1)
    put.race(10, 1)
    put.event(100, 10, 48 * HOUR)
    assert list(put.partners()) == [1] and list(put.races()) == [(1, 10)]
    spoil(put)
    assert put.partners() == {} and put.races() == {}


def test_a_refused_credential_is_tried_again_after_an_hour(put: Fleet) -> None:
    put.partner(1)
    put.race(10, 1)
    put.event(100, 10, 48 * HOUR)
    put.sql("UPDATE partner_provider_credentials SET rejected_at = %s", NOW - 61 * MINUTE)
    assert list(put.partners()) == [1] and list(put.races()) == [(1, 10)]


def test_the_provider_is_found_by_name_in_any_case_and_other_credentials_add_nothing(put: Fleet) -> None:
    put.partner(1)
    put.sql("UPDATE providers SET name = 'RUNSIGNUP'")
    put.sql("INSERT INTO providers (name) VALUES ('Elsewhere')")
    put.sql(
        "INSERT INTO partner_provider_credentials (timing_partner_id, provider_id, principal, secret)"
        " SELECT 1, provider_id, 'k', 's' FROM providers WHERE name = 'Elsewhere'"
    )
    assert list(put.partners()) == [1]


def test_a_listing_was_last_tried_when_the_newest_row_of_no_race_says(put: Fleet) -> None:
    put.partner(1)
    put.partner(2)
    put.race(10, 1)
    put.tried(1, 10, MINUTE)
    assert put.partners() == {1: (None, False), 2: (None, False)}
    put.tried(1, None, 5 * HOUR)
    put.tried(1, None, 3 * HOUR, "failed")
    put.tried(2, None, 3 * HOUR, "failed")
    put.tried(2, None, 2 * HOUR, "partial")
    assert put.partners() == {1: (3 * HOUR, True), 2: (2 * HOUR, False)}


# Races


def test_events_that_are_over_and_settled_are_left_out_and_undated_ones_kept(put: Fleet) -> None:
    put.partner(1)
    for race_id in (10, 11, 12, 13, 14, 15):
        put.race(race_id, 1)
    put.event(100, 10, -3 * HOUR)
    put.cursor(1, 100, HOUR)
    put.event(110, 11, -59 * MINUTE)
    put.event(120, 12)
    put.event(130, 13, -50 * HOUR, 2 * HOUR)
    put.event(140, 14, -400 * 24 * HOUR)
    put.event(141, 14, 10 * HOUR)
    assert list(put.races()) == [(1, 11), (1, 12), (1, 13), (1, 14)]
    assert put.races()[1, 12].times == ((None, None),)
    assert put.races()[1, 13].times == ((NOW - 50 * HOUR, NOW + 2 * HOUR),)
    assert put.races()[1, 14].times == ((NOW + 10 * HOUR, None),)


HOURS = st.none() | st.sampled_from([-1.0, 0.0]) | st.floats(-60, 60).map(lambda hours: round(hours, 3))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(HOURS, HOURS), min_size=1, max_size=8))
def test_a_race_is_there_exactly_when_an_event_is_upcoming_or_owed_a_read(
    put: Fleet, times: list[tuple[float | None, float | None]]
) -> None:
    put.partner(1)
    put.race(10, 1)
    for number, (start, end) in enumerate(times):
        put.event(number, 10, *(None if hours is None else dt.timedelta(hours=hours) for hours in (start, end)))

    def at(hours: float | None) -> dt.datetime | None:
        return None if hours is None else NOW + dt.timedelta(hours=hours)

    due = tuple(
        (at(start), at(end))
        for start, end in times
        if cadence.tier(at(start), at(end), NOW) != "over" or cadence.closing_read(at(start), at(end), None, NOW)
    )
    found = put.races()
    put.conn.rollback()
    assert [race.times for race in found.values()] == ([due] if due else [])


def test_events_gone_at_runsignup_do_not_count(put: Fleet) -> None:
    put.partner(1)
    put.race(10, 1)
    put.event(100, 10, 10 * HOUR)
    put.event(101, 10, 20 * HOUR)
    put.cursor(1, 100, 30 * HOUR)
    put.cursor(1, 101, MINUTE)
    put.sql("UPDATE runsignup_events SET gone_at = now() WHERE event_id = 100")
    assert put.races()[1, 10].times == ((NOW + 20 * HOUR, None),)
    assert put.ago(1, 10) == (MINUTE, False)
    put.sql("UPDATE runsignup_events SET gone_at = now()")
    assert put.races() == {}


@pytest.mark.parametrize(
    ("access", "unlisted", "lost", "read"),
    [
        ("granted", False, False, True),
        ("granted", True, False, True),
        ("denied", False, False, True),
        ("denied", True, False, True),
        ("denied", False, True, False),
        ("denied", True, True, False),
        ("not_found", True, True, False),
        ("unknown", True, False, True),
    ],
)
def test_a_race_is_due_until_it_is_confirmed_as_lost(
    put: Fleet, access: str, unlisted: bool, lost: bool, read: bool
) -> None:
    put.partner(1)
    put.race(10, 1)
    put.event(100, 10, 10 * HOUR)
    put.sql(
        "UPDATE partner_races SET access = %s, unlisted_at = CASE WHEN %s THEN now() END,"
        " lost_at = CASE WHEN %s THEN now() END",
        access,
        unlisted,
        lost,
    )
    assert bool(put.races()) is read


def test_a_race_of_two_partners_is_read_for_each_with_its_own_times_of_reading(put: Fleet) -> None:
    put.partner(1)
    put.partner(2)
    put.race(10, 1, 2)
    put.event(100, 10, 10 * HOUR)
    put.tried(1, 10, HOUR)
    put.tried(2, 10, 2 * HOUR, "failed")
    put.cursor(1, 100, 3 * MINUTE)
    assert put.ago(1, 10) == (3 * MINUTE, False)
    assert put.ago(2, 10) == (2 * HOUR, True)


def test_a_race_was_tried_when_its_newest_row_or_its_cursors_say_whichever_is_later(put: Fleet) -> None:
    put.partner(1)
    put.race(10, 1)
    put.event(100, 10, 10 * HOUR)
    put.event(101, 10, 10 * HOUR)
    assert put.ago(1, 10) == (None, False)
    put.tried(1, None, MINUTE)
    assert put.ago(1, 10) == (None, False)
    put.tried(1, 10, 5 * HOUR)
    put.tried(1, 10, 4 * HOUR, "failed")
    assert put.ago(1, 10) == (4 * HOUR, True)
    put.cursor(1, 100, 5 * HOUR)
    assert put.ago(1, 10) == (4 * HOUR, True)
    put.cursor(1, 101, HOUR)
    assert put.ago(1, 10) == (4 * HOUR, True)
    # The watch polled since, and found nothing: no row, but all its events' cursors moved.
    put.sql("UPDATE event_cursors SET last_read_at = %s WHERE event_id = 100", NOW - 2 * HOUR)
    assert put.ago(1, 10) == (2 * HOUR, False)


def test_an_event_that_is_over_does_not_make_its_race_look_neglected(put: Fleet) -> None:
    put.partner(1)
    put.race(10, 1)
    put.event(100, 10, -24 * HOUR)
    put.event(101, 10, HOUR)
    put.cursor(1, 100, 23 * HOUR)
    put.cursor(1, 101, MINUTE)
    assert put.ago(1, 10) == (MINUTE, False)


# A thousand partners


def test_a_thousand_partners_are_found_by_indexes(put: Fleet) -> None:
    thousand.seed(put)
    with thousand.found_by_indexes(put) as asked:
        assert len(fleet.select_partners_to_sync(put.conn, NOW)) == 1000
        races = fleet.select_races_to_read(put.conn, NOW)
        fleet.has_race_in_window(put.conn, 5)
    assert len(asked) == 3
    assert len(races) == 10_000 and all(len(race.times) == 2 and all(race.tried_at) for race in races)
