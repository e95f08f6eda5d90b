"""What scoring reads is RunSignup's word: bibs of teams and bundles, ages."""

import datetime as dt

from rsu_pipeline.cli.start_list_command import format_bib
from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.start_lists.list_formats import format_entries
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.field.scripted import Field

RELAY = {"team_id": 7, "team_name": "Mill Pond Four", "team_type": "Relay", "team_bib_num": 501}
MEMBERS = (2001, 2002, 2003, 2004)


def relay(field: Field, **members: object) -> None:
    for number in MEMBERS:
        field.runsignup.enter(101, number, **RELAY | members)


def test_a_relays_bib_counts_as_its_members_bib(field: Field) -> None:
    field.runsignup.race(1, field.runsignup.event(101))
    relay(field)
    field.sync()
    field.rebuild_lists()
    assert [(row["bib"], row["bib_source"], row["problems"]) for row in field.start_list().values()] == [
        ("501", "team", "")
    ] * 4
    assert field.bib_log() == []
    relay(field, team_bib_num=555)
    field.sync()
    field.rebuild_lists()
    assert {row["bib"] for row in field.start_list().values()} == {"555"}
    assert field.bib_log() == [(number, "501", "555") for number in MEMBERS]
    # The member's own bib comes before the team's, and goes again.
    field.runsignup.enter(101, 2001, **RELAY, bib_num=9)
    field.sync()
    field.runsignup.enter(101, 2001, **RELAY | {"team_bib_num": 555})
    field.runsignup.enter(101, 2002, **RELAY | {"team_bib_num": ""})
    field.sync()
    assert field.bib_log()[4:] == [(2001, "555", "9"), (2001, "9", "555"), (2002, "555", None)]
    # Other programs' column is what it was: RunSignup's bib of the registration itself.
    assert {row["bib_num"] for row in field.registrations().values()} == {None}
    shown = field.rows("SELECT bib_number FROM unified_participants ORDER BY last_name")
    assert [row["bib_number"] for row in shown] == ["555", None, "555", "555"]
    field.assert_log_replays()


def test_a_teams_bib_that_is_set_after_the_first_load_is_logged(field: Field) -> None:
    field.runsignup.race(1, field.runsignup.event(101))
    relay(field, team_bib_num=None)
    field.sync()
    relay(field)
    field.runsignup.enter(101, 2005, **RELAY)
    field.sync()
    assert sorted(field.bib_log()) == [(number, None, "501") for number in (*MEMBERS, 2005)]
    field.runsignup.remove(101, 2005)
    field.sync()
    assert len(field.bib_log()) == 5
    field.assert_log_replays()


def test_the_age_is_runsignups_else_computed_on_the_day_that_counts(field: Field) -> None:
    triathlon = field.runsignup.event(101, start_time="6/15/2027 07:00", age_calc_base_date="12/31/2027")
    road = field.runsignup.event(102, start_time="6/15/2027 07:00")
    field.runsignup.race(1, triathlon, road)
    born = {"dob": "1987-12-30"}
    for event_id in (101, 102):
        field.runsignup.enter(event_id, event_id * 10, age=40, user=born)
        field.runsignup.enter(event_id, event_id * 10 + 1, age=None, user=born)
        field.runsignup.enter(event_id, event_id * 10 + 2, age=None, user={"dob": None})
    field.runsignup.clock = dt.datetime(2027, 6, 1, tzinfo=dt.UTC).timestamp()
    field.runsignup.tell()
    field.sync()
    field.rebuild_lists()
    ages = {number: row["age"] for number, row in field.start_list().items()}
    assert ages == {1010: 40, 1011: 40, 1012: None, 1020: 40, 1021: 39, 1022: None}


def test_a_bib_on_a_bundles_row_is_shown_in_its_events(field: Field) -> None:
    events = [
        field.runsignup.event(101),
        field.runsignup.event(102),
        field.runsignup.event(103, sub_event_ids=[101, 102]),
    ]
    field.runsignup.race(1, *events)
    for event_id in (101, 102, 103):
        field.runsignup.enter(event_id, event_id * 10, user={"user_id": 5}, bib_num=None)
    field.sync()
    field.runsignup.enter(103, 1030, user={"user_id": 5}, bib_num=88)
    field.sync()
    field.rebuild_lists()
    shown = {number: (row["bib"], row["bib_source"], row["problems"]) for number, row in field.start_list().items()}
    assert shown == {1010: ("88", "bundle", ""), 1020: ("88", "bundle", ""), 1030: ("88", "registration", "")}
    now = dt.datetime.now(dt.UTC)
    with database.session(field.url, purpose="tests") as conn:
        (entry,) = start_list_store.read_entries(conn, start_list_store.read_start_list(conn, 101, now))
    assert format_bib(entry) == "88 (bundle)"
    assert format_entries([entry], "csv").splitlines()[1].endswith(",1010,bundle")
    # The log is of what RunSignup holds, and there the bib is on one row.
    assert field.bib_log() == [(1030, None, "88")]
    field.assert_log_replays()
