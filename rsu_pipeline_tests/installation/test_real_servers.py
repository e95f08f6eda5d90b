"""One installation on each server: every command that writes much runs once.

13 and 18 are the oldest and the newest. RSU_TEST_SERVERS names others. docs/guarantees.md lists which ran.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import requests

from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.cli.shell import rows, rsu
from rsu_pipeline_tests.cli.started import Started, free_port, gone
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.hub import SECRET_KEY, Hub
from rsu_pipeline_tests.installation import fetched, real_servers
from rsu_pipeline_tests.servers import execute
from rsu_pipeline_tests.warehouse import rehearsal
from runsignup_sandbox.process import SandboxProcess
from runsignup_sandbox.scales import build

COUNTS = """
SELECT (SELECT count(*) FROM runsignup_participants), (SELECT count(*) FROM runsignup_bib_changes),
       (SELECT count(*) FROM start_list_entries), (SELECT count(*) FROM event_cursors)
"""


@pytest.fixture(scope="module", params=real_servers.MAJORS)
def major(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def real_server(major: int) -> Iterator[str]:
    """Provide the libpq URL of the server's maintenance database."""
    try:
        real_servers.server_programs(major)
    except fetched.NotAvailableError as error:
        fetched.left_to_ci(error)
    with real_servers.running_server(major) as url:
        yield url


@pytest.fixture(scope="module")
def clients() -> dict[str, str]:
    """Provide a PATH that begins with client programs of PostgreSQL 18."""
    try:
        return {"PATH": f"{real_servers.client_programs()}:/usr/bin:/bin"}
    except fetched.NotAvailableError as error:
        fetched.left_to_ci(error)
        raise


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess.start("small", seed=7) as process:
        yield process


@pytest.fixture(scope="module")
def hub(real_server: str, sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """Provide the sandbox's partners, in a database that `rsu db migrate` made, synced and backfilled by the commands."""
    execute(real_server, "CREATE DATABASE hub")
    url = at(real_server, "hub")
    home = tmp_path_factory.mktemp("home")
    migrated = rsu("db", "migrate", settings={"RSU_DATABASE_URL": url, "RSU_HOME": str(home)})
    assert migrated.returncode == 0, migrated.stderr
    made = Hub(url, sandbox, home)
    for command in (("sync", "--quiet"), ("backfill", "--wait")):
        done = rsu(*command, settings=made.environment)
        assert done.returncode == 0, done.stdout + done.stderr
    return made


def test_it_is_the_server_that_it_should_be(real_server: str, major: int) -> None:
    with closing(psycopg2.connect(real_server)) as conn:
        assert conn.server_version // 10_000 == major


def test_migrate_sync_and_backfill_make_an_equal_copy(hub: Hub) -> None:
    for partner in hub.partners:
        hub.assert_equal(partner, past_too=True)
    hub.assert_bib_log_replays()
    assert rsu("db", "migrate", settings=hub.environment).stdout == "The schema is up to date.\n"
    assert rsu("status", settings=hub.environment).returncode == 0


def test_export_and_import_carry_everything_over(
    hub: Hub, real_server: str, clients: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "hub.dump"
    done = rsu("db", "export", str(file), settings=hub.environment | clients)
    assert done.returncode == 0, done.stderr
    execute(real_server, "CREATE DATABASE moved")
    there = hub.environment | {"RSU_DATABASE_URL": at(real_server, "moved")}
    done = rsu("db", "import", str(file), settings=there | clients)
    assert done.returncode == 0, done.stderr
    assert rows(there, COUNTS) == rows(hub.environment, COUNTS)
    assert rsu("sync", "--quiet", settings=there).returncode == 0


def test_an_older_programs_database_is_adopted_and_synced(
    real_server: str, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    execute(real_server, "CREATE DATABASE older")
    url = at(real_server, "older")
    rehearsal.make(url, build("small", 7, time.time()))
    settings = {
        "RSU_DATABASE_URL": url,
        "RSU_HOME": str(tmp_path),
        "RSU_SECRET_KEY": SECRET_KEY,
        "RSU_API_BASE_URL": sandbox.api_url,
    }
    for command in (("db", "adopt", "--dry-run"), ("db", "adopt"), ("status",)):
        done = rsu(*command, settings=settings)
        assert done.returncode == 0, done.stdout + done.stderr
    assert rows(settings, "SELECT max(version) FROM schema_migrations") == [(database.list_migrations()[-1][0],)]


def test_roles_are_made_and_a_reader_reads_what_it_may(hub: Hub, real_server: str) -> None:
    done = rsu("db", "roles", "--prefix", "hub", settings=hub.environment)
    assert done.returncode == 0, done.stderr
    execute(real_server, "CREATE ROLE ada LOGIN PASSWORD 'ada' IN ROLE hub_reader")
    url = hub.url.replace(hub.url.split("://")[1].split("@")[0], "ada:ada")
    assert rows({"RSU_DATABASE_URL": url}, "SELECT count(*) > 0 FROM start_list") == [(True,)]
    with pytest.raises(database.DatabaseError, match="permission denied for table partner_provider_credentials"):
        rows({"RSU_DATABASE_URL": url}, "SELECT secret FROM partner_provider_credentials")


def test_up_serves_the_web_ui_and_stops(hub: Hub, tmp_path: Path) -> None:
    port = free_port()
    serving = Started("up", hub.environment | {"RSU_UI_PORT": str(port), "RSU_HOME": str(tmp_path / "up")}, tmp_path)

    def answers() -> bool:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"http://127.0.0.1:{port}/server_info", timeout=5).ok

    try:
        serving.until("the web UI answers", answers, 180)
        # It may answer before the processes that are started after it.
        serving.until("everything has started", lambda: "Ctrl-C stops everything" in serving.output, 180)
        assert hub.value("SELECT count(*) FROM dagster.instance_info") >= 0
    finally:
        code = serving.end(signal.SIGINT)
    assert code == 0, serving.output
    assert gone(serving, None) == []
