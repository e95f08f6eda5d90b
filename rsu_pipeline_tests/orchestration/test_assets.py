"""The assets of a sync on a real instance, database and sandbox: what they store, and what they report."""

from typing import Any

import dagster as dg

from rsu_pipeline.orchestration.assets.synced_assets import SyncConfig
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import Run, sync_partner

NUMBERS = {
    "partner_events": {
        *(
            "races",
            "races_written",
            "events_written",
            "events_gone",
            "races_unlisted",
            "races_lost_by_listing",
            "rows_removed_by_listing",
        ),
        *("api_calls", "budget_left", "seconds", "problem_count"),
    },
    "future_events": {"future_events", "full_reads", "incremental_reads"},
    "participants": {
        *("rows_read", "rows_inserted", "rows_updated", "rows_unchanged", "rows_removed", "rows_quarantined"),
        *(
            "full_reads",
            "incremental_reads",
            "rows_with_faults",
            "bib_changes",
            "races_read",
            "races_failed",
            "races_lost",
            "races_not_read",
        ),
        *("races_read_by_other_syncs", "races_left_to_other_syncs"),
        *("api_calls", "budget_left", "seconds"),
    },
    "start_lists": {
        *("lists", "entrants", "with_bib", "without_bib", "duplicate_bibs", "bibs_in_other_events", "out_of_range"),
        *("in_two_events", "entries_inserted", "entries_updated", "entries_deleted", "entries_unchanged", "seconds"),
    },
}
"""Fixed names: a plot of any of them has no holes."""

TABLES = (
    *("runsignup_races", "runsignup_events", "partner_races", "runsignup_participants", "runsignup_bib_changes"),
    *("start_lists", "start_list_entries"),
)


def numbers(metadata: Any) -> set[str]:
    return {name for name, value in metadata.items() if isinstance(value, int | float)}


def versions(hub: Hub) -> dict[str, list[tuple[Any, ...]]]:
    """Return which version of which row every table holds: a row that was rewritten, even alike, has another."""
    return {
        table: sorted((row["ctid"], row["xmin"]) for row in hub.rows(f"SELECT ctid::text, xmin::text FROM {table}"))
        for table in TABLES
    }


def last_reads(hub: Hub, run: Run) -> dict[int, str]:
    """Return the race and kind of each read of a run."""
    rows = hub.rows(
        "SELECT race_id, operation_type FROM sync_history WHERE run_id = %s AND race_id IS NOT NULL", run.run_id
    )
    return {row["race_id"]: row["operation_type"] for row in rows}


def test_one_run_makes_the_tables_equal_to_runsignup_and_the_next_rewrites_no_row(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    first = sync_partner(instance, hub.partners[1])
    assert first.success
    truth = hub.truth()
    assert truth
    hub.assert_equal()
    assert {name: numbers(found) for name, found in first.metadata.items()} == NUMBERS
    told = first.metadata["participants"]
    assert (told["rows_inserted"], told["rows_read"]) == (len(truth), len(truth))
    assert (told["rows_updated"], told["rows_unchanged"], told["rows_removed"]) == (0, 0, 0)
    assert told["races_read"] == len({row["race_id"] for row in truth.values()})
    calls = hub.value("SELECT count(*) FROM api_calls")
    assert calls == first.metadata["partner_events"]["api_calls"] + told["api_calls"]
    assert told["budget_left"] == 900_000 - calls

    before = versions(hub)
    second = sync_partner(instance, hub.partners[1], force_full_sync=True)
    assert second.success
    assert versions(hub) == before
    assert {name: numbers(found) for name, found in second.metadata.items()} == NUMBERS
    told = second.metadata["participants"]
    assert (told["rows_read"], told["rows_unchanged"]) == (len(truth), len(truth))
    assert (told["rows_inserted"], told["rows_updated"], told["rows_removed"], told["bib_changes"]) == (0, 0, 0, 0)

    third = sync_partner(instance, hub.partners[1])
    assert third.success
    assert versions(hub) == before
    assert {name: numbers(found) for name, found in third.metadata.items()} == NUMBERS
    assert set(last_reads(hub, third).values()) == {"incremental"}


def test_each_partition_is_materialized_for_its_own_partner_only(hub: Hub, instance: dg.DagsterInstance) -> None:
    assert sync_partner(instance, hub.partners[3]).success
    hub.assert_equal(3)
    assert hub.stored(3)
    assert hub.stored(1) == {}
    for name in NUMBERS:
        done = instance.get_materialized_partitions(dg.AssetKey(name))
        assert done == {hub.partners[3]}


def test_the_plan_shown_is_the_plan_stored(hub: Hub, instance: dg.DagsterInstance) -> None:
    run = sync_partner(instance, hub.partners[1])
    rows = hub.rows("SELECT event_id, tier, next_read, reason FROM future_events WHERE timing_partner_id = 1")
    shown = [dict(record.data) for record in run.metadata["future_events"]["events"].records]
    assert run.metadata["future_events"]["future_events"] == len(rows) == len(shown)
    told = {row["event_id"]: (row["tier"], row["reason"]) for row in shown}
    assert all(reason == "first read" for _, reason in told.values())
    assert {row["event_id"]: row["tier"] for row in rows} == {key: tier for key, (tier, _) in told.items()}
    assert {row["kind"] for row in shown} == {"event", "volunteers"}


def test_the_config_chooses_what_is_read_in_full(hub: Hub, instance: dg.DagsterInstance) -> None:
    key = hub.partners[2]
    every = last_reads(hub, sync_partner(instance, key))
    assert set(every.values()) == {"full"}
    assert set(last_reads(hub, sync_partner(instance, key)).values()) == {"incremental"}

    assert last_reads(hub, sync_partner(instance, key, force_full_sync=True)) == every
    # No full read is younger than no days.
    assert last_reads(hub, sync_partner(instance, key, incremental_days=0.0)) == every
    chosen = sorted(every)[:2]
    only = sync_partner(instance, key, race_ids=chosen, force_full_sync=True)
    assert last_reads(hub, only) == {race: "full" for race in chosen}
    assert only.metadata["participants"]["races_read"] == 2
    # The plan that is stored stays whole.
    assert hub.value("SELECT count(DISTINCT race_id) FROM future_events WHERE timing_partner_id = 2") == len(every)


def test_an_unknown_race_is_one_sentence_and_nothing_is_read(hub: Hub, instance: dg.DagsterInstance) -> None:
    run = sync_partner(instance, hub.partners[2], race_ids=[5, 190_022, 4])
    assert run.failure is not None
    assert run.failure.description == ("Partner 2-split-second-harwick has no race with future events numbered [4, 5].")
    assert last_reads(hub, run) == {}
    assert hub.stored(2) == {}


def test_a_negative_number_of_days_is_refused_and_nothing_is_read(hub: Hub, instance: dg.DagsterInstance) -> None:
    run = sync_partner(instance, hub.partners[2], incremental_days=-1.0)
    assert run.failure is not None
    assert "greater than or equal to 0" in run.failure.text
    assert last_reads(hub, run) == {}


def test_many_removals_at_once_wait_for_a_person_who_confirms_them(hub: Hub, instance: dg.DagsterInstance) -> None:
    key, admin = hub.partners[3], hub.sandbox.admin
    sync_partner(instance, key)
    by_event: dict[int, list[int]] = {}
    for number, row in hub.truth(3).items():
        by_event.setdefault(row["event_id"], []).append(number)
    victims = max(by_event.values(), key=len)[:12]
    for number in victims:
        # Unseen by removed-participants, as when RunSignup forgets them.
        admin.remove(number, silent=True)

    asked = sync_partner(instance, key, force_full_sync=True)
    assert asked.failure is not None
    assert "removals pending confirmation (" in asked.failure.description
    assert "confirm with confirm_removals" in asked.failure.description
    assert asked.failure.metadata["rows_removed"] == 0
    assert set(victims) <= hub.stored(3).keys()

    confirmed = sync_partner(instance, key, force_full_sync=True, confirm_removals=True)
    assert confirmed.success
    assert confirmed.metadata["participants"]["rows_removed"] == len(victims)
    hub.assert_equal(3)
    assert set(victims) <= hub.stored(3, active=False).keys()


def test_a_changed_bib_is_updated_logged_and_counted(hub: Hub, instance: dg.DagsterInstance) -> None:
    key = hub.partners[1]
    sync_partner(instance, key)
    number = next(iter(hub.truth()))
    hub.sandbox.admin.bib(number, 9_876)
    run = sync_partner(instance, key, force_full_sync=True)
    told = run.metadata["participants"]
    assert (told["rows_updated"], told["bib_changes"]) == (1, 1)
    assert hub.stored()[number]["bib_num"] == "9876"
    hub.assert_equal()


def test_checks_compare_what_was_sent_with_what_is_stored(hub: Hub, instance: dg.DagsterInstance) -> None:
    key = hub.partners[3]

    def evaluations(**config: object) -> dict[str, dg.AssetCheckEvaluation]:
        run = sync_partner(instance, key, **config)
        found = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
        data = [event.asset_check_evaluation_data for event in found if event.event_type_value == CHECKED]
        return {one.check_name: one for one in data}

    good = evaluations()
    lists = {"no_duplicate_bibs", "every_entrant_has_a_bib"}
    assert {name: one.passed for name, one in good.items() if name not in lists} == {
        "equals_runsignup": True,
        "no_quarantined_rows": True,
        "no_schema_drift": True,
    }
    assert lists <= good.keys()
    sent = good["equals_runsignup"].metadata["rows_sent"].value
    assert sent == len(hub.truth(3)) == good["equals_runsignup"].metadata["rows_stored"].value

    # Somebody's trigger, which spoils what is written.
    hub.execute(
        """
        CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.first_name := 'Somebody else'; RETURN NEW; END $$;
        CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON runsignup_participants FOR EACH ROW EXECUTE FUNCTION spoil();
        """
    )
    event_id = next(iter(hub.truth(3).values()))["event_id"]
    hub.sandbox.admin.register(event_id)
    bad = evaluations(force_full_sync=True)
    assert {name: one.passed for name, one in bad.items() if name not in lists} == {
        "equals_runsignup": False,
        "no_quarantined_rows": True,
        "no_schema_drift": True,
    }
    told: dict[str, Any] = {name: found.value for name, found in bad["equals_runsignup"].metadata.items()}
    assert told["events_unequal"] == 1
    assert [row["event_id"] for row in told["sample"]] == [event_id]


def test_schema_drift_is_a_warning_and_a_changed_type_an_error(own_hub: Hub, instance: dg.DagsterInstance) -> None:
    hub, key = own_hub, own_hub.partners[2]

    def drift() -> dg.AssetCheckEvaluation:
        run = sync_partner(instance, key, force_full_sync=True)
        found = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
        data = [event.asset_check_evaluation_data for event in found if event.event_type_value == CHECKED]
        return next(one for one in data if one.check_name == "no_schema_drift")

    assert drift().passed
    number = min(hub.truth(2))
    hub.sandbox.admin.edit(number, extra={"pronouns": "they"})
    found = drift()
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    told: dict[str, Any] = {name: value.value for name, value in found.metadata.items()}
    assert (told["fields_unknown"], told["fields_changed"], told["sample"][0]["field"]) == (1, 0, "pronouns")
    hub.sandbox.admin.edit(number, {"chip_num": [17]})
    found = drift()
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)


CHECKED = dg.DagsterEventType.ASSET_CHECK_EVALUATION.value


def test_the_launchpads_form_explains_every_field() -> None:
    fields = SyncConfig.to_fields_dict()
    assert set(fields) == {"force_full_sync", "incremental_days", "race_ids", "confirm_removals"}
    for name, field in fields.items():
        assert len(str(field.description)) > 25, name
        assert not field.is_required, name
    assert SyncConfig() == SyncConfig(force_full_sync=False, incremental_days=None, race_ids=[], confirm_removals=False)
