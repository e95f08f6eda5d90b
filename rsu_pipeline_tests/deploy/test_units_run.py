"""The units' own commands, in their order, as processes: all is well, and each ends in time when it is told to.

What systemd adds, its sandbox and its cgroups, is not here; see test_systemd.py.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
import pytest

from rsu_pipeline_tests.commands.started import free_port, without_ours
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.deploy.deployed import DEPLOY, INSTALLED, ROOT, unit

BIN = Path(sys.executable).parent


@dataclass
class Seen:
    """Exit code and output of what was waited for, by unit and setting; seconds each service took to end."""

    outcomes: dict[str, tuple[int, str]] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)


@pytest.fixture(scope="module")
def seen(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("units")
    (folder / "workspace.yaml").write_text(
        (DEPLOY / "systemd" / "workspace.yaml").read_text().replace("/run/rsu", str(folder))
    )
    port = str(free_port())
    with closing(psycopg2.connect(server)) as conn, conn.cursor() as cur:
        conn.autocommit = True
        cur.execute("CREATE DATABASE rsu_units")
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
            [*command(name, key), *more], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        result.outcomes[f"{name} {key}"] = (done.returncode, done.stdout + done.stderr)

    try:
        once("rsu-migrate.service", "ExecStart")
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
                process.wait()


def test_the_units_bring_up_an_installation_that_is_healthy(seen: Seen) -> None:
    assert {name: outcome[0] for name, outcome in seen.outcomes.items()} == dict.fromkeys(seen.outcomes, 0), seen
    assert len(seen.outcomes) == 3
    assert seen.outcomes["rsu-health.service ExecStart"][1].startswith("Healthy: database, daemon, watch, code, web")


def test_every_service_ends_in_time_when_it_is_told_to(seen: Seen) -> None:
    assert len(seen.ended) == 3
    assert all(seconds < 20 for seconds in seen.ended.values()), seen.ended
