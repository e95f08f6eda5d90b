"""Statements that PostgreSQL could not execute now, for a reason outside this program: a lock, a full disk, a cancellation.

The session goes on after its rollback. So a race whose rows are locked leaves the other races, and the sentence names who
has the lock, because only that person can release it.
"""

import psycopg2
import psycopg2.errors
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import waiting
from rsu_pipeline.warehouse.addresses import DatabaseError, describe_server

CAUSE = "PostgreSQL did not store it"
"""The cause in the sync log of a read whose rows were not stored."""
DAMAGED = ("58", "XX")
"""PostgreSQL's classes of errors of the file system and of damaged tables or indexes."""


class StatementError(DatabaseError):
    """PostgreSQL could not execute a statement now. The session can be used on."""

    def details(self) -> dict[str, object]:
        """Return the same as members of a record."""
        return {"cause": CAUSE, "message": str(self)}


def find_statement_error(url: str, conn: Connection, error: BaseException) -> StatementError | None:
    """Return the sentence about an error of PostgreSQL that is no fault of a statement, or None.

    Where there is one, the session is rolled back, so that the failure can be recorded in it.

    Args:
        url: the address of the database.
        conn: a session there, which answers who has locked its tables.
        error: what a statement raised, in this session or another one of this process.
    """
    if conn.closed or not isinstance(error, psycopg2.Error) or not _is_outside(error):
        return None
    try:
        conn.rollback()
    except psycopg2.Error:
        # The connection is lost too, which is another sentence.
        return None
    reason = (error.diag.message_primary or type(error).__name__).strip().rstrip(".")
    head = f"PostgreSQL at {describe_server(url)} could not execute a statement: {reason}"
    return StatementError(f"{head}. {_next_step(conn, error)}")


def _is_outside(error: psycopg2.Error) -> bool:
    if isinstance(error, psycopg2.InternalError):
        return (error.pgcode or "").startswith("XX")
    return isinstance(error, psycopg2.OperationalError) and error.pgcode is not None


def _next_step(conn: Connection, error: psycopg2.Error) -> str:
    code = error.pgcode or ""
    if isinstance(error, psycopg2.errors.LockNotAvailable):
        try:
            return waiting.describe_blockers(conn)
        except psycopg2.Error:
            return "Another session has locked rows or a table, and could not be named."
    if isinstance(error, psycopg2.errors.QueryCanceled):
        return "An administrator or a time limit has ended it. What it was for is done again at its next turn."
    if isinstance(error, psycopg2.errors.DiskFull):
        return "Make room on the disk of PostgreSQL. What it was for is done again at its next turn."
    if code.startswith(DAMAGED):
        return "PostgreSQL's own log has more: check its disk, and restore a backup if a table is damaged."
    return "What it was for is done again at its next turn. PostgreSQL's own log has more."
