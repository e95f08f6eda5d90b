"""Signals end waits of every kind, in the main thread and in others."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

SCRIPT = """
import sys, threading, time
from rsu_pipeline import cancellation
from rsu_pipeline.warehouse import database

def handle(number, frame):
    raise KeyboardInterrupt
import signal
signal.signal(signal.SIGTERM, handle)
signal.signal(signal.SIGINT, handle)
what, url = sys.argv[1:]

def lock():
    with database.session(url, purpose="test") as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_sleep(60)")

work = {"sleep": lambda: cancellation.sleep(60), "lock": lock}[what.removeprefix("thread ")]
began = time.monotonic()
try:
    with cancellation.scope():
        print("ready", flush=True)
        if what.startswith("thread "):
            thread = threading.Thread(target=work)
            thread.start()
            try:
                thread.join()
            finally:
                thread.join()
        else:
            work()
except BaseException as error:
    print(type(error).__name__, round(time.monotonic() - began, 1), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("what", ["sleep", "lock", "thread sleep", "thread lock"])
def test_a_signal_ends_every_wait_within_seconds(
    make_database: Callable[[], str], what: str, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, what, make_database()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait(60)
    name, seconds = output.split()
    assert name == "KeyboardInterrupt", errors
    assert float(seconds) < 10
