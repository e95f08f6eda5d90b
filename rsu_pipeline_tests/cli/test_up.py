"""`rsu demo` and `rsu up` as real processes: started, stopped, killed and started again.

A start takes its time, so one story is played once and its facts are asserted one by one.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests
from click.testing import CliRunner

from rsu_pipeline.cli import up_command
from rsu_pipeline.errors import SettingsError
from rsu_pipeline.local import embedded
from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.cli.started import RSU, Started, free_port, gone, without_ours
from rsu_pipeline_tests.conftest import at
from runsignup_sandbox.process import AdminClient

ASSETS = {"partner_events", "future_events", "participants"}
NEWCOMER = "Zephyrine"
ALL_SYNCED = "All 3 partners are synced"
"""What the terminal reports some seconds after the last one was."""
NOWHERE = "postgresql://nobody@127.0.0.1:9/none"


def server_info(port: int) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        return "dagster_webserver_version" in session.get(f"http://127.0.0.1:{port}/server_info", timeout=5).json()


def graphql(port: int, query: str) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"http://127.0.0.1:{port}/graphql", json={"query": query}, timeout=10).json()["data"]


def materialized(port: int) -> dict[str, tuple[int, int]]:
    """Return for each automatic asset how many partitions are materialized and exist, as the web UI counts them."""
    nodes = graphql(port, "{assetNodes{assetKey{path} partitionStats{numMaterialized numPartitions}}}")["assetNodes"]
    return {
        node["assetKey"]["path"][0]: (
            node["partitionStats"]["numMaterialized"],
            node["partitionStats"]["numPartitions"],
        )
        for node in nodes
        if node["assetKey"]["path"][0] in ASSETS
    }


def all_green(port: int, partners: int = 3) -> dict[str, tuple[int, int]]:
    """Return the counts once every asset has all its partitions, else nothing."""
    counts = materialized(port)
    return counts if counts and set(counts.values()) == {(partners, partners)} else {}


def daemons_run(port: int) -> bool:
    health = graphql(port, "{instance{daemonHealth{allDaemonStatuses{daemonType healthy}}}}")
    healthy = {one["daemonType"] for one in health["instance"]["daemonHealth"]["allDaemonStatuses"] if one["healthy"]}
    return {"SENSOR", "QUEUED_RUN_COORDINATOR", "MONITORING"} <= healthy


def rows(home: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what the demo's database answers."""
    url = embedded.ensure_running(home / "postgres")
    try:
        with closing(psycopg2.connect(url)) as conn, conn.cursor() as cur:
            cur.execute(query)
            return cur.fetchall()
    finally:
        embedded.release(home / "postgres")


def stored(home: Path) -> set[tuple[Any, ...]]:
    """Return partner and registration of every row, removed ones included."""
    return set(rows(home, "SELECT timing_partner_id, registration_id FROM runsignup_participants"))


def newcomers(port: int) -> set[int]:
    """Return the numbers of the registrations that the test made at the demo's RunSignup."""
    with closing(AdminClient(f"http://127.0.0.1:{port}")) as admin:
        rows = admin.truth(1)["active"]
    return {row["registration_id"] for row in rows if row["user"]["first_name"] == NEWCOMER}


@dataclass
class Story:
    """What was seen: a demo started, killed, started again, interrupted. Pairs are before and after the kill."""

    home: Path
    green: list[dict[str, tuple[int, int]]]
    ids: list[set[tuple[Any, ...]]]
    newcomers: list[set[int]]
    status: list[dict[str, Any]]
    second_demo: "subprocess.CompletedProcess[str]"
    second_up: "subprocess.CompletedProcess[str]"
    family_killed: list[str]
    left_by_kill: list[str]
    sync: dict[str, Any]
    family_interrupted: list[str]
    exit_code: int
    left_by_interrupt: list[str]
    output: list[str]
    exposed: list[str]
    onboarded: str
    up: "UpSeen"


@dataclass
class UpSeen:
    """What was seen of `rsu up`."""

    tables: set[tuple[str, str]]
    elsewhere: bool
    exit_code: int
    left: list[str]
    output: str
    exposed: list[str]
    pid: int
    beside: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def story(server: str) -> Iterator[Story]:
    folder = Path(tempfile.mkdtemp(prefix="rsu-demo-"))
    home = folder / "home of the demo"
    ui, port = free_port(), free_port()
    environment = {
        "RSU_DEMO_HOME": str(home),
        "RSU_DEMO_PORT": str(port),
        "RSU_UI_PORT": str(ui),
        # The demo may use neither of these: the one is somebody's real database, the other leads nowhere.
        "RSU_DATABASE_URL": NOWHERE,
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    started: list[Started] = []

    def start(command: str, variables: Mapping[str, str]) -> Started:
        started.append(Started(command, variables, folder))
        return started[-1]

    def shell(script: str) -> str:
        full = f'set -e; settings="$({RSU} demo --env)"; eval "$settings"; {script}'
        return subprocess.run(
            ["/bin/sh", "-c", full],
            env=without_ours() | environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout

    def once(command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [RSU, command], env=without_ours() | environment, capture_output=True, text=True, timeout=60
        )

    try:
        demo = start("demo", environment)
        # While the demo waits for its first sensor ticks, the other command has its turn.
        up_seen = _play_up(server, start, folder)
        green = demo.until("every partition is green", lambda: all_green(ui))
        demo.until("the terminal reports it", lambda: ALL_SYNCED in demo.output)
        with closing(AdminClient(f"http://127.0.0.1:{port}")) as admin:
            ((event_id,),) = rows(home, "SELECT min(event_id) FROM future_events WHERE timing_partner_id = 1")
            admin.register(event_id, {"first_name": NEWCOMER}, count=2)
        status = json.loads(shell(f"{RSU} status --json"))
        second_demo, second_up = once("demo"), once("up")
        at_first, registered, family_killed = stored(home), newcomers(port), demo.family()
        demo.process.kill()
        demo.process.wait(10)
        left_by_kill = gone(demo, home)

        again = start("demo", environment)
        green_again = again.until("partitions are shown again", lambda: all_green(ui))
        sync = json.loads(shell(f"{RSU} sync --partner 1 --json"))
        again.until("the daemon is at work", lambda: daemons_run(ui))
        at_second, kept, family_interrupted = stored(home), newcomers(port), again.family()
        exposed = open_to_others(home)
        name, key, _ = up_command.DEMO_NEWCOMER
        onboarded = shell(f'echo {up_command.DEMO_NEWCOMER[2]} | {RSU} partners add "{name}" --key {key}')
        exit_code = again.end(signal.SIGINT)
        yield Story(
            home=home,
            green=[green, green_again],
            ids=[at_first, at_second],
            newcomers=[registered, kept],
            status=status,
            second_demo=second_demo,
            second_up=second_up,
            family_killed=family_killed,
            left_by_kill=left_by_kill,
            sync=sync["partners"][0],
            family_interrupted=family_interrupted,
            exit_code=exit_code,
            left_by_interrupt=gone(again, home),
            output=[demo.output, again.output],
            exposed=exposed,
            onboarded=onboarded,
            up=up_seen,
        )
    finally:
        for one in started:
            if one.process.poll() is None:
                one.process.terminate()
                one.process.wait(60)
        embedded.destroy(home / "postgres")
        shutil.rmtree(folder)


def _play_up(server: str, start: Callable[[str, Mapping[str, str]], Started], folder: Path) -> UpSeen:
    port = free_port()
    with closing(psycopg2.connect(server)) as conn, conn.cursor() as cur:
        conn.autocommit = True
        cur.execute("CREATE DATABASE rsu_up")
    url = at(server, "rsu_up")
    serving = start("up", {"RSU_DATABASE_URL": url, "RSU_UI_PORT": str(port), "RSU_HOME": str(folder / "up")})
    serving.until("the web UI answers", lambda: server_info(port))
    with closing(socket.socket()) as other:
        elsewhere = other.connect_ex(("127.0.0.2", port)) == 0
    with closing(psycopg2.connect(url)) as conn, conn.cursor() as cur:
        cur.execute("SELECT schemaname, tablename FROM pg_tables")
        tables = set(cur.fetchall())
    # From another folder, as from another machine.
    beside = subprocess.run(
        [RSU, "up"],
        env=without_ours()
        | {"RSU_DATABASE_URL": url, "RSU_UI_PORT": str(free_port()), "RSU_HOME": str(folder / "beside")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    exposed = open_to_others(folder / "up")
    exit_code = serving.end(signal.SIGTERM)
    pid = serving.process.pid
    return UpSeen(tables, elsewhere, exit_code, gone(serving, None), serving.output, exposed, pid, beside)


def open_to_others(home: Path) -> list[str]:
    """Return files and folders that another user may do anything with."""
    modes = {path: path.lstat().st_mode for path in (home, *home.rglob("*")) if not path.is_symlink()}
    if os.geteuid() == 0:
        # The account of the embedded PostgreSQL passes through to its data.
        for path in (home, home / "postgres"):
            if path in modes:
                modes[path] &= ~0o011
    return [f"{path.relative_to(home)}: {mode & 0o7777:o}" for path, mode in modes.items() if mode & 0o077]


def test_the_demo_makes_every_partition_of_every_asset_green_by_itself(story: Story) -> None:
    assert story.green[0] == {name: (3, 3) for name in ASSETS}
    assert ALL_SYNCED in story.output[0]


def test_the_demos_settings_point_other_commands_at_it(story: Story) -> None:
    assert [row["key"] for row in story.status] == [
        "1-kestrel-timing",
        "2-split-second-harwick",
        "3-mill-pond-race-services",
    ]
    assert all(row["participants"] > 0 and row["last_error"] is None for row in story.status)


def test_the_demo_prints_the_pair_of_a_partner_to_enter_and_it_works(story: Story) -> None:
    name, key, secret = up_command.DEMO_NEWCOMER
    tour = (project_root() / "docs" / "tour.md").read_text()
    for text in (*story.output, tour):
        assert f'partners add "{name}"' in text and key in text and secret in text
    assert "Added partner 4-acme-timing." in story.onboarded
    assert "The credential works: one of its races was read." in story.onboarded


def test_the_demo_keeps_all_its_data_in_its_own_folder(story: Story) -> None:
    names = {path.name for path in story.home.iterdir()}
    # The socket goes with the server that listened there.
    assert names == {"postgres", *up_command.DEMO_FILES} - {"code.sock"}
    assert list((story.home / "dagster" / "logs").glob("*/compute_logs/*.err"))
    assert (story.home / "logs" / "daemon.log").stat().st_size > 0


def test_a_killed_demo_leaves_nothing_running(story: Story) -> None:
    assert_whole(story.family_killed)
    assert story.left_by_kill == []


def test_a_start_after_a_kill_goes_on_with_the_same_data(story: Story) -> None:
    before, after = story.ids
    assert before
    assert before <= after
    assert story.green[1] == story.green[0]
    registered, kept = story.newcomers
    assert len(registered) == 2
    assert registered <= kept
    assert story.sync["ok"], story.sync
    assert {(1, number) for number in registered} <= after


def test_ctrl_c_stops_everything_the_demo_started(story: Story) -> None:
    assert_whole(story.family_interrupted)
    assert story.exit_code == 0
    assert story.output[1].rstrip().endswith("Stopped.")
    assert story.left_by_interrupt == []


def assert_whole(family: list[str]) -> None:
    """Assert that every part of the demo ran and was found. Otherwise finding none of them later would prove nothing."""
    for part in ("rsu demo", "runsignup_sandbox", "orchestration.webserver", "dagster-daemon", "dagster api grpc"):
        assert any(part in line for line in family), f"{part} is not among {family}"


def test_a_taken_port_is_one_sentence_and_exit_code_2(story: Story) -> None:
    assert (story.second_demo.returncode, story.second_up.returncode) == (2, 2)
    (demo_line,) = story.second_demo.stderr.splitlines()
    (up_line,) = story.second_up.stderr.splitlines()
    assert "for the demo's RunSignup is in use. Set RSU_DEMO_PORT" in demo_line
    assert "for the web UI is in use. Set RSU_UI_PORT" in up_line


def test_up_migrates_the_given_database_and_serves_this_machine_only(story: Story) -> None:
    assert {("public", "runsignup_participants"), ("dagster", "event_logs")} <= story.up.tables
    assert ("public", "event_logs") not in story.up.tables
    assert not story.up.elsewhere
    assert story.up.exit_code == 0
    assert story.up.left == []
    assert "embedded" not in story.up.output


def test_a_second_up_on_the_database_is_refused_and_names_the_first(story: Story) -> None:
    beside = story.up.beside
    assert (beside.returncode, len(beside.stderr.splitlines())) == (2, 1)
    assert f"host {socket.gethostname()}, process {story.up.pid}, since 20" in beside.stderr
    assert story.up.exit_code == 0, "the first is not disturbed"


def test_every_file_of_an_installation_is_its_owners_alone_whatever_the_umask(story: Story) -> None:
    assert story.up.exposed == []
    assert story.exposed == []


def test_a_fresh_demo_that_cannot_start_forgets_nothing(tmp_path: Path) -> None:
    (tmp_path / "sandbox.state").write_text("yesterday's world")
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        variables = {"RSU_DEMO_HOME": str(tmp_path), "RSU_DEMO_PORT": str(free_port()), "RSU_UI_PORT": port}
        outcome = subprocess.run(
            [RSU, "demo", "--fresh"], env=without_ours() | variables, capture_output=True, text=True, timeout=60
        )
    assert outcome.returncode == 2
    assert f"Port {port} for the web UI is in use" in outcome.stderr
    assert (tmp_path / "sandbox.state").exists()


def test_forgetting_the_demo_removes_its_files_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "dagster" / "logs").mkdir(parents=True)
    (tmp_path / "sandbox.state").write_text("yesterday's world")
    (tmp_path / "thesis.txt").write_text("somebody's")
    up_command._forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("text", ["0", "65536", "eight", "-1", "80.5"])
def test_a_demo_port_that_is_none_is_refused_in_one_sentence(text: str) -> None:
    outcome = CliRunner().invoke(up_command.demo, ["--env"], env={"RSU_DEMO_PORT": text})
    assert isinstance(outcome.exception, SettingsError)
    assert str(outcome.exception) == f"RSU_DEMO_PORT is {text!r}, but must be a whole number from 1 to 65535."


def test_the_demos_settings_put_away_all_other_settings_of_ours() -> None:
    environment = {"RSU_DEMO_HOME": "/tmp/it's here", "RSU_DEMO_PORT": "8123", "RSU_UI_PORT": "3123"}  # noqa: S108
    outcome = CliRunner().invoke(
        up_command.demo, ["--env"], env=environment | {"RSU_API_REG": "1.real", "RSU_TIMEZONE": "UTC"}
    )
    lines = outcome.stdout.splitlines()
    assert lines == [
        """export RSU_HOME='/tmp/it'"'"'s here'""",
        "export RSU_API_BASE_URL=http://127.0.0.1:8123/Rest",
        "export RSU_UI_PORT=3123",
        "unset RSU_API_REG RSU_DATABASE_URL RSU_SECRET_KEY RSU_TIMEZONE",
    ]
