"""`rsu backfill`: requested, read at once with --wait, shown by `rsu status`."""

import dataclasses
import datetime as dt
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from rsu_pipeline.cli.backfill_command import describe_wait
from rsu_pipeline.settings import project_root
from rsu_pipeline.warehouse.backfill_progress import Progress
from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.cli.terminal import on_a_terminal
from rsu_pipeline_tests.hub import Hub
from runsignup_sandbox.process import SandboxProcess


@pytest.fixture
def hub(make_database: Callable[[], str], make_sandbox: Callable[..., SandboxProcess], tmp_path: Path) -> Hub:
    return Hub(make_database(), make_sandbox(scale="small", seed=7), tmp_path)


def status(hub: Hub) -> dict[int, Any]:
    done = rsu("status", "--json", settings=hub.environment)
    assert done.returncode == 0
    return {row["partner_id"]: row["history"] for row in json.loads(done.stdout)}


def test_the_history_of_every_partner_is_read_without_a_daemon(hub: Hub) -> None:
    asked = rsu("backfill", "--partner", "1", settings=hub.environment)
    assert asked.returncode == 0 and "no daemon is running" in asked.stdout
    assert status(hub)[1]["is_complete"] is False and status(hub)[2] is None
    done = rsu("backfill", "--wait", "--json", settings=hub.environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["partners"]
    assert [item["key"] for item in found] == list(hub.partners.values())
    assert all(item["is_complete"] and item["events"] == item["loaded"] for item in found)
    for partner in hub.partners:
        hub.sync(partner)
        hub.assert_equal(partner, past_too=True)
        assert status(hub)[partner]["is_complete"] is True
    table = rsu("status", settings=hub.environment).stdout
    assert table.count("complete") == 3
    again = rsu("backfill", "--wait", settings=hub.environment)
    assert again.returncode == 0 and again.stdout.count(", complete") == 3 and "UTC" not in again.stdout


def test_a_race_that_fails_is_named_and_the_exit_code_says_so(hub: Hub) -> None:
    broken = next(race["race_id"] for race in hub.sandbox.admin.truth(3)["races"] if "Farewell" in race["name"])
    hub.sandbox.admin.fault("http_500", 0, race_id=broken)
    hub.environment["RSU_CALL_BACKOFF"] = "0"
    done = rsu("backfill", "--partner", "3", "--wait", settings=hub.environment)
    assert done.returncode == 1 and "1 race FAILED (retried" in done.stdout
    hub.sandbox.admin.clear_faults()
    assert rsu("backfill", "--partner", "3", "--wait", settings=hub.environment).returncode == 0


def test_only_years_from_since_on(hub: Hub) -> None:
    done = rsu("backfill", "--partner", "3", "--since", "2199", "--wait", "--json", settings=hub.environment)
    (found,) = json.loads(done.stdout)["partners"]
    assert (found["events"], found["is_complete"], found["since_year"]) == (0, True, 2199)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--partner", "99"], "no partner"),
        (["--since", "1066"], "1900"),
        (["--since", "last"], "not a valid integer"),
        (["--slowly"], "No such option"),
    ],
)
def test_bad_input_is_one_sentence(hub: Hub, arguments: list[str], words: str) -> None:
    assert words.lower() in refusal(rsu("backfill", *arguments, settings=hub.environment)).lower()
    assert hub.value("SELECT count(*) FROM history_requests") == 0


def test_a_refused_key_ends_the_wait_with_a_sentence(hub: Hub) -> None:
    hub.sandbox.admin.revoke(1)
    done = rsu("backfill", "--partner", "1", "--wait", "--json", settings=hub.environment)
    assert "rejects the credential" in refusal(done)


def test_a_wait_for_the_daemon_says_what_it_waits_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rsu("backfill", "--partner", "1", settings=hub.environment).returncode == 0
    for name, value in hub.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_HOME", str(project_root()))
    with dg.DagsterInstance.get() as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "SENSOR", None, None))
    words = "waiting for the daemon: it requests the next slice within a minute"
    shown, _ = on_a_terminal(
        hub.environment, "backfill", "--partner", "1", "--wait", columns=120, until=lambda shown: words in shown
    )
    assert shown.count(words) == 1


def test_a_wait_for_calls_says_until_when() -> None:
    now = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
    item = Progress("1-acme", None, now, None, None, now + dt.timedelta(minutes=5), 1, 0, 0, None, 1, 0, 0, 0, 0, 0, 0)
    assert describe_wait([item], now, dt.UTC).startswith("waiting until ")
    assert "12:05" in describe_wait([item], now, dt.UTC)
    assert describe_wait([item], item.not_before, dt.UTC).startswith("waiting for the daemon")
    again = describe_wait([dataclasses.replace(item, unconfirmed=1)], now, dt.UTC)
    assert "12:05" in again and "read again" in again
    both = describe_wait([dataclasses.replace(item, unconfirmed=1, events=2)], now, dt.UTC)
    assert "calls" in both, "what is left beside it waits for calls"
