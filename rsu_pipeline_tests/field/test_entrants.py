"""The view `entrants`: one wide row for each registration, with what analysts need and no contact data."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from rsu_pipeline_tests.field.scripted import Field
from rsu_pipeline_tests.field.test_containers import pair as pair

CONTACT = {"email", "phone", "dob", "address", "street", "zipcode", "payload", "profile_image_url", "additional_data"}


def entrants(field: Field, view: str = "entrants") -> dict[int, dict[str, Any]]:
    rows = field.rows(f"SELECT * FROM {view} ORDER BY registration_id")
    assert not rows or not CONTACT & rows[0].keys()
    found = {row["registration_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_an_entrant_is_one_row_with_names_start_bib_money_and_times(field: Field) -> None:
    world = field.runsignup
    world.race(1, world.event(101, start_time="6/15/2027 07:00"))
    world.enter(
        101, 11, bib_num=7, age=36, race_fee="$1,034.50", amount_paid="-$5.00", processing_fee=None, partner_fee="€3.00"
    )
    world.clock = dt.datetime(2027, 6, 1, tzinfo=dt.UTC).timestamp()
    world.tell()
    field.sync()
    row = entrants(field)[11]
    (race,) = field.rows("SELECT name, timezone FROM runsignup_races")
    (event,) = field.rows("SELECT name, starts_at, start_time FROM runsignup_events")
    assert (row["race"], row["timezone"], row["event"]) == (race["name"], race["timezone"], event["name"])
    assert (row["starts_at"], row["start_local"]) == (event["starts_at"], dt.datetime(2027, 6, 15, 7))
    assert (row["bib"], row["bib_source"], row["name"], row["age"]) == ("7", "registration", "Ines Okafor 11", 36)
    assert (row["city"], row["state"], row["country"], row["gender"]) == ("Harwick", "IL", "US", "F")
    assert (row["race_fee"], row["amount_paid"]) == (Decimal("1034.50"), Decimal("-5.00"))
    # Null, absent and another currency are not 0.
    assert (row["processing_fee"], row["extra_fees"], row["partner_fee"]) == (None, None, None)
    assert row["has_other_currency"] is True
    assert (row["status"], row["removed_reason"], row["removed_at"]) == ("active", None, None)
    (stored,) = field.rows("SELECT changed_at, last_modified_epoch, registered_at FROM runsignup_participants")
    assert row["changed_at"] == stored["changed_at"] and row["registered_at"] == stored["registered_at"]
    assert row["modified_at"].timestamp() == stored["last_modified_epoch"]


def test_bibs_and_ages_are_those_of_the_start_list(field: Field) -> None:
    world = field.runsignup
    day = {"start_time": "6/15/2027 07:00"}
    world.race(
        1,
        world.event(101, **day, age_calc_base_date="12/31/2027"),
        world.event(102, **day),
        world.event(103, **day, sub_event_ids=[101, 102]),
    )
    for event_id in (101, 102):
        world.enter(event_id, event_id * 10, user={"user_id": 5, "dob": "1987-12-30"}, age=None, bib_num=None)
    world.enter(103, 1030, user={"user_id": 5}, bib_num=88)
    world.enter(102, 1021, team_id=7, team_name="Mill Pond Four", team_bib_num=501)
    world.enter(102, 1022, user={"dob": None}, age=None, bib_num=12)
    world.enter(102, 1023)
    world.clock = dt.datetime(2027, 6, 1, tzinfo=dt.UTC).timestamp()
    world.tell()
    field.sync()
    field.execute("UPDATE runsignup_participants SET local_bib = '900' WHERE registration_id = 1023")
    field.rebuild_lists()
    listed = {
        number: (row["bib"], row["bib_source"], row["age"], row["team"]) for number, row in field.start_list().items()
    }
    assert {source for _, source, _, _ in listed.values()} == {"bundle", "registration", "team", "local"}
    found = {
        number: (row["bib"], row["bib_source"], row["age"], row["team"]) for number, row in entrants(field).items()
    }
    assert found == listed


def test_a_removed_registration_stays_with_its_reason(field: Field) -> None:
    world = field.runsignup
    world.race(1, world.event(101), world.event(102))
    world.enter(101, 11, bib_num=7)
    world.enter(101, 12)
    field.sync()
    world.remove(101, 11, "transferred", new_registration_id=41)
    world.enter(102, 41)
    field.sync()
    found = entrants(field)
    assert {number: row["status"] for number, row in found.items()} == {11: "removed", 12: "active", 41: "active"}
    assert (found[11]["removed_reason"], found[11]["new_registration_id"]) == ("transferred", 41)
    active = field.rows("SELECT count(*) AS n FROM unified_participants")[0]["n"]
    assert active == sum(row["status"] == "active" for row in found.values())


@pytest.mark.usefixtures("scripted")
def test_a_race_of_two_partners_is_once_in_entrants_and_once_for_each_partner(pair: Field) -> None:
    world = pair.runsignup
    world.race(1, world.event(101))
    world.enter(101, 11, bib_num=7)
    pair.sync(1)
    pair.sync(2)
    assert [row["timing_partner_id"] for row in entrants(pair).values()] == [1]
    both = pair.rows("SELECT timing_partner_id, registration_id, bib FROM partner_entrants ORDER BY 1")
    assert [tuple(row.values()) for row in both] == [(1, 11, "7"), (2, 11, "7")]
