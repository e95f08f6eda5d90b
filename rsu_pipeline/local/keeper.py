"""The keeper: a small process of its own that stops the embedded server when its last user is gone.

Everything depends on locks that the kernel releases when a process ends, in whatever way:

users.lock   shared by every process that uses the server, and acquired exclusively by the keeper
keeper.lock  locked by the keeper for its life, so that every process can see whether there is one
data.lock    locked by the server: it is passed to every process of PostgreSQL and to no other that lives on, so
             a process that acquires it knows that no such process is left, regardless of postmaster.pid

This file uses only the standard library: it is run by its path, where the project may not be importable.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

FAST_SECONDS = 60.0
"""How long an orderly stop may take before the server is made to abort."""
QUIT_SECONDS = 10.0
"""How long it may take then before its processes are killed. The next start recovers from its log."""


def open_file(path: Path, flags: int = 0) -> int:
    """Open a file that only its owner may read. It is created if necessary, for the owner of its folder.

    Raises:
        OSError: it cannot be opened.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)
    return fd


def try_lock(path: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """Acquire a lock if that is possible now. Return its descriptor, to be closed, or None.

    Raises:
        OSError: the file cannot be opened.
    """
    fd = open_file(path)
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Acquire a lock exclusively for a block, waiting without a limit.

    Raises:
        OSError: the file cannot be opened.
    """
    fd = open_file(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def data_lock(data: Path) -> Path:
    """Return the lock file of the server that owns a data folder. It is beside the folder."""
    return data.with_name(data.name + ".lock")


def postmaster_lines(data: Path) -> list[str]:
    """Return the lines of postmaster.pid (process id, folder, start time, port, ...), or none if there is no such file."""
    try:
        return (data / "postmaster.pid").read_text(errors="replace").splitlines()
    except OSError:
        return []


def postmaster(data: Path) -> int | None:
    """Return the process id of the server that runs on a data folder now, or None if postmaster.pid names no such process."""
    lines = postmaster_lines(data)
    try:
        pid = int(lines[0])
    except (IndexError, ValueError):
        return None
    if pid <= 0:  # negative: not a server but a single-user session, which ends by itself
        return None
    try:
        if Path("/proc/self/cwd").exists():
            # The process id may belong to an unrelated process by now. A server's current folder is its data folder. A zombie
            # has none.
            return pid if Path(f"/proc/{pid}/cwd").samefile(data) else None
        named = subprocess.run(["/bin/ps", "-o", "comm=", "-p", str(pid)], capture_output=True, check=False)  # noqa: S603
    except OSError:
        return None
    return pid if b"postgres" in named.stdout else None


def signal_holders(lock: Path, number: signal.Signals) -> None:
    """Signal every other process that has a lock file open. Does nothing without /proc to find them in."""
    wanted = lock.stat()
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        pid = int(entry.parts[2])
        with contextlib.suppress(OSError):
            # The name first: a stat of a file on a dead network share would hang.
            same = lock.name in entry.readlink().name and os.path.samestat(entry.stat(), wanted)
            if same and pid != os.getpid():
                os.kill(pid, number)


def stop_server(data: Path) -> None:
    """Stop the server of a data folder and return when none of its processes is left, at once if none is.

    Raises:
        OSError: the lock file cannot be opened.
    """
    lock = data_lock(data)
    steps = [(0.0, signal.SIGINT), (FAST_SECONDS, signal.SIGQUIT), (FAST_SECONDS + QUIT_SECONDS, signal.SIGKILL)]
    begun = time.monotonic()
    asked: tuple[int, signal.Signals] | None = None
    while (fd := try_lock(lock)) is None:
        wait = time.monotonic() - begun
        number = [step for after, step in steps if wait >= after][-1]
        pid = postmaster(data)
        if number == signal.SIGKILL:
            signal_holders(lock, number)
        elif pid is not None and asked != (pid, number):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            asked = (pid, number)
        time.sleep(0.02)
    os.close(fd)


class _Ended(BaseException):
    """A signal asked the keeper to end (SIGTERM): the machine or the service is being shut down."""


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _Ended


def keep(folder: Path, data: Path) -> None:
    """Become the keeper of a folder, if it has none yet: stop the server when its last user is gone, and return.

    The calling process returns from here only in the branch that is not the keeper. The keeper continues in a child that no
    process has to wait for.

    Raises:
        OSError: a lock file cannot be opened.
    """
    # Opened before users.lock: a keeper that is killed closes its files in the order of their numbers, and a user that only
    # gets in because it is dead must not see it as alive.
    keeper_fd = try_lock(folder / "keeper.lock")
    if keeper_fd is None or os.fork() != 0:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signal.signal(signal.SIGTERM, _end)
        with exclusive(folder / "users.lock"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the server is being stopped already
            if data.exists():  # otherwise `destroy` was here
                stop_server(data)
            os.close(keeper_fd)  # before users.lock: the next user has to see that it needs a new keeper
    except _Ended:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.close(keeper_fd)
        stop_server(data)


if __name__ == "__main__":
    # If the folder was deleted under the server, nothing is left to do: the server notices within a minute and ends.
    with contextlib.suppress(FileNotFoundError):
        keep(Path(sys.argv[1]), Path(sys.argv[2]))
