"""The message of a run that cannot do its work: one sentence that an operator can act on, tried once."""

import re
import threading
import time
from contextlib import closing

import dagster as dg
import psycopg2
import pytest

from rsu_pipeline import installation
from rsu_pipeline.errors import SettingsError
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.sensors import new_credentials
from rsu_pipeline.sync import sharing
from rsu_pipeline.warehouse import credentials, database, race_locks
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import Failed, Run, sync_partner, use_environment
from rsu_pipeline_tests.orchestration.test_assets import NUMBERS, numbers

MILL_POND, PORT_ELLERY, FESTIVAL = 190_001, 190_008, 190_050


def failure(run: Run, step: str) -> Failed:
    """Return how a run failed, and that it did so as every foreseen failure does."""
    assert not run.success
    failed = run.failure
    assert failed is not None
    assert failed.step == step
    assert failed.attempts == 1
    assert failed.description
    assert "\n" not in failed.description
    assert not re.search(r'Traceback|File "|\.py\b', failed.description)
    # No error of a library's below ours.
    assert failed.chained == []
    return failed


def test_a_failing_race_leaves_the_others_stored_and_is_named_with_its_cause(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    hub.sandbox.admin.fault("http_500", 0, endpoint="participants", race_id=PORT_ELLERY)
    failed = failure(sync_partner(instance, hub.partners[1]), "participants")
    assert failed.description.startswith("4 reads are stored. Not up to date: ")
    assert f"race {PORT_ELLERY}: " in failed.description
    assert "server error (HTTP 500)" in failed.description
    assert str(MILL_POND) not in failed.description
    assert NUMBERS["participants"] <= numbers(failed.metadata)
    assert (failed.metadata["races_read"], failed.metadata["races_failed"]) == (4, 1)
    truth = {key: row for key, row in hub.truth().items() if row["race_id"] != PORT_ELLERY}
    assert hub.stored() == truth
    assert failed.metadata["rows_inserted"] == len(truth)

    hub.sandbox.admin.clear_faults()
    assert sync_partner(instance, hub.partners[1]).success
    hub.assert_equal()


def test_a_refused_credential_fails_at_once_the_second_time_and_works_when_entered_anew(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    key = hub.partners[3]
    hub.sandbox.admin.revoke(3)
    try:
        failed = failure(sync_partner(instance, key), "partner_events")
        assert failed.description == (
            f"RunSignup rejects the credential of partner {key} (it refuses every race that was requested with this key and"
            " secret): enter the right key and secret with `rsu partners add`."
        )
        calls = hub.value("SELECT count(*) FROM api_calls")
        again = failure(sync_partner(instance, key), "partner_events")
        assert again.description.startswith(f"RunSignup rejected the credential of partner {key} at ")
        assert "It is tried again at the next visit, or at once when it changes" in again.description
        assert hub.value("SELECT count(*) FROM api_calls") == calls
        assert hub.stored(3) == {}
    finally:
        hub.sandbox.admin.grant(3)
    partner = hub.sandbox.admin.partners()[2]
    with database.session(hub.url, purpose="tests") as conn:
        credentials.add(conn, hub.secret_box, name=partner["name"], principal=partner["key"], secret=partner["secret"])
        conn.commit()
    assert sync_partner(instance, key).success
    hub.assert_equal(3)


def test_a_partner_without_credential_is_one_sentence(hub: Hub, instance: dg.DagsterInstance) -> None:
    hub.execute("DELETE FROM partner_provider_credentials WHERE timing_partner_id = 3")
    failed = failure(sync_partner(instance, hub.partners[3]), "partner_events")
    assert "has no RunSignup credential: add one with `rsu partners add`." in failed.description


def test_a_database_that_is_away_is_one_sentence_without_its_password(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": "postgresql://hub:canary-password@127.0.0.1:9/hub"})
    run = sync_partner(instance, hub.partners[1])
    failed = failure(run, "partner_events")
    assert failed.description.startswith("Cannot use PostgreSQL at 127.0.0.1:9/hub: ")
    assert "canary-password" not in failed.text


def test_a_role_that_may_only_read_is_one_sentence(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.execute("CREATE ROLE only_reads LOGIN PASSWORD 'canary-password'")
    hub.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO only_reads")
    try:
        guest = re.sub(r"//[^@]*@", "//only_reads:canary-password@", hub.url)
        use_environment(monkeypatch, hub.environment | {"RSU_DATABASE_URL": guest})
        failed = failure(sync_partner(instance, hub.partners[1]), "partner_events")
        assert "refuses role only_reads: permission denied for " in failed.description
        assert "canary-password" not in failed.text
    finally:
        hub.execute("DROP OWNED BY only_reads; DROP ROLE only_reads")


def test_a_database_of_another_version_is_one_sentence_and_is_left_alone(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.execute("DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)")
    left = hub.value("SELECT max(version) FROM schema_migrations")
    needed = database.list_migrations()[-1][0]
    installation.current.cache_clear()
    sentence = f" is at version {left}, this program needs {needed}: run `rsu db migrate`."
    failed = failure(sync_partner(instance, hub.partners[1]), "partner_events")
    assert failed.description.startswith("The database at 127.0.0.1:") and failed.description.endswith(sentence)
    with (
        pytest.raises(dg.Failure) as tick,
        dg.build_sensor_context(instance, resources={"warehouse": WarehouseResource()}) as context,
    ):
        new_credentials(context)
    assert str(tick.value.description).endswith(sentence)
    assert hub.value("SELECT max(version) FROM schema_migrations") == left

    hub.execute("INSERT INTO schema_migrations VALUES (9000, '9000_future.sql', 'x')")
    failed = failure(sync_partner(instance, hub.partners[1]), "partner_events")
    assert f"is at version 9000, newer than this program, which knows {needed}: " in failed.description


def test_a_database_that_goes_away_in_the_middle_is_one_sentence(hub: Hub, instance: dg.DagsterInstance) -> None:
    sync_partner(instance, hub.partners[1])
    hub.sandbox.admin.register(next(iter(hub.truth().values()))["event_id"])
    hub.sandbox.admin.fault("timeout", 1, endpoint="participants", race_id=FESTIVAL, seconds=30)
    ended: list[int] = []

    def end_sessions() -> None:
        deadline = time.monotonic() + 30
        with closing(psycopg2.connect(hub.url)) as conn, conn.cursor() as cur:
            conn.autocommit = True
            while not ended and time.monotonic() < deadline:
                cur.execute(
                    "SELECT count(*) FROM api_calls WHERE race_id = %s AND endpoint = 'participants' AND settled_at IS NULL",
                    (FESTIVAL,),
                )
                if cur.fetchone() != (0,):
                    cur.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND application_name ~ '^rsu (sync|ledger) '"
                    )
                    ended.append(cur.rowcount)
                time.sleep(0.01)

    thread = threading.Thread(target=end_sessions)
    thread.start()
    run = sync_partner(instance, hub.partners[1], force_full_sync=True)
    thread.join()
    assert ended == [2]
    failed = failure(run, "participants")
    assert failed.description.startswith("The connection to PostgreSQL at 127.0.0.1:")
    assert "was lost: " in failed.description
    hub.sandbox.admin.clear_faults()
    assert sync_partner(instance, hub.partners[1]).success
    hub.assert_equal()


def test_a_race_whose_reader_hangs_is_left_to_it_by_name_and_the_run_is_green(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sync_partner(instance, hub.partners[2]).success
    race, *others = [race["race_id"] for race in hub.sandbox.admin.truth(2)["races"]]
    monkeypatch.setattr(sharing, "MAX_STALL_SECONDS", 1.0)
    with (
        database.session(hub.url, purpose="somebody else's sync") as conn,
        race_locks.race_lock(conn, 2, race),
        race_locks.race_lock(conn, 2, race_locks.LISTING),
    ):
        run = sync_partner(instance, hub.partners[2], force_full_sync=True)
        assert run.success
    logged = [entry.user_message for entry in instance.all_logs(run.run_id)]
    for what in ("the listing of partner 2", f"race {race} of partner 2"):
        (sentence,) = [text for text in logged if text.startswith(what) and text.endswith("it is left to that sync")]
        assert "is being read by 'rsu somebody else's sync" in sentence
        assert "which has stored nothing for 1 s" in sentence
    told = run.metadata["participants"]
    assert (told["races_read"], told["races_left_to_other_syncs"]) == (len(others), 1)
    assert sync_partner(instance, hub.partners[2]).success
    hub.assert_equal(2)


def test_a_spent_budget_says_when_the_next_call_is_free_and_the_next_sync_goes_on(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = hub.partners[2]
    sync_partner(instance, key)
    hub.execute("TRUNCATE api_calls, event_cursors, runsignup_participants CASCADE")
    # The lane may use 90 % of the hour's calls: here 6, of which the listing takes two and four races want two each.
    use_environment(monkeypatch, {"RSU_CALLS_PER_HOUR": "7"})
    failed = failure(sync_partner(instance, key), "participants")
    found = re.search(
        r"call budget used up: (\d+) reads are left, the next call is free in (\d+) s, and the next sync continues from there",
        failed.description,
    )
    assert found, failed.description
    left, frees_in = (int(text) for text in found.groups())
    assert left == failed.metadata["races_not_read"] == 2
    assert 3000 < frees_in <= 3600
    assert NUMBERS["participants"] <= numbers(failed.metadata)
    assert failed.metadata["budget_left"] == 0
    assert failed.metadata["races_read"] == 2
    assert len(hub.stored(2)) == failed.metadata["rows_inserted"] > 0

    none_left = failure(sync_partner(instance, key), "partner_events")
    assert re.search(r"the next is free in 3\d\d\d s", none_left.description)

    use_environment(monkeypatch, {"RSU_CALLS_PER_HOUR": "1000"})
    assert sync_partner(instance, key).success
    hub.assert_equal(2)


def test_a_secret_of_a_lost_key_is_one_sentence(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_SECRET_KEY": "VVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVU="})
    assert "RSU_SECRET_KEY" in failure(sync_partner(instance, hub.partners[1]), "partner_events").description


def test_a_setting_that_cannot_be_used_is_one_sentence(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_PAGE_SIZE": "9000"})
    # A process of a run loads the definitions first, and they read the settings.
    with pytest.raises(SettingsError) as refused:
        sync_partner(instance, hub.partners[1])
    assert str(refused.value) == "RSU_PAGE_SIZE is 9000, but must be from 1 to 2500."
    installation.current.cache_clear()


def test_a_bug_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), expected_errors_as_failures():
        _ = 1 / 0
