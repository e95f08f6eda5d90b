"""`rsu` on a terminal of its own, with a given number of columns and rows."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from contextlib import suppress

from rsu_pipeline_tests.cli.shell import SCRIPT, environment

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(
    settings: dict[str, str],
    *arguments: str,
    columns: int = 80,
    rows: int = 24,
    until: Callable[[str], bool] = lambda shown: False,
    type_in: Callable[[str], str] = lambda shown: "",
) -> tuple[str, int]:
    """Run a command on a terminal of this size.

    What it wrote, without escape sequences, and its exit code. It is interrupted once what it wrote is enough, or after a
    minute. `type_in` is called with what it wrote so far, and returns what is typed then.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    variables = environment(**settings) | {"TERM": "xterm", "COLUMNS": str(columns), "LINES": str(rows)}
    process = subprocess.Popen(
        [SCRIPT, *arguments],
        env=variables,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        # Its controlling terminal, which getpass opens as /dev/tty.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    written, deadline = b"", time.monotonic() + 60
    while process.poll() is None:
        if until(plain(written)) or time.monotonic() > deadline:
            process.send_signal(signal.SIGINT)
            process.wait(30)
        with suppress(BlockingIOError, OSError):
            written += os.read(ours, 65536)
        if typed := type_in(plain(written)):
            os.write(ours, typed.encode())
        time.sleep(0.02)
    with suppress(BlockingIOError, OSError):
        while chunk := os.read(ours, 65536):
            written += chunk
    os.close(ours)
    return plain(written), process.returncode


def plain(written: bytes) -> str:
    """Return what a terminal shows, without escape sequences."""
    return _ESCAPES.sub("", written.decode(errors="replace")).replace("\r\n", "\n")
