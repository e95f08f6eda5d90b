"""One `rsu up` at a time on a database: real processes, one of them killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest

from rsu_pipeline.warehouse import database, race_locks, server_lock
from rsu_pipeline.warehouse.database import DatabaseError

HOLDER = """
import sys, time
from rsu_pipeline.warehouse import server_lock
server_lock.CHECK_SECONDS = 0.1
server_lock.hold(sys.argv[1], report=lambda line: print(line, flush=True))
print("holds", flush=True)
time.sleep(600)
"""
DAEMON = """
import os, sys, time, psycopg2
from rsu_pipeline.warehouse import server_lock
os.environ["PGAPPNAME"] = server_lock.daemon_name()
conn = psycopg2.connect(sys.argv[1])
print("holds", flush=True)
time.sleep(600)
"""
Start = Callable[[str, str], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def make(program: str, url: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "holds\n"
        return process

    yield make
    for process in started:
        process.kill()
        process.communicate(timeout=60)


def refusal(url: str) -> str:
    with pytest.raises(DatabaseError) as caught:
        server_lock._acquire(url, 0.0)
    return str(caught.value)


def test_the_second_server_is_refused_and_the_first_named_until_it_dies(database_url: str, start: Start) -> None:
    first = start(HOLDER, database_url)
    text = refusal(database_url)
    assert text.startswith(f"Another `rsu up` (host {socket.gethostname()}, process {first.pid}, since 20")
    assert database.describe_server(database_url) in text and "password" not in text
    # Commands, runs and workers take no part in it.
    with database.session(database_url, purpose="tests") as conn, race_locks.race_lock(conn, 1, 10):
        pass
    first.kill()
    first.wait(60)
    server_lock._acquire(database_url, 30.0).close()


def test_a_server_on_another_database_of_the_same_cluster_is_no_hindrance(
    make_database: Callable[[], str], start: Start
) -> None:
    start(HOLDER, make_database())
    server_lock._acquire(make_database(), 0.0).close()


def test_a_daemon_that_was_started_by_itself_is_named(database_url: str, start: Start) -> None:
    daemon = start(DAEMON, database_url)
    assert refusal(database_url).startswith(f"A Dagster daemon (host {socket.gethostname()}, process {daemon.pid}, ")


def test_a_lost_session_takes_the_lock_again_and_says_who_was_faster(database_url: str, start: Start) -> None:
    holder = start(HOLDER, database_url)
    with closing(psycopg2.connect(database_url)) as conn:
        conn.autocommit = True

        def session_with_lock() -> int | None:
            with conn.cursor() as cur:
                cur.execute(
                    "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()"
                    " WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint, l.objid::bigint) = (%s, %s)",
                    server_lock._LOCK,
                )
                row = cur.fetchone()
            return int(row[0]) if row else None

        def end(session: int | None) -> None:
            with conn.cursor() as cur:
                cur.execute("SELECT pg_terminate_backend(%s)", (session,))

        lost = session_with_lock()
        end(lost)
        deadline = time.monotonic() + 60
        while session_with_lock() in (None, lost):
            assert time.monotonic() < deadline and holder.poll() is None, "the lock was not taken again"
            time.sleep(0.05)
        assert f"process {holder.pid}," in refusal(database_url)
        # Stopped, it cannot be the faster one.
        holder.send_signal(signal.SIGSTOP)
        end(session_with_lock())
        other = server_lock._acquire(database_url, 60.0)
        holder.send_signal(signal.SIGCONT)
    assert holder.stdout is not None
    assert f"process {os.getpid()}," in holder.stdout.readline()
    other.close()


def test_a_session_without_a_name_is_told_by_its_number(database_url: str) -> None:
    conn = psycopg2.connect(database_url, application_name="")
    conn.autocommit = True
    with conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_lock(%s, %s)", server_lock._LOCK)
    assert f"its session is {conn.info.backend_pid})" in refusal(database_url)
    conn.close()
