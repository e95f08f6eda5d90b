"""Runs on the workers of Celery: two of them with a folder each, as two machines have, and one is killed at its work.

The story is played once, its facts are asserted one by one. It needs redis-server and dagster-celery, which nothing else does.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import requests

from rsu_pipeline.local.supervisor import members
from rsu_pipeline_tests.cli.started import free_port, without_ours
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.deploy.deployed import DEPLOY, ROOT, document
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.servers import create_database
from runsignup_sandbox.process import SandboxProcess

MISSING = [
    *([] if shutil.which("redis-server") else ["redis-server (`apt-get install redis-server`)"]),
    *([] if find_spec("dagster_celery") else ["dagster-celery (`pip install -r deploy/celery/requirements.txt`)"]),
]
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        bool(MISSING) and not os.environ.get("CI"), reason=f"Celery is left out; missing: {', '.join(MISSING)}"
    ),
]

BIN = Path(sys.executable).parent
CALLS_PER_HOUR = 500
MONITOR_LOOKS, MONITOR_SECONDS = "poll_interval_seconds: 15", 5
WORKERS = ("one", "two")
BROKER_AWAY_SECONDS = 45.0
"""Two of Dagster's retries, and longer than it takes to fail a run twice."""
LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } } }"""
TERMINATE = """mutation($run: String!) { terminateRun(runId: $run) { __typename } }"""
RUNS = """{ runsOrError(limit: 100) { ... on Runs { results { runId status parentRunId
    tags { key value } } } } }"""


@dataclass
class Story:
    """What was seen: runs by id with their partners, how they ended, and where each was at work."""

    first: dict[str, str] = field(default_factory=dict)
    """How the first runs ended, which the installation launched by itself."""
    together: dict[str, str] = field(default_factory=dict)
    """Of two partners' runs at the same time: the worker of each."""
    survivor: str = ""
    killed_run: str = ""
    killed: str = ""
    retry: str = ""
    retry_worker: str = ""
    other: str = ""
    waited: float = 0.0
    """Seconds from the kill until the partner's next run had ended well."""
    canceled: str = ""
    """How the run ended that was stopped by hand, and below which runs were launched in its place."""
    instead: list[str] = field(default_factory=list)
    brokerless: set[str] = field(default_factory=set)
    """The states in which a run was seen that was launched while the broker was down."""
    queued_again: int = 0
    """How often it went back into the queue."""
    with_broker: str = ""
    """How it ended once the broker was back, and below the runs launched in its place."""
    in_its_place: list[str] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
    ledger: list[dict[str, Any]] = field(default_factory=list)


class Stage:
    """Redis, code server, web UI, daemon and two workers, each in a session of its own and in a folder of its own."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.port = free_port()
        self.redis_port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        # As it is deployed, except for the monitor's interval, which is waited for.
        instance = (DEPLOY / "celery" / "dagster.yaml").read_text()
        assert instance.count(MONITOR_LOOKS) == 1
        instance = instance.replace(MONITOR_LOOKS, f"poll_interval_seconds: {MONITOR_SECONDS}")
        for name in ("head", *WORKERS):
            (folder / name / "home").mkdir(parents=True)
            (folder / name / "dagster.yaml").write_text(instance)
        (folder / "head" / "workspace.yaml").write_text(
            f"load_from: [{{grpc_server: {{socket: {folder / 'code.sock'}, location_name: rsu_pipeline}}}}]\n"
        )

    def environment(self, place: str) -> dict[str, str]:
        return (
            without_ours()
            | self.hub.environment
            | {
                "RSU_HOME": str(self.folder / place / "home"),
                "DAGSTER_HOME": str(self.folder / place),
                "RSU_CELERY_BROKER": f"redis://127.0.0.1:{self.redis_port}/0",
                "PYTHONPATH": os.pathsep.join([str(DEPLOY / "celery"), str(ROOT)]),
                "PYTHONUNBUFFERED": "1",
            }
        )

    def start(self, name: str, place: str, *command: str | Path) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=self.folder / place, env=self.environment(place), stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def start_broker(self) -> None:
        self.start("redis", "head", "redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "")

    def start_all(self) -> None:
        self.start_broker()
        self.start(
            "code", "head", BIN / "dagster", "api", "grpc", "--socket", self.folder / "code.sock",
            "--location-name", "rsu_pipeline", "-m", "rsu_pipeline.definitions",
        )  # fmt: skip
        for worker in WORKERS:
            self.start(
                worker, worker, BIN / "celery", "-A", "dagster_celery.app", "worker", "--queues", "dagster",
                "--hostname", f"{worker}@%h", "--concurrency", "2", "--loglevel", "info",
            )  # fmt: skip
        self.until("the code server listens", lambda: (self.folder / "code.sock").exists(), 120)
        self.start(
            "web",
            "head",
            BIN / "python",
            "-m",
            "rsu_pipeline.orchestration.webserver",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-w",
            "workspace.yaml",
        )
        self.start("daemon", "head", BIN / "dagster-daemon", "run", "-w", "workspace.yaml")
        for worker in WORKERS:
            self.until(f"worker {worker} is ready", lambda worker=worker: " ready." in self.log(worker), 120)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def until(self, what: str, ask: Callable[[], Any], seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(requests.RequestException):
                if answer := ask():
                    return answer
            for name, process in self.processes.items():
                assert process.poll() is None, f"{what}: {name} ended:\n{self.log(name)[-3000:]}"
            time.sleep(0.3)
        tails = "\n".join(f"--- {name}\n{self.log(name)[-1500:]}" for name in self.processes)
        raise AssertionError(f"{what}: not within {seconds:g} s\n{tails}")

    def ask(self, query: str, **variables: object) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            body = {"query": query, "variables": variables}
            return session.post(f"http://127.0.0.1:{self.port}/graphql", json=body, timeout=60).json().get("data") or {}

    def launch(self, partner: int) -> str:
        params = {
            "selector": {
                "repositoryLocationName": "rsu_pipeline",
                "repositoryName": "__repository__",
                "pipelineName": "sync_partner",
            },
            "mode": "default",
            "runConfigData": {"ops": {"participants": {"config": {"force_full_sync": True}}}},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": self.hub.partners[partner]}]},
        }
        return str(self.ask(LAUNCH, params=params)["launchPipelineExecution"]["run"]["runId"])

    def runs(self) -> dict[str, dict[str, Any]]:
        found = (self.ask(RUNS).get("runsOrError") or {}).get("results") or []
        return {
            run["runId"]: run
            | {"tags": {tag["key"]: tag["value"] for tag in run["tags"]}, "parent": run["parentRunId"]}
            for run in found
        }

    def ended(self, run_id: str) -> str:
        status = self.runs().get(run_id, {}).get("status", "")
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else ""

    def worker_of(self, run_id: str) -> str:
        """Return where a run is at work, by the process that has its session at the database."""
        rows = self.hub.rows(
            "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE %s",
            f"rsu sync {run_id[:8]}%",
        )
        pids = {int(row["application_name"].rpartition(":")[2]) for row in rows}
        for worker in (worker for worker in WORKERS if worker in self.processes):
            if pids & {pid for pid, _ in members(self.processes[worker].pid)}:
                return worker
        return ""

    def worker_with_files_of(self, run_id: str) -> str:
        """Return where a run was at work, by what it printed there."""
        return next((one for one in WORKERS if (self.folder / one / "home/dagster/logs" / run_id).exists()), "")

    def take_no_more(self, worker: str) -> None:
        """Make a worker leave further runs to the other, because either of two idle ones may take the next."""
        done = subprocess.run(
            [
                *(BIN / "celery", "-A", "dagster_celery.app", "control", "--timeout", "30"),
                *("--destination", f"{worker}@{socket.gethostname()}", "cancel_consumer", "dagster"),
            ],
            cwd=self.folder / "head", env=self.environment("head"), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0 and "no longer consuming" in done.stdout, done.stdout + done.stderr

    def kill(self, name: str) -> None:
        """Kill all processes of a worker at once, as a machine dies."""
        process = self.processes.pop(name)
        while left := [pid for pid, _ in members(process.pid)]:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.poll()
        process.wait(10)

    def stop(self) -> None:
        for name in reversed(list(self.processes)):
            self.kill(name)


@pytest.fixture(scope="module")
def story(server: str, template: str) -> Iterator[Story]:
    assert not MISSING, f"missing: {', '.join(MISSING)}"
    folder = Path(tempfile.mkdtemp(prefix="rsu-celery-"))
    create_database(server, "rsu_celery", template)
    with SandboxProcess.start("small", seed=7) as sandbox:
        hub = Hub(
            at(server, "rsu_celery"), sandbox, folder / "head" / "home", RSU_CALLS_PER_HOUR=str(CALLS_PER_HOUR),
            RSU_READ_TIMEOUT="120", RSU_TOTAL_TIMEOUT="120", RSU_RACE_DAY_TIMEOUT="120",
        )  # fmt: skip
        stage = Stage(hub, folder)
        try:
            stage.start_all()
            yield play(stage)
        finally:
            stage.stop()
            shutil.rmtree(folder, ignore_errors=True)


def play(stage: Stage) -> Story:
    seen, admin = Story(), stage.hub.sandbox.admin

    def first_runs() -> dict[str, str]:
        found = {run["tags"].get("dagster/partition"): run["status"] for run in stage.runs().values()}
        synced = {key for key, status in found.items() if status == "SUCCESS"}
        return found if synced >= set(stage.hub.partners.values()) else {}

    seen.first = stage.until("the first runs end", first_runs, 240)

    admin.switch(latency_ms=15_000)
    runs = {1: stage.launch(1)}
    where = {1: stage.until("a run is at work", lambda: stage.worker_of(runs[1]), 120)}
    stage.take_no_more(where[1])
    runs[2] = stage.launch(2)
    where[2] = stage.until("another run is at work", lambda: stage.worker_of(runs[2]), 120)
    assert stage.worker_of(runs[1]) == where[1], "the first ended before the second began"
    # A run has its session some time before its first call.
    stage.until("both call at the same time", lambda: admin.stats()["max_in_flight"] == 2, 120)
    seen.together = {runs[partner]: worker for partner, worker in where.items()}
    seen.killed_run, seen.killed = runs[1], where[1]
    seen.survivor = next(worker for worker in WORKERS if worker != seen.killed)
    stage.kill(seen.killed)
    begun = time.monotonic()
    admin.switch(latency_ms=0)

    def retry() -> str:
        return next((run_id for run_id, run in stage.runs().items() if run["parent"] == seen.killed_run), "")

    retried = stage.until("the killed run is launched again", retry, 240)
    seen.retry = stage.until("the new one ends", lambda: stage.ended(retried), 240)
    seen.waited = time.monotonic() - begun
    seen.retry_worker = stage.worker_with_files_of(retried)
    seen.other = stage.until("the other partner's run ends", lambda: stage.ended(runs[2]), 240)

    admin.switch(latency_ms=15_000)
    stopped = stage.launch(3)
    stage.until("a third run is at work", lambda: stage.worker_of(stopped), 120)
    assert stage.ask(TERMINATE, run=stopped)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    seen.canceled = stage.until("it ends", lambda: stage.ended(stopped), 180)
    admin.switch(latency_ms=0)
    time.sleep(MONITOR_SECONDS + 5)
    seen.instead = [run_id for run_id, run in stage.runs().items() if run["parent"] == stopped]

    stage.kill("redis")
    waiting = stage.launch(2)
    deadline = time.monotonic() + BROKER_AWAY_SECONDS
    while time.monotonic() < deadline:
        seen.brokerless.add(stage.runs()[waiting]["status"])
        time.sleep(0.3)
    query = "SELECT count(*) FROM dagster.event_logs WHERE run_id = %s AND dagster_event_type = 'PIPELINE_ENQUEUED'"
    seen.queued_again = int(stage.hub.value(query, waiting)) - 1
    stage.start_broker()
    seen.with_broker = stage.until("it ends", lambda: stage.ended(waiting), 240)
    seen.in_its_place = [run_id for run_id, run in stage.runs().items() if run["parent"] == waiting]
    seen.stats = dict(admin.stats())
    seen.ledger = stage.hub.rows(
        "SELECT credential_id, count(*) AS calls FROM api_calls WHERE granted_at > now() - interval '1 hour' GROUP BY 1"
    )
    return seen


def test_a_worker_carries_as_many_runs_as_may_go_at_once() -> None:
    """One declaration: the unit and the guide give no number, and the worker takes dagster.yaml's."""
    program = "from dagster_celery.app import app; print(app.conf.worker_concurrency, app.conf.broker_url)"
    broker = "redis://127.0.0.1:9/0"
    environment = without_ours() | {"PYTHONPATH": str(DEPLOY / "celery"), "RSU_CELERY_BROKER": broker}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    runs = document("dagster.yaml")["concurrency"]["runs"]["max_concurrent_runs"]
    assert done.stdout.split() == [str(runs), broker]
    started = [(DEPLOY / "celery" / "rsu-worker.service").read_text(), (ROOT / "docs" / "deploy.md").read_text()]
    assert all("--queues dagster" in text and not re.search(r"--concurrency[ =]\d", text) for text in started)


def test_the_installation_syncs_all_its_partners_through_the_workers(story: Story) -> None:
    assert set(story.first.values()) == {"SUCCESS"}


def test_both_workers_carry_runs_at_the_same_time(story: Story) -> None:
    assert set(story.together.values()) == set(WORKERS)


def test_the_run_of_a_killed_worker_goes_on_at_the_other(story: Story) -> None:
    assert story.retry == "SUCCESS"
    assert story.retry_worker == story.survivor
    assert story.waited < 120


def test_the_other_partners_run_is_not_touched(story: Story) -> None:
    assert story.other == "SUCCESS"


def test_a_run_stopped_by_hand_stays_stopped(story: Story) -> None:
    assert (story.canceled, story.instead) == ("CANCELED", [])


def test_a_run_launched_while_the_broker_is_down_is_queued_again_and_ends_well_once_it_is_back(story: Story) -> None:
    assert story.brokerless <= {"QUEUED", "STARTING"} and "QUEUED" in story.brokerless
    assert story.queued_again >= 2
    assert (story.with_broker, story.in_its_place) == ("SUCCESS", [])


def test_budget_and_calls_in_flight_hold_over_both_workers(story: Story) -> None:
    assert (story.stats["violations"], story.stats["max_in_flight"]) == (0, 2)
    assert all(row["calls"] <= CALLS_PER_HOUR for row in story.ledger)
    # No call went past the ledger; one that was granted may have died with its worker.
    assert story.stats["calls"] <= sum(row["calls"] for row in story.ledger)
