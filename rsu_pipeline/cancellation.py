"""End the work of a process within seconds of a signal: waits, calls to RunSignup and statements of PostgreSQL.

Python runs a signal handler in the main thread only, between two instructions. A thread that waits for RunSignup does not
notice it, nor does a main thread that waits inside libpq for a lock. So a process that can be cancelled opens a `scope`. A
thread of the scope is woken by the signal itself, through `signal.set_wakeup_fd`, and then:

- sets a flag, at which waits end and nothing new begins (`sleep` and `check` raise Cancelled),
- shuts down the sockets of calls in flight,
- cancels statements that run for longer than STATEMENT_GRACE_SECONDS.

Without a scope `sleep` is time.sleep.
"""

import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import connection as Connection

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STATEMENT_GRACE_SECONDS = 2.0
"""How long a statement may take to end by itself. Statements that settle a call or release a lock take milliseconds."""
CHECK_SECONDS = 0.25


class Cancelled(BaseException):
    """A signal asked the process to end. No `except Exception` catches it."""


class _Scope:
    """The sessions and sockets of a process that can be cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.ended = threading.Event()
        self.connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self.sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.guard = threading.Lock()

    def members(self, kind: "weakref.WeakSet[Any]") -> list[Any]:
        with self.guard:
            return list(kind)


_current: _Scope | None = None
_was_cancelled = False


@contextmanager
def scope() -> Iterator[None]:
    """Cancel the work of the block on the signals of SIGNALS, in addition to their handlers.

    Only the main thread can have a scope, and one scope at a time. Elsewhere the block runs without one.
    """
    global _current, _was_cancelled
    if _current is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    opened = _current = _Scope()
    _was_cancelled = False
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(opened, reader), name="cancellation", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        opened.ended.set()
        os.close(writer)
        watcher.join(5)
        _was_cancelled = opened.cancelled.is_set()
        if _was_cancelled:
            _close_all(opened)
        _current = None


def was_cancelled() -> bool:
    """Return whether a signal ended the last scope. Dagster turns an interrupt of a run in this process into a failed run."""
    return _was_cancelled


def check() -> None:
    """Raise Cancelled if a signal has asked the process to end."""
    if _current is not None and _current.cancelled.is_set():
        raise Cancelled


def sleep(seconds: float) -> None:
    """Wait for `seconds`.

    Raises:
        Cancelled: a signal asks the process to end, before or during the wait.
    """
    if _current is None:
        time.sleep(seconds)
        return
    _current.cancelled.wait(seconds)
    check()


def add_connection(conn: Connection) -> None:
    """Register a session whose statements are cancelled with the scope."""
    _add(lambda opened: opened.connections, conn)


def add_socket(link: socket.socket) -> None:
    """Register a connection to RunSignup that is shut down with the scope."""
    _add(lambda opened: opened.sockets, link)
    check()


def _add(kind: Callable[[_Scope], "weakref.WeakSet[Any]"], member: Any) -> None:
    opened = _current
    if opened is not None:
        with opened.guard:
            kind(opened).add(member)


def _watch(opened: _Scope, reader: int) -> None:
    """Wait for a signal, then end what the scope has open, until the scope ends."""
    with open(reader, "rb", buffering=0) as signals:
        while received := signals.read(1):
            if received[0] in SIGNALS:
                opened.cancelled.set()
                _end_waits(opened)
                return


def _end_waits(opened: _Scope) -> None:
    """Shut down sockets and cancel slow statements repeatedly, because a thread may open another one meanwhile."""
    active_since: dict[Connection, float] = {}
    while not opened.ended.wait(CHECK_SECONDS):
        for link in opened.members(opened.sockets):
            _shut_down(link)
        now = time.monotonic()
        active = [conn for conn in opened.members(opened.connections) if _is_active(conn)]
        active_since = {conn: active_since.get(conn, now) for conn in active}
        for conn, since in active_since.items():
            if now - since >= STATEMENT_GRACE_SECONDS:
                with suppress(psycopg2.Error):
                    conn.cancel()


def _is_active(conn: Connection) -> bool:
    return not conn.closed and conn.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_ACTIVE


def _shut_down(link: socket.socket) -> None:
    """End the waits of other threads at a socket. Closing it would not end them."""
    with suppress(OSError):
        # Not SSLSocket's own method, which removes the TLS object while a thread reads.
        socket.socket.shutdown(link, socket.SHUT_RDWR)


def _close_all(opened: _Scope) -> None:
    """Close the sessions that the block left open, so that none outlives it."""
    for conn in opened.members(opened.connections):
        with suppress(psycopg2.Error):
            if _is_active(conn):
                conn.cancel()  # closing waits for the statement of another thread
            conn.close()
