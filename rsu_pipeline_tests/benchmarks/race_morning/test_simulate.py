"""`python -m benchmarks.race_morning` as an operator runs it."""

import json
import subprocess
import sys
from pathlib import Path

import rsu_pipeline
from rsu_pipeline_tests.cli.shell import environment

NOWHERE = {"RSU_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "RSU_API_BASE_URL": "http://127.0.0.1:1/Rest"}
"""An installation that cannot be touched."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.race_morning", *arguments],
        cwd=Path(rsu_pipeline.__file__).parent.parent,
        env=environment() | NOWHERE,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_small_morning_misses_nothing_and_obeys_the_limits() -> None:
    options = "--partners 2 --races 2 --hours 0.5 --entrants 40 --seed 7 --speed 80 --json".split()
    done = run(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["missed"] == [] and told["is_well"] is True
    assert told["violations"] == 0 and told["max_in_flight"] == 2
    assert 0 < told["most_calls_in_an_hour"] <= 1000
    assert told["calls"] == told["calls_in_ledger"]
    # 35 minutes are more than three slices of ten.
    assert told["slices"] == 4 and told["looks"] > 4 * told["slices"]
    spells = {spell["trouble"]: spell for spell in told["spells"]}
    assert spells["dead"]["all"]["changes"] > 0 and spells["dead"]["all"]["worst"] > 60
    seen = told["bibs"]["changes"] + sum(spell["all"]["changes"] for spell in spells.values())
    assert seen > 2 * 2 * 40 * 0.8
    assert told["removals"]["changes"] > 0


def test_on_paper_the_same_figures_for_any_number_of_partners() -> None:
    done = run("--paper", "--partners", "30", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    together, each = told["on_paper"]
    assert (together["partners"], together["scope"], each["scope"]) == (30, "all", "credential")
    assert together["p50"] < together["p95"] < together["p99"] <= together["worst"]
    assert "partners" in told["verdict"]


def test_help_and_refusals() -> None:
    assert "Play a race morning" in run("--help").stdout
    refused = run("--partners", "0")
    assert refused.returncode == 2 and "--partners" in refused.stderr and "Traceback" not in refused.stderr
