"""The advisory locks of a hub: what each number means, declared in one place so that no two share one.

A lock has two numbers: what kind of thing is locked, and which one of them. PostgreSQL keeps them apart by database.
"""

import enum

Key = tuple[int, int]


@enum.unique
class Kind(enum.IntEnum):
    """First number of a lock."""

    THE_ONLY_ONE = 0x525355
    """A thing of which the hub has one: see Only."""
    PARTNER = 0x525356
    """A short transaction over all races of a partner, by the partner's number. Their reads have locks of their own, see
    race_locks."""
    LEDGER = 0x525357
    """The grant of calls, by their budget."""
    WATCH = 0x525358
    """A shard of the watch."""
    START_LISTS = 0x525359
    """The rebuild of a partner's start lists, by the partner's number."""
    LEASE = 0x52535A
    """The sessions of a process, by the number of its keeper."""
    REMOVALS = 0x52535B
    """The end of a read that may mark registrations as removed, by the partner's number."""
    RACE_DAY_WAITS = 0x52535C
    """Shared: a race-day call waits for a place in flight, by the number of its ledger."""


@enum.unique
class Only(enum.IntEnum):
    """Second number of a lock of which the hub has one."""

    MIGRATIONS = 0
    DAGSTER_SCHEMA = 1
    API_KEYS = 2
    SERVER = 3
    ALERTS = 4

    @property
    def key(self) -> Key:
        """Return both numbers of the lock."""
        return int(Kind.THE_ONLY_ONE), int(self)
