"""An rsu command as a process in the foreground, and everything that it starts."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import requests

from rsu_pipeline.local.cluster import Cluster
from rsu_pipeline.local.keeper import data_lock, try_lock
from rsu_pipeline.settings import project_root

RSU = str(Path(sys.executable).parent / "rsu")
T = TypeVar("T")
MARK = "STARTED_BY_TEST"


class Started:
    """A command in the foreground. Whatever it starts, and they start, inherits its mark in the environment."""

    def __init__(self, command: str, environment: Mapping[str, str], folder: Path, program: Sequence[str] = ()) -> None:
        """Start `rsu` with a command in a folder, or another program in the checkout, whose output goes into the folder."""
        self.mark = f"{MARK}={command}-{time.monotonic_ns()}"
        name, _, value = self.mark.partition("=")
        self._output = folder / f"{value}.out"
        with self._output.open("w") as stream:
            self.process = subprocess.Popen(
                program or [RSU, command],
                env=without_ours() | dict(environment) | {name: value},
                cwd=project_root() if program else folder,
                stdout=stream,
                stderr=subprocess.STDOUT,
                umask=0,  # files are private whatever the umask
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def until(self, what: str, ask: Callable[[], T], seconds: float = 120) -> T:
        """Ask until the answer is true, while the process lives."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(requests.RequestException, KeyError):
                if answer := ask():
                    return answer
            assert self.process.poll() is None, f"{what}: it ended with {self.process.returncode}:\n{self.output}"
            time.sleep(0.2)
        raise AssertionError(f"{what}: not within {seconds:g} s:\n{self.output}")

    def family(self) -> list[str]:
        """Return the command lines of all living processes with the mark."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        return found

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def without_ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("RSU_", "DAGSTER_"))}


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_runs(home: Path) -> bool:
    """Return whether any process of the embedded PostgreSQL is alive: they all hold its lock."""
    held = try_lock(data_lock(Cluster(home / "postgres", None).data))
    if held is None:
        return True
    os.close(held)
    return False


def gone(started: Started, home: Path | None, seconds: float = 60) -> list[str]:
    """Return what is still alive after at most this number of seconds."""
    deadline = time.monotonic() + seconds
    while True:
        left = started.family() + (["postgres"] if home and server_runs(home) else [])
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)
