"""Killed runs, code servers, daemons, machines: no partner stays frozen.

The story is one installation under `rsu up`, from which one part after the other is killed in the middle of syncs. Its
facts are asserted one by one.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests
from dagster._core.launcher import WorkerStatus

from rsu_pipeline import installation
from rsu_pipeline.definitions import defs
from rsu_pipeline.orchestration import recovery
from rsu_pipeline.orchestration.recovery import PROCESS_LOST, HubLauncher, end_dead_runs
from rsu_pipeline.warehouse import database, sessions
from rsu_pipeline_tests.cli.started import RSU, Started, free_port, gone, without_ours
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.queued import queue, report, start
from rsu_pipeline_tests.orchestration.runs import use_environment
from rsu_pipeline_tests.servers import create_database, drop_database
from runsignup_sandbox.process import SandboxProcess

# Runs start in 5 s, and in a minute where others use the machine too: the story has a dozen of them.
pytestmark = pytest.mark.timeout(1800)

Status = dg.DagsterRunStatus


def until(what: str, ask: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:g} s")


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_every_step_of_ours_keeps_the_session_by_which_its_run_is_known_to_be_alive() -> None:
    jobs = [job for job in defs().resolve_all_job_defs() if not job.name.startswith("__")]
    steps = [node for job in [*jobs, defs().resolve_implicit_global_asset_job_def()] for node in job.all_node_defs]
    assert steps
    for step in steps:
        if isinstance(step, dg.OpDefinition):
            assert "warehouse" in step.required_resource_keys, step.name


def test_a_killed_sync_from_the_shell_is_ended_by_the_monitor_and_at_start_up_and_a_living_one_is_not(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "RECHECK_SECONDS", 0.1)
    monkeypatch.setattr(recovery, "SECOND_RECHECK_SECONDS", 0.5)
    launcher = hub_instance.run_launcher
    assert isinstance(launcher, HubLauncher)
    assert launcher.supports_check_run_worker_health
    admin = hub.sandbox.admin
    admin.switch(latency_ms=30_000)
    shell = subprocess.Popen(
        [RSU, "sync", "--partner", "1"], env=without_ours() | hub.environment, stderr=subprocess.DEVNULL
    )
    try:
        (run,) = until("it waits for RunSignup", lambda: sleeping(hub, hub_instance))
        # Alive: the monitor leaves it alone.
        for _ in range(2):
            assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
            time.sleep(0.6)
        assert end_dead_runs(hub_instance) == []
    finally:
        shell.kill()
        shell.wait(60)
        admin.switch(latency_ms=0)
    until("its sessions end", lambda: not alive(hub))

    # Gone: the monitor checks twice before it reports it.
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    time.sleep(0.6)
    found = launcher.check_run_worker_health(run)
    assert (found.status, found.msg) == (WorkerStatus.NOT_FOUND, PROCESS_LOST)
    assert end_dead_runs(hub_instance) == [run.run_id]
    assert status_of(hub_instance, run.run_id) == Status.FAILURE
    assert any(PROCESS_LOST in entry.message for entry in hub_instance.all_logs(run.run_id))
    assert end_dead_runs(hub_instance) == []


def sleeping(hub: Hub, instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return the started run, once a call is in flight."""
    in_flight = hub.value("SELECT count(*) FROM api_calls WHERE settled_at IS NULL")
    return list(instance.get_runs(dg.RunsFilter(statuses=[Status.STARTED]))) if in_flight else []


def alive(hub: Hub) -> set[str]:
    with database.session(hub.url, purpose="tests") as conn:
        return sessions.runs_alive(conn)


def test_only_what_should_have_a_process_and_has_none_is_ended(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "RECHECK_SECONDS", 0.1)
    queued, launched, stuck, started, canceling, elsewhere = (queue(hub_instance) for _ in range(6))
    report(hub_instance, [launched, stuck], "PIPELINE_STARTING")
    start(hub_instance, [started, canceling, elsewhere])
    report(hub_instance, [canceling], "PIPELINE_CANCELING")
    hub.execute(
        "UPDATE dagster.runs SET update_timestamp = update_timestamp - interval '61 s' WHERE run_id = %s", stuck.run_id
    )
    # A run of another machine: all there is of it here is its session.
    with database.session(hub.url, purpose=sessions.purpose_of(elsewhere.run_id)):
        ended = end_dead_runs(hub_instance)
    assert set(ended) == {stuck.run_id, started.run_id, canceling.run_id}
    after = {run.run_id: run.status for run in hub_instance.get_runs()}
    assert after == {
        queued.run_id: Status.QUEUED,
        launched.run_id: Status.STARTING,
        elsewhere.run_id: Status.STARTED,
        stuck.run_id: Status.FAILURE,
        started.run_id: Status.FAILURE,
        canceling.run_id: Status.CANCELED,
    }


def test_it_ends_dead_runs_and_then_becomes_the_command(hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    dead = queue(hub_instance)
    start(hub_instance, [dead])
    done = subprocess.run(
        [sys.executable, "-m", "rsu_pipeline.orchestration.recovery", "/bin/sh", "-c", "echo then $$"],
        env=without_ours() | hub.environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    first, then = done.stdout.splitlines()
    assert first == f"Ended 1 run whose process is gone: {dead.run_id}"
    assert then.startswith("then ")
    assert status_of(hub_instance, dead.run_id) == Status.FAILURE


LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    ... on LaunchRunSuccess { run { runId } } } }"""


class Installation:
    """`rsu up` on a database and a sandbox, and what one sees of it from outside."""

    def __init__(self, url: str, sandbox: SandboxProcess, folder: Path) -> None:
        self.hub = Hub(url, sandbox, folder / "home", RSU_READ_TIMEOUT="120", RSU_TOTAL_TIMEOUT="120")
        self.port = free_port()
        self.folder = folder
        self.settings = {**self.hub.environment, "RSU_UI_PORT": str(self.port)}
        self.up = self.start()
        self.instance: dg.DagsterInstance

    def start(self) -> Started:
        return Started("up", self.settings, self.folder)

    def launch(self, partner: int) -> str:
        """Launch a run of sync_partner as the web UI's launchpad does, and return its id."""
        where = {"repositoryLocationName": "rsu_pipeline", "repositoryName": "__repository__"}
        params = {
            "selector": {**where, "pipelineName": "sync_partner"},
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": self.hub.partners[partner]}]},
        }

        def ask() -> str:
            with requests.Session() as session, suppress(requests.RequestException):
                session.trust_env = False
                body = {"query": LAUNCH, "variables": {"params": params}}
                answer = session.post(f"http://127.0.0.1:{self.port}/graphql", json=body, timeout=60).json()
                launched = (answer.get("data") or {}).get("launchPipelineExecution") or {}
                return str(launched.get("run", {}).get("runId", ""))
            return ""

        return str(self.up.until("the web UI launches a run", ask))

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        return status_of(self.instance, run_id)

    def outcome(self, run_id: str, seconds: float = 240) -> dg.DagsterRunStatus:
        """Return how a run ended."""
        self.up.until(f"{run_id} ends", lambda: self.status(run_id) in ENDED, seconds)
        return self.status(run_id)

    def retry_of(self, run_id: str, seconds: float = 240) -> str:
        """Return how the run ended that Dagster launched in place of a dead one."""

        def ask() -> list[dg.DagsterRun]:
            return list(self.instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run_id})))

        (retry,) = self.up.until(f"{run_id} is launched again", ask, seconds)
        return str(self.outcome(retry.run_id, seconds).value)

    def in_the_middle(self, *partners: int) -> tuple[list[str], str]:
        """Start a run of each of these partners that waits for RunSignup.

        One more run of the first partner waits for it in the queue.
        """
        self.hub.sandbox.admin.switch(latency_ms=20_000)
        runs = [self.launch(partner) for partner in partners]
        self.up.until("they are at work", lambda: all(self.busy(run) for run in runs))
        queued = self.launch(partners[0])
        assert self.status(queued) == Status.QUEUED
        return runs, queued

    def busy(self, run_id: str) -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE %s"
        return bool(self.hub.value(query, f"rsu sync {run_id[:8]}%"))

    def pids(self, part: str) -> list[int]:
        """Return the processes of the installation whose command line has this in it."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                ours = self.up.mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if ours and part in line:
                    found.append(int(entry.name))
        return found

    def kill(self, pids: list[int]) -> None:
        assert pids
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


ENDED = {Status.SUCCESS, Status.FAILURE, Status.CANCELED}


def worker_of(instance: dg.DagsterInstance, run_id: str) -> int:
    """Return the process of a run, from its log."""
    for entry in instance.all_logs(run_id):
        if entry.message.startswith("Started process for run (pid: "):
            return int(entry.message.split("pid: ")[1].split(")")[0])
    raise AssertionError(f"the log of {run_id} names no process")


@dataclass
class After:
    """What followed a kill.

    These are the run that was at work, the one launched in its place, and the one queued behind it, of the same partner.
    """

    at_work: list[str]
    again: list[str]
    queued: str


@dataclass
class Story:
    first: Mapping[str, tuple[str, str]]
    worker: After
    code_server: After
    daemon: After
    power_cut: After
    dead_logs: str
    left: list[str]


@pytest.fixture(scope="module")
def story(server: str, template: str) -> Iterator[Story]:
    folder = Path(tempfile.mkdtemp(prefix="rsu-recovery-"))
    create_database(server, "rsu_recovery", template)
    monkeypatch = pytest.MonkeyPatch()
    # Races so far off that nothing but the runs of the story is at work.
    with SandboxProcess.start(spec={"partners": 2, "start_in_hours": 300}) as sandbox:
        here = Installation(at(server, "rsu_recovery"), sandbox, folder)
        try:
            use_environment(monkeypatch, here.hub.environment)
            shutil.copy(Path(recovery.__file__).parents[2] / "dagster.yaml", folder)
            with dg.DagsterInstance.from_config(str(folder)) as here.instance:
                yield _play(here)
        finally:
            if here.up.process.poll() is None:
                here.up.end(signal.SIGTERM)
            monkeypatch.undo()
            installation.current.cache_clear()
            drop_database(server, "rsu_recovery")
            shutil.rmtree(folder)


def _play(here: Installation) -> Story:
    def first_syncs() -> list[dg.DagsterRun]:
        runs = here.instance.get_runs(dg.RunsFilter(tags={"lane": "new_partner"}, statuses=[Status.SUCCESS]))
        return list(runs) if len(runs) == 2 else []

    first = {
        run.tags["partner"]: (run.tags["lane"], run.tags["dagster/priority"])
        for run in here.up.until("the first syncs are done", first_syncs)
    }

    runs, queued = here.in_the_middle(1)
    here.kill([worker_of(here.instance, run) for run in runs])
    worker = _go_on(here, runs, queued)

    runs, queued = here.in_the_middle(1)
    here.kill([pid for pid in here.pids("dagster api grpc") if _parent(pid) == here.up.process.pid])
    code_server = _go_on(here, runs, queued)

    runs, queued = here.in_the_middle(1)
    here.kill(here.pids("dagster-daemon"))
    daemon = _go_on(here, runs, queued)

    runs, queued = here.in_the_middle(1, 2)
    here.kill(here.pids(""))
    here.up.process.wait(10)
    left = gone(here.up, None)
    here.up = here.start()
    power_cut = _go_on(here, runs, queued)
    logs = "\n".join(entry.message for run in runs for entry in here.instance.all_logs(run))
    return Story(first, worker, code_server, daemon, power_cut, logs, left)


def _go_on(here: Installation, runs: list[str], queued: str) -> After:
    here.hub.sandbox.admin.switch(latency_ms=0)
    outcomes = [here.outcome(run).value for run in runs]
    again = [here.retry_of(run) for run, outcome in zip(runs, outcomes, strict=True) if outcome == "FAILURE"]
    return After(outcomes, again, here.outcome(queued).value)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_first_syncs_have_the_lane_of_new_partners(story: Story) -> None:
    assert list(story.first.values()) == [("new_partner", "20")] * 2


def test_after_a_killed_run_its_partner_syncs_again_and_the_queue_moves_on(story: Story) -> None:
    assert story.worker == After(["FAILURE"], ["SUCCESS"], "SUCCESS")


def test_after_a_killed_code_server_its_partner_syncs_again_and_the_queue_moves_on(story: Story) -> None:
    assert story.code_server == After(["FAILURE"], ["SUCCESS"], "SUCCESS")


def test_after_a_killed_daemon_its_run_ends_and_the_queue_moves_on(story: Story) -> None:
    # The run is a process of the code server's, and finishes.
    assert story.daemon == After(["SUCCESS"], [], "SUCCESS")


def test_after_a_power_cut_each_partner_syncs_again_and_the_queue_moves_on(story: Story) -> None:
    assert story.left == []
    assert story.power_cut == After(["FAILURE"] * 2, ["SUCCESS"] * 2, "SUCCESS")
    assert PROCESS_LOST in story.dead_logs
