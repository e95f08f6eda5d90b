"""Child processes, supervised in the foreground: started in order, ended in reverse, none left behind.

Each child has its own session, so that the terminal's Ctrl-C reaches only the supervisor. It then ends the children one
after the other, each with everything that it has started in its session.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from rsu_pipeline import default_signals
from rsu_pipeline.errors import RsuError
from rsu_pipeline.local.child_output import Log, Printer

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_SECONDS = 0.05
FIRST_DELAY = 1.0
LAST_DELAY = 30.0
STEADY_SECONDS = 60.0
"""A child that ran this long before it ended is restarted without a long delay."""
LINE_BYTES = 64 * 1024
"""Longer lines are shown in pieces."""
TAIL_LINES = 12
"""Lines of a child's output that are shown when it fails."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class ChildFailed(RsuError):
    """A child could not be started, ended too early or was not ready in time. The message names the child and the reason."""


@dataclass(frozen=True)
class Child:
    """A process to supervise.

    `env` is added to the environment, and None removes a variable. `ready` checks whether the process works yet.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str | None] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    ready_timeout: float = 60
    restart: bool = False


class Supervisor:
    """Runs children until a signal arrives or one of them ends. A context manager: leaving it stops them all.

    `echo(name, line)` shows a line, in a thread of its own. `log_dir` gets a file NAME.log per child. `grace` is how
    many seconds a child may take to end before it is killed. Use it in the main thread: signals arrive there, and the
    children of a thread end with that thread.
    """

    def __init__(self, *, echo: Callable[[str, str], None], log_dir: Path | None = None, grace: float = 10.0) -> None:
        self._printer = Printer(echo)
        self._log_dir = log_dir
        self._grace = grace
        self._running: list[_Running] = []
        self._handlers: dict[signal.Signals, Any] = {}
        self._signals = 0
        self._last_signal = 0.0
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._catch_signals()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, child: Child) -> None:
        """Start a child and wait until it is ready.

        Raises:
            ChildFailed: it cannot be started, ends first or is not ready in time, or an earlier child ends meanwhile.
            KeyboardInterrupt: a signal arrives meanwhile.
        """
        self._catch_signals()
        running = _Running(child, self._printer, self._log_dir, self._watch_over)
        self._running.append(running)
        running.start()
        deadline = time.monotonic() + child.ready_timeout
        while child.ready is not None:
            if self._signals:
                raise KeyboardInterrupt
            for one in self._running:
                if one.ended() and (one is running or not one.child.restart):
                    raise ChildFailed(one.failure_message(f"{one.outcome()} while {child.name} was starting"))
            with contextlib.suppress(OSError):  # it does not listen yet
                if child.ready():
                    return
            if time.monotonic() > deadline:
                raise ChildFailed(running.failure_message(f"was not ready after {child.ready_timeout:g} s"))
            time.sleep(POLL_SECONDS)

    def wait(self) -> int:
        """Block until a signal arrives, then return 0, or until a child ends permanently, then return 1."""
        self._catch_signals()
        while not self._signals:
            for one in self._running:
                if not one.ended():
                    continue
                if not one.child.restart:
                    self._printer.put(one.child.name, one.outcome())
                    return 1
                one.start_again_when_due()
            time.sleep(POLL_SECONDS)
        return 0

    def stop(self) -> None:
        """End all children, last one first, and everything in their sessions. Returns when nothing is left.

        Another signal (Ctrl-C again) kills what is left at once.
        """
        before = self._signals
        left = [one for one in reversed(self._running) if one.process is not None]
        # Each child is signalled when those after it have ended. A slow one delays the others for its share only.
        share = self._grace / max(len(left), 1)
        for one in left:
            one.send(signal.SIGTERM)
            if one is not left[-1]:
                self._wait_for([one], share, before)
        self._wait_for(left, self._grace, before)
        for one in left:
            one.kill()
        for one in left:
            one.finish()
        self._running.clear()
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        self._printer.finish()
        self._release_signals()

    def _watch_over(self, session: int) -> None:
        """Report a child's session to the guard. If this process is killed, the guard ends what the child leaves there."""
        if self._guard is None:
            self._guard = subprocess.Popen(
                [sys.executable, "-m", "rsu_pipeline.local.orphan_guard"],
                # It ends processes and needs no setting of the project, and so no secret.
                env={name: value for name, value in os.environ.items() if not name.startswith("RSU_")},
                stdin=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=default_signals.restore,
            )
        assert self._guard.stdin is not None  # noqa: S101 - requested above
        with contextlib.suppress(OSError):
            self._guard.stdin.write(b"%d\n" % session)
            self._guard.stdin.flush()

    def _wait_for(self, some: list[_Running], seconds: float, signals_before: int) -> None:
        deadline = time.monotonic() + seconds
        while any(one.has_processes() for one in some):
            if self._signals > signals_before or time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)

    def _catch_signals(self) -> None:
        if self._handlers or threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup: the process is meant to survive its terminal
            self._handlers[number] = signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))

    def _release_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # Wrappers such as `uv run` pass on the Ctrl-C that the terminal has already sent: one press, two signals.
        now = time.monotonic()
        if now - self._last_signal > 0.3:
            self._signals += 1
        self._last_signal = now


class _Running:
    """A child with the process that runs it now, if one does."""

    def __init__(self, child: Child, printer: Printer, log_dir: Path | None, on_start: Callable[[int], None]) -> None:
        self.child = child
        self._on_start = on_start
        self.process: subprocess.Popen[bytes] | None = None
        self._printer = printer
        self._log = Log(log_dir / f"{child.name}.log") if log_dir else None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._pump: threading.Thread | None = None
        self._started = 0.0
        self._delay = FIRST_DELAY
        self._due: float | None = None

    def start(self) -> None:
        """Start its process.

        Raises:
            ChildFailed: that is not possible.
        """
        # Python buffers its output to a pipe unless this is set.
        settings = {"PYTHONUNBUFFERED": "1"} | dict(os.environ) | dict(self.child.env)
        environment = {name: value for name, value in settings.items() if value is not None}
        try:
            process = subprocess.Popen(  # noqa: S603 - the project's own commands
                list(self.child.command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=_prepare_child(os.getpid()),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ChildFailed(f"{self.child.name} could not be started: {error}.") from error
        self.process = process
        self._on_start(process.pid)
        self._started = time.monotonic()
        self._due = None
        self._pump = threading.Thread(target=self._read, args=(process,), name=self.child.name, daemon=True)
        self._pump.start()

    def start_again_when_due(self) -> None:
        """Restart a process that has ended, after a delay that grows as long as it keeps ending soon."""
        now = time.monotonic()
        if self._due is None:
            if now - self._started > STEADY_SECONDS:
                self._delay = FIRST_DELAY
            self._printer.put(self.child.name, f"{self.outcome()}. Restarting it in {self._delay:g} s")
            self.kill()
            self._due = now + self._delay
            self._delay = min(self._delay * 2, LAST_DELAY)
        elif now >= self._due:
            try:
                self.start()
            except ChildFailed as error:
                self._printer.put(self.child.name, str(error))
                self._due = now + self._delay

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def outcome(self) -> str:
        """Return how its process ended, in words."""
        status = self.process.returncode if self.process else None
        if status is not None and status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    def failure_message(self, what: str) -> str:
        """Return a sentence about the child with the last lines of its output."""
        if self._pump and self.ended():
            self._pump.join(1)  # until its last output has arrived
        lines = "\n".join(f"  {line}" for line in self._tail)
        return f"{self.child.name} {what}. Its last output:\n{lines}" if lines else f"{self.child.name} {what}."

    def has_processes(self) -> bool:
        """Return whether its process or another one in its session is alive."""
        if self.process is None:
            return False
        return self.process.poll() is None or any(True for _ in members(self.process.pid))

    def send(self, number: signal.Signals) -> None:
        """Signal every process of its session."""
        if self.process is None or not self.has_processes():
            return  # its process id may be another's by now
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, number)
        for pid, group in list(members(self.process.pid)):
            if group != self.process.pid:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)

    def kill(self) -> None:
        """Kill every process of its session and wait until they are gone."""
        deadline = time.monotonic() + 5
        while self.has_processes() and time.monotonic() < deadline:
            self.send(signal.SIGKILL)  # repeatedly: a process may have started another meanwhile
            time.sleep(0.01)

    def finish(self) -> None:
        """Release the ended process and its output."""
        if self._pump:
            self._pump.join(1)
        if self._log:
            self._log.close()
        self.process = None

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Pass on the output of the process until nothing can write any more. Runs in a thread of its own."""
        assert process.stdout is not None  # noqa: S101 - requested in start
        with process.stdout as stream:
            while data := stream.readline(LINE_BYTES):
                line = data.decode(errors="replace").rstrip("\r\n")
                self._tail.append(line)
                if self._log:
                    self._log.write(line)
                self._printer.put(self.child.name, line)


def _prepare_child(parent: int) -> Callable[[], None]:
    """Return what a new process does before it becomes the child.

    It restores the default signal dispositions, and asks the kernel for a SIGTERM when its parent is killed.
    """

    def prepare() -> None:
        default_signals.restore()
        if _LIBC is None:
            return
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was killed before this request
            os._exit(1)

    return prepare


def members(session: int) -> Iterator[tuple[int, int]]:
    """Yield the living processes of a session with their process groups. Without /proc, yields those of its own group."""
    if not Path("/proc/self/stat").exists():
        with contextlib.suppress(OSError):
            os.killpg(session, 0)
            yield session, session
        return
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # After the name, which may contain anything: state, parent, process group, session.
            state, _, group, its_session = entry.read_text(errors="replace").rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                yield int(entry.parent.name), int(group)
