"""`rsu sync` and `rsu status`: the assets from the shell, in the instance that the web UI shows."""

import getpass
import json
import socket
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.hub import Hub

KEYS = ["1-kestrel-timing", "2-split-second-harwick", "3-mill-pond-race-services"]
ASSETS = ["partner_events", "future_events", "participants", "start_lists"]
Result = dict[str, Any]


def sync(hub: Hub, *arguments: str, code: int = 0) -> list[Result]:
    """Return each partner's result of `rsu sync --json`, which prints nothing else."""
    done = rsu("sync", "--json", *arguments, settings=hub.environment)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    results: list[Result] = json.loads(done.stdout)["partners"]
    assert all(result["ok"] == (result["error"] == "") for result in results)
    return results


@pytest.fixture(scope="module")
def first(hub: Hub) -> list[Result]:
    """Provide the first sync of all partners."""
    return sync(hub)


@pytest.fixture
def instance(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    """Provide Dagster's instance as the web UI of this hub opens it."""
    for name, value in hub.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_HOME", str(project_root()))
    return dg.DagsterInstance.get()


def reads(hub: Hub, run_id: str) -> dict[int, str]:
    """Return the kind of read by race, of those that a run recorded."""
    found = hub.rows(
        "SELECT race_id, operation_type FROM sync_history WHERE run_id = %s AND race_id IS NOT NULL", run_id
    )
    return {row["race_id"]: row["operation_type"] for row in found}


def test_a_sync_stores_what_runsignup_has_for_every_partner(hub: Hub, first: list[Result]) -> None:
    assert [result["partner"] for result in first] == KEYS
    assert all(result["ok"] for result in first)
    for number, result in enumerate(first, start=1):
        hub.assert_equal(number)
        assert result["rows_inserted"] == result["rows_read"] == len(hub.stored(number)) > 50
        assert set(reads(hub, result["run_id"]).values()) == {"full"}
        calls = hub.value(
            "SELECT count(*) FROM api_calls a JOIN partner_provider_credentials c"
            " ON c.partner_provider_credential_id = a.credential_id WHERE c.timing_partner_id = %s",
            number,
        )
        assert result["api_calls"] <= calls


def test_a_sync_from_the_shell_shows_in_dagster(first: list[Result], instance: dg.DagsterInstance) -> None:
    with instance:
        assert set(KEYS) <= set(instance.get_dynamic_partitions("timing_partner"))
        for result in first:
            run = instance.get_run_by_id(result["run_id"])
            assert run is not None
            assert (run.job_name, run.status) == ("sync_partner", dg.DagsterRunStatus.SUCCESS)
            assert run.tags["dagster/partition"] == run.tags["partner"] == result["partner"]
            assert run.tags["launched_by"] == "rsu sync"
            assert run.tags["user"] == f"{getpass.getuser()}@{socket.gethostname()}"
        for asset in ASSETS:
            assert instance.get_materialized_partitions(dg.AssetKey(asset)) == set(KEYS)


def test_every_number_of_a_run_is_in_its_result(first: list[Result], instance: dg.DagsterInstance) -> None:
    with instance:
        for asset in ASSETS:
            event = instance.get_latest_materialization_event(dg.AssetKey(asset))
            assert event is not None and event.asset_materialization is not None
            metadata = event.asset_materialization.metadata
            numbers = {name for name, value in metadata.items() if isinstance(value.value, int | float)} - {"seconds"}
            assert numbers and numbers <= first[-1].keys()


def test_status_shows_each_partner_with_its_last_sync(hub: Hub, first: list[Result]) -> None:
    done = rsu("status", "--json", settings=hub.environment)
    assert done.returncode == 0, done.stderr
    found = {row["key"]: row for row in json.loads(done.stdout)}
    assert list(found) == KEYS
    for number, result in enumerate(first, start=1):
        row = found[result["partner"]]
        assert row["participants"] == hub.value(
            "SELECT count(*) FROM runsignup_participants WHERE timing_partner_id = %s AND removed_at IS NULL", number
        )
        assert row["future_events"] == result["future_events"]
        assert row["events"] >= row["future_events"] > 0
        assert row["calls_this_hour"] > 0
        assert row["last_sync"] is not None and row["credential"] == "works"
    table = rsu("status", settings=hub.environment)
    assert table.returncode == 0
    assert all(key in table.stdout for key in KEYS)
    assert f"{found[KEYS[0]]['participants']:,}" in table.stdout


@dataclass
class Mixed:
    """A sync in which one race of partner 1 fails, and partner 3 was last read in full three days before."""

    broken: int
    others: list[int]
    newcomer: int
    good: Result
    bad: Result


@pytest.fixture(scope="module")
def mixed(hub: Hub, first: list[Result]) -> Mixed:
    future = {row["race_id"] for row in hub.rows("SELECT race_id FROM future_events WHERE timing_partner_id = 1")}
    broken, *others = sorted(future)
    event = hub.value("SELECT min(event_id) FROM future_events WHERE timing_partner_id = 1 AND race_id = %s", others[0])
    newcomer = hub.sandbox.admin.register(event)[0]
    hub.execute("UPDATE event_cursors SET last_full_at = last_full_at - interval '3 days' WHERE timing_partner_id = 3")
    hub.sandbox.admin.fault("error_code", times=0, race_id=broken, endpoint="participants", code=3, message="No.")
    asked = ("--partner", KEYS[2], "--partner", "1", "--partner", "3", "--incremental-days", "2.5")
    try:
        good, bad = sync(hub, *asked, code=1)
    finally:
        hub.sandbox.admin.clear_faults()
    return Mixed(broken, others, newcomer, good, bad)


def test_a_race_that_fails_is_told_once_the_others_are_stored(hub: Hub, mixed: Mixed) -> None:
    good, bad = mixed.good, mixed.bad
    assert (good["partner"], good["ok"]) == (KEYS[2], True)
    assert (bad["partner"], bad["ok"], bad["races_failed"], bad["races_read"]) == (KEYS[0], False, 1, len(mixed.others))
    assert f"race {mixed.broken}: " in bad["error"]
    assert mixed.newcomer in hub.stored(1)
    last_error = hub.value(
        "SELECT reason FROM sync_history WHERE status = 'failed' AND race_id = %s AND run_id = %s",
        mixed.broken,
        bad["run_id"],
    )
    assert json.loads(rsu("status", "--json", settings=hub.environment).stdout)[0]["last_error"] == last_error


def test_a_run_with_a_failed_race_is_shown_failed(mixed: Mixed, instance: dg.DagsterInstance) -> None:
    with instance:
        for result, status in (
            (mixed.good, dg.DagsterRunStatus.SUCCESS),
            (mixed.bad, dg.DagsterRunStatus.FAILURE),
        ):
            run = instance.get_run_by_id(result["run_id"])
            assert run is not None and run.status == status


def test_incremental_days_sets_when_a_race_is_read_in_full_again(hub: Hub, mixed: Mixed) -> None:
    assert set(reads(hub, mixed.good["run_id"]).values()) == {"full"}
    assert set(reads(hub, mixed.bad["run_id"]).values()) == {"incremental"}


def test_test_reads_the_first_partner_only_and_full_reads_everything(hub: Hub, mixed: Mixed) -> None:
    (result,) = sync(hub, "--test", "--full")
    assert result["partner"] == KEYS[0]
    assert set(reads(hub, result["run_id"]).values()) == {"full"}
    assert result["rows_read"] == len(hub.truth(1))
    hub.assert_equal(1)


def test_removals_held_back_need_a_person_and_one_race_can_be_asked_for(hub: Hub, first: list[Result]) -> None:
    counts = hub.rows(
        "SELECT race_id, event_id, count(*) AS rows FROM runsignup_participants WHERE timing_partner_id = 2"
        " AND removed_at IS NULL GROUP BY 1, 2 ORDER BY rows DESC"
    )
    race, event = counts[0]["race_id"], counts[0]["event_id"]
    gone = [row["registration_id"] for row in hub.stored(2).values() if row["event_id"] == event][:12]
    for registration in gone:
        hub.sandbox.admin.remove(registration, silent=True)
    held = rsu("sync", "--partner", "2", "--race", str(race), "--full", "--quiet", settings=hub.environment)
    assert held.returncode == 1
    assert held.stdout.startswith(f"{KEYS[1]}: ")
    assert "FAILED" in held.stdout and "removals pending confirmation" in held.stdout
    assert set(gone) <= hub.stored(2).keys()
    (done,) = sync(hub, "--partner", KEYS[1], "--race", str(race), "--full", "--confirm-removals")
    assert done["rows_removed"] == len(gone)
    assert reads(hub, done["run_id"]) == {race: "full"}
    assert set(gone) <= hub.stored(2, active=False).keys()


def test_a_race_that_the_partner_does_not_have_is_told(hub: Hub, first: list[Result]) -> None:
    done = rsu("sync", "--partner", "1", "--race", "999999999", settings=hub.environment)
    assert done.returncode == 1
    assert f"{KEYS[0]}: FAILED: Partner {KEYS[0]} has no race with future events numbered [999999999]." in done.stderr
    assert "1/1" in done.stderr
    assert done.stdout == ""


def test_two_partners_for_one_race_are_refused(hub: Hub, first: list[Result]) -> None:
    text = refusal(rsu("sync", "--partner", "1", "--partner", "2", "--race", "1", settings=hub.environment))
    assert text == "--race needs exactly one --partner."
