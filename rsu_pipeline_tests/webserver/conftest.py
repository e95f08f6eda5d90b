"""One installation for all attacks, as `rsu up` starts it.

Beside its web UI: Dagster's own, and the proxy before both.

The daemon is paused, so that what changes was changed by an attack.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
import pytest
import requests
from psycopg2.extensions import connection as Connection

from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.cli.started import Started, free_port, gone, without_ours
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.hub import SECRET_KEY
from rsu_pipeline_tests.servers import create_database, drop_database
from rsu_pipeline_tests.webserver import proxy
from rsu_pipeline_tests.webserver.attacks import LAUNCH, PRINTED
from rsu_pipeline_tests.webserver.targets import Target

STATE = """
SELECT (SELECT json_agg(ARRAY[selector_id, status] ORDER BY id) FROM dagster.instigators),
       (SELECT count(*) FROM dagster.runs),
       (SELECT count(*) FROM dagster.event_logs WHERE dagster_event_type LIKE 'ASSET%' OR dagster_event_type IS NULL),
       (SELECT count(*) FROM dagster.asset_check_executions),
       (SELECT count(*) FROM dagster.dynamic_partitions)
"""
SELECTOR = {"repositoryLocationName": "rsu_pipeline", "repositoryName": "__repository__", "sensorName": "history"}
SENSOR = "query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor { id } } }"
START = "mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) { __typename } }"


@dataclass
class Installation:
    """What is attacked, and what it has in its database."""

    conn: Connection
    settings: dict[str, str]
    targets: dict[str, Target]
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> tuple[object, ...]:
        """What an attack could have changed in Dagster's tables."""
        return self.row(STATE)

    def row(self, query: str) -> tuple[object, ...]:
        """Return the first row of a query."""
        with self.conn.cursor() as cur:
            cur.execute(query)
            found = cur.fetchone()
        assert found, query
        return tuple(found)

    def start_sensor(self) -> None:
        """Start the sensor that most attacks stop."""
        self.targets["hub"].query(START, selector=SELECTOR)


@pytest.fixture(scope="package")
def installation(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    url, folder = at(server, "rsu_attacked"), tmp_path_factory.mktemp("attacked")
    create_database(server, "rsu_attacked", template)
    ports = {name: free_port() for name in ("hub", "plain", "https", "http")}
    proxied = f"{proxy.HUB}:{ports['https']}"
    settings = {
        "RSU_HOME": str(folder / "home"),
        "RSU_DATABASE_URL": url,
        "RSU_SECRET_KEY": SECRET_KEY,
        "RSU_API_BASE_URL": "http://127.0.0.1:9/Rest",
        "RSU_UI_PORT": str(ports["hub"]),
        "RSU_UI_HOSTS": proxied,
    }
    up = Started("up", settings, folder)
    plain: subprocess.Popen[bytes] | None = None
    daemons: list[int] = []
    try:
        up.until("the web UI is ready", lambda: "Dagster UI: " in up.output)
        plain = subprocess.Popen(
            [Path(sys.executable).with_name("dagster-webserver"), "-h", "127.0.0.1", "-p", str(ports["plain"]),
             "-w", folder / "home" / "workspace.yaml"],
            env=without_ours() | settings | {"DAGSTER_HOME": str(project_root())},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        daemons = _daemons(up)
        for daemon in daemons:
            os.kill(daemon, signal.SIGSTOP)
        up.until(
            "Dagster's own web UI answers",
            lambda: requests.get(f"http://127.0.0.1:{ports['plain']}/server_info", timeout=5).ok,
        )
        upstreams = {proxy.HUB: ports["hub"], proxy.LOOK: ports["plain"]}
        with (
            proxy.running(folder, ports["https"], ports["http"], upstreams),
            closing(psycopg2.connect(url)) as conn,
        ):
            conn.autocommit = True
            found = Installation(
                conn,
                settings,
                {
                    "plain": Target(ports["plain"], f"127.0.0.1:{ports['plain']}"),
                    "hub": Target(ports["hub"], f"127.0.0.1:{ports['hub']}"),
                    "proxy": Target(ports["https"], proxied, tls=True, password=proxy.PASSWORD),
                    "proxy before plain": Target(
                        ports["https"], f"{proxy.LOOK}:{ports['https']}", tls=True, password=proxy.PASSWORD
                    ),
                },
            )
            found.ids = _ids(found, folder / "home")
            yield found
    finally:
        for daemon in daemons:
            with suppress(ProcessLookupError):
                os.kill(daemon, signal.SIGCONT)
        if plain is not None:
            plain.terminate()
            plain.wait(30)
        if up.process.poll() is None:
            up.end(signal.SIGINT)
    assert gone(up, None) == []
    drop_database(server, "rsu_attacked")


def _ids(installation: Installation, home: Path) -> dict[str, str]:
    """Return a sensor that is on, and a run with something printed."""
    hub = installation.targets["hub"]
    installation.start_sensor()
    sensor = hub.query(SENSOR, selector=SELECTOR)["sensorOrError"]
    hub.query(LAUNCH)
    run = str(installation.row("SELECT run_id FROM dagster.runs ORDER BY id DESC LIMIT 1")[0])
    printed = home / "dagster" / "logs" / run / "compute_logs" / "x.out"
    printed.parent.mkdir(parents=True)
    printed.write_text(PRINTED)
    assert isinstance(sensor, dict)
    return {"SENSOR": sensor["id"], "RUN": run}


def _daemons(up: Started) -> list[int]:
    """Return the processes of the daemon, as soon as it is one: before that it is the module that becomes it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                is_ours = up.mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                if is_ours and b"dagster-daemon" in command and b"recovery" not in command:
                    found.append(int(entry.name))
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("the daemon did not start")
