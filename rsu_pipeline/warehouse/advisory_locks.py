"""The advisory locks of a hub, declared in one place so that no two share a number.

A lock has two numbers: the kind of thing that is locked, and which one of them. PostgreSQL separates them by database.
"""

import enum

Key = tuple[int, int]


@enum.unique
class Kind(enum.IntEnum):
    """First number of a lock."""

    THE_ONLY_ONE = 0x525355
    """A thing of which the hub has only one: see Only."""
    PARTNER = 0x525356
    """A short transaction over all races of a partner, by partner id. Reads of its races have their own locks, see race_locks."""
    LEDGER = 0x525357
    """The grant of calls, by their budget."""
    WATCH = 0x525358
    """A shard of the watch."""
    START_LISTS = 0x525359
    """The rebuild of a partner's start lists, by partner id."""
    LEASE = 0x52535A
    """The sessions of a process, by the id of its keeper."""
    REMOVALS = 0x52535B
    """The end of a read that may mark registrations as removed, by partner id."""
    RACE_DAY_WAITS = 0x52535C
    """A race-day call waits for a concurrency slot, by the id of its ledger. Shared."""


@enum.unique
class Only(enum.IntEnum):
    """Second number of a lock of which the hub has only one."""

    MIGRATIONS = 0
    DAGSTER_SCHEMA = 1
    API_KEYS = 2
    SERVER = 3
    ALERTS = 4
    WEBHOOKS = 5

    @property
    def key(self) -> Key:
        """Both numbers of the lock."""
        return int(Kind.THE_ONLY_ONE), int(self)
