"""A process killed between any two statements, played inside the test's process.

The session's connections count their statements and commits. When the chosen one is reached, `Killed` is raised, and
from then on every statement raises it again, as a dead process sends none. Closing lets PostgreSQL roll back, which is
what it does when a client vanishes.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest

from rsu_pipeline.sync import page_requests
from rsu_pipeline.warehouse import database

KEEPER = "lease keeper"
"""The thread that keeps the leases of the process's sessions."""


class Killed(BaseException):
    """The process is dead. No handler for ordinary errors may catch it."""


class _Countdown:
    def __init__(self, steps: int) -> None:
        self.left = steps
        self.before_commit = False

    def step(self) -> None:
        if threading.current_thread().name == KEEPER:
            # Its statements come by the clock: with them a program would be another each time.
            return
        self.left -= 1
        if self.left <= 0:
            raise Killed


@contextmanager
def killed_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kill whatever opens sessions in the block at its `steps`-th statement or commit, and end quietly either way."""
    countdown = _Countdown(steps)

    class Cursor(psycopg2.extensions.cursor):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            countdown.step()
            return super().execute(*args, **kwargs)

        def copy_expert(self, *args: Any, **kwargs: Any) -> Any:
            countdown.step()
            return super().copy_expert(*args, **kwargs)

    class Connection(psycopg2.extensions.connection):
        def commit(self) -> None:
            # Once before it takes effect, once after: the client cannot recognise a commit it did not hear of.
            countdown.step()
            super().commit()
            countdown.step()

        def rollback(self) -> None:
            if countdown.left > 0:
                super().rollback()

    class Executor:
        """The next page is requested before the one before it is stored, in this thread: a program is the same each time."""

        def __init__(self, **how: Any) -> None:
            pass

        def submit(self, request: Callable[..., Any], *arguments: Any) -> "Future[Any]":
            answered: Future[Any] = Future()
            try:
                answered.set_result(request(*arguments))
            except Exception as error:
                answered.set_exception(error)
            return answered

        def shutdown(self, **how: Any) -> None:
            pass

    connect = psycopg2.connect

    def dying_connect(*args: Any, **kwargs: Any) -> Any:
        return connect(*args, connection_factory=Connection, cursor_factory=Cursor, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(database.psycopg2, "connect", dying_connect)
        patch.setattr(page_requests, "ThreadPoolExecutor", Executor)
        try:
            yield
        except Killed:
            return
