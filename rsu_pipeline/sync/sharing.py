"""Several syncs of one partner share its races: what one reads, the others need not read again.

Each race is read under its own lock, so a race whose calls hang or fail keeps no other waiting. A race that another session is
reading is put behind those that are free. When only such races are left, the sync waits for them, as long as their readers
make progress. A read that began after the sync was requested then counts as read.
"""

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse import race_locks
from rsu_pipeline.warehouse.race_locks import Reader

MAX_STALL_SECONDS = 300.0
"""How long a sync waits for a reader that stores nothing. One call of 120 s and its repetition may take most of that."""
TURN_SECONDS = 2.0
"""How long one wait for a lock is, in one transaction."""


@dataclass
class Stalls:
    """How long the readers of races have not stored anything."""

    max_seconds: float
    _seen: dict[int, tuple[object, float]] = field(default_factory=dict)

    def is_over(self, race_id: int, progress: object, now: float) -> bool:
        """Return whether the race's reader has made no progress for `max_seconds`, from one observation to the next.

        Args:
            race_id: the race.
            progress: anything that changes with each progress.
            now: the monotonic clock.
        """
        before = self._seen.get(race_id)
        if before is None or before[0] != progress:
            before = self._seen[race_id] = (progress, now)
        return now - before[1] >= self.max_seconds


def read_in_turn(
    session: PartnerSession, race_ids: Collection[int], read: Callable[[int], bool], *, max_stall: float | None = None
) -> dict[int, str]:
    """Read each race under its lock, free ones first. An error of `read` ends the work.

    Args:
        session: the partner's session.
        race_ids: the races in their order, or the LISTING alone.
        read: reads the race with this id, and returns whether to continue with the others.
        max_stall: seconds to wait for a reader that makes no progress, by default MAX_STALL_SECONDS. 0: only try.

    Returns:
        For each race that was left to its reader, a sentence that names it.
    """
    stalls = Stalls(MAX_STALL_SECONDS if max_stall is None else max_stall)
    waiting, left = deque(race_ids), dict[int, str]()
    tried = 0
    while waiting:
        race_id = waiting.popleft()
        wait = min(TURN_SECONDS, stalls.max_seconds) if tried > len(waiting) else 0.0
        if race_locks.acquire(session.conn, session.partner_id, race_id, wait=wait):
            tried = 0
            try:
                if not read(race_id):
                    break
            finally:
                race_locks.release(session.conn, session.partner_id, race_id)
            continue
        tried += 1
        reader = race_locks.find_reader(session.conn, session.partner_id, race_id)
        if stalls.is_over(race_id, reader and reader.progress, time.monotonic()):
            left[race_id] = _describe_left_race(session, race_id, reader, stalls.max_seconds)
            continue
        if tried == len(waiting) + 1 and reader is not None:
            session.log(f"{_describe_busy_race(session, race_id, reader)}: waiting for it")
        waiting.append(race_id)
    return left


def _describe_left_race(session: PartnerSession, race_id: int, reader: Reader | None, seconds: float) -> str:
    return f"{_describe_busy_race(session, race_id, reader)}, which has stored nothing for {seconds:.0f} s: it is left to that sync"


def _describe_busy_race(session: PartnerSession, race_id: int, reader: Reader | None) -> str:
    return f"{race_locks.name_of(session.partner_id, race_id)} is being read by {race_locks.describe(reader)}"
