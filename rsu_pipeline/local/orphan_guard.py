"""End the processes that the children of a killed supervisor leave behind.

A supervisor that is killed cannot stop its children. The kernel signals them, but processes that they started may live on:
Dagster's code server does so indefinitely if a run was active and the database is gone. The guard reads the children's
sessions from its standard input, one per line. When that ends, the supervisor is gone.
"""

import contextlib
import os
import signal
import sys
import time

from rsu_pipeline.local.supervisor import members

GRACE_SECONDS = 10.0
"""How long the children may take to end by themselves."""


def main() -> None:
    sessions = {int(line) for line in sys.stdin}
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(True for session in sessions for _ in members(session)):
        time.sleep(0.2)
    for session in sessions:
        for pid, _ in list(members(session)):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
