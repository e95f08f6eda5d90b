"""The batch job on a real instance, database and sandbox: each partner as if it had a run of its own."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration.run_tags import PARENT_TAG
from rsu_pipeline.sync import listing
from rsu_pipeline.warehouse import database, race_locks
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import Metadata, use_environment
from rsu_pipeline_tests.orchestration.test_assets import NUMBERS, numbers
from rsu_pipeline_tests.specs import estate
from runsignup_sandbox.process import SandboxProcess

SPEC = estate(partners=3, races=2, registrations=12, start_in_hours=30)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    """Provide three partners with two races each, tomorrow.

    A test that changes what it answers restores it.
    """
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        yield sandbox


@pytest.fixture
def hub(
    sandbox: SandboxProcess, make_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    hub = Hub(make_database(), sandbox, tmp_path / "home", RSU_CALL_ATTEMPTS="1")
    use_environment(monkeypatch, hub.environment)
    sandbox.admin.reset_stats()
    yield hub
    sandbox.admin.clear_faults()
    sandbox.admin.switch(latency_ms=0)
    for partner in hub.partners:
        sandbox.admin.grant(partner)
    installation.current.cache_clear()


@dataclass
class Batch:
    """A finished batch: what it reported by asset and partition, and how it failed."""

    success: bool
    told: dict[tuple[str, str], Metadata]
    failure: str
    metadata: Metadata
    chained: list[str]
    said: list[str]


def batch(instance: dg.DagsterInstance, hub: Hub, *partners: int, **config: Any) -> Batch:
    keys = [hub.partners[partner] for partner in partners or hub.partners]
    job = build_definitions().resolve_job_def("sync_batch")
    outcome = job.execute_in_process(
        instance=instance,
        run_config={"ops": {"sync_partners": {"config": {"partners": keys, **config}}}},
        raise_on_error=False,
    )
    return seen(instance, outcome.run_id, outcome.success)


def seen(instance: dg.DagsterInstance, run_id: str, success: bool) -> Batch:
    """Return what Dagster's storage knows of the run, as the web UI shows it."""
    found = Batch(success, {}, "", {}, [], [])
    for entry in instance.all_logs(run_id):
        event = entry.dagster_event
        if event is None:
            found.said.append(entry.user_message)
        elif event.is_step_materialization:
            told = event.step_materialization_data.materialization
            name = (told.asset_key.to_user_string(), str(told.partition))
            assert name not in found.told
            found.told[name] = {key: value.value for key, value in told.metadata.items()}
        elif event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data:
                found.failure = str(data.user_failure_data.description)
                found.metadata = {key: value.value for key, value in data.user_failure_data.metadata.items()}
            found.chained = [one.message for one in (data.error.cause, data.error.context) if one] if data.error else []
    return found


def names(hub: Hub, *partners: int) -> set[tuple[str, str]]:
    """Return every asset's partition of these partners."""
    return {(asset, hub.partners[partner]) for asset in NUMBERS for partner in partners}


def without(hub: Hub, *assets: str) -> set[tuple[str, str]]:
    """Return every partner's partition of the other assets."""
    return {(asset, key) for asset, key in names(hub, *hub.partners) if asset not in assets}


def calls(hub: Hub) -> list[tuple[str, int | None]]:
    return sorted((call["endpoint"], call["race_id"] or 0) for call in hub.sandbox.admin.stats()["log"])


def races(hub: Hub, partner: int) -> list[int]:
    return sorted({row["race_id"] for row in hub.truth(partner).values()})


def test_one_run_brings_every_partner_up_to_date_and_tells_each_ones_partitions(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    log_event = dg.OpExecutionContext.log_event

    def watched(self: dg.OpExecutionContext, event: Any) -> None:
        threads.append(threading.current_thread())
        log_event(self, event)

    monkeypatch.setattr(dg.OpExecutionContext, "log_event", watched)
    run = batch(instance, hub, relist=list(hub.partners.values()))
    assert run.success
    for partner, key in hub.partners.items():
        assert hub.truth(partner)
        hub.assert_equal(partner)
        assert {asset: numbers(run.told[asset, key]) for asset in NUMBERS} == NUMBERS
        told = run.told["participants", key]
        assert (told["rows_read"], told["rows_inserted"], told["races_read"]) == (24, 24, 2)
        assert run.told["future_events", key]["future_events"] == 2
        assert run.told["partner_events", key]["races"] == 2
        assert any(line.startswith(f"{key}: race ") for line in run.said)
    assert run.told.keys() == names(hub, 1, 2, 3)
    for asset in NUMBERS:
        assert instance.get_materialized_partitions(dg.AssetKey(asset)) == set(hub.partners.values())
    stats = hub.sandbox.admin.stats()
    assert stats["max_in_flight"] <= 2 and stats["violations"] == 0
    # The run's context is not made for several threads.
    assert len(threads) == 12 and set(threads) == {threading.main_thread()}
    assert hub.value("SELECT count(DISTINCT lane) FROM api_calls WHERE lane = 'routine'") == 1


def test_only_the_races_that_are_due_are_called_and_any_never_read(hub: Hub, instance: dg.DagsterInstance) -> None:
    assert batch(instance, hub, relist=list(hub.partners.values())).success
    first, second, third = hub.partners.values()
    due, spared = races(hub, 1)
    admin = hub.sandbox.admin
    admin.reset_stats()
    run = batch(instance, hub, races={first: [due], second: [], third: [races(hub, 3)[0]]})
    assert run.success
    assert calls(hub) == sorted(
        (endpoint, race) for race in (due, races(hub, 3)[0]) for endpoint in ("participants", "removed")
    )
    # The reported plan is of all upcoming events, however little of it was due.
    assert [run.told["future_events", key]["future_events"] for key in hub.partners.values()] == [2, 2, 2]
    # A listing that was not read is not reported, nor start lists that nothing changed.
    assert run.told.keys() == without(hub, "partner_events", "start_lists")

    new, (event_id,) = admin.add_race(2, [{"name": "10K", "start_in_hours": 50}])
    admin.register(event_id, count=3)
    admin.reset_stats()
    assert batch(instance, hub, 1, 2, races={first: [spared], second: []}, relist=[second]).success
    asked = set(calls(hub))
    # A race that could be read before is asked, so that the new listing is known to be the partner's own.
    verified = {("participants", race) for race in races(hub, 2) if race != new}
    assert len(asked & verified) == 1
    assert asked - verified - {("races", 0), ("race", new)} == {
        ("participants", spared),
        ("removed", spared),
        ("participants", new),
    }
    hub.assert_equal(2)
    assert len([row for row in hub.stored(2).values() if row["race_id"] == new]) == 3


def lists_of(hub: Hub, partner: int) -> set[tuple[str, str]]:
    """Return which version of which row the partner's start lists have."""
    found = hub.rows(
        "SELECT ctid::text, xmin::text FROM start_list_entries WHERE timing_partner_id = %s"
        " UNION ALL SELECT ctid::text, xmin::text FROM start_lists WHERE timing_partner_id = %s",
        partner,
        partner,
    )
    return {(row["ctid"], row["xmin"]) for row in found}


def test_only_the_changed_partners_start_lists_are_rebuilt(hub: Hub, instance: dg.DagsterInstance) -> None:
    assert batch(instance, hub, relist=list(hub.partners.values())).success
    before = {partner: lists_of(hub, partner) for partner in hub.partners}
    number = min(hub.truth(2))
    hub.sandbox.admin.bib(number, 8123)
    run = batch(instance, hub)
    assert run.success
    assert [key for asset, key in run.told if asset == "start_lists"] == [hub.partners[2]]
    told = run.told["start_lists", hub.partners[2]]
    assert (told["entries_updated"], told["entries_inserted"], told["entries_deleted"]) == (1, 0, 0)
    assert hub.value("SELECT bib FROM start_list_entries WHERE registration_id = %s", number) == "8123"
    assert [partner for partner in hub.partners if lists_of(hub, partner) == before[partner]] == [1, 3]
    # What was never reported as built is built, though nothing changed.
    instance.wipe_assets([dg.AssetKey("start_lists")])
    again = batch(instance, hub, 3)
    assert [key for asset, key in again.told if asset == "start_lists"] == [hub.partners[3]]
    assert again.told["start_lists", hub.partners[3]]["entries_unchanged"] == 24


def test_start_lists_that_cannot_be_built_are_named_and_built_at_the_next_visit(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    hub.execute(
        """
        CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'nobody foresaw this'; END $$;
        CREATE TRIGGER spoil BEFORE INSERT ON start_list_entries FOR EACH ROW WHEN (NEW.timing_partner_id = 1)
            EXECUTE FUNCTION spoil()
        """
    )
    run = batch(instance, hub, relist=list(hub.partners.values()))
    assert not run.success
    assert run.failure == (
        f"1 of 3 partners failed: {hub.partners[1]}: its start lists could not be built: nobody foresaw this"
    )
    assert run.told.keys() == names(hub, 1, 2, 3) - {("start_lists", hub.partners[1])}
    hub.assert_equal(1)
    hub.execute("DROP TRIGGER spoil ON start_list_entries")
    again = batch(instance, hub)
    assert again.success and again.told["start_lists", hub.partners[1]]["entries_inserted"] == 24


def test_a_refused_key_fails_the_run_by_name_and_leaves_the_others(hub: Hub, instance: dg.DagsterInstance) -> None:
    hub.sandbox.admin.revoke(2)
    run = batch(instance, hub, relist=list(hub.partners.values()))
    assert not run.success
    assert run.failure.startswith(f"1 of 3 partners failed: {hub.partners[2]}: RunSignup rejects the cred")
    assert run.metadata == {"partners": 3, "partners_failed": 1}
    assert run.told.keys() == names(hub, 1, 3)
    hub.assert_equal(1)
    hub.assert_equal(3)
    assert hub.stored(2) == {}


def test_a_race_that_fails_fails_the_run_by_name_and_leaves_the_others(hub: Hub, instance: dg.DagsterInstance) -> None:
    broken, well = races_listed(hub, 3)
    hub.sandbox.admin.fault("unknown_shape", 0, endpoint="participants", race_id=broken)
    run = batch(instance, hub, races={key: [broken] for key in hub.partners.values()})
    assert not run.success
    assert run.failure.startswith(f"1 of 3 partners failed: {hub.partners[3]}: 1 reads are stored. Not up to")
    assert f"race {broken}: " in run.failure
    # Its listing and plan are as reported; of its registrations a whole sync is reported, or none.
    assert run.told.keys() == without(hub, "partner_events") - {("participants", hub.partners[3])}
    assert {row["race_id"] for row in hub.stored(3).values()} == {well}
    hub.assert_equal(1)
    hub.assert_equal(2)


def races_listed(hub: Hub, partner: int) -> list[int]:
    """Return the partner's races, once its listings are in."""
    for number in hub.partners:
        with hub.partner_session(number) as session:
            listing.refresh_events(session)
    found = hub.rows("SELECT race_id FROM partner_races WHERE timing_partner_id = %s ORDER BY race_id", partner)
    return [row["race_id"] for row in found][:2]


def test_a_bug_with_one_partner_leaves_the_others_told(hub: Hub, instance: dg.DagsterInstance) -> None:
    hub.execute(
        """
        CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'nobody foresaw this'; END $$;
        CREATE TRIGGER spoil BEFORE INSERT ON future_events FOR EACH ROW WHEN (NEW.timing_partner_id = 1)
            EXECUTE FUNCTION spoil()
        """
    )
    run = batch(instance, hub, relist=list(hub.partners.values()))
    assert not run.success
    assert run.failure.startswith(f"1 of 3 partners failed: {hub.partners[1]}: RaiseException")
    assert any("nobody foresaw this" in message for message in run.chained)
    assert run.told.keys() == names(hub, 2, 3)
    hub.assert_equal(2)
    hub.assert_equal(3)


def test_what_another_sync_is_reading_is_waited_for(hub: Hub, instance: dg.DagsterInstance) -> None:
    hub.sync(1)
    race = hub.sandbox.admin.truth(1)["races"][0]["race_id"]
    is_locked = threading.Event()
    waited: list[bool] = []

    def read() -> None:
        """Read as the watch does at each poll, until somebody waits."""
        with database.session(hub.url, purpose="holder") as conn, race_locks.race_lock(conn, 1, race):
            is_locked.set()
            deadline = time.monotonic() + 30
            while not waited and time.monotonic() < deadline:
                if hub.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
                    waited.append(True)
                time.sleep(0.05)

    thread = threading.Thread(target=read)
    thread.start()
    is_locked.wait(30)
    run = batch(instance, hub, 1, relist=[hub.partners[1]])
    thread.join()
    assert waited and run.success
    hub.assert_equal(1)


def test_a_terminated_batch_leaves_out_the_partners_whose_turn_has_not_come(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, hub.environment | {"RSU_MAX_IN_FLIGHT": "1"})
    hub.sandbox.admin.switch(latency_ms=300)

    main = threading.main_thread().ident or 0

    def terminate() -> None:
        """Terminate as Dagster's launcher does, once the first partner's calls have begun."""
        deadline = time.monotonic() + 60
        while not hub.sandbox.admin.stats()["calls"] and time.monotonic() < deadline:
            time.sleep(0.05)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=terminate)
    thread.start()
    run = batch(instance, hub, relist=list(hub.partners.values()))
    thread.join()
    assert not run.success and run.told == {}
    # One more than may call had begun.
    assert len(hub.partners) > hub.value("SELECT count(DISTINCT credential_id) FROM api_calls") <= 2


def test_a_batch_that_repeats_another_leaves_out_the_partners_that_it_visited(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    first = batch(instance, hub, 1, relist=[hub.partners[1]])
    assert first.success
    run = next(iter(instance.get_run_records()))
    calls_before = hub.value("SELECT max(api_call_id) FROM api_calls")
    job = build_definitions().resolve_job_def("sync_batch")
    keys = list(hub.partners.values())
    again = job.execute_in_process(
        instance=instance,
        run_config={"ops": {"sync_partners": {"config": {"partners": keys, "relist": keys}}}},
        tags={PARENT_TAG: run.dagster_run.run_id},
    )
    assert {key for _, key in seen(instance, again.run_id, again.success).told} == set(keys) - {hub.partners[1]}
    called = hub.rows("SELECT DISTINCT credential_id AS partner FROM api_calls WHERE api_call_id > %s", calls_before)
    assert sorted(row["partner"] for row in called) == [2, 3]


def test_a_batch_without_partners_is_refused_in_one_sentence(hub: Hub, instance: dg.DagsterInstance) -> None:
    job = build_definitions().resolve_job_def("sync_batch")
    config = {"ops": {"sync_partners": {"config": {"partners": []}}}}
    outcome = job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)
    found = seen(instance, outcome.run_id, outcome.success)
    assert not found.success and found.failure == "This run names no partner. Enter partition keys under `partners`."
