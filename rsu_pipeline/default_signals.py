"""Give a process the signal dispositions that it would have from a login shell.

A process inherits which signals are ignored or blocked. If its parent ignores SIGTERM, Python and Dagster ignore it too:
Dagster gives SIGTERM the disposition of SIGINT.

    python -m rsu_pipeline.default_signals COMMAND ...

restores them, then becomes the command.
"""

import os
import signal
import sys
from collections.abc import Sequence

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def restore() -> None:
    """Let SIGINT, SIGTERM and SIGHUP end this process and a child that it becomes. For the main thread only."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def restore_if_ignored() -> None:
    """Let ignored signals end this process again, SIGINT by KeyboardInterrupt as usual. A handler stays.

    An ignored SIGHUP stays ignored, because nohup intends it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) == signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def main(command: Sequence[str]) -> None:
    """Become a command with the default dispositions."""
    if not command:
        sys.exit("usage: python -m rsu_pipeline.default_signals COMMAND ...")
    restore()
    os.execvp(command[0], list(command))  # noqa: S606 - the command that the unit names


if __name__ == "__main__":
    main(sys.argv[1:])
