"""Where the output of child processes goes: to the terminal, and to a log file of each."""

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

LOG_BYTES = 10 * 1024 * 1024
LOG_BACKUPS = 2
QUEUED_LINES = 10_000
"""How many lines wait for a terminal that takes none (Ctrl-S); more are only in the log."""


class Printer:
    """Shows lines from a thread of its own, so that a terminal that is stuck or closed stops nobody's work."""

    def __init__(self, echo: Callable[[str, str], None]) -> None:
        self._echo = echo
        self._lines: queue.Queue[tuple[str, str] | None] = queue.Queue(QUEUED_LINES)
        self._thread: threading.Thread | None = None

    def put(self, name: str, line: str) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._show, name="echo", daemon=True)
            self._thread.start()
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait((name, line))

    def finish(self) -> None:
        """Wait a moment until everything is shown."""
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._lines.put_nowait(None)
                self._thread.join(2)
            self._thread = None

    def _show(self) -> None:
        closed = False
        while (item := self._lines.get()) is not None:
            if closed:
                continue
            try:
                self._echo(*item)
            except UnicodeError:
                continue  # a terminal without these characters; the log has them
            except (OSError, ValueError):
                closed = True


class Log:
    """A child's log file, put aside when it is full. A disk that takes no more is no reason to stop the child."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._fd is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.write(self._fd, f"{line}\n".encode())
            if os.fstat(self._fd).st_size > LOG_BYTES:
                os.close(self._fd)
                self._fd = None
                for number in range(LOG_BACKUPS, 0, -1):
                    older = self._path.with_name(f"{self._path.name}.{number}")
                    newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
                    if newer.exists():
                        newer.replace(older)

    def close(self) -> None:
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
