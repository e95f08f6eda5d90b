"""The web UI's own process: what of Dagster it builds on, its options, and where it refuses to listen."""

import inspect
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from dagster_webserver import cli
from dagster_webserver.webserver import DagsterWebserver

from rsu_pipeline.orchestration import webserver
from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.cli.shell import environment, refusal, rsu
from rsu_pipeline_tests.cli.started import free_port
from rsu_pipeline_tests.webserver.conftest import Installation

STOP = 'mutation { stopSensor(id: "%s") { __typename } }'
SERVE = [sys.executable, "-m", "rsu_pipeline.orchestration.webserver"]


def test_what_is_replaced_in_dagsters_webserver_is_there() -> None:
    theirs = inspect.signature(cli.host_dagster_ui_with_workspace_process_context)
    assert list(theirs.parameters) == list(inspect.signature(webserver.serve).parameters)
    for name in ("build_middleware", "make_csp_header", "graphql_http_endpoint"):
        ours, base = getattr(webserver.HubWebserver, name), getattr(DagsterWebserver, name)
        assert ours is not base
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(base).parameters), name
    assert "make_csp_header(nonce)" in inspect.getsource(DagsterWebserver.index_html_endpoint)


@contextmanager
def serving(installation: Installation, *options: str, **settings: str) -> Iterator[str]:
    """Provide the address of another web UI of the same installation, with these options."""
    port = free_port()
    up = installation.settings | {"DAGSTER_HOME": str(project_root())}
    process = subprocess.Popen(
        [*SERVE, "-p", str(port), "-w", Path(up["RSU_HOME"]) / "workspace.yaml", *options],
        env=environment(**(up | settings)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            assert process.poll() is None
            with suppress(requests.ConnectionError):
                requests.get(url, timeout=10)
                break
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def test_read_only_and_below_a_path_the_same_is_refused(installation: Installation) -> None:
    own = {"Content-Type": "application/json"}
    with serving(installation, "--read-only", "--path-prefix", "/hub") as url:
        page = requests.get(f"{url}/hub", timeout=30)
        assert '"pathPrefix": "/hub"' in page.text
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        script = requests.get(f"{url}/hub/_next/static/chunks/none.js", timeout=30)
        assert script.headers["Content-Security-Policy"].startswith("default-src 'self'")
        ask = {"query": "{ version }"}
        assert requests.post(f"{url}/hub/graphql", json=ask, timeout=30).json()["data"]["version"]
        stop = {"query": STOP % installation.ids["SENSOR"]}
        before = installation.state
        answer = requests.post(f"{url}/hub/graphql", json=stop, timeout=30).json()
        assert answer["data"]["stopSensor"]["__typename"] == "UnauthorizedError"
        assert requests.get(f"{url}/hub/graphql", params=stop, timeout=30).status_code == 405
        assert requests.post(f"{url}/hub/graphql", data=stop, timeout=30).status_code == 415
        foreign = own | {"Origin": "https://evil.test"}
        assert requests.post(f"{url}/hub/graphql", json=ask, headers=foreign, timeout=30).status_code == 403
        assert requests.post(f"{url}/hub/report_asset_check/x", timeout=30).status_code == 403
        assert requests.get(f"{url}/hub", headers={"Host": "evil.test"}, timeout=30).status_code == 421
        assert installation.state == before


def test_behind_a_proxy_it_listens_on_another_address_and_keeps_its_rules(installation: Installation) -> None:
    with serving(installation, "-h", "0.0.0.0", RSU_UI_BEHIND_PROXY="yes") as url:  # noqa: S104
        assert requests.get(url, timeout=30).status_code == 200
        assert requests.get(url, headers={"Host": "10.9.8.7"}, timeout=30).status_code == 421


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.1"])  # noqa: S104
def test_rsu_up_is_not_started_for_others_without_a_login(address: str, tmp_path: Path) -> None:
    settings = {"RSU_HOME": str(tmp_path / "home"), "RSU_UI_PORT": str(free_port()), "RSU_UI_ADDRESS": address}
    sentence = refusal(rsu("up", settings=settings))
    assert sentence.startswith(f"The web UI has no login, so it does not listen on {address}")
    assert "deploy/proxy/nginx.conf" in sentence
    assert not (tmp_path / "home").exists()


def test_the_web_ui_alone_is_not_started_for_others_either(installation: Installation) -> None:
    up = installation.settings | {"DAGSTER_HOME": str(project_root())}
    done = subprocess.run(
        [*SERVE, "-h", "0.0.0.0", "-p", str(free_port()), "-w", Path(up["RSU_HOME"]) / "workspace.yaml"],  # noqa: S104
        env=environment(**up),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("Error: The web UI has no login")


def test_a_database_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    away = {"RSU_DATABASE_URL": "postgresql://rsu@127.0.0.1:9/rsu", "RSU_HOME": str(tmp_path), "RSU_UI_PORT": "3000"}
    done = subprocess.run(
        [*SERVE, "-m", "rsu_pipeline.definitions"],
        env=environment(**away),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "Error: " in done.stderr


def test_health_asks_the_web_ui_under_each_of_its_names(installation: Installation) -> None:
    hub = installation.targets["hub"]
    for arguments in ((), ("--web", f"http://localhost:{hub.port}")):
        done = rsu("health", "--only", "web", "--only", "location", *arguments, settings=installation.settings)
        assert done.returncode == 0, done.stdout


def test_the_sensor_that_attacks_stop_can_be_stopped_by_its_own_page(installation: Installation) -> None:
    """Else an attack that changes nothing would prove nothing."""
    hub = installation.targets["hub"]
    before = installation.state
    assert hub.query(STOP % installation.ids["SENSOR"])["stopSensor"] == {"__typename": "StopSensorMutationResult"}
    assert installation.state != before
    installation.start_sensor()
    proxy = installation.targets["proxy"]
    assert proxy.query(STOP % installation.ids["SENSOR"])["stopSensor"] == {"__typename": "StopSensorMutationResult"}
    installation.start_sensor()


def test_no_answer_is_an_error_after_postgresql_ended_the_sessions(installation: Installation) -> None:
    hub = installation.targets["hub"]
    ended = 0
    for _ in range(5):
        assert "runsOrError" in hub.query("{ runsOrError(limit: 1) { ... on Runs { results { id } } } }")
        ended += int(str(installation.row(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'rsu dagster%'"
        )[0]))  # fmt: skip
        time.sleep(0.1)
    assert ended >= 5
    assert "runsOrError" in hub.query("{ runsOrError(limit: 1) { ... on Runs { results { id } } } }")
