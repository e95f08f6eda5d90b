"""Run `rsu` and sandboxes in processes that need not import anything, because they are copies of a process that has.

Imports are nine tenths of the time of most commands, and of a small sandbox's start. Each copy has its own environment, folder
and standard streams. Nothing is read of the environment while the package is imported (a test checks it), so that a copy is what
the installed script would be. Only the interpreter is not taken down in the end: exit handlers run and streams are flushed.

    python -m rsu_pipeline_tests.cli.warm rsu

is the process that is copied. It listens at the socket that it has as standard input, and ends with the process that
started it.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO

from rsu_pipeline import cli
from rsu_pipeline_tests.cli.warm_client import LENGTH, STATUS, receive, send

MODULES = (
    *(f"rsu_pipeline.cli.{module.name}" for module in pkgutil.iter_modules(cli.__path__)),
    *(f"rsu_pipeline.orchestration.{name}" for name in ("batch", "checks", "fleet_checks", "jobs", "storage")),
    "dagster._cli",
    "pandas",
    "apprise",
    "prometheus_client",
)
"""What is imported before the process is copied. None reads a setting at its import."""
SANDBOX_MODULES = ("runsignup_sandbox.__main__", "uvicorn.loops.asyncio")
PROGRAMS = {
    "rsu": (MODULES, "rsu_pipeline.cli.main"),
    "sandbox": (SANDBOX_MODULES, "runsignup_sandbox.__main__"),
    "victim": (("rsu_pipeline_tests.proof.victim",), "rsu_pipeline_tests.proof.victim"),
}
"""What is imported for each kind of copy, and the module whose `main` it runs."""
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "OPENBLAS_", "OMP_")
"""How the names of variables begin that Python or a library reads once, at its start."""
PIPE_BYTES = 65_536
"""What a pipe takes before anybody reads."""
CLIENT = Path(__file__).with_name("warm_client.py")
_ROOT = Path(__file__).parents[2]

Done = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True)
class Command:
    """What a process needs to become a command."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    umask: int


class Warm:
    """The process that is copied, as the tests see it."""

    def __init__(self, program: str = "rsu") -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="warm-"))
        self.address = str(self._folder / "socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.address)
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rsu_pipeline_tests.cli.warm", program],
                stdin=listener,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=_ROOT,
            )

    def close(self) -> None:
        self._process.kill()
        self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def write_script(self, path: Path, script: Path) -> None:
        """Write an executable that runs a script's commands as copies."""
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {CLIENT} {self.address} {script} "$@"\n')
        path.chmod(0o755)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> "Copy | None":
        """Start a command whose output is read, as subprocess.Popen does. Returns None if a copy would not be the same."""
        read, write = os.pipe()
        with Path(os.devnull).open("rb") as nothing:
            connection = send(self.address, list(arguments), dict(environment), [nothing.fileno(), write, 2])
        os.close(write)
        (pid,) = STATUS.unpack(receive(connection, STATUS.size))
        if pid == 0:
            connection.close()
            os.close(read)
            return None
        return Copy(list(arguments), pid, connection, os.fdopen(read))

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes, timeout: float
    ) -> Done | None:
        """Run a command to its end, as subprocess.run does with pipes. Returns None if a copy would not be the same.

        Raises TimeoutExpired.
        """
        if len(stdin) > PIPE_BYTES:
            return None
        read_in, write_in = os.pipe()
        os.write(write_in, stdin)
        os.close(write_in)
        outputs = [_Stream(), _Stream()]
        streams = [read_in, *(output.theirs for output in outputs)]
        with send(self.address, list(arguments), dict(environment), streams) as connection:
            for fd in streams:
                os.close(fd)
            (pid,) = STATUS.unpack(receive(connection, STATUS.size))
            if pid == 0:
                return None
            connection.settimeout(timeout)
            try:
                (status,) = STATUS.unpack(receive(connection, STATUS.size))
                texts = [output.read(timeout) for output in outputs]
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), timeout) from None
        return subprocess.CompletedProcess(list(arguments), os.waitstatus_to_exitcode(status), *texts)


class Copy:
    """A running copy, with what subprocess.Popen has for one whose output alone is read."""

    def __init__(self, args: list[str], pid: int, connection: socket.socket, stdout: TextIO) -> None:
        self.args = args
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._connection = connection

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it has ended.

        Raises:
            TimeoutExpired: it has not, after this number of seconds.
        """
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            (status,) = STATUS.unpack(receive(self._connection, STATUS.size))
            self.returncode = os.waitstatus_to_exitcode(status)
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Stream:
    """A pipe that is read while the command runs, until every process has closed it."""

    def __init__(self) -> None:
        read, self.theirs = os.pipe()
        self._parts: list[bytes] = []
        self._thread = threading.Thread(target=self._fill, args=(os.fdopen(read, "rb"),), daemon=True)
        self._thread.start()

    def _fill(self, pipe: BinaryIO) -> None:
        with pipe:
            self._parts.append(pipe.read())

    def read(self, timeout: float) -> bytes:
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError
        return b"".join(self._parts)


def starts_alike(environment: Mapping[str, str]) -> bool:
    """Return whether a command of this environment would be the same if it started by itself."""
    names = {name for name in environment.keys() | os.environ.keys() if name.startswith(READ_AT_START)}
    return all(environment.get(name) == os.environ.get(name) for name in names)


def serve(listener: socket.socket) -> Command:
    """Copy this process for each command. Returns in the copies only, with what they are to become."""
    parent = os.getppid()
    running: dict[int, tuple[int, socket.socket]] = {}
    """Process and caller by the descriptor that shows when the process ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while os.getppid() == parent:
            for key, _ in selector.select(timeout=5):
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    header, streams, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
                    command = Command(**json.loads(receive(connection, *LENGTH.unpack(header))))
                    pid = os.fork() if starts_alike(command.environment) else None
                    if pid == 0:
                        _take(streams, connection, running)
                        return command
                    for fd in streams:
                        os.close(fd)
                    connection.sendall(STATUS.pack(pid or 0))
                    if pid:
                        end = os.pidfd_open(pid)
                        running[end] = (pid, connection)
                        selector.register(end, selectors.EVENT_READ)
                    else:
                        connection.close()
                else:
                    pid, connection = running.pop(key.fd)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _, status = os.waitpid(pid, 0)
                    with (
                        connection,
                        suppress(BrokenPipeError),
                    ):  # the caller is gone if it waited no longer than its time-out
                        connection.sendall(STATUS.pack(status))
    sys.exit()


def _take(streams: Sequence[int], connection: socket.socket, running: Mapping[int, tuple[int, socket.socket]]) -> None:
    """Make these the standard streams of a copy, and close what is not its own."""
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    connection.close()
    for end, (_, other) in running.items():
        os.close(end)
        other.close()


def become(command: Command, module: str) -> NoReturn:
    """Run a command as the installed script does, or `python -m`."""
    os.environ.clear()
    os.environ.update(command.environment)
    time.tzset()
    os.chdir(command.folder)
    os.umask(command.umask)
    sys.argv = list(command.arguments)
    sys.path[0] = str(Path(command.arguments[0]).parent)
    # A script is no module; click names the command by this.
    script = sys.modules["__main__"]
    script.__package__ = script.__spec__ = None
    code = 1
    try:
        sys.exit(sys.modules[module].main())
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    modules, main = PROGRAMS[sys.argv[1]]
    for name in modules:
        importlib.import_module(name)
    with socket.socket(fileno=0) as listener:
        gc.freeze()
        command = serve(listener)
        listener.detach()
    become(command, main)
