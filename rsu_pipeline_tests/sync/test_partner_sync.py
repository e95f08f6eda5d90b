"""A partner's sync against a real PostgreSQL and a RunSignup in its own process."""

from collections.abc import Callable
from math import ceil
from pathlib import Path

import pytest

from rsu_pipeline.runsignup.api_errors import ApiError
from rsu_pipeline.sync import listing, partner_sync, race_details
from rsu_pipeline.sync.session import CredentialRejected
from rsu_pipeline.warehouse import credentials, database
from rsu_pipeline_tests.hub import Hub
from runsignup_sandbox.process import SandboxProcess

MakeHub = Callable[..., Hub]


def spec(races: int = 2, events: int = 2, rows: int = 10, hours: float = 400, partners: int = 1) -> dict[str, float]:
    return {
        "partners": partners,
        "races_per_partner": races,
        "events_per_race": events,
        "registrations_per_event": rows,
        "start_in_hours": hours,
    }


def row_versions(hub: Hub) -> list[dict[str, object]]:
    """Return the place of every row on disk: a row written again gets another place and another transaction."""
    return [
        row
        for table, key in (
            ("runsignup_participants", "id"),
            ("runsignup_races", "race_id"),
            ("runsignup_events", "event_id"),
        )
        for row in hub.rows(f"SELECT ctid::text, xmin::text, {key} FROM {table} ORDER BY {key}")
    ]


def test_every_partner_equals_runsignup_field_by_field_after_one_sync(make_hub: MakeHub) -> None:
    """The whole small sandbox.

    It has every US zone, UTC, several-day, virtual, undated and volunteers' events, bundles, a race of two partners, a private
    race and a race without events.
    """
    hub = make_hub(scale="small", seed=11)
    for partner in hub.partners:
        assert not hub.sync(partner).failures
        hub.assert_equal(partner)
        hub.assert_removals(partner)
        assert hub.stored(partner)
    assert hub.value("SELECT count(*) FROM event_cursors WHERE proved_equal_at IS NULL") == 0
    assert hub.value("SELECT count(*) FROM quarantined_rows") == 0
    shared = hub.rows("SELECT race_id FROM partner_races GROUP BY race_id HAVING count(*) = 2")
    assert len(shared) == 1


def test_a_sync_without_faults_makes_the_fewest_calls(make_hub: MakeHub) -> None:
    races, rows = 3, 27
    hub = make_hub(spec=spec(races=races, rows=rows), seed=3)
    hub.environment["RSU_PAGE_SIZE"] = "10"
    admin = hub.sandbox.admin
    admin.reset_stats()
    hub.sync()
    calls = admin.stats()["by_endpoint"]
    # A short page may be followed by more, so an empty one ends a first listing and each first load.
    assert calls == {
        "races": ceil(races / 1000) + 1,
        "race": races,
        # One more verifies that the listing is this partner's, since /races ignores a wrong key.
        "participants": races * (ceil(2 * rows / 10) + 1) + 1,
    }
    assert admin.stats()["violations"] == 0
    hub.assert_equal()


def test_a_second_full_sync_of_unchanged_data_rewrites_no_row(make_hub: MakeHub) -> None:
    hub = make_hub(scale="small", seed=5)
    hub.sync()
    before = row_versions(hub)
    outcome = hub.sync(full=True)
    assert row_versions(hub) == before
    counts = outcome.counts
    assert counts.read == counts.unchanged > 0
    assert (counts.inserted, counts.updated, counts.removed, counts.bib_changes) == (0, 0, 0, 0)


def test_an_unchanged_incremental_sync_asks_once_for_each_feed_of_each_due_race(make_hub: MakeHub) -> None:
    hub = make_hub(spec=spec(races=3), seed=3)
    hub.sync()
    hub.sandbox.admin.reset_stats()
    hub.sync()
    assert hub.sandbox.admin.stats()["by_endpoint"] == {"races": 1, "participants": 3, "removed": 3}


def test_one_failing_race_leaves_the_others_stored_and_is_named(make_hub: MakeHub) -> None:
    hub = make_hub(spec=spec(races=3), seed=3)
    with hub.partner_session() as session:
        listing.refresh_events(session)
        races = [read.race_id for read in partner_sync.make_plan(session).reads]
        hub.sandbox.admin.fault("unknown_shape", 0, endpoint="participants", race_id=races[1])
        outcome = partner_sync.sync_participants(session, partner_sync.make_plan(session))
    assert [read.error is None for read in outcome.reads] == [True, False, True]
    assert len(outcome.failures) == 1 and str(races[1]) in outcome.failures[0]
    stored = {row["race_id"] for row in hub.stored().values()}
    assert stored == {races[0], races[2]}
    failed = hub.rows("SELECT race_id, error_details FROM sync_history WHERE status = 'failed'")
    assert [row["race_id"] for row in failed] == [races[1]]
    assert failed[0]["error_details"]["cause"] == "answer has an unknown shape"
    hub.sandbox.admin.clear_faults()
    hub.sync()
    hub.assert_equal()


def test_every_race_and_run_has_a_row_of_history(make_hub: MakeHub) -> None:
    hub = make_hub(spec=spec(races=3), seed=3)
    hub.sync()
    rows = hub.rows("SELECT * FROM sync_history WHERE race_id IS NOT NULL ORDER BY race_id")
    assert len(rows) == 3
    for row in rows:
        assert (row["status"], row["operation_type"], row["reason"]) == ("completed", "full", "first read")
        assert row["num_of_synced_records"] == row["entries_success"] == row["data_snapshot"]["inserted"] == 20
        assert row["data_snapshot"]["calls"] == 2


def test_a_wrong_key_brings_nothing_of_the_public_list_in(
    make_database: Callable[[], str], make_sandbox: Callable[..., SandboxProcess], tmp_path: Path
) -> None:
    hub = Hub(make_database(), make_sandbox(scale="small", seed=3), tmp_path)
    with database.session(hub.url, purpose="test") as conn:
        partner_id = credentials.add(conn, hub.secret_box, name="Wrong Key", principal="nokey", secret="nosecret")
        hub.partners[partner_id] = credentials.ensure_key(conn, partner_id)
        conn.commit()
    with pytest.raises(CredentialRejected, match="rejects the credential"):
        hub.sync(partner_id)
    assert hub.value("SELECT count(*) FROM runsignup_races") == 0
    assert hub.value("SELECT count(*) FROM partner_races") == 0
    assert hub.value("SELECT status FROM sync_history") == "failed"


def test_a_refused_credential_is_not_tried_again_until_it_changes_or_its_retry_time_has_passed(
    make_hub: MakeHub,
) -> None:
    hub = make_hub(spec=spec(partners=2), seed=3)
    hub.sync(1)
    admin = hub.sandbox.admin
    admin.revoke(1)
    with pytest.raises(CredentialRejected):
        hub.sync(1)
    admin.reset_stats()
    with pytest.raises(CredentialRejected, match="tried again at the next visit"):
        hub.sync(1)
    assert admin.stats()["calls"] == 0
    assert not hub.sync(2).failures  # another partner's failure does not matter
    hub.execute("UPDATE partner_provider_credentials SET rejected_at = now() - interval '6 minutes'")
    admin.grant(1)
    assert not hub.sync(1).failures
    admin.revoke(1)
    with pytest.raises(CredentialRejected):
        hub.sync(1)
    key, secret = admin.new_key(1)
    hub.execute(
        "UPDATE partner_provider_credentials SET principal = %s, secret = %s WHERE timing_partner_id = 1", key, secret
    )
    admin.grant(1)
    assert not hub.sync(1).failures
    hub.assert_equal(1)


def test_an_exhausted_budget_stops_cleanly_and_the_next_sync_goes_on_there(make_hub: MakeHub) -> None:
    hub = make_hub(spec=spec(races=4, rows=28), seed=3)
    hub.environment |= {"RSU_PAGE_SIZE": "10", "RSU_CALLS_PER_HOUR": "20"}  # 18 for the routine lane
    outcome = hub.sync()
    # 2 for the listing, 1 to verify it, 4 details: 11 pages are left, seven of one race and four of the next.
    assert outcome.out_of_budget is not None and 0 < outcome.out_of_budget <= 3600
    assert outcome.not_read == 3
    assert len(hub.stored()) == 96
    hub.execute("UPDATE api_calls SET granted_at = granted_at - interval '1 hour'")
    hub.sandbox.admin.reset_stats()
    outcome = hub.sync()
    while outcome.out_of_budget is not None:
        hub.execute("UPDATE api_calls SET granted_at = granted_at - interval '1 hour'")
        outcome = hub.sync()
    hub.assert_equal()
    # Each page of the races that were left was requested once, and the highest registration, over however many hours.
    log = [
        (call["race_id"], call["query"]["sort"], call["query"].get("after_registration_id"))
        for call in hub.sandbox.admin.stats()["log"]
        if call["endpoint"] == "participants" and "modified_after_timestamp" not in call["query"]
    ]
    assert len(log) == len(set(log)) == 3 + 2 * 7


def test_an_event_deleted_at_runsignup_does_not_cost_its_race(make_hub: MakeHub) -> None:
    hub = make_hub(spec=spec(), seed=3)
    hub.sync()
    events = [row["event_id"] for row in hub.rows("SELECT event_id FROM future_events ORDER BY event_id")]
    with hub.partner_session() as session:
        plan = partner_sync.make_plan(session)  # made before the event goes
        hub.sandbox.admin.delete_event(events[0])
        outcome = partner_sync.sync_participants(session, plan)
    assert not outcome.failures
    assert hub.value("SELECT gone_at IS NOT NULL FROM runsignup_events WHERE event_id = %s", events[0])


def test_more_than_a_thousand_races_are_listed_page_by_page(make_hub: MakeHub) -> None:
    hub = make_hub(spec=spec(races=1003, events=1, rows=0, hours=-4000), seed=3)
    hub.sandbox.admin.reset_stats()
    with hub.partner_session() as session:
        outcome = listing.refresh_events(session)
    assert outcome.races == 1003
    # All are past, so only some details are read. Access is verified once, before the second page is read.
    read = {"races": 3, "participants": 1, "race": race_details.MAX_PAST_PER_LISTING}
    assert hub.sandbox.admin.stats()["by_endpoint"] == read


@pytest.mark.parametrize("kind", ["http_500", "html_200", "truncated", "wrong_type", "empty_200", "unknown_shape"])
def test_a_listing_that_fails_stores_nothing_and_is_recorded(make_hub: MakeHub, kind: str) -> None:
    hub = make_hub(spec=spec(), seed=3)
    hub.sandbox.admin.fault(kind, 0, endpoint="races")
    with pytest.raises(ApiError):
        hub.sync()
    assert hub.value("SELECT count(*) FROM runsignup_races") == 0
    assert [row["status"] for row in hub.rows("SELECT status FROM sync_history")] == ["failed"]


METHODS = "SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'"


def test_payloads_are_compressed_by_the_quicker_method_where_the_server_has_it(make_hub: MakeHub) -> None:
    hub = make_hub(scale="small", seed=7)
    hub.sync()
    # PostgreSQL 13 knows no other method than its own, and no setting for it.
    for (methods,) in [row.values() for row in hub.rows(METHODS)]:
        used = hub.rows("SELECT DISTINCT pg_column_compression(payload) AS method FROM runsignup_participants")
        assert {row["method"] for row in used} - {None} == {"lz4" if "lz4" in methods else "pglz"}
