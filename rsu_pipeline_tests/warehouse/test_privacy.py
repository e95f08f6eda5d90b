"""Personal data that is no longer kept is gone from every table."""

import datetime as dt
import json

import psycopg2.errors
import pytest

from rsu_pipeline.warehouse import database, privacy, race_locks
from rsu_pipeline.warehouse.privacy import PrivacyError
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.warehouse.fleet_rows import NOW, Fleet
from rsu_pipeline_tests.warehouse.personal import (
    Person,
    build_lists,
    erase,
    everything,
    now,
    people,
    purge,
)

# Purge


def test_the_columns_keep_what_is_no_contact_data(hub: Hub) -> None:
    before = {row["registration_id"]: row for row in hub.rows("SELECT * FROM runsignup_participants")}
    purge(hub)
    kept = (
        "user_id first_name middle_name last_name gender age bib_num chip_num registration_date last_modified_epoch team_info"
        " payment_info removed_at"
    ).split()
    for row in hub.rows(
        "SELECT p.* FROM runsignup_participants p JOIN runsignup_events e USING (event_id) WHERE start_time < now()"
    ):
        was = before[row["registration_id"]]
        assert {name: row[name] for name in kept} == {name: was[name] for name in kept}
        # A membership number is one with a person.
        assert row["additional_data"].keys() == was["additional_data"].keys() - {"usatf_discount_additional_field"}
        assert row["address"] == {name: was["address"].get(name) for name in ("city", "state", "country_code")}
        assert row["payload"]["user"].keys() == {
            *("user_id", "first_name", "middle_name", "last_name", "gender", "address")
        }
        assert {name: row["payload"][name] for name in ("bib_num", "race_fee", "last_modified")} == {
            name: was["payload"][name] for name in ("bib_num", "race_fee", "last_modified")
        }


def test_a_rehearsal_counts_and_changes_nothing(hub: Hub) -> None:
    before = everything(hub)
    done = purge(hub, dry_run=True)
    assert done.rows["runsignup_participants"] == len(people(hub, past=True))
    user = people(hub, past=False)[0]["user"]["user_id"]
    assert erase(hub, user_id=user, dry_run=True).rows["runsignup_participants"] >= 1
    assert everything(hub) == before


def test_a_day_to_come_is_refused(hub: Hub) -> None:
    with pytest.raises(PrivacyError, match="is in the future"):
        purge(hub, now().date() + dt.timedelta(days=1))
    assert hub.value("SELECT count(*) FROM contact_retention") == 0


def test_an_earlier_day_does_not_move_the_day_back(hub: Hub) -> None:
    purge(hub)
    purge(hub, dt.date(2000, 1, 1))
    assert hub.value("SELECT before FROM contact_retention") == now().date()


def test_a_partner_with_a_race_being_read_is_named_and_the_others_are_done(hub: Hub) -> None:
    race = people(hub, past=True)[0]["_race_id"]
    with database.session(hub.url, purpose="other") as other, race_locks.race_lock(other, 1, race):
        done = purge(hub, lock_timeout=0)
    of_race = [row for row in people(hub, past=True) if row["_race_id"] == race]
    assert done.busy == [1]
    assert done.rows["runsignup_participants"] == len(people(hub, past=True)) - len(of_race)
    assert purge(hub).rows["runsignup_participants"] == len(of_race)


HARMLESS = """
UPDATE runsignup_participants SET first_name = 'Ada', last_name = 'Quill', bib_num = '7',
    address = '{"city": "Ghent", "state": null}', additional_data = '{"imported": "F", "team_name": "The Larks"}',
    payload = '{"bib_num": 7, "team_name": "The Larks",
        "user": {"last_name": "Quill", "address": {"city": "Ghent", "country_code": "US"}}}'
"""


@pytest.mark.parametrize(
    "assignment",
    [
        "email = 'ada@canary.test'",
        "dob = '1990-01-01'",
        "phone = 'canary'",
        "profile_image_url = 'https://canary.test/1.png'",
        """address = '{"city": "Ghent", "street": "canary"}'""",
        """address = '["canary"]'""",
        """additional_data = '{"imported": "F", "question_responses": ["canary"]}'""",
        """additional_data = '"canary"'""",
        """payload = '{"bib_num": 7, "question_responses": ["canary"]}'""",
        """payload = '{"bib_num": 7, "user": {"last_name": "Quill", "email": "canary"}}'""",
        """payload = '{"bib_num": 7, "user": {"address": {"city": "Ghent", "zipcode": "canary"}}}'""",
        """payload = '{"bib_num": 7, "user": {"address": "canary"}}'""",
        """payload = '{"bib_num": 7, "user": "canary"}'""",
        """payload = '{"bib_num": 7, "user": {"email": "canary"}, "user": {"last_name": "Quill"}}'""",
        """payload = '["canary"]'""",
    ],
)
def test_whatever_comes_to_a_registration_after_a_purge_goes_with_the_next(put: Fleet, assignment: str) -> None:
    put.partner(1)
    put.race(10, 1)
    put.sql(
        "INSERT INTO runsignup_events (event_id, race_id, start_time) VALUES (100, 10, '2026-09-01'), (101, 10, NULL)"
    )
    put.sql(
        "INSERT INTO runsignup_participants (race_id, event_id, timing_partner_id, registration_id)"
        " VALUES (10, 100, 1, 1), (10, 100, 1, 2), (10, 101, 1, 3)"
    )
    put.sql(HARMLESS)

    def purged() -> int:
        done = privacy.purge_contact_rows(put.conn, NOW.date(), now=NOW, who="tests")
        return done.rows["runsignup_participants"]

    assert purged() == 0, "nothing of it is contact data"
    put.sql(f"UPDATE runsignup_participants SET {assignment} WHERE registration_id <> 2")
    assert (purged(), purged()) == (1, 0)
    with put.conn.cursor() as cur:
        cur.execute("SELECT registration_id, t::text ~ 'canary|1990' FROM runsignup_participants t ORDER BY 1")
        assert cur.fetchall() == [(1, False), (2, False), (3, True)], "of the undated event it stays"


# Erasure


def test_the_start_list_loses_the_name_at_once(hub: Hub, person: Person) -> None:
    build_lists(hub)
    name = "SELECT last_name FROM start_list_entries WHERE registration_id = %s"
    assert hub.value(name, person["coming"]) == "Thistlewaite"
    erase(hub, user_id=person["user_id"])
    assert hub.value(name, person["coming"]) is None


def test_rows_of_the_older_program_are_blanked_too(hub: Hub, person: Person) -> None:
    row = {
        "id": 5,
        "timing_partner_id": 1,
        "registration_id": 77,
        "user_id": person["user_id"],
        "email": "wt@example.test",
    }
    hub.execute(
        'CREATE TABLE adopted_rows (table_name text, "row" jsonb, moved_at timestamptz DEFAULT now());'
        "INSERT INTO adopted_rows VALUES ('runsignup_participants', %s), ('runsignup_participants', %s)",
        json.dumps(row),
        json.dumps(row | {"user_id": 5}),
    )
    assert erase(hub, user_id=person["user_id"]).rows["adopted_rows"] == 1
    kept = sorted(len(one["row"]) for one in hub.rows('SELECT "row" FROM adopted_rows'))
    assert kept == [3, 5]


# The log


def test_the_log_says_when_who_and_how_much_and_nothing_of_whom(hub: Hub, person: Person) -> None:
    purge(hub)
    erase(hub, user_id=person["user_id"], partner_id=1)
    first, second = hub.rows("SELECT * FROM privacy_log ORDER BY privacy_log_id")
    assert (first["kind"], first["who"], first["before"]) == ("purge", "tests", now().date())
    assert first["counts"]["runsignup_participants"] == len(people(hub, past=True))
    assert (second["kind"], second["before"], second["timing_partner_id"]) == ("erase", None, 1)
    assert str(person["user_id"]) not in str(second["counts"])
    for statement in ("DELETE FROM privacy_log", "UPDATE privacy_log SET who = 'x'", "TRUNCATE privacy_log"):
        with pytest.raises(psycopg2.errors.RestrictViolation):
            hub.execute(statement)
