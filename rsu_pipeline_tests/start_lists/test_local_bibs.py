"""Bibs given here: which are taken, which registrations, and that the start list shows them at once."""

from collections.abc import Iterator

import pytest

from rsu_pipeline.start_lists.local_bibs import LocalBibError, give_bib, parse_local_bib, take_bib
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.start_lists.lists_rows import NOW, RACE, Lists

UNKNOWN = 4711


@pytest.fixture
def put(database_url: str) -> Iterator[Lists]:
    with database.session(database_url, purpose="tests") as conn:
        put = Lists(conn)
        put.race()
        put.event(1)
        yield put


def given(put: Lists, number: int, partner: int = 1) -> str | None:
    (row,) = put.rows(
        "SELECT local_bib FROM runsignup_participants WHERE registration_id = %s AND timing_partner_id = %s",
        number,
        partner,
    )
    return row["local_bib"]  # type: ignore[no-any-return]


def share(put: Lists, number: int) -> None:
    """Give the race and a registration to a second partner, as a race of two partners is stored."""
    put.sql("INSERT INTO timing_partners (timing_partner_id, company_name, partition_key) VALUES (2, 'Lake', '2-lake')")
    put.sql("INSERT INTO partner_races (timing_partner_id, race_id) VALUES (2, %s)", RACE)
    put.sql(
        "INSERT INTO runsignup_participants (registration_id, event_id, race_id, timing_partner_id, changed_at)"
        " VALUES (%s, 1, %s, 2, now())",
        number,
        RACE,
    )


@pytest.mark.parametrize("text", ["101", " 101\t", "A12", "7-2", "10/1", "007", "A" * 20])
def test_bibs_that_are_printed_on_paper_are_taken_without_blanks_around_them(text: str) -> None:
    assert parse_local_bib(text) == text.strip()


@pytest.mark.parametrize(
    "text",
    ["", " ", "\u00a0", "1 2", "-5", "5-", "=1+1", "1\n2", "#1", "１０１", "١", "\u202e12", "é", "A" * 21, "1" * 5000],
)
def test_what_is_no_bib_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(LocalBibError) as refused:
        parse_local_bib(text)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 200


def test_a_given_bib_is_on_the_start_list_at_once_and_gone_once_it_is_taken_back(put: Lists) -> None:
    number = put.enter(1)
    put.build()
    change = give_bib(put.conn, number, " 101 ", NOW)
    assert (change.previous, change.registration.bib, change.registration.bib_source) == (None, "101", "local")
    assert (put.entries()[number]["bib"], put.entries()[number]["problems"]) == ("101", [])
    assert give_bib(put.conn, number, "102", NOW).previous == "101"
    change = take_bib(put.conn, number, NOW)
    assert (change.previous, change.registration.local_bib, change.registration.bib) == ("102", None, None)
    assert put.entries()[number]["bib"] is None


def test_a_bib_that_another_entrant_of_the_event_has_is_refused_wherever_it_is_from(put: Lists) -> None:
    put.event(2, bundle_of=(1,))
    holders = [
        put.enter(1, "101"),
        put.enter(1, team_info='{"team_id": 5, "team_name": "Elk", "team_bib_num": "102"}'),
        put.enter(1, user_id=77),
        put.enter(1),
    ]
    put.enter(2, "103", user_id=77)
    give_bib(put.conn, holders[3], "104", NOW)
    number = put.enter(1)
    for bib, holder in zip(("101", "102", "103", "104"), holders, strict=True):
        put.sql("SAVEPOINT before")
        with pytest.raises(LocalBibError, match=f"Bib {bib} is taken in event 1, by registration {holder} "):
            give_bib(put.conn, number, bib, NOW)
        put.sql("ROLLBACK TO SAVEPOINT before")
        assert given(put, number) is None
    change = give_bib(put.conn, number, "101", NOW, even_if_taken=True)
    assert [item.registration_id for item in change.holders] == [holders[0]]
    assert put.entries()[number]["problems"] == ["duplicate_bib"]


def test_a_bib_of_another_event_a_removed_entrant_or_the_entrant_itself_is_free(put: Lists) -> None:
    put.event(2)
    put.enter(2, "101")
    gone = put.enter(1, "102")
    put.sql(
        "UPDATE runsignup_participants SET removed_at = now(), removed_reason = 'cleared' WHERE registration_id = %s",
        gone,
    )
    number = put.enter(1)
    for bib in ("101", "102", "102"):
        change = give_bib(put.conn, number, bib, NOW)
        assert change.holders == ()
        assert change.registration.problems == (["bib_in_other_event"] if bib == "101" else [])


def test_the_bib_that_runsignup_has_counts_and_is_named(put: Lists) -> None:
    own, member = put.enter(1, "55"), put.enter(1, team_info='{"team_bib_num": "102"}')
    for number, bib, source in ((own, "55", "registration"), (member, "102", "team")):
        found = give_bib(put.conn, number, "900", NOW).registration
        assert (found.local_bib, found.bib, found.bib_source) == ("900", bib, source)
        assert put.entries()[number]["bib"] == bib
        # It is the bib that RunSignup has: the team's other members have it too, and nothing is wrong.
        assert give_bib(put.conn, number, bib, NOW).holders == ()
        assert take_bib(put.conn, number, NOW).registration.bib == bib


def test_an_unknown_registration_one_of_two_partners_and_one_that_is_removed_are_refused(put: Lists) -> None:
    number = put.enter(1)
    with pytest.raises(LocalBibError, match=f"There is no registration {UNKNOWN}\\."):
        give_bib(put.conn, UNKNOWN, "101", NOW)
    with pytest.raises(LocalBibError, match=f"There is no registration {number} of partner 2"):
        give_bib(put.conn, number, "101", NOW, partner_id=2)
    share(put, number)
    with pytest.raises(LocalBibError, match=r"several partners \(1-acme, 2-lake\)\. Name one with --partner"):
        give_bib(put.conn, number, "101", NOW)
    assert give_bib(put.conn, number, "101", NOW, partner_id=2).registration.partner == "2-lake"
    assert (given(put, number, 1), given(put, number, 2)) == (None, "101")
    # Only one of the two has a bib to take back.
    assert take_bib(put.conn, number, NOW).registration.partner == "2-lake"
    give_bib(put.conn, number, "101", NOW, partner_id=2)
    put.sql(
        "UPDATE runsignup_participants SET removed_at = now(), removed_reason = 'access_lost' WHERE timing_partner_id = 2"
    )
    assert give_bib(put.conn, number, "102", NOW).registration.partner == "1-acme"
    with pytest.raises(LocalBibError, match="is no longer active at RunSignup"):
        give_bib(put.conn, number, "101", NOW, partner_id=2)
    assert take_bib(put.conn, number, NOW, partner_id=2).previous == "101"


def test_taking_back_a_bib_that_was_not_given_here_is_refused(put: Lists) -> None:
    number = put.enter(1, "55")
    with pytest.raises(LocalBibError, match="has no bib that was given here"):
        take_bib(put.conn, number, NOW)
