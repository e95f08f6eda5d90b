"""Terminating a run ends its calls, its waits and its sessions within ten seconds, whatever it is at.

The runs are real: launched by the hub's launcher at a code server, terminated as the web UI does it, while RunSignup hangs.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from rsu_pipeline import installation
from rsu_pipeline.definitions import defs
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.settings import project_root
from rsu_pipeline.warehouse import database, race_locks
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import code_server, use_environment
from rsu_pipeline_tests.orchestration.test_cancelled_backfills import cancelled_at, requested
from runsignup_sandbox.process import SandboxProcess

SPEC = {"partners": 3, "races_per_partner": 2, "events_per_race": 1, "registrations_per_event": 12, "start_in_hours": 2}
LONGEST_SECONDS = 10.0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        yield sandbox


@pytest.fixture
def hub(
    sandbox: SandboxProcess, make_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """Provide all partners synced, and calls that may take minutes."""
    patient = {f"RSU_{name}": "300" for name in ("READ_TIMEOUT", "TOTAL_TIMEOUT", "RACE_DAY_TIMEOUT")}
    hub = Hub(make_database(), sandbox, tmp_path / "home", RSU_MAX_IN_FLIGHT="8", **patient)
    use_environment(monkeypatch, hub.environment)
    monkeypatch.chdir(project_root())
    sandbox.admin.switch(max_in_flight=20)
    for partner in hub.partners:
        hub.sync(partner)
    yield hub
    sandbox.admin.clear_faults()
    installation.current.cache_clear()


@dataclass
class Runs:
    """Launches and terminates runs at a code server."""

    hub: Hub
    instance: dg.DagsterInstance
    workspace: Any

    def launch(self, job: str, key: str | None = None, config: Mapping[str, Any] | None = None) -> str:
        origin = RemoteJobOrigin(
            RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("rsu_pipeline"), "__repository__"), job
        )
        run = self.instance.create_run_for_job(
            defs().resolve_job_def(job),
            run_config=config or {},
            tags={"dagster/partition": key} if key else {},
            remote_job_origin=origin,
        )
        self.instance.launch_run(run.run_id, self.workspace.create_request_context())
        return run.run_id

    def terminate(self, *run_ids: str) -> dict[str, float]:
        """Terminate runs and return how long each took to end, its sessions with it."""
        began = time.monotonic()
        pids = {run_id: self._pid(run_id) for run_id in run_ids}
        assert all(self.sessions(run_id) for run_id in run_ids)
        for run_id in run_ids:
            assert self.instance.run_coordinator.cancel_run(run_id)
        took: dict[str, float] = {}
        while len(took) < len(run_ids):
            assert time.monotonic() - began < 60, {
                run_id: (self.status(run_id), self.sessions(run_id)) for run_id in run_ids if run_id not in took
            }
            for run_id in set(pids) - took.keys():
                if self.status(run_id) == dg.DagsterRunStatus.CANCELED and not self.sessions(run_id):
                    took[run_id] = time.monotonic() - began
            time.sleep(0.1)
        return took

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def sessions(self, run_id: str) -> list[str]:
        """Return the names of the sessions of the run's process. Dagster's own, which holds nothing, ends with the process."""
        rows = self.hub.rows(
            "SELECT application_name FROM pg_stat_activity"
            " WHERE application_name LIKE %s AND application_name NOT LIKE 'rsu dagster %%'",
            f"%:{self._pid(run_id)}",
        )
        return [row["application_name"] for row in rows]

    def _pid(self, run_id: str) -> str:
        messages = [entry.message for entry in self.instance.all_logs(run_id)]
        return next(
            found[1] for text in messages if (found := re.search(r"Started process for run \(pid: (\d+)\)", text))
        )

    def in_flight(self) -> int:
        return int(self.hub.value("SELECT count(*) FROM api_calls WHERE settled_at IS NULL"))

    def waiting_for_locks(self) -> int:
        return int(
            self.hub.value(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )


@pytest.fixture
def runs(hub: Hub, hub_instance: dg.DagsterInstance) -> Iterator[Runs]:
    hub_instance.add_dynamic_partitions(partitions.NAME, list(hub.partners.values()))
    with code_server(hub_instance) as workspace:
        yield Runs(hub, hub_instance, workspace)


def until(is_so: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


def syncs(runs: Runs) -> list[Callable[[], str]]:
    """Return launchers of a sync of one partition, a batch and a slice of past editions, each of another partner."""
    first, second, third = runs.hub.partners.values()
    return [
        lambda: runs.launch("sync_partner", first),
        lambda: runs.launch("sync_batch", config={"ops": {"sync_partners": {"config": {"partners": [second]}}}}),
        lambda: runs.launch("backfill_history", third),
    ]


def test_terminating_ends_hung_calls_within_ten_seconds_and_cancels_the_backfill(hub: Hub, runs: Runs) -> None:
    hub.sandbox.admin.fault("timeout", 0, seconds=300)
    launched = [launch() for launch in syncs(runs)]
    until(lambda: runs.in_flight() == 3)
    took = runs.terminate(*launched)
    assert max(took.values()) < LONGEST_SECONDS, took
    assert runs.in_flight() == 0
    assert hub.value("SELECT count(*) FROM sync_history WHERE status = 'failed'") == 0
    hub.execute("UPDATE history_requests SET not_before = now()")
    assert requested(runs.instance) == []
    assert cancelled_at(hub, 3) is not None


@contextmanager
def syncs_locked_out(hub: Hub) -> Iterator[None]:
    """Take each sync's first lock elsewhere, which is the listing's or a race's.

    The races are locked before the watch begins: those that it polls are free whenever it gives up on a call. It has those
    of the first partner, whose sync reads the listing first.
    """
    with database.session(hub.url, purpose="tests") as conn:
        for partner in hub.partners:
            assert race_locks.acquire(conn, partner, race_locks.LISTING)
            races = hub.sandbox.admin.truth(partner)["races"] if partner != min(hub.partners) else []
            assert all(race_locks.acquire(conn, partner, race["race_id"]) for race in races)
        yield


def test_terminating_ends_the_watch_and_waits_for_locks_within_ten_seconds(hub: Hub, runs: Runs) -> None:
    hub.sandbox.admin.fault("timeout", 0, seconds=300)
    with syncs_locked_out(hub):
        watch = runs.launch("watch", config={"ops": {"watch_races": {"config": {"seconds": 600}}}})
        until(lambda: runs.in_flight() == SPEC["races_per_partner"])
        for launch in syncs(runs):
            waiting = launch()
            until(lambda: runs.waiting_for_locks() == 1)
            took = runs.terminate(waiting)
            assert max(took.values()) < LONGEST_SECONDS, took
    assert runs.status(watch) == dg.DagsterRunStatus.STARTED

    successor = runs.launch("watch", config={"ops": {"watch_races": {"config": {"seconds": 600}}}})
    until(lambda: runs.waiting_for_locks() == 1)
    took = runs.terminate(watch)
    assert max(took.values()) < LONGEST_SECONDS, took
    hub.sandbox.admin.clear_faults()
    until(lambda: runs.in_flight() or hub.value("SELECT count(*) FROM api_calls WHERE status = 200") > 0, 10)
    assert max(runs.terminate(successor).values()) < LONGEST_SECONDS
    with database.session(hub.url, purpose="tests") as conn, database.shard_lock(conn, 0, lock_timeout=0.1) as is_mine:
        assert is_mine
