"""`rsu backfill`: requested, read at once with --wait, shown by `rsu status`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rsu_pipeline_tests.cli.shell import refusal, rsu
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
