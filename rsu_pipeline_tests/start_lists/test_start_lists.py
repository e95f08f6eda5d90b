"""Start lists: who is on them, what is wrong with whom, and that only what differs is written."""

import datetime as dt
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import psycopg2.errors
import pytest
from hypothesis import strategies as st

from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.start_lists.start_list_store import NoStartList, RebuildFailed
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.servers import create_database, drop_database
from rsu_pipeline_tests.start_lists.lists_rows import NOW, RACE, START, Lists

HOUR = dt.timedelta(hours=1)
BORN = dt.date(1990, 10, 3)


@pytest.fixture
def put(database_url: str) -> Iterator[Lists]:
    with database.session(database_url, purpose="tests") as conn:
        put = Lists(conn)
        put.race()
        yield put


# Which events


def test_events_ahead_have_a_list_and_those_over_for_less_than_two_days(put: Lists) -> None:
    over_at = START + HOUR * 5  # four hours of zone, and the hour after the start
    moments = {1: -HOUR * 49, 2: -HOUR * 47, 3: -HOUR, 4: HOUR, 5: HOUR * 900}
    now = over_at.replace(tzinfo=dt.UTC)
    for event_id, later in moments.items():
        put.event(event_id, start=START + later, edition=event_id, planned=later > HOUR * 0)
        put.enter(event_id, "7")
    put.build(now)
    assert put.figures().keys() == {2, 3, 4, 5}
    assert {row["event_id"] for row in put.entries().values()} == {2, 3, 4, 5}
    put.build(now + HOUR)
    assert put.figures().keys() == {3, 4, 5}
    assert put.is_current(now + HOUR * 46) and not put.is_current(now + HOUR * 47)
    put.build(now + HOUR * 1100)
    assert put.figures() == put.entries() == {}


def test_volunteers_events_gone_ones_and_races_lost_have_none(put: Lists) -> None:
    for event_id in (1, 2, 3):
        put.event(event_id, volunteer=event_id == 2)
        put.enter(event_id)
    put.race(5)
    put.event(6, race=5)
    put.sql("UPDATE runsignup_events SET gone_at = now() WHERE event_id = 3")
    put.sql("UPDATE partner_races SET lost_at = now() WHERE race_id = 5")
    put.build()
    assert put.figures().keys() == {1}


def test_an_event_that_was_over_before_it_was_ever_read_has_none(put: Lists) -> None:
    put.event(1, start=START, planned=False)
    put.sql("DELETE FROM event_cursors")
    put.build((START + HOUR * 24).replace(tzinfo=dt.UTC))
    assert put.figures() == {}


def test_an_event_without_entrants_or_without_a_start_has_a_list_too(put: Lists) -> None:
    put.event(1)
    put.event(2, start=None)
    number = put.enter(2, "5", age=33, dob=BORN)
    put.build()
    assert put.figures()[1]["entrants"] == 0
    assert put.figures()[2]["race_day"] is None and put.entries()[number]["age"] == 33


# An entrant's row


def test_a_row_has_what_scoring_needs(put: Lists) -> None:
    put.event(1)
    number = put.enter(
        1, " 17 ", first_name=" Zoë ", last_name="Ó Briain-李", dob=BORN, gender="F",
        address='{"city": "Montréal", "state": "QC"}', team_info='{"team_name": "Les Écureuils"}',
    )  # fmt: skip
    bare = put.enter(1, "A7", first_name=None, last_name="", address=None, gender=None, age=None)
    put.build()
    row = put.entries()[number]
    assert {name: row[name] for name in ("bib", "bib_number", "first_name", "last_name", "age", "gender")} == {
        "bib": "17", "bib_number": 17, "first_name": "Zoë", "last_name": "Ó Briain-李", "age": 36, "gender": "F",
    }  # fmt: skip
    assert (row["city"], row["state"], row["team"], row["problems"]) == ("Montréal", "QC", "Les Écureuils", [])
    row = put.entries()[bare]
    assert (row["bib"], row["bib_number"], row["first_name"], row["last_name"], row["city"]) == (
        "A7",
        None,
        None,
        None,
        None,
    )
    (shown,) = put.rows("SELECT * FROM start_list WHERE registration_id = %s", number)
    assert (shown["race"], shown["event"], shown["start"]) == ("Fun Run", "Event 1", START)
    assert (shown["name"], shown["bib_number"], shown["problems"]) == ("Zoë Ó Briain-李", 17, "")


@pytest.mark.parametrize(
    ("born", "day", "age"),
    [
        (dt.date(1990, 10, 3), dt.date(2026, 10, 3), 36),
        (dt.date(1990, 10, 4), dt.date(2026, 10, 3), 35),
        (dt.date(2004, 2, 29), dt.date(2027, 2, 28), 22),
        (dt.date(2004, 2, 29), dt.date(2027, 3, 1), 23),
        (dt.date(2004, 2, 29), dt.date(2028, 2, 28), 23),
        (dt.date(2004, 2, 29), dt.date(2028, 2, 29), 24),
        (dt.date(2026, 10, 3), dt.date(2026, 10, 3), 0),
        # Born after the race: the birth date is wrong.
        (dt.date(2027, 1, 1), dt.date(2026, 10, 3), None),
        (None, dt.date(2026, 10, 3), None),
    ],
)
def test_an_age_that_runsignup_did_not_send_is_that_on_race_day(
    put: Lists, born: dt.date | None, day: dt.date, age: int | None
) -> None:
    put.event(1, start=dt.datetime.combine(day, dt.time(9)))
    computed, sent = put.enter(1, dob=born, age=None), put.enter(1, dob=born, age=50)
    put.build()
    assert (put.entries()[computed]["age"], put.entries()[sent]["age"]) == (age, 50)


def test_an_age_is_computed_on_the_day_that_the_event_names(put: Lists) -> None:
    put.event(1, start=dt.datetime(2027, 6, 15, 7))
    number = put.enter(1, dob=dt.date(1987, 12, 30), age=None)
    put.build()
    assert put.entries()[number]["age"] == 39
    put.sql("UPDATE runsignup_events SET age_calc_base_date = '2027-12-31'")
    assert not put.is_current()
    put.build()
    assert put.entries()[number]["age"] == 40 and put.figures()[1]["age_day"] == dt.date(2027, 12, 31)


def test_race_day_is_the_races_own_and_not_that_of_utc(put: Lists) -> None:
    # An evening start on 2 October at UTC-10 is on 3 October by UTC, the runner's birthday.
    put.event(1, start=dt.datetime(2026, 10, 2, 18, 0), zone_hours=-10)
    # A morning start on 4 October at UTC+13 is on 3 October by UTC.
    put.event(2, start=dt.datetime(2026, 10, 4, 7, 0), zone_hours=13)
    first, second = put.enter(1, dob=BORN), put.enter(2, dob=BORN + dt.timedelta(days=1))
    put.build()
    assert (put.entries()[first]["age"], put.entries()[second]["age"]) == (35, 36)
    assert [put.figures()[event]["race_day"].day for event in (1, 2)] == [2, 4]


# Problems


def test_a_missing_bib_is_told_and_a_bib_given_here_counts(put: Lists) -> None:
    put.event(1)
    none, blank = put.enter(1), put.enter(1, "  ", local_bib=" ")
    local, both = put.enter(1, None, local_bib=" 77 "), put.enter(1, "78", local_bib="77")
    put.build()
    assert put.problems() == {none: ["no_bib"], blank: ["no_bib"]}
    assert (put.entries()[local]["bib"], put.entries()[both]["bib"]) == ("77", "78")
    figures = put.figures()[1]
    assert (figures["entrants"], figures["with_bib"], figures["without_bib"]) == (4, 2, 2)
    assert (figures["lowest_bib"], figures["highest_bib"]) == (77, 78)


def test_a_bib_twice_in_an_event_is_told_of_both(put: Lists) -> None:
    put.event(1)
    same = {put.enter(1, "12"), put.enter(1, " 12 "), put.enter(1, None, local_bib="12")}
    put.enter(1, "13"), put.enter(1, "012")
    put.build()
    assert put.problems() == {key: ["duplicate_bib"] for key in same}
    assert put.figures()[1]["duplicate_bibs"] == 3


def team(number: int, bib: object, name: str = "Mill Pond") -> str:
    return json.dumps({"team_id": number, "team_name": name, "team_bib_num": bib})


def test_members_of_a_team_share_its_bib_and_others_do_not(put: Lists) -> None:
    put.event(1)
    put.event(2)
    members = {put.enter(1, team_info=team(7, 501)) for _ in range(3)}
    # The team's bib written into a member's own is still the team's.
    members.add(put.enter(1, "501", team_info=team(7, 501)))
    own = put.enter(1, "12", team_info=team(7, 501))
    put.build()
    assert put.problems() == {}
    assert {put.entries()[number]["bib"] for number in members} == {"501"}
    assert sorted(put.entries()[number]["bib_source"] for number in members) == ["registration", "team", "team", "team"]
    assert (put.entries()[own]["bib"], put.figures()[1]["with_bib"], put.figures()[1]["without_bib"]) == ("12", 5, 0)
    other_team = put.enter(1, team_info=team(8, "501", "Other"))
    put.build()
    assert put.problems() == {number: ["duplicate_bib"] for number in members | {other_team}}
    put.change(other_team, team_info=team(8, " ", "Other"))
    elsewhere = put.enter(2, "501")
    put.build()
    assert put.problems() == {number: ["bib_in_other_event"] for number in members | {elsewhere}} | {
        other_team: ["no_bib"]
    }


def test_a_bib_on_the_row_of_the_bundle_alone_is_that_of_its_events(put: Lists) -> None:
    for event_id in (1, 2):
        put.event(event_id)
    put.event(4, bundle_of=(1, 2))
    put.enter(4, "12", user_id=5)
    one, two = put.enter(1, user_id=5), put.enter(2, user_id=5)
    # A bib that RunSignup gives beats one given here; one of the entry itself beats the bundle's.
    third = put.enter(1, local_bib="99", user_id=6)
    put.enter(4, "13", user_id=6)
    fourth = put.enter(2, "15", user_id=7)
    put.enter(4, "14", user_id=7)
    # Two bundles with a bib each: nobody knows which counts.
    fifth = put.enter(1, user_id=8)
    twice = {put.enter(4, "16", user_id=8), put.enter(4, "17", user_id=8)}
    put.build()
    found = {number: (row["bib"], row["bib_source"]) for number, row in put.entries().items()}
    assert found[one] == found[two] == ("12", "bundle")
    assert (found[third], found[fourth], found[fifth]) == (("13", "bundle"), ("15", "registration"), (None, None))
    assert put.problems() == {fifth: ["no_bib"]} and twice <= found.keys()
    assert [row["bib_source"] for row in put.rows("SELECT * FROM start_list WHERE registration_id = %s", one)] == [
        "bundle"
    ]


def test_a_team_that_took_a_bundle_shares_its_bib_there_too(put: Lists) -> None:
    put.event(1)
    put.event(4, bundle_of=(1,))
    for user_id in (5, 6):
        put.enter(4, user_id=user_id, team_info=team(7, 501))
        put.enter(1, user_id=user_id)
    put.build()
    assert put.problems() == {} and {row["bib"] for row in put.entries().values()} == {"501"}


def test_a_bib_of_another_person_in_another_event_of_the_day_is_told(put: Lists) -> None:
    put.event(1)
    put.event(2, edition=2)
    put.event(3, start=START + HOUR * 24)
    put.race(9)
    put.event(4, race=9)
    wrong = {put.enter(1, "12"), put.enter(2, "12")}
    put.enter(3, "12"), put.enter(4, "12")
    person = {"user_id": 5}
    put.enter(1, "30", **person), put.enter(2, "30", **person)
    put.build()
    assert put.problems() == {key: ["bib_in_other_event"] for key in wrong}


def test_the_same_person_in_two_events_of_an_edition_is_told(put: Lists) -> None:
    put.event(1)
    put.event(2, start=START + HOUR * 24)
    put.event(3, edition=2)
    wrong = {put.enter(1, "1", user_id=5), put.enter(2, "2", user_id=5)}
    put.enter(3, "3", user_id=5)
    nobody = {"user_id": None, "first_name": "ANN", "last_name": "Reed"}
    born = {**nobody, "dob": BORN}
    wrong |= {put.enter(1, "4", **born), put.enter(2, "5", **born | {"first_name": "Ann"})}
    put.enter(2, "6", **nobody), put.enter(1, "7", **nobody | {"dob": dt.date(1991, 1, 1)})
    # One with an account and, imported, one without it.
    put_both = {"first_name": "Bo", "last_name": "Ash", "dob": BORN}
    wrong |= {put.enter(1, "8", **put_both), put.enter(2, "9", user_id=None, **put_both)}
    put.build()
    assert put.problems() == {key: ["in_two_events"] for key in wrong}


def test_twins_of_a_bundle_are_one_entry_and_what_is_beside_it_is_not(put: Lists) -> None:
    for event_id in (1, 2, 3):
        put.event(event_id)
    put.event(4, bundle_of=(1, 2))
    for event_id in (1, 2, 4):
        put.enter(event_id, "12", user_id=5)
    nobody = {"user_id": None, "first_name": "Ann", "last_name": "Reed", "email": "ann@example.test"}
    for event_id in (1, 2, 4):
        put.enter(event_id, "13", **nobody)
    put.build()
    assert put.problems() == {}
    family = {put.enter(event_id, "14", user_id=6) for event_id in (1, 2, 4)} | {put.enter(3, "14", user_id=6)}
    clash = put.enter(1, "12")
    put.build()
    problems = put.problems()
    assert {number for number, found in problems.items() if found == ["in_two_events"]} == family
    assert problems[clash] == ["duplicate_bib", "bib_in_other_event"]


def test_a_bundle_that_is_long_over_still_explains_its_later_events(put: Lists) -> None:
    put.event(1, start=START)
    put.event(2, start=START + HOUR * 24)
    put.event(3, start=START - HOUR * 24 * 20, bundle_of=(1, 2), planned=False)
    for event_id in (1, 2, 3):
        put.enter(event_id, "12", user_id=5)
    put.build()
    assert put.figures().keys() == {1, 2} and put.problems() == {}


def test_a_bib_far_from_the_events_others_is_told(put: Lists) -> None:
    put.event(1)
    put.event(2)
    for bib in range(1000, 1040):
        put.enter(1, str(bib))
    far = {put.enter(1, "10001"), put.enter(1, "1")}
    put.enter(1, "1060"), put.enter(1, "VIP-1")
    put.build()
    assert put.problems() == {key: ["out_of_range"] for key in far}
    # A block of its own is no slip of the finger.
    for bib in range(2, 6):
        put.enter(1, str(bib))
    put.build()
    assert list(put.problems().values()) == [["out_of_range"]]
    # Few bibs do not show what is usual.
    for bib in range(1, 19):
        put.enter(2, str(500 + bib))
    put.enter(2, "99999")
    put.build()
    assert put.figures()[2]["out_of_range"] == 0


def test_a_thousand_entrants_with_one_bib_are_told_in_no_time(put: Lists) -> None:
    put.event(1)
    put.event(2)
    put.sql(
        "INSERT INTO runsignup_participants (timing_partner_id, race_id, event_id, registration_id, user_id, bib_num)"
        " SELECT 1, 1, 1 + n %% 2, n, n, '0' FROM generate_series(1, %s) n",
        4000,
    )
    assert put.build().seconds < 2
    assert put.figures()[1]["duplicate_bibs"] == put.figures()[1]["bibs_in_other_events"] == 2000


# What is written


def test_a_rebuild_with_nothing_changed_writes_no_row(put: Lists) -> None:
    put.event(1)
    for bib in range(30):
        put.enter(1, str(bib))
    first = put.build()
    assert (first.inserted, first.updated, first.deleted, first.unchanged, first.lists_written) == (30, 0, 0, 0, 1)
    before = put.versions()
    again = put.build()
    assert (again.unchanged, again.written) == (30, 0) and put.versions() == before


def test_one_change_writes_one_row_and_its_list(put: Lists) -> None:
    put.event(1)
    put.event(2)
    numbers = [put.enter(1 + place % 2, str(place)) for place in range(10)]
    put.build()
    before = put.versions()
    put.change(numbers[0], bib_num="99")
    assert not put.is_current()
    built = put.build()
    assert (built.inserted, built.updated, built.deleted, built.lists_written) == (0, 1, 0, 1)
    assert len(before - put.versions()) == 2
    put.change(numbers[1], phone="555-0100")
    assert not put.is_current()
    built = put.build()
    assert (built.updated, built.lists_written) == (0, 1), "what no list shows is noted as seen"


def test_a_removed_registration_leaves_and_one_that_comes_back_returns(put: Lists) -> None:
    put.event(1)
    one, other = put.enter(1, "12"), put.enter(1, "12")
    put.build()
    put.change(one, removed_at=NOW, removed_reason="removed")
    built = put.build()
    assert (built.deleted, built.updated) == (1, 1)
    assert put.entries().keys() == {other} and put.problems() == {}
    put.change(one, removed_at=None, removed_reason=None)
    assert put.build().inserted == 1 and put.problems().keys() == {one, other}


def test_a_registration_that_moves_to_an_event_without_a_list_leaves(put: Lists) -> None:
    put.event(1)
    put.event(2, volunteer=True)
    number = put.enter(1, "1")
    put.enter(1, "2")
    put.build()
    put.sql("UPDATE runsignup_participants SET event_id = 2 WHERE registration_id = %s", number)
    assert not put.is_current()
    assert put.build().deleted == 1


def test_another_partners_lists_are_left_alone(put: Lists) -> None:
    put.event(1)
    put.enter(1, "1")
    other = Lists(put.conn, 2)
    other.sql("INSERT INTO partner_races (timing_partner_id, race_id) VALUES (2, %s)", RACE)
    other.plan(1)
    other.enter(1, "1")
    put.build()
    other.build()
    assert put.problems() == other.problems() == {}
    before = put.versions()
    put.change(next(iter(put.entries())), bib_num="5")
    # The number is the same for both partners, who share the race.
    other.build()
    changed = before - put.versions()
    put.build()
    assert len(changed) <= 2 and put.is_current() and other.is_current()


def test_a_failed_rebuild_leaves_the_callers_work_and_the_old_lists(put: Lists) -> None:
    put.event(1)
    number = put.enter(1, "1")
    put.build()
    put.sql(
        """
        CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'nobody foresaw this'; END $$;
        CREATE TRIGGER spoil BEFORE UPDATE ON start_list_entries FOR EACH ROW EXECUTE FUNCTION spoil()
        """
    )
    put.change(number, bib_num="2")
    assert start_list_store.try_rebuild(put.conn, 1, NOW) == RebuildFailed("nobody foresaw this")
    assert put.entries()[number]["bib"] == "1" and not put.is_current()
    put.sql("DROP TRIGGER spoil ON start_list_entries")
    assert isinstance(start_list_store.try_rebuild(put.conn, 1, NOW), start_list_store.RebuildResult)
    assert put.entries()[number]["bib"] == "2"


def test_two_rebuilds_of_a_partner_at_once_wait_for_each_other(put: Lists, database_url: str) -> None:
    put.event(1)
    put.enter(1, "1")
    put.conn.commit()
    put.build()
    with database.session(database_url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute("SET lock_timeout = '100ms'")
        conn.commit()
        refused = start_list_store.try_rebuild(conn, 1, NOW)
        assert isinstance(refused, RebuildFailed) and "lock timeout" in refused.reason
        put.conn.commit()
        assert start_list_store.rebuild(conn, 1, NOW).written == 0


# Reading


def test_a_list_is_read_in_order_of_bib_and_only_its_problems_where_asked(put: Lists) -> None:
    put.event(1)
    for bib in ("10", "9", "B2", None, "9", "100"):
        put.enter(1, bib)
    put.build()
    found = start_list_store.read_start_list(put.conn, 1, NOW)
    assert [entry.bib for entry in start_list_store.read_entries(put.conn, found)] == [
        "9",
        "9",
        "10",
        "100",
        "B2",
        None,
    ]
    wrong = start_list_store.read_entries(put.conn, found, problems_only=True)
    assert [entry.bib for entry in wrong] == ["9", "9", None]


def test_the_hours_before_a_start_are_near(put: Lists) -> None:
    put.event(1)
    start = (START + HOUR * 4).replace(tzinfo=dt.UTC)
    put.build()
    near = {
        hours: start_list_store.read_start_list(put.conn, 1, start + HOUR * hours).near
        for hours in (-25, -24, -1, 0, 1, 20)
    }
    assert near == {-25: False, -24: True, -1: True, 0: True, 1: False, 20: False}
    # One that is open for weeks is near on its first day only.
    put.sql("UPDATE runsignup_events SET ends_at = starts_at + interval '30 days'")
    assert [start_list_store.read_start_list(put.conn, 1, start + HOUR * hours).near for hours in (20, 30)] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("event", "said"),
    [(99, "There is no event 99"), (2, "Event 2 is for volunteers"), (3, "Event 3 has no start list")],
)
def test_an_event_without_a_list_is_told_with_its_reason(put: Lists, event: int, said: str) -> None:
    put.event(2, volunteer=True)
    put.event(3, start=START - HOUR * 9000, planned=False)
    put.build()
    with pytest.raises(NoStartList, match=said):
        start_list_store.read_start_list(put.conn, event, NOW)


# Any changes


@pytest.fixture(scope="module")
def any_database(server: str, template: str) -> Iterator[str]:
    name = "rsu_any_lists"
    create_database(server, name, template)
    yield at(server, name)
    drop_database(server, name)


BIBS = st.sampled_from([None, "", " ", "1", "2", " 2", "3", "02", "B2", "7000", "70001", "123456789012345678901"])
STEPS = st.one_of(
    st.tuples(st.just("enter"), st.integers(1, 4), BIBS, st.integers(1, 6)),
    st.tuples(st.just("block"), st.integers(1, 3), st.integers(1, 60), st.integers(1, 25)),
    st.tuples(st.just("bib"), st.integers(0, 99), BIBS),
    st.tuples(st.just("local"), st.integers(0, 99), BIBS),
    st.tuples(st.just("remove"), st.integers(0, 99)),
    st.tuples(st.just("move"), st.integers(0, 99), st.integers(1, 4)),
    st.tuples(st.just("start"), st.integers(1, 4), st.integers(0, 1)),
    st.tuples(st.just("build")),
)


@hypothesis.settings(max_examples=60)
@hypothesis.example([("enter", 1, None, 3), ("enter", 4, "1", 3)])
@hypothesis.given(st.lists(STEPS, max_size=25))
def test_after_any_changes_a_rebuild_equals_building_from_nothing(any_database: str, steps: list[Any]) -> None:
    with database.session(any_database, purpose="tests") as conn:
        put = Lists(conn)
        put.race()
        for event_id in (1, 2, 3):
            put.event(event_id)
        put.event(4, bundle_of=(1, 2))
        held: list[int] = []
        for name, *rest in steps:
            apply(put, held, name, *rest)
        put.build()
        incremental = put.contents()
        assert {number: set(row["problems"]) for number, row in incremental[0].items()} == put.expected_problems()
        assert put.build().written == 0
        put.sql("DELETE FROM start_list_entries")
        put.sql("DELETE FROM start_lists")
        put.build()
        assert put.contents() == incremental
        conn.rollback()


def apply(put: Lists, held: list[int], name: str, *rest: Any) -> None:
    """Apply one step. A step about somebody does nothing while there is nobody."""
    somebody: Callable[[], int] = lambda: held[rest[0] % len(held)]  # noqa: E731
    if name == "enter":
        held.append(put.enter(rest[0], rest[1], user_id=rest[2]))
    elif name == "block":
        event, first, count = rest
        held.extend(put.enter(event, str(bib)) for bib in itertools.islice(itertools.count(first), count))
    elif name == "build":
        put.build()
    elif name == "start":
        put.sql(
            "UPDATE runsignup_events SET start_time = %s, starts_at = %s WHERE event_id = %s",
            START + HOUR * 24 * rest[1],
            (START + HOUR * 24 * rest[1]).replace(tzinfo=dt.UTC),
            rest[0],
        )
    elif held:
        changes = {
            "bib": lambda: {"bib_num": rest[1]},
            "local": lambda: {"local_bib": rest[1]},
            "remove": lambda: {"removed_at": NOW},
            "move": lambda: {"event_id": rest[1]},
        }
        put.change(somebody(), **changes[name]())


def test_a_bib_too_long_for_a_number_is_kept_as_text(put: Lists) -> None:
    put.event(1)
    number = put.enter(1, "9" * 19)
    put.build()
    assert (put.entries()[number]["bib_number"], put.entries()[number]["bib"]) == (None, "9" * 19)
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        put.sql("DELETE FROM start_lists")
