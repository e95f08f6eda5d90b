"""The locks under which a partner's races and its listing are read.

Each race of a partner has a lock, and the partner's listing has one. A lock belongs to the session that writes, so a
session that lost it cannot write any more. Locks are acquired in a fixed order, so that no two sessions wait for each other:
the listing, then one race at a time. A session with a race's lock waits for no other of these locks.

A transaction that writes something of all races of a partner takes its turn (`wait_for_turn`) before its first row.
"""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2.errors
from psycopg2.extensions import connection as Connection

from rsu_pipeline.errors import RsuError
from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.advisory_locks import Kind

_SQL = load(__file__)

LISTING = 0
"""The partner's listing, in place of a race id."""
_SHARE_OF_KEY = 2**32
"""A lock of a race has one number of 64 bits. PostgreSQL separates such locks from those of two numbers."""


class ReadElsewhere(RsuError):
    """Another session has the lock of a race or a listing. The text names it."""


@dataclass(frozen=True)
class Reader:
    """The session that has a lock. `progress` changes whenever it stores a page, or for a listing a race's detail."""

    name: str
    progress: tuple[object, ...]


def acquire(conn: Connection, partner_id: int, race_id: int, *, wait: float = 0.0) -> bool:
    """Acquire the lock of a race, or of the LISTING, for this session. Return whether it was free within `wait` seconds.

    PostgreSQL serves sessions in the order in which they began to wait, and before those that only try. Ends the transaction.
    """
    database.lease(conn)
    key = _key(partner_id, race_id)
    with conn.cursor() as cur:
        cur.execute("SELECT pg_try_advisory_lock(%s)", (key,))
        ((is_taken,),) = cur.fetchall()
        if not is_taken and wait > 0:
            try:
                cur.execute("SELECT set_config('lock_timeout', %s, true)", (f"{max(1, int(wait * 1000))}ms",))
                cur.execute("SELECT pg_advisory_lock(%s)", (key,))
                is_taken = True
            except psycopg2.errors.LockNotAvailable:
                conn.rollback()
    conn.commit()
    return bool(is_taken)


def release(conn: Connection, partner_id: int, race_id: int) -> None:
    """Release the lock. What was not committed is rolled back. A session that is closed has lost it already."""
    if conn.closed:
        return
    conn.rollback()
    with conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_unlock(%s)", (_key(partner_id, race_id),))
    conn.commit()


@contextmanager
def race_lock(conn: Connection, partner_id: int, race_id: int, *, wait: float = 0.0) -> Iterator[None]:
    """Acquire the lock for the length of a block.

    Raises:
        ReadElsewhere: another session still has it after `wait` seconds. A session of a stopped process is ended within
            leases.TAKE_OVER_SECONDS.
    """
    if not acquire(conn, partner_id, race_id, wait=wait):
        reader = find_reader(conn, partner_id, race_id)
        raise ReadElsewhere(f"{name_of(partner_id, race_id)} is being read by {describe(reader)}")
    try:
        yield
    finally:
        release(conn, partner_id, race_id)


def find_reader(conn: Connection, partner_id: int, race_id: int) -> Reader | None:
    """Return which session has the lock, or None if none has it now. Ends the transaction."""
    high, low = divmod(_key(partner_id, race_id), _SHARE_OF_KEY)
    with conn.cursor() as cur:
        cur.execute(_SQL["find_reader"], {"partner": partner_id, "race": race_id, "high": high, "low": low})
        row = cur.fetchone()
    conn.rollback()
    if row is None:
        return None
    program, since, pid, passes, detail = row
    return Reader(f"'{program}', connected since {_shown(since)}", (pid, tuple(passes or ()), detail))


def describe(reader: Reader | None) -> str:
    """Return the name of a reader for a sentence."""
    return reader.name if reader else "another session that is just ending"


def name_of(partner_id: int, race_id: int) -> str:
    """Return what a lock is for, for the beginning of a sentence."""
    return f"the listing of partner {partner_id}" if race_id == LISTING else f"race {race_id} of partner {partner_id}"


def wait_for_turn(conn: Connection, partner_id: int) -> None:
    """Prevent that another transaction writes something of all of the partner's races until this one ends."""
    _lock_in_transaction(conn, Kind.PARTNER, partner_id)


def wait_for_removals(conn: Connection, partner_id: int) -> None:
    """Prevent that another read of the partner decides about removals until this transaction ends.

    So each read sees the removals of the others. The reads may have written rows of their races.
    """
    _lock_in_transaction(conn, Kind.REMOVALS, partner_id)


def _lock_in_transaction(conn: Connection, kind: Kind, partner_id: int) -> None:
    database.lease(conn)
    with conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock(%s, %s)", (kind, partner_id))


def _key(partner_id: int, race_id: int) -> int:
    return partner_id * _SHARE_OF_KEY + race_id % _SHARE_OF_KEY


def _shown(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
