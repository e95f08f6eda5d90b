"""Connections, migrations and session locks.

A `Connection` is psycopg2's, never in autocommit, and callers commit. Every text raised here names the server and the
database, never a password.
"""

import hashlib
import os
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2.extensions import connection as Connection

from rsu_pipeline import cancellation
from rsu_pipeline.warehouse import addresses, leases, poolers, session_settings, statement_errors
from rsu_pipeline.warehouse.addresses import DatabaseError as DatabaseError
from rsu_pipeline.warehouse.addresses import ReadOnlyError as ReadOnlyError
from rsu_pipeline.warehouse.addresses import describe_server as describe_server
from rsu_pipeline.warehouse.addresses import explain_unreachable as explain_unreachable
from rsu_pipeline.warehouse.advisory_locks import Kind, Only

OLDEST_SERVER = 130000
"""PostgreSQL 13 in libpq's numbering."""


_pools_of_sessions: set[str] = set()
"""Addresses of poolers that this process has found to pool sessions."""
_keepers: dict[str, leases.Keeper] = {}
"""The keeper of this process's sessions, by address."""
_addresses: weakref.WeakKeyDictionary[Connection, str] = weakref.WeakKeyDictionary()
"""The address of each open connection."""


class UnreachableError(DatabaseError):
    """The database cannot be reached now."""


def describe_database_error(error: BaseException | None) -> str | None:
    """Return the sentence about a refusal or a lost connection of PostgreSQL that caused an error of another library."""
    while error is not None:
        if isinstance(error, DatabaseError):
            return str(error)
        if isinstance(error, (psycopg2.OperationalError, psycopg2.errors.InsufficientPrivilege)):
            reason = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
            return f"PostgreSQL does not serve this command: {reason}"
        error = error.__cause__
    return None


def connect(url: str, *, purpose: str, schema: str | None = None) -> Connection:
    """Open a session at the hub's database, with its tables in the hub's schema or in another `schema`.

    `purpose` is shown in pg_stat_activity.

    Raises:
        UnreachableError: the database cannot be reached.
        ReadOnlyError: the server only reads.
        DatabaseError: the server is too old, or the session cannot be used.
    """
    address = addresses.parse(url)
    name = f"rsu {purpose} {socket.gethostname()}:{os.getpid()}".encode("ascii", "replace").decode()[:63]
    conninfo = address.for_psycopg2(name)
    conn: Connection | None = None
    try:
        conn = addresses.open_connection(conninfo)
        where = describe_server(url)
        if conn.server_version < OLDEST_SERVER:
            version = conn.server_version // 10000
            raise DatabaseError(f"PostgreSQL {version} at {where} is too old: 13 is the oldest supported.")
        pid = session_settings.apply_settings(conn, where, name, search_path=address.search_path, schema=schema)
        if poolers.is_pooled(conn, pid) and url not in _pools_of_sessions:
            poolers.require_sessions(conn, conninfo, where)
            _pools_of_sessions.add(url)
    except BaseException as error:
        if conn is not None:
            conn.close()
        if isinstance(error, (psycopg2.Error, UnicodeDecodeError)):
            raise UnreachableError(addresses.explain_unreachable(url, error)) from None
        raise
    cancellation.add_connection(conn)
    _addresses[conn] = url
    return conn


def keeper(url: str) -> leases.Keeper:
    """Return the keeper of this process's sessions at a database."""
    if url not in _keepers:
        _keepers.setdefault(url, leases.Keeper(lambda: connect(url, purpose=leases.PURPOSE)))
    return _keepers[url]


def lease(conn: Connection) -> None:
    """Make this session end if this process stops, so that it keeps no lock and no slot from others.

    It must be called before a lock or a slot is acquired.
    """
    keeper(_addresses[conn]).hold(conn)


@contextmanager
def session(url: str, *, purpose: str) -> Iterator[Connection]:
    """Open a connection for the length of a block. What was not committed is rolled back.

    Raises:
        DatabaseError: there is no connection, it is lost within the block, or the server denies the role a table or a change.
        StatementError: PostgreSQL could not execute a statement now, for example because of somebody's lock.
    """
    conn = connect(url, purpose=purpose)
    try:
        with explained(url, conn):
            yield conn
    finally:
        close(url, conn)


@contextmanager
def explained(url: str, conn: Connection) -> Iterator[None]:
    """Raise DatabaseError with the cause and the next step for errors of PostgreSQL that are no fault of a statement."""
    try:
        yield
    except psycopg2.errors.ReadOnlySqlTransaction as error:
        raise ReadOnlyError(
            f"PostgreSQL at {describe_server(url)} only reads now: {(error.diag.message_primary or '').strip()}."
            " Some providers turn that on when the disk is full."
        ) from error
    except psycopg2.errors.InsufficientPrivilege as error:
        raise DatabaseError(
            f"PostgreSQL at {describe_server(url)} refuses role {conn.info.user}: {(error.diag.message_primary or '').strip()}."
            " docs/security.md lists the roles that the hub needs. Create them with `rsu db roles`."
        ) from error
    except (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.InternalError) as error:
        if not conn.closed:
            if failure := statement_errors.find_statement_error(url, conn, error):
                raise failure from error
            raise
        raise DatabaseError(
            f"The connection to PostgreSQL at {describe_server(url)} was lost: {addresses.explain(url, error)}."
            f"{_standstill(url)} What was not committed is rolled back. Run it again once the server is back."
        ) from error


def find_statement_error(conn: Connection, error: BaseException) -> statement_errors.StatementError | None:
    """Return the sentence about a statement of this session that PostgreSQL could not execute now, or None."""
    return statement_errors.find_statement_error(_addresses[conn], conn, error) if conn in _addresses else None


def close(url: str, conn: Connection) -> None:
    """Close a session, which then needs no lease."""
    conn.close()
    if url in _keepers:
        _keepers[url].release(conn)


def _standstill(url: str) -> str:
    seconds = _keepers[url].seconds_stood_still() if url in _keepers else None
    return "" if seconds is None else f" This process was stopped for {seconds:.0f} s, so others took over its work."


def list_migrations() -> list[tuple[int, str, str]]:
    """Return number, name and SQL of every migration of this program, in order."""
    folder = resources.files("rsu_pipeline.warehouse") / "migrations"
    files = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name.split("_")[0]), name, (folder / name).read_text(encoding="utf-8")) for name in files]


def migrate(conn: Connection) -> list[str]:
    """Migrate the schema to this program's version and return the names of the migrations applied, all in one transaction.

    Raises:
        DatabaseError: the database was made by a newer program or by another one, an applied migration has changed since, or
            the server refuses a statement, for example to a role without the right.
    """
    try:
        applied = apply_migrations(conn)
        conn.commit()
    except psycopg2.Error as error:
        if conn.closed:
            raise
        conn.rollback()
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatabaseError(f"The schema cannot be brought up to date, and nothing was changed: {reason}.") from error
    return applied


def lock_migrations(cur: psycopg2.extensions.cursor) -> None:
    """Lock the schema against other changes until the transaction ends."""
    lease(cur.connection)
    cur.execute("SELECT pg_advisory_xact_lock(%s, %s)", Only.MIGRATIONS.key)


def apply_migrations(conn: Connection) -> list[str]:
    """Do the work of `migrate` in the caller's transaction, in the schema with which its search path begins."""
    applied: list[str] = []
    with conn.cursor() as cur:
        lock_migrations(cur)
        cur.execute(
            "SELECT to_regclass('schema_migrations') IS NOT NULL, to_regclass('runsignup_participants') IS NOT NULL"
        )
        has_migrations, has_tables = _one(cur)
        if not has_migrations:
            if has_tables:
                raise DatabaseError(
                    "This database has a table runsignup_participants but no schema_migrations: another program made it."
                    " Adopt it with `rsu db adopt` (`--dry-run` shows what that does), or point RSU_DATABASE_URL at an empty"
                    " database."
                )
            cur.execute(
                "CREATE TABLE schema_migrations (version integer PRIMARY KEY, name text NOT NULL, digest text NOT NULL,"
                " applied_at timestamptz NOT NULL DEFAULT now());"
                "COMMENT ON TABLE schema_migrations IS 'One row: a migration applied to this database.';"
                "COMMENT ON COLUMN schema_migrations.version IS 'Number of the migration.';"
                "COMMENT ON COLUMN schema_migrations.name IS 'Its file.';"
                "COMMENT ON COLUMN schema_migrations.digest IS 'SHA-256 of the file when it was applied.';"
                "COMMENT ON COLUMN schema_migrations.applied_at IS 'When it was applied.';"
            )
        cur.execute("SELECT version, digest FROM schema_migrations ORDER BY version")
        done = dict(cur.fetchall())
        known = list_migrations()
        if done and max(done) > known[-1][0]:
            raise DatabaseError(
                f"The database's schema is at version {max(done)}, this program knows {known[-1][0]}: install the newer"
                " program, or restore a backup made before the upgrade."
            )
        for version, name, sql in known:
            digest = hashlib.sha256(sql.encode()).hexdigest()
            if version in done:
                if done[version] != digest:
                    raise DatabaseError(f"Migration {name} differs from the one applied to this database.")
                continue
            cur.execute(sql)
            cur.execute(
                "INSERT INTO schema_migrations (version, name, digest) VALUES (%s, %s, %s)", (version, name, digest)
            )
            applied.append(name)
    return applied


@contextmanager
def shard_lock(conn: Connection, shard: int, *, lock_timeout: float) -> Iterator[bool]:
    """Acquire a shard of the watch for this session, or yield False if another still has it after `patience` seconds."""
    taken = True
    lease(conn)
    with conn.cursor() as cur:
        try:
            cur.execute("SELECT set_config('lock_timeout', %s, true)", (f"{max(1, int(lock_timeout * 1000))}ms",))
            cur.execute("SELECT pg_advisory_lock(%s, %s)", (Kind.WATCH, shard))
        except psycopg2.errors.LockNotAvailable:
            conn.rollback()
            taken = False
    conn.commit()
    try:
        yield taken
    finally:
        if taken and not conn.closed:
            conn.rollback()
            with conn.cursor() as cur:
                cur.execute("SELECT pg_advisory_unlock(%s, %s)", (Kind.WATCH, shard))
            conn.commit()


def _one(cur: psycopg2.extensions.cursor) -> tuple[object, ...]:
    row = cur.fetchone()
    if row is None:
        raise DatabaseError("PostgreSQL returned no row where one was expected.")
    return tuple(row)
