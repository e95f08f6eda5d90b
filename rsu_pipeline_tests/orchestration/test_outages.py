"""A database that goes away under a run: the run waits and goes on, and is not taken for dead meanwhile."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest

from rsu_pipeline.local import embedded
from rsu_pipeline.orchestration import outages
from rsu_pipeline.orchestration.outages import Outage, is_loss
from rsu_pipeline.warehouse import database, sessions
from rsu_pipeline_tests import failover
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import use_environment
from rsu_pipeline_tests.orchestration.test_batch import batch, names
from rsu_pipeline_tests.servers import execute, stop_at_once
from runsignup_sandbox.process import SandboxProcess

SPEC = {"partners": 6, "races_per_partner": 2, "events_per_race": 1, "registrations_per_event": 8, "start_in_hours": 30}
END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'rsu %'"
)


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do something in another thread until the block ends."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_batch_goes_on_though_postgresql_ends_its_sessions(
    make_hub: Callable[..., Hub], dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_CALL_ATTEMPTS"] = "1"
    use_environment(monkeypatch, hub.environment)
    hub.sandbox.admin.switch(latency_ms=60)
    ended = []

    def end_sessions(over: threading.Event) -> None:
        """End the sessions once in each of four parts of the batch, by the calls that were made."""
        for calls in (4, 10, 16, 22):
            while hub.sandbox.admin.stats()["calls"] < calls:
                if over.wait(0.05):
                    return
            ended.append(len(hub.rows(END_OTHERS)))

    monkeypatch.setattr(outages, "PAUSE_SECONDS", 0.05)
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        with meanwhile(end_sessions):
            run = batch(instance, hub, relist=list(hub.partners.values()))
        assert run.success, (run.failure, run.chained)
        assert run.told.keys() == names(hub, *hub.partners)
    assert len(ended) == 4 and all(ended)
    for partner in hub.partners:
        hub.assert_equal(partner)


def test_a_batch_goes_on_after_a_restart_of_postgresql(
    own_server: tuple[Path, str],
    make_sandbox: Callable[..., SandboxProcess],
    dagster_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, url = own_server
    hub = Hub(url, make_sandbox(spec=SPEC, seed=7), tmp_path / "home", RSU_CALL_ATTEMPTS="1")
    use_environment(monkeypatch, hub.environment)
    hub.sandbox.admin.switch(latency_ms=60)
    restarted = []

    def restart(over: threading.Event) -> None:
        while not over.wait(0.05):
            if hub.sandbox.admin.stats()["calls"] >= 8:
                stop_at_once(folder)
                time.sleep(3)
                embedded.ensure_running(folder)
                restarted.append(True)
                return

    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        with meanwhile(restart):
            run = batch(instance, hub, relist=list(hub.partners.values()))
        assert run.success, (run.failure, run.chained)
        assert {key for _, key in run.told} == set(hub.partners.values())
    assert restarted
    for partner in hub.partners:
        hub.assert_equal(partner)


def connect(url: str) -> object:
    """Return whether the server of a new session is a standby, as PostgreSQL shows it."""
    with database.session(url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_is_in_recovery()::text")
        ((is_standby,),) = cur.fetchall()
    return is_standby


def test_a_batch_goes_on_after_a_failover_that_keeps_the_address(
    make_sandbox: Callable[..., SandboxProcess], dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standby follows asynchronously, so that it may lack the last commits, and only reads for two seconds."""
    folder = Path(tempfile.mkdtemp(prefix="rsu-failover-"))
    with failover.pair(folder) as servers:
        with database.session(servers.url, purpose="tests") as conn:
            database.migrate(conn)
        hub = Hub(servers.url, make_sandbox(spec=SPEC, seed=7), tmp_path / "home", RSU_CALL_ATTEMPTS="1")
        use_environment(monkeypatch, hub.environment)
        hub.sandbox.admin.switch(latency_ms=60)
        moved = []

        def move(over: threading.Event) -> None:
            while not over.wait(0.05):
                if hub.sandbox.admin.stats()["calls"] >= 8:
                    servers.lose_primary()
                    servers.reach_standby()
                    with ThreadPoolExecutor() as pool:
                        # What begins now meets the standby.
                        begun = pool.submit(Outage(servers.url).outlast, lambda: connect(servers.url))
                        time.sleep(2)
                        assert not begun.done()
                        servers.promote()
                        moved.append(begun.result(60))
                    return

        with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
            with meanwhile(move):
                run = batch(instance, hub, relist=list(hub.partners.values()))
            assert run.success, (run.failure, run.chained)
        assert moved == ["false"]
        for partner in hub.partners:
            hub.assert_equal(partner)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_run_whose_session_was_ended_is_not_taken_for_dead(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = "0123abcd-0000-4000-8000-000000000000"
    monkeypatch.setattr(sessions, "CHECK_SECONDS", 0.05)

    def is_alive() -> bool:
        with database.session(database_url, purpose="tests") as conn:
            return sessions.is_alive(run_id, sessions.runs_alive(conn))

    with sessions.application_name_of_run(database_url, run_id):
        assert is_alive()
        execute(database_url, END_OTHERS)
        deadline = time.monotonic() + 10
        while not is_alive():
            assert time.monotonic() < deadline, "no session was opened in place of the one that was ended"
            time.sleep(0.05)
    deadline = time.monotonic() + 10
    while is_alive():
        assert time.monotonic() < deadline, "the session outlived the run"
        time.sleep(0.05)


class Clock:
    """Time that passes only by pauses."""

    def __init__(self) -> None:
        self.now = 0.0

    def pause(self, seconds: float) -> None:
        self.now += seconds


def nowhere(**more: Any) -> tuple[Outage, Clock]:
    """Return an outage of a database that never answers."""
    clock = Clock()
    return Outage("postgresql://hub@127.0.0.1:9/hub", clock=lambda: clock.now, pause=clock.pause, **more), clock


def lose() -> None:
    raise psycopg2.OperationalError("server closed the connection unexpectedly")


def test_a_database_that_stays_away_is_waited_for_once_by_all_threads_together() -> None:
    outage, clock = nowhere(longest=600.0)
    with pytest.raises(psycopg2.OperationalError):
        outage.outlast(lose)
    assert 600 <= clock.now < 610
    with pytest.raises(psycopg2.OperationalError):
        outage.outlast(lose)
    assert clock.now < 620


def test_work_that_loses_its_session_each_time_ends_though_the_database_answers(database_url: str) -> None:
    clock = Clock()
    outage = Outage(database_url, longest=20.0, clock=lambda: clock.now, pause=clock.pause)
    with pytest.raises(psycopg2.OperationalError):
        outage.outlast(lose)
    assert 20 <= clock.now < 25


def test_only_a_lost_session_is_waited_for() -> None:
    assert is_loss(psycopg2.OperationalError("could not connect"))
    assert is_loss(database.UnreachableError("away"))
    assert is_loss(database.ReadOnlyError("a standby"))
    assert not is_loss(ValueError("a bug"))
    assert not is_loss(database.DatabaseError("refuses role hub"))
    outage, clock = nowhere()
    with pytest.raises(ZeroDivisionError):
        outage.outlast(lambda: 1 / 0)
    assert clock.now == 0


def test_a_statement_that_was_cancelled_or_waited_too_long_for_a_lock_is_no_loss(database_url: str) -> None:
    with database.session(database_url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute("SET statement_timeout = '10ms'")
        with pytest.raises(psycopg2.OperationalError) as cancelled:
            cur.execute("SELECT pg_sleep(5)")
    assert not is_loss(cancelled.value)
