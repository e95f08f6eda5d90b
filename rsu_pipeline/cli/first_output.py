"""A line on the terminal for a command that is still silent after a second, so that nobody takes it for stuck.

Only people at a terminal see it: pipes, files and timers get exactly what the command prints. While a prompt waits for an
answer, the command is not at work and the line is not written.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TextIO

from click import termui

SILENT_SECONDS = 1.0


class _Announcement:
    """The line of one command, which a timer writes unless something else is written first."""

    def __init__(self, stream: TextIO, command: str) -> None:
        self._write, self._flush, self._line = stream.write, stream.flush, f"{command} is working ...\n"
        self._timer: threading.Timer | None = None
        # Reentrant: a signal's handler may print while the lock is held.
        self._lock = threading.RLock()

    def start(self) -> None:
        with self._lock:
            self.cancel()
            self._timer = threading.Timer(SILENT_SECONDS, self._announce)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """Stop the timer, and wait until one that is just writing the line is done."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None

    def _announce(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():
                self._write(self._line)
                self._flush()


_announcement: _Announcement | None = None


def describe_command(arguments: Sequence[str]) -> str:
    """Return the words of a command without its options and their values, which may name people."""
    words = []
    for argument in arguments[:2]:
        if argument.startswith("-"):
            break
        words.append(argument)
    return " ".join(["rsu", *words])


@contextmanager
def announcing(arguments: Sequence[str]) -> Iterator[None]:
    """Announce the command on standard error if it prints nothing for a second, prompts aside."""
    global _announcement
    if not sys.stderr.isatty():
        yield
        return
    _announcement = _Announcement(sys.stderr, describe_command(arguments))
    originals = [(stream, stream.write) for stream in {sys.stdout, sys.stderr}]
    for stream, write in originals:
        stream.write = partial(_write, write)  # type: ignore[method-assign]
    visible, hidden = termui.visible_prompt_func, termui.hidden_prompt_func
    # All of click's prompts and confirmations read their answer with one of these.
    termui.visible_prompt_func, termui.hidden_prompt_func = partial(_ask, visible), partial(_ask, hidden)
    _announcement.start()
    try:
        yield
    finally:
        cancel()
        _announcement = None
        termui.visible_prompt_func, termui.hidden_prompt_func = visible, hidden
        for stream, write in originals:
            stream.write = write  # type: ignore[method-assign]


def cancel() -> None:
    """Announce nothing any more: something was printed, or the terminal is another program's now."""
    if _announcement is not None:
        _announcement.cancel()


@contextmanager
def waiting_for_input() -> Iterator[None]:
    """Announce nothing while somebody types. A new second of silence begins after it."""
    cancel()
    yield
    if _announcement is not None:
        _announcement.start()


def _write(write: Callable[[str], int], text: str) -> int:
    cancel()
    return write(text)


def _ask(ask: Callable[[str], str], text: str) -> str:
    with waiting_for_input():
        return ask(text)
