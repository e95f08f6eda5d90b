"""`rsu sync` ends within ten seconds after a signal, whatever it waits for, and shows no traceback."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rsu_pipeline_tests.cli.started import RSU, without_ours
from rsu_pipeline_tests.hub import Hub
from runsignup_sandbox.process import SandboxProcess


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sync_that_is_told_to_end_ends_within_ten_seconds_without_a_traceback(
    make_database: Callable[[], str],
    make_sandbox: Callable[..., SandboxProcess],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    hub = Hub(make_database(), make_sandbox(scale="small", seed=7), tmp_path, RSU_READ_TIMEOUT="300")
    hub.sandbox.admin.fault("timeout", 0, seconds=300)
    shell = subprocess.Popen(
        [RSU, "sync", "--quiet"],
        env=without_ours() | hub.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not hub.value("SELECT count(*) FROM api_calls WHERE settled_at IS NULL"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        shell.send_signal(number)
        began = time.monotonic()
        output, _ = shell.communicate(timeout=30)
        took = time.monotonic() - began
    finally:
        shell.kill()
        shell.wait(60)
    assert took < 10
    assert shell.returncode not in (0, -number), output
    assert "Traceback" not in output, output
    # Not one partner after the other: the first is the last.
    assert hub.value("SELECT count(DISTINCT credential_id) FROM api_calls") == 1
    hub.wait_for_sessions_to_end()
