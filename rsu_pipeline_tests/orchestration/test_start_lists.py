"""`start_lists`, its checks and how new bibs reach it, on a real instance, database and sandbox."""

import json
from typing import Any

import dagster as dg
import psycopg2
import pytest

from rsu_pipeline.orchestration.race_day_sensors import build_bib_changes
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import Run, sync_partner
from rsu_pipeline_tests.orchestration.test_assets import CHECKED
from rsu_pipeline_tests.orchestration.test_race_day_sensors import look, skipped

bib_changes = build_bib_changes("watch")

START_LISTS = dg.AssetKey("start_lists")


@pytest.fixture
def hub(own_hub: Hub) -> Hub:
    """Provide three partners, among them one with a bundle and one with a volunteers' event."""
    return own_hub


def listed(hub: Hub, partner: int) -> dict[int, dict[str, Any]]:
    rows = hub.rows("SELECT * FROM start_list WHERE timing_partner_id = %s", partner)
    return {row["registration_id"]: row for row in rows}


def checks(instance: dg.DagsterInstance, run: Run) -> dict[str, dg.AssetCheckEvaluation]:
    found = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
    data = [event.asset_check_evaluation_data for event in found if event.event_type_value == CHECKED]
    return {one.check_name: one for one in data if one.asset_key == START_LISTS}


def told(instance: dg.DagsterInstance) -> list[tuple[str, dict[str, Any]]]:
    """Return partition and metadata of each materialization of start_lists, the oldest first."""
    records = instance.fetch_materializations(START_LISTS, limit=1000, ascending=True).records
    found = [record.asset_materialization for record in records]
    return [(str(one.partition), {name: value.value for name, value in one.metadata.items()}) for one in found if one]


def test_a_sync_ends_with_the_start_lists_of_what_it_read(hub: Hub, instance: dg.DagsterInstance) -> None:
    for partner, key in hub.partners.items():
        run = sync_partner(instance, key)
        assert run.success
        volunteers = {row["event_id"] for row in hub.rows("SELECT event_id FROM runsignup_events WHERE volunteer")}
        truth = {number: row for number, row in hub.truth(partner).items() if row["event_id"] not in volunteers}
        lists = listed(hub, partner)
        assert lists.keys() == truth.keys()
        for number, row in lists.items():
            assert (row["bib"], row["event_id"]) == (truth[number]["bib_num"], truth[number]["event_id"])
        numbers = run.metadata["start_lists"]
        assert numbers["entries_inserted"] == numbers["entrants"] == len(truth)
        assert numbers["with_bib"] == sum(row["bib_num"] is not None for row in truth.values())
        assert numbers["with_bib"] + numbers["without_bib"] == numbers["entrants"]


def test_whoever_took_a_bundle_has_no_problem_because_of_it(hub: Hub, instance: dg.DagsterInstance) -> None:
    sync_partner(instance, hub.partners[3])
    (bundle,) = hub.rows("SELECT event_id, sub_event_ids FROM runsignup_events WHERE is_bundle")
    buyers = [row for row in listed(hub, 3).values() if row["event_id"] == bundle["event_id"]]
    assert buyers and all(row["bib"] for row in buyers)
    family = {bundle["event_id"], *bundle["sub_event_ids"]}
    bibs = {row["bib"] for row in buyers}
    twins = [row for row in listed(hub, 3).values() if row["event_id"] in family and row["bib"] in bibs]
    assert len(twins) == 3 * len(buyers)
    assert {row["problems"] for row in twins} == {""}


def test_who_is_transferred_or_removed_moves_or_leaves(hub: Hub, instance: dg.DagsterInstance) -> None:
    key, admin = hub.partners[3], hub.sandbox.admin
    sync_partner(instance, key)
    (bundle,) = hub.rows("SELECT event_id, sub_event_ids FROM runsignup_events WHERE is_bundle")
    here, there = bundle["sub_event_ids"]
    single = [
        row for row in listed(hub, 3).values() if row["event_id"] == here and not 700 <= (row["bib_number"] or 0) < 710
    ]
    moved, gone = (row["registration_id"] for row in single[:2])
    admin.bib(moved, 4321)
    new = admin.transfer(moved, there)
    admin.remove(gone)
    run = sync_partner(instance, key)
    lists = listed(hub, 3)
    assert moved not in lists and gone not in lists
    assert (lists[new]["event_id"], lists[new]["bib"]) == (there, "4321")
    numbers = run.metadata["start_lists"]
    assert (numbers["entries_inserted"], numbers["entries_deleted"]) == (1, 2)


def test_no_name_of_an_entrant_is_in_the_metadata(hub: Hub, instance: dg.DagsterInstance) -> None:
    key, admin = hub.partners[1], hub.sandbox.admin
    sync_partner(instance, key)
    numbers = sorted(number for number in listed(hub, 1))[:4]
    for number in numbers:
        admin.edit(number, {"first_name": "Xanthippe", "last_name": "Quixwood", "city": "Zzyzx", "bib_num": 5})
    run = sync_partner(instance, key)
    (record,) = instance.fetch_materializations(
        dg.AssetRecordsFilter(START_LISTS, asset_partitions=[key]), limit=1
    ).records
    assert record.asset_materialization is not None
    text = str(record.asset_materialization.metadata) + str([one.metadata for one in checks(instance, run).values()])
    assert str(numbers[0]) in text
    for word in ("Xanthippe", "Quixwood", "Zzyzx"):
        assert word not in text and word in json.dumps(listed(hub, 1), default=str)


# Checks


@pytest.mark.parametrize(("hours", "severity"), [(20, "ERROR"), (30, "WARN")])
def test_a_duplicate_bib_is_an_error_in_the_last_24_hours(
    hub: Hub, instance: dg.DagsterInstance, hours: float, severity: str
) -> None:
    _, (event,) = hub.sandbox.admin.add_race(1, [{"name": "10K", "start_in_hours": hours}])
    numbers = hub.sandbox.admin.register(event, {"bib_num": 5}, count=2)
    check = checks(instance, sync_partner(instance, hub.partners[1]))["no_duplicate_bibs"]
    assert not check.passed and check.severity.value == severity
    found: dict[str, Any] = {name: value.value for name, value in check.metadata.items()}
    assert (found["duplicate_bibs"], found["events_with_duplicates"]) == (2, 1)
    assert found["entrants_with_bib"] == sum(row["bib"] is not None for row in listed(hub, 1).values())
    assert {row["registration_id"] for row in found["sample"]} == set(numbers)
    hub.sandbox.admin.bib(numbers[0], 6)
    assert checks(instance, sync_partner(instance, hub.partners[1]))["no_duplicate_bibs"].passed


def test_a_missing_bib_is_told_only_in_the_last_24_hours(hub: Hub, instance: dg.DagsterInstance) -> None:
    admin = hub.sandbox.admin
    _, (soon, later) = admin.add_race(2, [{"name": "10K", "start_in_hours": 20}, {"name": "5K", "start_in_hours": 30}])
    admin.register(later, {"bib_num": None})
    (bare,) = admin.register(soon, {"bib_num": None})
    admin.register(soon, {"bib_num": 12})
    check = checks(instance, sync_partner(instance, hub.partners[2]))["every_entrant_has_a_bib"]
    found: dict[str, Any] = {name: value.value for name, value in check.metadata.items()}
    assert not check.passed and check.severity is dg.AssetCheckSeverity.WARN
    near = {row["event_id"] for row in found["sample"]}
    assert near == {soon} and [row["registration_id"] for row in found["sample"]] == [bare]
    assert (found["events"], found["entrants"], found["entrants_with_bib"]) == (1, 2, 1)
    admin.bib(bare, 13)
    assert checks(instance, sync_partner(instance, hub.partners[2]))["every_entrant_has_a_bib"].passed


# New bibs


def new_bib(hub: Hub, partner: int, bib: int) -> int:
    """Set a bib at RunSignup and store it as the watch does, and return the registration."""
    number = min(listed(hub, partner))
    hub.sandbox.admin.bib(number, bib)
    hub.sync(partner)
    return number


def test_a_new_bib_is_in_the_list_when_its_partition_is_told(hub: Hub, instance: dg.DagsterInstance) -> None:
    for key in hub.partners.values():
        sync_partner(instance, key)
    before = len(told(instance))
    number = new_bib(hub, 2, 8001)
    assert listed(hub, 2)[number]["bib"] != "8001"
    assert skipped(look(bib_changes, instance)) == f"1 bib change of 1 partner reported: {hub.partners[2]} 1"
    assert listed(hub, 2)[number]["bib"] == "8001"
    ((key, numbers),) = told(instance)[before:]
    assert key == hub.partners[2]
    assert (numbers["entries_updated"], numbers["entries_inserted"], numbers["entries_deleted"]) == (1, 0, 0)
    look(bib_changes, instance)
    assert len(told(instance)) == before + 1


def test_a_rebuild_that_fails_loses_no_mark_and_no_telling(hub: Hub, instance: dg.DagsterInstance) -> None:
    for partner in (1, 2):
        sync_partner(instance, hub.partners[partner])
    numbers = {partner: new_bib(hub, partner, 8000 + partner) for partner in (1, 2)}
    hub.execute(
        """
        CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'nobody foresaw this'; END $$;
        CREATE TRIGGER spoil BEFORE UPDATE ON start_list_entries FOR EACH ROW WHEN (NEW.timing_partner_id = 1)
            EXECUTE FUNCTION spoil()
        """
    )
    before = len(told(instance))
    assert "2 bib changes of 2 partners reported" in skipped(look(bib_changes, instance))
    assert hub.value("SELECT count(*) FROM bib_changes_handled") == 2
    assert [key for key, _ in told(instance)[before:]] == [hub.partners[2]]
    assert listed(hub, 2)[numbers[2]]["bib"] == "8002" and listed(hub, 1)[numbers[1]]["bib"] != "8001"
    assert skipped(look(bib_changes, instance)) == "no new bib changes"
    hub.execute("DROP TRIGGER spoil ON start_list_entries")
    sync_partner(instance, hub.partners[1])
    assert listed(hub, 1)[numbers[1]]["bib"] == "8001"


def test_a_crash_before_the_marks_are_kept_keeps_no_list_either(hub: Hub, instance: dg.DagsterInstance) -> None:
    sync_partner(instance, hub.partners[1])
    number = new_bib(hub, 1, 8001)
    hub.execute(
        """
        CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'at commit'; END $$;
        CREATE CONSTRAINT TRIGGER crash AFTER INSERT ON bib_changes_handled DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION crash()
        """
    )
    with pytest.raises(psycopg2.errors.RaiseException, match="at commit"):
        look(bib_changes, instance)
    assert listed(hub, 1)[number]["bib"] != "8001"
    hub.execute("DROP TRIGGER crash ON bib_changes_handled")
    look(bib_changes, instance)
    assert listed(hub, 1)[number]["bib"] == "8001"
