"""Wait for a database that is unreachable for a moment, instead of failing the rest of a run."""

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg2

from rsu_pipeline import cancellation
from rsu_pipeline.warehouse import database

Result = TypeVar("Result")
MAX_OUTAGE_SECONDS = 600.0
"""How long a run waits for the database, from its first loss on. A failover takes a minute, a restart for an update several."""
PAUSE_SECONDS = 1.0


class Outage:
    """What the threads of one run know of a database outage. `clock` and `pause` are for tests."""

    def __init__(
        self,
        url: str,
        *,
        longest: float = MAX_OUTAGE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = cancellation.sleep,
    ) -> None:
        self._url = url
        self._longest = longest
        self._clock = clock
        self._pause = pause
        self._guard = threading.Lock()
        self._since: float | None = None

    def outlast(self, work: Callable[[], Result]) -> Result:
        """Do the work, and again after each loss of the database. A sync continues from what was committed.

        Raises:
            Any error of the work that is no loss, and a loss once there was no success for LONGEST_SECONDS.
        """
        until = math.inf
        while True:
            try:
                result = work()
            except Exception as error:
                if not is_loss(error):
                    raise
                until = min(until, self._clock() + self._longest)
                if not self._wait(until):
                    raise
            else:
                with self._guard:
                    self._since = None
                return result

    def _wait(self, until: float) -> bool:
        """Wait until the database answers, and return whether it did in time."""
        with self._guard:
            self._since = self._clock() if self._since is None else self._since
            # After one thread has waited this long, the others do not wait as long again.
            until = min(until, self._since + self._longest)
        while self._clock() < until:
            self._pause(PAUSE_SECONDS)
            try:
                database.connect(self._url, purpose="look").close()
            except database.DatabaseError:
                continue
            return True
        return False


def is_loss(error: BaseException | None) -> bool:
    """Return whether an error comes from a database session that was lost, could not be opened or only reads.

    PostgreSQL's codes of class 57P mean that it ended the session, 08 that the connection failed. An error of the
    connection itself has no code.
    """
    while error is not None:
        if isinstance(error, (psycopg2.InterfaceError, database.UnreachableError, database.ReadOnlyError)):
            return True
        if isinstance(error, psycopg2.OperationalError):
            return error.pgcode is None or error.pgcode.startswith(("57P", "08"))
        error = error.__cause__ or error.__context__
    return False
