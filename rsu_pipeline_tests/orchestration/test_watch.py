"""The watch as a job, and the sensor that polls by itself, on a real instance, database and sandbox."""

import datetime as dt
import itertools
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.alerts import rules
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration import race_day_sensors
from rsu_pipeline.orchestration.race_day_sensors import build_bib_changes
from rsu_pipeline.settings import load_settings
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import use_environment
from rsu_pipeline_tests.orchestration.test_batch import Batch, seen
from rsu_pipeline_tests.orchestration.test_race_day_sensors import look, skipped, told
from runsignup_sandbox.process import SandboxProcess

bib_changes = build_bib_changes("watch")

SPEC = {"partners": 3, "races_per_partner": 2, "events_per_race": 1, "registrations_per_event": 12, "start_in_hours": 2}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    """Provide three partners with two races each, two hours from now.

    A test that changes what it answers puts it back.
    """
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        yield sandbox


@pytest.fixture
def hub(
    sandbox: SandboxProcess, make_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """Provide all its partners synced."""
    hub = Hub(make_database(), sandbox, tmp_path / "home", RSU_WATCH_INTERVAL="1", RSU_CALL_ATTEMPTS="1")
    use_environment(monkeypatch, hub.environment)
    for partner in hub.partners:
        hub.sync(partner)
    sandbox.admin.reset_stats()
    yield hub
    sandbox.admin.clear_faults()
    sandbox.admin.switch(latency_ms=0)
    installation.current.cache_clear()


def watch(instance: dg.DagsterInstance, seconds: float, shard: int = 0) -> Batch:
    outcome = (
        build_definitions()
        .resolve_job_def("watch")
        .execute_in_process(
            instance=instance,
            run_config={"ops": {"watch_races": {"config": {"shard": shard, "seconds": seconds}}}},
            raise_on_error=False,
        )
    )
    return seen(instance, outcome.run_id, outcome.success)


def wait_until(is_so: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def looks(hub: Hub) -> list[dict[str, Any]]:
    return [call for call in hub.sandbox.admin.stats()["log"] if call["endpoint"] == "participants"]


NUMBERS = {
    *("rows_read", "rows_inserted", "rows_updated", "rows_unchanged", "rows_removed", "rows_quarantined"),
    *("rows_with_faults", "bib_changes", "api_calls", "looks", "looks_put_off"),
}


def test_a_bib_given_out_meanwhile_arrives_and_each_partners_partition_is_told(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    keys = {partner: min(hub.truth(partner)) for partner in (1, 3)}

    def morning() -> None:
        wait_until(lambda: len(looks(hub)) >= 6)
        for partner, key in keys.items():
            hub.sandbox.admin.bib(key, 500 + partner)

    thread = threading.Thread(target=morning)
    thread.start()
    run = watch(hub_instance, 8)
    thread.join()
    assert run.success
    # Start lists are reported of the partners where something changed.
    changed = {("start_lists", hub.partners[partner]) for partner in keys}
    assert run.told.keys() == {("participants", key) for key in hub.partners.values()} | changed
    for partner in hub.partners:
        hub.assert_equal(partner)
    for (asset, _), numbers in run.told.items():
        assert asset == "start_lists" or (numbers.keys() == NUMBERS and numbers["looks"] >= 2)
    for partner, key in keys.items():
        assert hub.value("SELECT bib FROM start_list_entries WHERE registration_id = %s", key) == str(500 + partner)
    assert [run.told["participants", key]["bib_changes"] for key in hub.partners.values()] == [1, 0, 1]
    assert hub.sandbox.admin.stats()["max_in_flight"] <= 2

    look(bib_changes, hub_instance)
    assert [
        (key, numbers.get("bibs_changed", 0) + numbers.get("bibs_assigned", 0))
        for key, numbers in told(hub_instance)[3:]
    ] == [
        (hub.partners[1], 1),
        (hub.partners[3], 1),
    ]


def test_a_watch_that_only_lacks_calls_has_not_failed(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, hub.environment | {"RSU_CALLS_PER_HOUR": "100"})
    hub.execute(
        "INSERT INTO api_calls (credential_id, api_key_id, lane, endpoint, granted_at, settled_at)"
        " SELECT c.partner_provider_credential_id, c.api_key_id, 'routine', 'races', now() - interval '5 minutes', now()"
        " FROM partner_provider_credentials c, generate_series(1, 100)"
    )
    run = watch(hub_instance, 2)
    assert run.success
    assert any("call budget used up, a call is free in" in line for line in run.said), run.said
    hub.execute("UPDATE event_cursors SET last_read_at = now() - interval '20 minutes'")
    with database.session(hub.url, purpose="tests") as conn:
        found = rules.find_problems(conn, load_settings({"RSU_CALLS_PER_HOUR": "100"}), dt.datetime.now(dt.UTC))
    assert {problem.kind for problem in found} & {"run_failed", "polls_failing"} == {"polls_failing"}

    hub.sandbox.admin.fault("http_500", 0)
    hub.execute("DELETE FROM api_calls")
    assert not watch(hub_instance, 2).success


def test_the_next_watch_waits_for_the_one_before_and_takes_over_without_a_gap(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(watch, hub_instance, 8)
        wait_until(lambda: looks(hub))
        second = pool.submit(watch, hub_instance, 14)
        runs = [first.result(), second.result()]
    assert all(run.success and len(run.told) == 3 for run in runs)
    seconds = [
        float(match[1]) for run in runs for line in run.said if (match := re.search(r"watching for (\d+) s", line))
    ]
    # What it waited is part of its slice: the sensor counts from a run's start.
    assert seconds[0] == 8 and 0 < seconds[1] <= 12
    moments = sorted(call["at"] for call in looks(hub))
    # A handover by way of the sensor and a new process would take ten seconds and more.
    assert max(later - earlier for earlier, later in itertools.pairwise(moments)) < 6
    assert hub.sandbox.admin.stats()["max_in_flight"] <= 2


def test_a_second_watch_of_a_shard_gives_up_while_the_first_goes_on(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race_day_sensors, "SUCCESSOR_AHEAD", 0.5)
    with (
        database.session(hub.url, purpose="watch 0") as conn,
        database.shard_lock(conn, 0, lock_timeout=1) as mine,
    ):
        assert mine
        run = watch(hub_instance, 600)
    assert run.success and run.told == {}
    assert "shard 0 is watched by another run" in run.said
    assert looks(hub) == []


def test_a_slice_without_a_race_in_its_window_ends_at_once(hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    hub.execute("UPDATE runsignup_events SET starts_at = starts_at + interval '1 day'")
    run = watch(hub_instance, 3600)
    assert run.success and run.told == {}
    assert looks(hub) == []


def test_a_race_that_cannot_be_read_fails_the_slice_by_name_and_the_rest_is_told(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    broken = max(row["race_id"] for row in hub.truth(2).values())
    hub.sandbox.admin.fault("unknown_shape", 0, endpoint="participants", race_id=broken)
    run = watch(hub_instance, 2.5)
    assert not run.success
    start_of = f"1 race could not be read at their last poll: {hub.partners[2]}, race {broken}: "
    assert run.failure.startswith(start_of) and not run.failure.startswith(f"{start_of}race")
    assert run.told.keys() == {("participants", key) for key in hub.partners.values()}


def test_the_sensor_finds_the_bibs_of_every_partner_by_itself_within_the_tick(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race_day_sensors, "SENSOR_SECONDS", 3.0)
    # Shards are runs of the watch; the sensor has none.
    use_environment(monkeypatch, {"RSU_BIB_POLL": "sensor", "RSU_WATCH_SHARDS": "2"})
    for partner in hub.partners:
        hub.sandbox.admin.bib(min(hub.truth(partner)), 700 + partner)
    words = skipped(look(bib_changes, hub_instance))
    assert words == "3 bib changes of 3 partners reported: " + ", ".join(f"{key} 1" for key in hub.partners.values())
    for partner in hub.partners:
        hub.assert_equal(partner)

    broken = max(row["race_id"] for row in hub.truth(2).values())
    hub.sandbox.admin.fault("unknown_shape", 0, endpoint="participants", race_id=broken)
    words = skipped(look(bib_changes, hub_instance))
    assert words.startswith(f"no new bib changes. 1 race could not be read: {hub.partners[2]}, race {broken}: ")
    hub.sandbox.admin.clear_faults()
    assert skipped(look(bib_changes, hub_instance)) == "no new bib changes"


def test_the_sensors_ticks_give_each_race_its_turn_and_none_more_than_its_share(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race_day_sensors, "SENSOR_SECONDS", 0.5)
    use_environment(monkeypatch, {"RSU_BIB_POLL": "sensor", "RSU_WATCH_INTERVAL": "600"})
    hub.sandbox.admin.switch(latency_ms=400)
    every = {row["race_id"] for partner in hub.partners for row in hub.truth(partner).values()}
    for _ in range(len(every) + 1):
        look(bib_changes, hub_instance)
    polled = Counter(call["race_id"] for call in looks(hub))
    # A page, and where it is not empty another one that ends the feed.
    assert polled.keys() == every and max(polled.values()) <= 2
