"""An erased person stays erased, whatever number or account RunSignup sends.

What was purged comes back where it is wanted.
"""

import datetime as dt
from typing import Any

import pytest

from rsu_pipeline.warehouse import database, privacy
from rsu_pipeline_tests.field.scripted import Field
from rsu_pipeline_tests.warehouse.personal import assert_proved

LATER = f"{dt.datetime.now() + dt.timedelta(days=2):%-m/%-d/%Y %H:%M}"
WHO = {"user_id": 5, "first_name": "Wilhelmina", "last_name": "Thistlewaite", "email": "wt@example.test"}
MERGED = WHO | {"user_id": 9}


def erase(field: Field, **which: Any) -> None:
    with database.session(field.url, purpose="tests") as conn:
        privacy.erase_person(conn, who="tests", **which)


def names(field: Field, *tables: str) -> str:
    """Return every row of the tables that hold registrations, as text."""
    tables = tables or ("runsignup_participants", "start_list_entries", "quarantined_rows")
    return "\n".join(row["text"] for table in tables for row in field.rows(f"SELECT t::text AS text FROM {table} t"))


def assert_gone(field: Field) -> None:
    field.rebuild_lists()
    for part in ("Wilhelmina", "Thistlewaite", "wt@example.test"):
        assert part not in names(field)
    assert_proved(field)


@pytest.fixture
def entered(field: Field) -> Field:
    """Provide a person in event 101 as registration 11, somebody else beside them."""
    field.runsignup.race(1, field.runsignup.event(101), field.runsignup.event(102), field.runsignup.event(103))
    field.runsignup.enter(101, 11, user=WHO)
    field.runsignup.enter(101, 12)
    field.sync()
    field.rebuild_lists()
    assert "Thistlewaite" in names(field)
    return field


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("which", [{"user_id": 5}, {"registration_id": 11}])
def test_a_transfer_does_not_bring_an_erased_person_back(entered: Field, which: dict[str, int], full: bool) -> None:
    erase(entered, **which)
    # The new registration is of today, and its page comes before the removed one's.
    entered.runsignup.remove(101, 11, "transferred", new_registration_id=41)
    entered.runsignup.enter(102, 41, user=WHO, registration_date=LATER, bib_num=50)
    outcome = entered.sync(full=full)
    assert not outcome.failures and not outcome.unequal_events
    assert_gone(entered)
    assert entered.registrations()[41]["bib_num"] == "50"
    # And again, after the accounts were merged.
    entered.runsignup.remove(102, 41, "transferred", user=MERGED, new_registration_id=55)
    entered.runsignup.enter(103, 55, user=MERGED, registration_date=LATER)
    for _ in range(2):
        assert not entered.sync(full=full).unequal_events
        assert_gone(entered)
    assert not entered.full_sync().counts.updated
    assert {row["last_name"] for row in entered.registrations().values()} == {"Okafor 12", None}


def test_a_place_that_went_to_another_person_is_that_persons(entered: Field) -> None:
    erase(entered, registration_id=11)
    entered.runsignup.remove(101, 11, "transferred", new_registration_id=41)
    entered.runsignup.enter(101, 41, user={"user_id": 77, "last_name": "Reyes"}, registration_date=LATER)
    entered.sync()
    entered.full_sync()
    assert entered.registrations()[41]["last_name"] == "Reyes"
    assert_gone(entered)


def test_a_chain_that_is_known_is_erased_whole_in_both_directions(entered: Field) -> None:
    entered.runsignup.remove(101, 11, "transferred", new_registration_id=41)
    entered.runsignup.enter(102, 41, user=WHO)
    entered.sync()
    entered.runsignup.remove(102, 41, "transferred", new_registration_id=55)
    entered.sync()  # what it became is not shown yet
    erase(entered, registration_id=41)
    entered.runsignup.enter(103, 55, user=WHO, registration_date=LATER)
    entered.sync()
    assert_gone(entered)
    assert entered.removed().keys() == {11, 41} and 55 in entered.registrations()


def test_merged_accounts_do_not_bring_an_erased_person_back(entered: Field) -> None:
    # Under the account that is left after the merger the person had an older registration.
    entered.runsignup.enter(102, 10, user=MERGED)
    entered.sync()
    erase(entered, user_id=5)
    assert "Thistlewaite" in names(entered)
    entered.runsignup.enter(101, 11, user=MERGED)
    assert not entered.full_sync().unequal_events
    assert_gone(entered)
    # One made after the erasure is a new one, and kept as any other.
    entered.runsignup.enter(102, 60, user=MERGED, registration_date=LATER)
    entered.sync()
    assert entered.registrations()[60]["last_name"] == "Thistlewaite"


def test_an_erased_member_of_a_relay_keeps_its_bib(field: Field) -> None:
    field.runsignup.race(1, field.runsignup.event(101))
    team = {"team_id": 7, "team_name": "Team Thistlewaite", "team_bib_num": 501}
    field.runsignup.enter(101, 11, user=WHO, **team)
    field.runsignup.enter(101, 12, **team | {"team_name": "Four"})
    field.sync()
    erase(field, user_id=5)
    assert not field.full_sync().counts.bib_changes
    assert_gone(field)
    assert {number: (row["bib"], row["problems"]) for number, row in field.start_list().items()} == {
        11: ("501", ""),
        12: ("501", ""),
    }
    field.assert_log_replays()


def test_a_purged_event_that_is_postponed_has_its_contact_data_at_the_next_visit(field: Field) -> None:
    field.runsignup.race(1, field.runsignup.event(101, in_hours=24), field.runsignup.event(102))
    field.runsignup.enter(101, 11, user=WHO)
    field.sync()
    field.runsignup.race(
        1, field.runsignup.event(101, in_hours=-100), field.runsignup.event(102), last_modified="10/1/2026 08:05"
    )
    field.sync()
    with database.session(field.url, purpose="tests") as conn:
        now = dt.datetime.now(dt.UTC)
        privacy.purge_contact_rows(conn, now.date(), now=now, who="tests")
    assert "wt@example.test" not in names(field)
    field.runsignup.race(
        1, field.runsignup.event(101, in_hours=300), field.runsignup.event(102), last_modified="10/2/2026 08:05"
    )
    assert not field.sync().unequal_events
    assert field.registrations()[11]["email"] == "wt@example.test"
    assert field.registrations()[11]["payload"]["user"]["phone"] == "312-555-0142"
    assert_proved(field)
