"""Dagster's own tools in the checkout: `dg`, fetched beside the project, and `dagster dev`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import requests

from rsu_pipeline.definitions import defs
from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.cli.started import Started, free_port, gone, without_ours
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.installation import fetched
from rsu_pipeline_tests.servers import create_database, drop_database

PINS = Path(__file__).with_name("dg") / "requirements.txt"
BIN = Path(sys.executable).parent
LOADED = """{
    repositoriesOrError { ... on RepositoryConnection { nodes { assetNodes { assetKey { path } } } } }
    instance { daemonHealth { allDaemonStatuses { daemonType healthy } } }
}"""


@pytest.fixture(scope="module")
def dg_folder() -> Path:
    """Provide a folder with the packages that dagster-dg-cli adds to those of the project."""
    try:
        with fetched.fetch("dg", PINS) as folder:
            if folder is not None:
                # What the project has already stays as it is: only what the lock adds is installed.
                (folder / "added.txt").write_text(PINS.read_text().split("\n", 1)[1])
                options = [
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-deps",
                    "--require-hashes",
                    "--target=packages",
                ]
                fetched.run([sys.executable, "-m", "pip", "install", *options, "-r", "added.txt"], folder)
    except fetched.NotAvailableError as error:
        fetched.left_to_ci(error)
    return fetched.CACHE / "dg" / "packages"


@pytest.fixture(scope="module")
def settings(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Provide the settings of a hub of its own, with a home for what the tools remember."""
    create_database(server, "rsu_tools", template)
    home = tmp_path_factory.mktemp("tools")
    yield {
        "RSU_DATABASE_URL": at(server, "rsu_tools"),
        "RSU_HOME": str(home / "rsu"),
        "HOME": str(home),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(BIN.parent),
    }
    drop_database(server, "rsu_tools")


def dg_command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(folder / "bin" / "dg"), *arguments]


def run_dg(folder: Path, settings: Mapping[str, str], *arguments: str) -> str:
    """Return what `dg` printed in the checkout."""
    done = subprocess.run(
        dg_command(folder, *arguments),
        env=without_ours() | settings | {"PYTHONPATH": str(folder)},
        cwd=project_root(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dg_check_defs_finds_nothing_wrong(dg_folder: Path, settings: dict[str, str]) -> None:
    assert "All definitions loaded successfully." in run_dg(dg_folder, settings, "check", "defs")


def test_dg_list_defs_lists_every_definition(dg_folder: Path, settings: dict[str, str]) -> None:
    listed = json.loads(run_dg(dg_folder, settings, "list", "defs", "--json"))
    repository = defs().get_repository_def()
    names = {kind: {item["name"] for item in listed[kind]} for kind in ("jobs", "schedules", "sensors")}
    assert names["schedules"] == {item.name for item in repository.schedule_defs}
    assert names["sensors"] == {item.name for item in repository.sensor_defs}
    assert names["jobs"] == {name for name in repository.job_names if not name.startswith("__")}
    assert {asset["asset_key"] for asset in listed["assets"]} == {
        key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()
    }


def assert_serves(settings: Mapping[str, str], folder: Path, command: Sequence[str], *, path: str = "") -> None:
    """Start a server in the checkout, ask it for assets and daemons, and end it by its id."""
    port = free_port()
    before = set(project_root().glob(".tmp_dagster_home_*"))
    started = Started(
        "dev", settings | {"PYTHONPATH": path}, folder, [*command, "--host", "127.0.0.1", "--port", str(port)]
    )
    try:
        started.until("the project is loaded and every daemon is at work", lambda: is_at_work(port))
    finally:
        if started.process.poll() is None:
            started.end(signal.SIGINT)
    assert gone(started, None) == []
    assert set(project_root().glob(".tmp_dagster_home_*")) <= before


def is_at_work(port: int) -> bool:
    answer = requests.post(f"http://127.0.0.1:{port}/graphql", json={"query": LOADED}, timeout=30).json()["data"]
    (repository,) = answer["repositoriesOrError"]["nodes"] or [{"assetNodes": []}]
    assets = {"/".join(node["assetKey"]["path"]) for node in repository["assetNodes"]}
    daemons = answer["instance"]["daemonHealth"]["allDaemonStatuses"]
    healthy = {one["daemonType"] for one in daemons if one["healthy"]}
    return {"participants", "fleet_health"} <= assets and {"SENSOR", "SCHEDULER", "BACKFILL"} <= healthy


def test_dg_dev_serves_the_checkout(dg_folder: Path, settings: dict[str, str], tmp_path: Path) -> None:
    assert_serves(settings, tmp_path, dg_command(dg_folder, "dev"), path=str(dg_folder))


def test_definitions_are_validated_in_a_fresh_checkout_without_starting_a_database(tmp_path: Path) -> None:
    fresh = {"RSU_HOME": str(tmp_path / "rsu"), "HOME": str(tmp_path), "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        [BIN / "dagster", "definitions", "validate"],
        env=without_ours() | fresh,
        cwd=project_root(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "rsu" / "postgres").exists()


def test_dagster_dev_serves_the_checkout(settings: dict[str, str], tmp_path: Path) -> None:
    assert_serves(settings, tmp_path, [str(BIN / "dagster"), "dev"])
