"""`rsu health`: of an installation that runs, of one whose parts are killed one after the other, and of none at all.

Parts are killed for good by stopping them (SIGSTOP): `rsu up` starts what has ended again.
"""

import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from rsu_pipeline.alerts import automation_rules
from rsu_pipeline.cli import health_command
from rsu_pipeline.local import embedded
from rsu_pipeline.local.cluster import Cluster
from rsu_pipeline.local.keeper import postmaster
from rsu_pipeline_tests.cli.shell import Done, refusal, rows, rsu
from rsu_pipeline_tests.cli.started import Started, free_port, without_ours
from rsu_pipeline_tests.hub import Hub

NOW = dt.datetime.now(dt.UTC)
NOWHERE = "postgresql://nobody@127.0.0.1:9/none"


@dataclass
class Story:
    """What `rsu health` printed: all well, the daemon killed and everything else running, the database killed."""

    well: Done
    seconds: float
    as_json: dict[str, Any]
    imported: str
    daemon: Done
    daemon_only: Done
    others: Done
    code: Done
    web: Done
    database: Done


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("health")
    home, port = folder / "home", str(free_port())
    settings = {"RSU_HOME": str(home), "RSU_UI_PORT": port, "RSU_API_BASE_URL": "http://127.0.0.1:9/Rest"}

    def ask(*arguments: str) -> Done:
        return rsu("health", *arguments, settings=settings)

    def until(wanted: int, *arguments: str, seconds: float) -> Done:
        deadline = time.monotonic() + seconds
        while (done := ask(*arguments)).returncode != wanted and time.monotonic() < deadline:
            time.sleep(1)
        return done

    started = Started("up", settings, folder)
    stopped: list[int] = []

    def stop(part: str) -> None:
        """Pause every process of this command, which is as dead as a process gets that nobody restarts."""
        found = [pid for pid, command in _processes(started) if part in command and "recovery" not in command]
        assert found, f"{part} is not among {started.family()}"
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)

    try:
        well = ask("--wait", "100")
        begun = time.monotonic()
        as_json = json.loads(ask("--json").stdout)
        seconds = time.monotonic() - begun
        imported = subprocess.run(
            [sys.executable, "-c", IMPORTS],
            env=without_ours() | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        ).stdout
        stop("dagster-daemon")
        # As if it had been stopped for a while already.
        with closing(psycopg2.connect(embedded.ensure_running(home / "postgres"))) as conn, conn.cursor() as cur:
            cur.execute("UPDATE dagster.daemon_heartbeats SET timestamp = timestamp - interval '100 seconds'")
            conn.commit()
        embedded.release(home / "postgres")
        daemon = until(1, seconds=200)
        daemon_only = ask("--only", "daemon")
        others = ask(*(f"--only={check}" for check in health_command.CHECKS if check != "daemon"))
        stop("dagster api grpc")
        code = ask("--only", "code")
        stop("orchestration.webserver")
        web = ask("--only", "web")
        server = postmaster(Cluster(home / "postgres", None).data)
        assert server is not None
        os.kill(server, signal.SIGSTOP)
        stopped.append(server)
        database = ask("--only", "database")
        yield Story(well, seconds, as_json, imported, daemon, daemon_only, others, code, web, database)
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if started.process.poll() is None:
            started.process.terminate()
            started.process.wait(60)
        embedded.destroy(home / "postgres")


IMPORTS = """
import sys
from rsu_pipeline.cli.main import main
sys.argv = ["rsu", "health"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print({"dagster", "pandas", "sqlalchemy"} & set(sys.modules) or "none of them")
"""


def _processes(started: Started) -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if started.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def test_all_well_is_one_line_and_exit_code_0(story: Story) -> None:
    assert (story.well.returncode, story.well.stderr) == (0, "")
    assert (
        story.well.stdout
        == "Healthy: database, daemon, automation, watch, syncs, writes, clock, delivery, code, web, location, disk, backup.\n"
    )
    assert story.as_json["healthy"] is True
    assert story.as_json["reasons"] == []


def test_it_is_quick_and_loads_no_dagster(story: Story) -> None:
    assert story.seconds < 5
    assert story.imported.splitlines()[-1] == "none of them"


def test_a_dead_daemon_is_one_sentence_and_exit_code_1(story: Story) -> None:
    for done in (story.daemon, story.daemon_only):
        assert (done.returncode, done.stderr) == (1, "")
        (line,) = done.stdout.splitlines()
        assert line.startswith("The Dagster daemon's last heartbeat was ")
    assert story.others.returncode == 0, story.others.stdout


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("code", "The code server does not answer at "),
        ("web", "The Dagster UI does not answer at http://127.0.0.1:"),
        ("database", "The check database got no answer within 4 s."),
    ],
)
def test_a_part_that_stands_still_is_told(story: Story, part: str, sentence: str) -> None:
    done: Done = getattr(story, part)
    assert (done.returncode, done.stderr) == (1, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith(sentence)


def test_a_database_that_is_away_is_one_reason_for_all_that_it_knows(tmp_path: Path) -> None:
    settings = {"RSU_HOME": str(tmp_path), "RSU_DATABASE_URL": NOWHERE}
    done = rsu("health", "--only", "database", "--only", "daemon", "--only", "watch", settings=settings)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("Cannot use PostgreSQL at 127.0.0.1:9/none: ")


def test_the_embedded_database_is_not_started_for_the_sake_of_asking(tmp_path: Path) -> None:
    done = rsu("health", "--only", "database", settings={"RSU_HOME": str(tmp_path / "home")})
    assert done.returncode == 1
    assert "does not run. Start it with `rsu up`" in done.stdout
    assert not (tmp_path / "home").exists()


def test_a_schema_that_is_not_migrated_is_told_and_left_alone(empty_database: str, tmp_path: Path) -> None:
    settings = {"RSU_HOME": str(tmp_path), "RSU_DATABASE_URL": empty_database}
    done = rsu("health", "--only", "daemon", settings=settings)
    assert done.returncode == 1
    assert "is empty: run `rsu db migrate`" in done.stdout
    assert rows(settings, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_a_migration_that_is_missing_is_named(settings: dict[str, str]) -> None:
    rows(settings, "DELETE FROM schema_migrations WHERE version = 2")
    done = rsu("health", "--only", "database", settings=settings)
    assert done.returncode == 1
    assert " lacks 0002_sync.sql: run `rsu db migrate`." in done.stdout
    rows(settings, "INSERT INTO schema_migrations (version, name, digest) VALUES (9999, 'newer', '')")
    assert "newer than this program" in rsu("health", "--only", "database", settings=settings).stdout


def test_a_daemon_that_never_ran_is_told(settings: dict[str, str]) -> None:
    done = rsu("health", "--only", "daemon", settings=settings)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "has never run on this database" in done.stdout


def test_a_race_that_nobody_watches_is_told(hub: Hub) -> None:
    settings = hub.environment
    assert rsu("sync", "--partner", "1", settings=settings).returncode == 0
    assert rsu("health", "--only", "watch", settings=settings).returncode == 0
    race = rows(
        settings,
        "UPDATE runsignup_events SET starts_at = now() + interval '1 hour', ends_at = now() + interval '3 hours'"
        " WHERE event_id = (SELECT min(event_id) FROM event_cursors WHERE timing_partner_id = 1) RETURNING race_id",
    )[0][0]
    rows(settings, f"UPDATE event_cursors SET last_read_at = now() - interval '2 hours' WHERE race_id = {race}")
    done = rsu("health", "--only", "watch", settings=settings)
    assert done.returncode == 1
    assert f"race {race} is in its window and has not been read since" in done.stdout


def test_a_disk_without_room_is_told_once_for_each_disk(tmp_path: Path) -> None:
    settings = {"RSU_HOME": str(tmp_path / "not" / "made" / "yet")}
    assert rsu("health", "--only", "disk", "--free-gb", "0.001", settings=settings).returncode == 0
    done = rsu("health", "--only", "disk", "--free-gb", "1000000", settings=settings)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.endswith("less than 1e+06 GB. Free some space.")


def test_a_port_where_something_else_listens_is_no_web_ui_and_no_code_server(tmp_path: Path) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        begun = time.monotonic()
        done = rsu(
            "health", "--only", "web", "--only", "code", "--web", f"http://{address}", "--code", address,
            settings={"RSU_HOME": str(tmp_path)},
        )  # fmt: skip
        assert time.monotonic() - begun < 6
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"The code server does not answer at {address}: nothing can be launched. Check its log, and start it again.",
        f"The Dagster UI does not answer at http://{address}. Check its log, and start it again.",
    ]


def test_a_bad_configuration_is_exit_code_2(tmp_path: Path) -> None:
    home = {"RSU_HOME": str(tmp_path)}
    assert "RSU_UI_PORT" in refusal(rsu("health", settings=home | {"RSU_UI_PORT": "eight"}))
    said = refusal(rsu("health", settings=home | {"RSU_DATABASE_URL": "postgresql://user:canary%zz@host/hub"}))
    assert "cannot be read" in said
    assert "canary" not in said
    refusal(rsu("health", "--only", "moon", settings=home))
    (tmp_path / "workspace.yaml").write_text("somebody's own")
    assert "--code" in refusal(rsu("health", settings=home))


@pytest.mark.parametrize(
    ("silence", "trouble"),
    [
        ({name: 5.0 for name in automation_rules.THREADS}, []),
        ({name: 79.0 for name in automation_rules.THREADS}, []),
        ({name: 81.0 for name in automation_rules.THREADS}, ["The Dagster daemon's last heartbeat was 81 s ago"]),
        (
            {name: 5.0 for name in automation_rules.THREADS} | {"SENSOR": 601.0},
            ["The daemon's thread SENSOR has sent no heartbeat"],
        ),
        # A thread of long ago, of another version or another configuration.
        ({name: 5.0 for name in automation_rules.THREADS} | {"ASSET": 1e6}, []),
        ({}, ["The daemon has never run on this database"]),
        # Dated before the clock stepped back.
        (
            {name: -3600.0 for name in automation_rules.THREADS},
            ["The Dagster daemon's last heartbeat is dated 3600 s in the future"],
        ),
    ],
)
def test_the_daemon_by_its_signs_of_life(silence: dict[str, float], trouble: list[str]) -> None:
    found = list(automation_rules.describe_daemon_failure(silence, NOW).values())
    assert [line[: len(start)] for line, start in zip(found, trouble, strict=True)] == trouble


def test_the_threads_asked_after_are_those_that_this_installation_has(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dagster as dg

    from rsu_pipeline import settings

    monkeypatch.setenv("RSU_DATABASE_URL", database_url)
    monkeypatch.setenv("RSU_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(settings.project_root()))
    with dg.DagsterInstance.get() as instance:
        assert set(instance.get_required_daemon_types()) >= automation_rules.THREADS


def test_a_location_that_cannot_be_loaded_is_told() -> None:
    def answer(kind: str | None, status: str = "LOADED") -> dict[str, Any]:
        entry = {"name": "ours", "loadStatus": status, "locationOrLoadError": kind and {"__typename": kind}}
        return {"data": {"workspaceOrError": {"__typename": "Workspace", "locationEntries": [entry]}}}

    assert health_command.describe_location_failure(answer("RepositoryLocation")) == []
    assert health_command.describe_location_failure(answer(None, "LOADING")) == []
    assert "ours cannot be loaded" in health_command.describe_location_failure(answer("PythonError"))[0]
    assert (
        "no code location"
        in health_command.describe_location_failure({"data": {"workspaceOrError": {"locationEntries": []}}})[0]
    )
    assert "no code location" in health_command.describe_location_failure({"errors": ["bad query"]})[0]
