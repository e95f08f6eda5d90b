"""Poolers between the hub and PostgreSQL, such as pgbouncer: session pooling works, any other mode is refused.

The hub's locks, settings and temporary tables belong to a session. A pooler that gives a connection another server process
for each transaction would mix them with those of other clients, without an error.
"""

import select
import time

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.addresses import DatabaseError

SECOND_SESSION_SECONDS = 10.0
"""How long a pooler has to open a second session while the first is open."""
ROUNDS = 3


def is_pooled(conn: Connection, backend_pid: int) -> bool:
    """Return whether there is a pooler in between: it gives a client a process id of its own making."""
    return bool(conn.info.backend_pid != backend_pid)


def require_sessions(conn: Connection, conninfo: str, place: str) -> None:
    """Check that a pooler keeps one server process for each connection.

    Regardless of which idle server process a pooler takes next, one of these shows it: the one used last is given to the second
    connection while the first is open, or another one answers the first's next transaction.

    Args:
        conn: A new session through the pooler.
        conninfo: psycopg2's connection string, for a second one.
        place: The server, for messages.

    Raises:
        DatabaseError: It pools transactions or statements, or has no second session.
    """
    conn.autocommit = True
    other = psycopg2.connect(conninfo, async_=1)
    try:
        deadline = time.monotonic() + SECOND_SESSION_SECONDS
        _wait(other, deadline)
        for _ in range(ROUNDS):
            pids = [_backend_pid(conn), _backend_pid(conn)]
            with other.cursor() as cur:
                cur.execute("BEGIN; SELECT pg_backend_pid()")
                _wait(other, deadline)
                (pid,) = cur.fetchone() or (0,)
                if pid not in pids:
                    pids.append(_backend_pid(conn))
                if pid in pids or len(set(pids)) > 1:
                    raise DatabaseError(_refusal(place, "transactions"))
                cur.execute("ROLLBACK")
                _wait(other, deadline)
    except TimeoutError:
        raise DatabaseError(
            f"The pooler at {place} opens no second session within {SECOND_SESSION_SECONDS:g} s while one is open: raise its"
            " pool's size (pgbouncer: default_pool_size). docs/deploy.md gives the number of sessions that the hub has."
        ) from None
    except psycopg2.Error as error:
        if "statement pooling" in str(error):
            raise DatabaseError(_refusal(place, "statements")) from None
        raise
    finally:
        other.close()
    conn.autocommit = False


def _refusal(place: str, pooled: str) -> str:
    return (
        f"The pooler at {place} pools {pooled}, and the hub needs sessions: its locks, settings and temporary tables would"
        " end up in those of others. Configure it to pool sessions for this database (pgbouncer: pool_mode=session), or connect"
        " to PostgreSQL without it."
    )


def _backend_pid(conn: Connection) -> int:
    with conn.cursor() as cur:
        cur.execute("SELECT pg_backend_pid()")
        (pid,) = cur.fetchone() or (0,)
    return int(pid)


def _wait(conn: Connection, deadline: float) -> None:
    """Wait for an asynchronous connection.

    Raises:
        TimeoutError: the deadline has passed.
    """
    while (state := conn.poll()) != psycopg2.extensions.POLL_OK:
        left = deadline - time.monotonic()
        waits = [conn] if state == psycopg2.extensions.POLL_READ else []
        ready = select.select(waits, [] if waits else [conn], [], max(0.0, left))
        if not any(ready):
            raise TimeoutError
