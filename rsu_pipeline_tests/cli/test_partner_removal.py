"""`rsu partners remove` and `merge`: what stays, what goes, and that both can be undone or repeated."""

import json
from collections.abc import Callable

import pytest

from rsu_pipeline.warehouse import credentials, database, fleet_facts, race_locks
from rsu_pipeline_tests.cli.shell import Done, refusal, rsu
from rsu_pipeline_tests.hub import Hub

SPEC = {"partners": 2, "races_per_partner": 2, "events_per_race": 1, "registrations_per_event": 6, "start_in_hours": 30}


@pytest.fixture
def synced(make_hub: Callable[..., Hub]) -> Hub:
    """Provide a hub with two synced partners and a bib in the log of the first."""
    hub = make_hub(spec=SPEC, seed=7)
    for partner in hub.partners:
        hub.sync(partner)
    registration = min(hub.stored(1))
    hub.sandbox.admin.bib(registration, 4321)
    hub.sync(1)
    assert hub.value("SELECT count(*) FROM runsignup_bib_changes") > 0
    return hub


def partners(hub: Hub, *arguments: str, stdin: str = "") -> Done:
    return rsu("partners", *arguments, settings=hub.environment, stdin=stdin)


def states(hub: Hub) -> dict[int, str]:
    """Return the state of each partner, which `partners list` and `status` show alike."""
    listed = {item["partner_id"]: item["state"] for item in json.loads(partners(hub, "list", "--json").stdout)}
    status = json.loads(rsu("status", "--json", settings=hub.environment).stdout)
    assert {item["partner_id"]: item["access"]["state"] for item in status} == listed
    return listed


def partitions(hub: Hub) -> set[str]:
    return {row["partition"] for row in hub.rows("SELECT partition FROM dagster.dynamic_partitions")}


def assert_log_replays(hub: Hub) -> None:
    with database.session(hub.url, purpose="tests") as conn:
        replay = fleet_facts.replay_bib_log(conn, 5)
    assert (replay.wrong, replay.unlogged) == (0, 0), replay


def add_partitions(hub: Hub) -> None:
    """Let Dagster have the partitions of all partners, as after their first syncs."""
    done = rsu("sync", "--quiet", settings=hub.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert partitions(hub) == set(hub.partners.values())


def test_removing_asks_first_and_then_archives_the_rows_and_deletes_the_partition(synced: Hub) -> None:
    add_partitions(synced)
    count = len(synced.stored(1))
    refused = partners(synced, "remove", "1", "--archive", stdin="n\n")
    assert refused.returncode == 130
    assert f"with {count:,} registrations of 2 races?" in refused.stdout
    assert "either --archive or --erase" in refusal(partners(synced, "remove", "1", "--yes"))
    assert len(synced.stored(1)) == count

    done = partners(synced, "remove", "1", "--archive", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"Removed partner {synced.partners[1]}: {count} registrations marked as removed, 0 erased.\n"
    )
    assert synced.stored(1) == {}
    assert partitions(synced) == {synced.partners[2]}
    shown = synced.rows("SELECT DISTINCT timing_partner_id FROM unified_participants")
    assert [row["timing_partner_id"] for row in shown] == [2]
    gone = synced.rows("SELECT DISTINCT removed_reason FROM runsignup_participants WHERE timing_partner_id = 1")
    assert [row["removed_reason"] for row in gone] == ["access_lost"]
    for table in ("start_lists", "future_events", "partner_provider_credentials"):
        assert synced.value(f"SELECT count(*) FROM {table} WHERE timing_partner_id = 1") == 0
    assert_log_replays(synced)
    synced.assert_equal(2)
    assert states(synced) == {1: "archived", 2: "works"}
    # Safe to repeat.
    assert partners(synced, "remove", "1", "--archive", "--yes").returncode == 0


def test_a_disabled_partner_is_not_shown_as_archived(synced: Hub) -> None:
    assert partners(synced, "disable", "1").returncode == 0
    assert states(synced) == {1: "switched off", 2: "works"}
    synced.execute("UPDATE partner_races SET lost_at = now(), lost_reason = 'access_lost' WHERE timing_partner_id = 1")
    assert states(synced)[1] == "switched off"


def test_an_archived_partner_that_is_entered_again_has_its_key_and_all_its_rows(synced: Hub) -> None:
    before = synced.stored(1)
    assert partners(synced, "remove", "1", "--archive", "--yes").returncode == 0
    item = synced.sandbox.admin.partners()[0]
    with database.session(synced.url, purpose="tests") as conn:
        partner_id = credentials.add(
            conn, synced.secret_box, name=item["name"], principal=item["key"], secret=item["secret"]
        )
        conn.commit()
        assert credentials.find_partner(conn, str(partner_id)).key == synced.partners[1]
    synced.sync(1)
    synced.sync(1)
    assert synced.stored(1) == before
    synced.assert_equal(1)
    assert_log_replays(synced)


def test_erasing_leaves_ids_bibs_and_amounts_and_nothing_about_people(synced: Hub) -> None:
    count = len(synced.stored(1))
    done = partners(synced, "remove", synced.partners[1], "--erase", "--yes")
    assert f"{count} registrations marked as removed, {count} erased." in done.stdout
    personal = "first_name, last_name, email, phone, dob, address, user_id, age"
    rows = synced.rows(f"SELECT {personal} FROM runsignup_participants WHERE timing_partner_id = 1")
    assert len(rows) == count
    assert {value for row in rows for value in row.values()} == {None}
    assert synced.value("SELECT count(*) FROM start_list_entries WHERE timing_partner_id = 1") == 0
    assert synced.value("SELECT count(*) FROM privacy_log WHERE kind = 'erase' AND timing_partner_id = 1") == 1
    assert_log_replays(synced)
    synced.assert_equal(2)


def test_a_race_that_is_being_read_is_left_to_the_next_call(synced: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from rsu_pipeline.warehouse import partner_removal

    monkeypatch.setattr(partner_removal, "LOCK_TIMEOUT_SECONDS", 0.1)
    race_id = synced.value("SELECT min(race_id) FROM partner_races WHERE timing_partner_id = 1")
    with (
        database.session(synced.url, purpose="tests") as conn,
        database.session(synced.url, purpose="reader") as reader,
    ):
        partner = credentials.find_partner(conn, "1")
        now = synced.rows("SELECT now() AS now")[0]["now"]
        with race_locks.race_lock(reader, 1, race_id):
            done = partner_removal.remove(conn, partner, now=now, erase=False)
        assert len(done.busy) == 1 and f"race {race_id} of partner 1" in done.busy[0]
        assert {row["race_id"] for row in synced.rows("SELECT race_id FROM runsignup_participants"
                " WHERE timing_partner_id = 1 AND removed_at IS NULL")} == {race_id}  # fmt: skip
        again = partner_removal.remove(conn, partner, now=now, erase=False)
    assert again.busy == [] and synced.stored(1) == {}


def test_a_partner_entered_twice_is_merged_with_what_only_one_of_the_two_has(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    item = hub.sandbox.admin.partners()[0]
    with database.session(hub.url, purpose="tests") as conn:
        twin = credentials.add(
            conn,
            hub.secret_box,
            name="Twin Timing",
            principal=item["key"],
            secret=item["secret"],
            shares_api_key=True,
        )
        hub.partners[9] = credentials.ensure_key(conn, twin)
        conn.commit()
    hub.sync(9)
    hub.sandbox.admin.bib(min(hub.stored(twin)), 4321)
    hub.sync(9)
    hub.execute("UPDATE runsignup_participants SET local_bib = '77' WHERE registration_id = %s", max(hub.stored(twin)))
    count = len(hub.stored(twin))

    assert "different API keys" in refusal(partners(hub, "merge", str(twin), "2", "--yes"))
    assert "cannot be merged with itself" in refusal(partners(hub, "merge", "1", "1", "--yes"))
    done = partners(hub, "merge", str(twin), "1", "--yes")
    assert done.stdout == f"Removed partner {hub.partners[9]}: {count} registrations copied to {hub.partners[1]}.\n"
    assert (len(hub.stored(1)), hub.stored(twin)) == (count, {})
    assert hub.value("SELECT count(*) FROM unified_participants") == count
    assert hub.value("SELECT local_bib FROM runsignup_participants WHERE timing_partner_id = 1 AND local_bib = '77'")
    assert_log_replays(hub)
    # What was read for the twin is not read again in full, and what changed since is found.
    hub.sandbox.admin.bib(min(hub.stored(1)), 4322)
    outcome = hub.sync(1)
    assert not outcome.failures
    hub.assert_equal(1)
    assert hub.value("SELECT count(*) FROM runsignup_bib_changes WHERE timing_partner_id = 1") == 1
    assert_log_replays(hub)
