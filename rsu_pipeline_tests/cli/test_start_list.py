"""`rsu start-list`: for people, for spreadsheets, for programs."""

import csv
import datetime as dt
import io
import json
from collections.abc import Iterator

import pytest

from rsu_pipeline.start_lists.list_formats import FORMATS
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.start_lists.lists_rows import START, Lists

NOW = dt.datetime.now(dt.UTC)
NASTY = {
    "=1+1": "'=1+1",
    "+1 555": "'+1 555",
    "-2": "'-2",
    "@SUM(A1)": "'@SUM(A1)",
    'Ann "Bo", Ltd': 'Ann "Bo", Ltd',
    "two\nlines": "two lines",
    "Zoë 李 😀": "Zoë 李 😀",
    "a=b": "a=b",
}
"""First names, and the cells they become."""


@pytest.fixture
def put(settings: dict[str, str], database_url: str) -> Iterator[Lists]:
    """Provide event 1 with an entrant of each nasty name, bibs from 101, and event 2 for volunteers."""
    with database.session(database_url, purpose="tests") as conn:
        put = Lists(conn)
        put.race(name="Über Run [bold]")
        put.event(1, start=START.replace(year=NOW.year + 1))
        put.event(2, volunteer=True)
        for place, name in enumerate(NASTY):
            put.enter(1, str(101 + place), first_name=name, last_name="Quill", dob=dt.date(2000, 1, 1), gender="F")
        put.build(NOW)
        conn.commit()
        yield put


def test_people_see_a_table_in_order_of_bib(put: Lists, settings: dict[str, str]) -> None:
    put.enter(1, "7", first_name="Lo\x1b[31mu", last_name="[red]Ash[/red]")
    put.enter(1, None, first_name="Nobody", last_name="Yet")
    put.build(NOW)
    put.conn.commit()
    done = rsu("start-list", "1", settings=settings)
    assert (done.returncode, done.stderr) == (0, "")
    head, _, *lines = done.stdout.splitlines()
    assert head.startswith("Event 1, Über Run [bold] (") and "10 entrants, 1 without a bib" in head
    assert lines[0].split()[0] == "7" and "[red]Ash[/red]" in lines[0] and "\x1b" not in done.stdout
    assert "no bib" in lines[-1] and "Nobody Yet" in lines[-1]
    only = rsu("start-list", "1", "--problems", settings=settings).stdout.splitlines()
    assert len(only) == 3 and "Nobody Yet" in only[-1]


def test_csv_quotes_what_needs_it_and_starts_no_formula(put: Lists, settings: dict[str, str]) -> None:
    done = rsu("start-list", "1", "--csv", settings=settings | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    assert list(rows[0]) == list(FORMATS["csv"])
    assert [row["first_name"] for row in rows] == list(NASTY.values())
    assert [row["bib"] for row in rows] == [str(101 + place) for place in range(len(NASTY))]
    assert {row["last_name"] for row in rows} == {"Quill"} and rows[0]["problems"] == ""
    put.enter(1, "-5", team_info='{"team_name": "\\tTabs"}')
    put.build(NOW)
    put.conn.commit()
    last = list(csv.reader(io.StringIO(rsu("start-list", "1", "--csv", settings=settings).stdout, newline="")))[-1]
    assert last[0] == "'-5" and not last[7].startswith("\t")


def test_a_format_of_a_scoring_program_has_its_columns_and_no_others(put: Lists, settings: dict[str, str]) -> None:
    done = rsu("start-list", "1", "--format", "raceresult", settings=settings)
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.reader(io.StringIO(done.stdout, newline="")))
    assert rows[0] == ["Bib", "Lastname", "Firstname", "Gender", "Age", "City", "State", "Club"]
    assert rows[1][:4] == ["101", "Quill", "'=1+1", "F"]
    assert len(rows) == 1 + len(NASTY)


def test_json_is_for_programs(put: Lists, settings: dict[str, str]) -> None:
    found = json.loads(rsu("start-list", "1", "--json", "--partner", "1-acme", settings=settings).stdout)
    assert (found["event"], found["entrants"], found["lowest_bib"]) == ("Event 1", len(NASTY), 101)
    assert [entry["first_name"] for entry in found["entries"]] == list(NASTY)
    assert found["entries"][0]["problems"] == []


def test_without_an_event_the_events_are_listed_first_start_first(put: Lists, settings: dict[str, str]) -> None:
    put.event(3, start=START.replace(year=NOW.year + 1) - dt.timedelta(days=1))
    put.enter(3, None)
    put.build(NOW)
    put.conn.commit()
    done = rsu("start-list", settings=settings)
    assert (done.returncode, done.stderr) == (0, "")
    header, *lines = done.stdout.splitlines()
    assert header.split()[:4] == ["EVENT", "event", "race", "start"]
    assert [line.split()[0] for line in lines] == ["3", "1"] and "Über Run [bold]" in lines[0]
    assert lines[0].split()[-3:] == ["1", "1", "1"] and lines[1].split()[-3:] == [str(len(NASTY)), "0", "1"]
    found = json.loads(rsu("start-list", "--json", "--partner", "1-acme", settings=settings).stdout)
    assert [(one["event_id"], one["without_bib"]) for one in found] == [(3, 1), (1, 0)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["99"], "There is no event 99: "),
        (["2"], "Event 2 is for volunteers and has no start list."),
        (["five"], "Invalid value for '[EVENT]': 'five' is not a valid integer"),
        (["0"], "Invalid value for '[EVENT]': 0 is not in the range"),
        (["9" * 20], "Invalid value for '[EVENT]': "),
        (["--csv"], "--csv, --format and --problems need an EVENT."),
        (["1", "--csv", "--json"], "--json excludes --csv and --format."),
        (["1", "--format", "raceresult", "--json"], "--json excludes --csv and --format."),
        (["1", "--partner", "77"], "There is no partner '77'"),
        (["1", "--xml"], "No such option"),
    ],
)
def test_bad_input_is_one_sentence(put: Lists, settings: dict[str, str], arguments: list[str], said: str) -> None:
    assert refusal(rsu("start-list", *arguments, settings=settings)).startswith(said)
