"""No later read brings back what is no longer kept, and copy and proof stay equal."""

import datetime as dt
from collections.abc import Callable

from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.warehouse.personal import (
    Person,
    assert_gone,
    assert_proved,
    build_lists,
    erase,
    everything,
    now,
    past_rows,
    people,
    purge,
    read_all_again,
    values,
)

# Purge


def test_contact_data_of_past_events_is_gone_and_stays_gone_while_the_proof_holds(hub: Hub) -> None:
    past, coming = people(hub, past=True), people(hub, past=False)
    assert any(value in past_rows(hub) for value in values(past))
    assert "Ottoline" in past_rows(hub)
    names = {row["user"]["last_name"] for row in past}

    done = purge(hub)
    assert done.rows["runsignup_participants"] == len(past) and done.busy == []
    for _ in range(2):
        text = past_rows(hub)
        assert [value for value in values(past) if value in text] == []
        assert "Ottoline" not in text and "question_responses" not in text
        assert all(name in text for name in names), "names stay"
        hub.assert_equal()  # coming events are as they were
        hub.assert_bib_log_replays()
        read, written = read_all_again(hub)
        assert (read > len(coming), written) == (True, 0), "no row is changed without end"
    assert purge(hub).rows["runsignup_participants"] == 0


def test_a_past_edition_read_for_the_first_time_afterwards_comes_without_contact_data(hub: Hub) -> None:
    purge(hub)
    (race,) = hub.sandbox.admin.truth(1)["races"]
    event = hub.sandbox.admin.add_event(race["race_id"], "Two years ago", start_in_hours=-24 * 700)
    keys = hub.sandbox.admin.register(event, count=5)
    late = hub.sandbox.admin.add_event(race["race_id"], "Tomorrow", start_in_hours=30)
    hub.sandbox.admin.register(late, count=3)
    read_all_again(hub)
    assert {row["registration_id"] for row in hub.rows("SELECT registration_id FROM runsignup_participants")} >= set(
        keys
    )
    assert [value for value in values(people(hub, past=True)) if value in past_rows(hub)] == []
    hub.assert_equal()


def test_a_row_changed_at_runsignup_is_changed_here_without_its_contact_data(hub: Hub) -> None:
    purge(hub)
    key = min(row["registration_id"] for row in people(hub, past=True))
    hub.sandbox.admin.edit(key, {"last_name": "Quincewood", "email": "new@example.test", "bib_num": 99})
    read_all_again(hub)
    (row,) = hub.rows("SELECT * FROM runsignup_participants WHERE registration_id = %s", key)
    assert (row["last_name"], row["bib_num"], row["email"]) == ("Quincewood", "99", None)
    assert "new@example.test" not in everything(hub)
    hub.assert_bib_log_replays()


def test_an_event_moved_ahead_has_its_contact_data_again(hub: Hub) -> None:
    purge(hub)
    event = hub.value("SELECT event_id FROM runsignup_events WHERE start_time < now()")
    hub.sandbox.admin.move_event(event, start_in_hours=24 * 30)
    hub.sync(1, full=True)
    assert event in {row["event_id"] for row in hub.truth().values()}
    hub.assert_equal()
    assert_proved(hub)


def test_a_removed_registrations_contact_data_goes_and_comes_with_it_should_it_return(hub: Hub) -> None:
    key = min(row["registration_id"] for row in people(hub, past=False) if row["user"]["email"])
    email = next(row["user"]["email"] for row in people(hub, past=False) if row["registration_id"] == key)
    hub.sandbox.admin.remove(key)
    hub.sync(1)
    hub.execute(
        "UPDATE runsignup_participants SET removed_at = removed_at - interval '10 days' WHERE registration_id = %s", key
    )
    purge(hub, now().date() - dt.timedelta(days=20))
    assert email in everything(hub)
    purge(hub, now().date() - dt.timedelta(days=5))
    assert email not in everything(hub)
    assert read_all_again(hub)[1] == 0
    assert email not in everything(hub)
    hub.sandbox.admin.reactivate(key)
    hub.sync(1)
    assert email in everything(hub)
    hub.assert_equal()


def test_a_pass_cut_off_before_a_purge_begins_anew_and_proves_equal(hub: Hub) -> None:
    hub.environment |= {"RSU_PAGE_SIZE": "4", "RSU_CALL_ATTEMPTS": "1"}
    hub.sandbox.admin.fault("http_500", 1, endpoint="participants", after_page=True)
    assert hub.history(reload=True).problems
    assert hub.value("SELECT pages FROM read_passes WHERE mode = 'history'") == 1
    purge(hub)
    assert hub.value("SELECT count(*) FROM read_passes") == 0
    hub.execute("UPDATE history_races SET retry_at = now(); UPDATE history_requests SET not_before = now()")
    assert hub.history(ask=False).finished
    assert_proved(hub)


# Erasure


def test_an_erased_person_is_gone_and_stays_gone_while_the_proof_holds(hub: Hub, person: Person) -> None:
    done = erase(hub, user_id=person["user_id"])
    assert done.rows["runsignup_participants"] == 2
    for _ in range(2):
        assert_gone(hub, person)
        assert read_all_again(hub)[1] == 0, "no row is changed without end"
    assert erase(hub, user_id=person["user_id"]).rows == {
        "runsignup_participants": 0,
        "start_list_entries": 0,
        "quarantined_rows": 0,
    }
    assert_gone(hub, person)


def test_the_erased_persons_bib_is_followed_and_the_start_list_has_it_without_a_name(hub: Hub, person: Person) -> None:
    build_lists(hub)
    erase(hub, user_id=person["user_id"])
    hub.sandbox.admin.bib(person["coming"], 4242)
    outcome = hub.sync(1)
    assert outcome.counts.bib_changes == 1
    build_lists(hub)
    (entry,) = hub.rows("SELECT * FROM start_list_entries WHERE registration_id = %s", person["coming"])
    assert (entry["bib"], entry["first_name"], entry["last_name"], entry["team"]) == ("4242", None, None, None)
    hub.assert_bib_log_replays()
    assert_gone(hub, person)


def test_one_registration_is_erased_alone(hub: Hub, person: Person) -> None:
    erase(hub, registration_id=person["coming"])
    names = {
        row["registration_id"]: row["last_name"]
        for row in hub.rows("SELECT registration_id, last_name FROM runsignup_participants")
    }
    assert (names[person["coming"]], names[person["old"]]) == (None, "Thistlewaite")
    assert read_all_again(hub)[1] == 0


def test_what_the_person_registers_for_later_is_kept_and_older_registrations_read_later_are_not(
    hub: Hub, person: Person
) -> None:
    erase(hub, user_id=person["user_id"])
    who = {"user_id": person["user_id"], "first_name": "Wilhelmina", "last_name": "Thistlewaite"}
    event = people(hub, past=False)[0]["event_id"]
    again, before = hub.sandbox.admin.register(event, count=2)
    later = now() + dt.timedelta(days=1)
    hub.sandbox.admin.edit(again, {**who, "registration_date": f"{later:%-m/%-d/%Y %H:%M}"})
    hub.sandbox.admin.edit(before, {**who, "registration_date": "1/5/2020 10:00"})
    hub.sync(1, full=True)
    names = {
        row["registration_id"]: row["last_name"]
        for row in hub.rows("SELECT registration_id, last_name FROM runsignup_participants")
    }
    assert (names[again], names[before]) == ("Thistlewaite", None)
    assert hub.sync(1, full=True).counts.updated == 0
    assert_proved(hub)


def test_at_one_partner_alone(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(scale="small", seed=7)
    for partner in (1, 2):
        hub.sync(partner)
    shared = hub.rows(
        "SELECT registration_id, min(user_id) AS user_id FROM runsignup_participants WHERE user_id IS NOT NULL"
        " AND removed_at IS NULL GROUP BY 1 HAVING count(*) = 2 ORDER BY 1 LIMIT 1"
    )[0]
    erase(hub, user_id=shared["user_id"], partner_id=2)
    names = "SELECT last_name IS NULL FROM runsignup_participants WHERE registration_id = %s AND timing_partner_id = %s"
    for _ in range(2):
        assert hub.value(names, shared["registration_id"], 1) is False
        assert hub.value(names, shared["registration_id"], 2) is True
        for partner in (1, 2):
            outcome = hub.sync(partner, full=True)
            assert (outcome.counts.updated, outcome.unequal_events) == (0, [])
    erase(hub, user_id=shared["user_id"])
    assert hub.value(names, shared["registration_id"], 1) is True
    assert hub.sync(1, full=True).counts.updated == 0


def test_rows_in_quarantine_lose_what_was_sent_and_are_not_given_it_again(hub: Hub, person: Person) -> None:
    hub.sandbox.admin.edit(person["coming"], {"dob": "1990-02-31"})
    hub.sync(1)
    sent = "SELECT row_text FROM quarantined_rows WHERE registration_id = %s"
    assert "Thistlewaite" in hub.value(sent, person["coming"])
    assert erase(hub, user_id=person["user_id"]).rows["quarantined_rows"] == 1
    hub.sandbox.admin.edit(person["coming"], {"dob": "1990-02-30"})  # another row, to the quarantine
    hub.sync(1, full=True)
    assert [row["row_text"] for row in hub.rows(sent, person["coming"])] == [None, None]
    assert_gone(hub, person)
    assert_proved(hub)


def test_somebody_of_whom_nothing_is_stored_is_noted_for_what_comes(hub: Hub) -> None:
    (race,) = hub.sandbox.admin.truth(1)["races"]
    event = hub.sandbox.admin.add_event(race["race_id"], "Before that", start_in_hours=-24 * 300)
    (key,) = hub.sandbox.admin.register(event, {"user_id": 987654, "registration_date": "1/5/2020 10:00"})
    assert erase(hub, user_id=987654).rows.get("runsignup_participants", 0) == 0
    read_all_again(hub)
    (row,) = hub.rows("SELECT user_id, last_name FROM runsignup_participants WHERE registration_id = %s", key)
    assert row == {"user_id": None, "last_name": None}
