"""A line on the terminal for a command that is still silent after a second, so that nobody takes it for stuck.

Only people at a terminal see it: pipes, files and timers get exactly what the command prints.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TextIO

SILENT_SECONDS = 1.0
_timer: threading.Timer | None = None


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
    """Announce the command on standard error if it prints nothing for a second."""
    global _timer
    if not sys.stderr.isatty():
        yield
        return
    _timer = threading.Timer(SILENT_SECONDS, partial(_announce, sys.stderr, describe_command(arguments)))
    _timer.daemon = True
    originals = [(stream, stream.write) for stream in {sys.stdout, sys.stderr}]
    for stream, write in originals:
        stream.write = partial(_write, write)  # type: ignore[method-assign]
    _timer.start()
    try:
        yield
    finally:
        cancel()
        for stream, write in originals:
            stream.write = write  # type: ignore[method-assign]


def cancel() -> None:
    """Announce nothing any more: something was printed, or the terminal is another program's now."""
    if _timer is not None:
        _timer.cancel()


def _write(write: Callable[[str], int], text: str) -> int:
    cancel()
    return write(text)


def _announce(stream: TextIO, command: str) -> None:
    stream.write(f"{command} is working ...\n")
    stream.flush()
