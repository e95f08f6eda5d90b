"""The units' own commands, in their order, as processes: the database comes late, all is well, and each ends in time.

What systemd adds, its sandbox and its cgroups, is not here. See test_systemd.py.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rsu_pipeline.local import embedded, pg_binaries
from rsu_pipeline.warehouse import reachability
from rsu_pipeline_tests.cli.started import free_port, without_ours
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.deploy.deployed import DEPLOY, INSTALLED, ROOT, unit
from rsu_pipeline_tests.servers import execute

BIN = Path(sys.executable).parent


@dataclass
class Seen:
    """Exit code and output of what was waited for, by unit and setting, and the seconds each service took to end."""

    outcomes: dict[str, tuple[int, str]] = field(default_factory=dict)
    waited: str = ""
    """What the migration logged while nobody listened at the database's port."""
    ended: dict[str, float] = field(default_factory=dict)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("units")
    postgres = folder / "postgres"
    server = embedded.ensure_running(postgres, pg_binaries.machine_binaries())
    (folder / "workspace.yaml").write_text(
        (DEPLOY / "systemd" / "workspace.yaml").read_text().replace("/run/rsu", str(folder))
    )
    port = str(free_port())
    execute(server, "CREATE DATABASE rsu_units")
    embedded.release(postgres)
    environment = without_ours() | {
        "RSU_HOME": str(folder / "home"),
        "DAGSTER_HOME": str(ROOT),
        "RSU_DATABASE_URL": at(server, "rsu_units"),
        "RSU_UI_PORT": port,
        "RSU_API_BASE_URL": "http://127.0.0.1:9/Rest",
    }

    def command(name: str, key: str) -> list[str]:
        (line,) = unit(name)["Service"][key]
        for wanted, here in (
            (f"{INSTALLED}/.venv/bin", str(BIN)),
            (f"{INSTALLED}/deploy/systemd/workspace.yaml", str(folder / "workspace.yaml")),
            ("/run/rsu", str(folder)),
            ("${RSU_UI_PORT}", port),
        ):
            line = line.replace(wanted, here)
        return shlex.split(line)

    result = Seen()
    services: dict[str, subprocess.Popen[bytes]] = {}

    def once(name: str, key: str, *more: str) -> None:
        done = subprocess.run(
            [*command(name, key), *more],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        result.outcomes[f"{name} {key}"] = (done.returncode, done.stdout + done.stderr)

    def migrate_while_the_database_comes_late() -> None:
        log = folder / "migrate.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                command("rsu-migrate.service", "ExecStart"), env=environment, cwd=ROOT, stdout=stream, stderr=stream
            )
        try:
            deadline = time.monotonic() + 60
            while "Waiting for the database" not in log.read_text():
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            time.sleep(2 * reachability.RETRY_SECONDS)
            assert process.poll() is None, log.read_text()
            result.waited = log.read_text()
            assert embedded.ensure_running(postgres, pg_binaries.machine_binaries()) == server
            code = process.wait(60)
        finally:
            process.kill()
            process.wait(30)
        result.outcomes["rsu-migrate.service ExecStart"] = (code, log.read_text())

    try:
        migrate_while_the_database_comes_late()
        for name in ("rsu-code.service", "rsu-web.service", "rsu-daemon.service"):
            services[name] = subprocess.Popen(
                command(name, "ExecStart"),
                env=environment,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if "ExecStartPost" in unit(name)["Service"]:
                once(name, "ExecStartPost")
        once("rsu-health.service", "ExecStart", "--wait", "120")
        for name, process in reversed(services.items()):
            begun = time.monotonic()
            process.terminate()
            process.wait(float(unit(name)["Service"]["TimeoutStopSec"][0]))
            result.ended[name] = time.monotonic() - begun
        yield result
    finally:
        for process in services.values():
            if process.poll() is None:
                process.kill()
                process.wait(60)
        embedded.release(postgres)
        embedded.destroy(postgres)


def test_a_database_that_comes_late_delays_the_start_and_then_everything_comes_up(seen: Seen) -> None:
    # At once, and once more where the reason changes: a server that shuts down first refuses, then is gone.
    assert 1 <= seen.waited.count("Waiting for the database") <= 2, seen.waited
    assert " migrations, 0001" in seen.outcomes["rsu-migrate.service ExecStart"][1], seen.outcomes
    (command,) = unit("rsu-migrate.service")["Service"]["ExecStart"]
    assert command.endswith(" db migrate --wait")
    assert unit("rsu-migrate.service")["Service"]["TimeoutStartSec"] == ["infinity"]


def test_the_units_bring_up_an_installation_that_is_healthy(seen: Seen) -> None:
    assert {name: outcome[0] for name, outcome in seen.outcomes.items()} == dict.fromkeys(seen.outcomes, 0), seen
    assert len(seen.outcomes) == 3
    assert seen.outcomes["rsu-health.service ExecStart"][1].startswith(
        "Healthy: database, daemon, automation, watch, syncs, writes, clock, delivery, code, web"
    )


def test_every_service_ends_in_time_when_it_is_told_to(seen: Seen) -> None:
    assert len(seen.ended) == 3
    assert all(seconds < 20 for seconds in seen.ended.values()), seen.ended
