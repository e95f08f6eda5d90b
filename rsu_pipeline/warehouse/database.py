"""Connections, migrations and the locks that sessions hold.

A `Connection` is psycopg2's, never in autocommit; callers commit. Every text raised here names the server and the
database, never a password.
"""

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import connection as Connection

OLDEST_SERVER = 130000
"""PostgreSQL 13 in libpq's numbering."""
LOCK_TIMEOUT_MS = 30_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 600_000

# Two-part advisory lock keys: what is locked, and which one of them.
_MIGRATIONS_LOCK = (0x525355, 0)
_PARTNER_LOCK_CLASS = 0x525356
_WATCH_LOCK_CLASS = 0x525358

WATCH_PURPOSE = "rsu watch"
"""How the names of the watch's sessions begin."""
LOOK_SECONDS = 20.0
"""How long a sync waits for a look of the watch, which holds a partner for a call or two, or a full read."""
GIVE_WAY_SECONDS = 300.0
"""How long a sync that gave way waits to have its partner back."""


class DatabaseError(RuntimeError):
    """The database cannot be used; one sentence: what is wrong, where, what to do."""


class PartnerBusy(RuntimeError):
    """Another session is syncing this partner; the text says which."""


def connect(url: str, *, purpose: str) -> Connection:
    """A session at the hub's database. `purpose` is shown in pg_stat_activity. Raises DatabaseError."""
    name = f"rsu {purpose} {socket.gethostname()}:{os.getpid()}"[:63]
    try:
        conn = psycopg2.connect(
            url,
            application_name=name,
            connect_timeout=10,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            options=(
                f"-c lock_timeout={LOCK_TIMEOUT_MS} -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS}"
                # A machine that lost its power says no farewell: its session, with its partner's lock, ends after a minute.
                " -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
                # 64 MB lets the merge of a page keep its hash in memory; jit costs more than it saves on such statements.
                " -c work_mem=64MB -c jit=off -c timezone=UTC"
                # The ledger and the migrations lock in one statement and look in the next, which must see what is new.
                r" -c default_transaction_isolation=read\ committed"
            ),
        )
    except psycopg2.Error as error:
        raise DatabaseError(unreachable(url, error)) from None
    if conn.server_version < OLDEST_SERVER:
        version = conn.server_version // 10000
        conn.close()
        raise DatabaseError(f"PostgreSQL {version} at {place(url)} is too old: 13 is the oldest supported.")
    return conn


def place(url: str) -> str:
    """host:port/database of a URL, for people."""
    parts = _parts(url)
    if parts is None:
        return "the address in RSU_DATABASE_URL"
    return f"{parts.get('host', 'localhost')}:{parts.get('port', '5432')}/{parts.get('dbname', '')}"


def unreachable(url: str, error: psycopg2.Error) -> str:
    """One sentence on why a connection failed."""
    if _parts(url) is None:
        return (
            "RSU_DATABASE_URL cannot be read as a PostgreSQL address: use postgresql://user:password@host:5432/hub, with"
            " %40 for an @ in the password and %2F for a slash."
        )
    reason = _reason(url, error)
    return f"Cannot use PostgreSQL at {place(url)}: {reason}. Check that it runs and that RSU_DATABASE_URL is right."


def _reason(url: str, error: psycopg2.Error) -> str:
    """What libpq says last, without its hints (which it indents), without the address and without the password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
    reason = lines[-1].rstrip(".") if lines else type(error).__name__
    reason = re.sub(r"^connection to server .*? failed: (?:FATAL:\s+)?", "", reason)
    password = (_parts(url) or {}).get("password")
    return reason.replace(password, "•••") if password else reason


def _parts(url: str) -> dict[str, str] | None:
    """What an address says; None when it cannot be read, or when a bare @ or slash in its password has put a piece of
    the password where host, port or database belong."""
    try:
        parts = {name: str(value) for name, value in psycopg2.extensions.parse_dsn(url).items()}
    except psycopg2.ProgrammingError:
        return None
    misplaced = "@" in parts.get("host", "") + parts.get("dbname", "")
    return None if misplaced or not re.fullmatch(r"[\d,]*", parts.get("port", "")) else parts


@contextmanager
def session(url: str, *, purpose: str) -> Iterator[Connection]:
    """A connection for the length of a block; what was not committed is rolled back. Raises DatabaseError when there is
    none to be had, or when it is lost within the block."""
    with closing(connect(url, purpose=purpose)) as conn:
        try:
            yield conn
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            if not conn.closed:
                raise
            raise DatabaseError(
                f"The connection to PostgreSQL at {place(url)} was lost: {_reason(url, error)}. What was not committed is"
                " rolled back; run the same again once the server is there."
            ) from error


def migrations() -> list[tuple[int, str, str]]:
    """Number, name and SQL of every migration of this program, in order."""
    folder = resources.files("rsu_pipeline.warehouse") / "migrations"
    files = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name.split("_")[0]), name, (folder / name).read_text(encoding="utf-8")) for name in files]


def migrate(conn: Connection) -> list[str]:
    """Brings the schema up to this program's and returns the names of the migrations applied, all in one transaction.

    Raises DatabaseError when the database was made by a newer program, by another one, when a migration that was
    applied has changed since, or when the server refuses a statement: to a role without the right, for one.
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


def apply_migrations(conn: Connection) -> list[str]:
    """The work of `migrate` in the caller's transaction, in the schema its search path begins with."""
    applied: list[str] = []
    with conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock(%s, %s)", _MIGRATIONS_LOCK)
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
        known = migrations()
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
def partner_lock(conn: Connection, partner_id: int, *, patience: float = 0.0) -> Iterator[None]:
    """Holds a partner for this session: one sync at a time over all processes and machines. The lock lives on the
    connection that writes, so a session that lost it cannot write any more.

    Raises PartnerBusy when another session holds it and does not give way within `patience` seconds. A look of the watch
    is always waited for: it is over in a moment.
    """
    _take_partner(conn, partner_id, patience)
    try:
        yield
    finally:
        if not conn.closed:
            conn.rollback()
            _leave_partner(conn, partner_id)


def give_way(conn: Connection, partner_id: int) -> bool:
    """Lets a session that waits for this partner have it, and takes it back after; True when one waited. Called between
    two races, so that a long sync does not hold up race day. PostgreSQL serves who waits first."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND classid::bigint = %s AND objid::bigint = %s"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
            (_PARTNER_LOCK_CLASS, partner_id),
        )
        (waits,) = _one(cur)
    conn.commit()
    if waits:
        _leave_partner(conn, partner_id)
        _take_partner(conn, partner_id, GIVE_WAY_SECONDS)
    return bool(waits)


def _take_partner(conn: Connection, partner_id: int, patience: float) -> None:
    key = (_PARTNER_LOCK_CLASS, partner_id)
    with conn.cursor() as cur:
        cur.execute("SELECT pg_try_advisory_lock(%s, %s)", key)
        (taken,) = _one(cur)
        holder = None if taken else _holder(cur, partner_id)
        if holder and WATCH_PURPOSE in holder:
            patience = max(patience, LOOK_SECONDS)
        if not taken and patience > 0:
            try:
                cur.execute("SELECT set_config('lock_timeout', %s, true)", (f"{max(1, int(patience * 1000))}ms",))
                cur.execute("SELECT pg_advisory_lock(%s, %s)", key)
                taken = True
            except psycopg2.errors.LockNotAvailable:
                conn.rollback()
    conn.commit()
    if not taken:
        raise PartnerBusy(f"partner {partner_id} is being synced by {holder or 'another session that is just ending'}")


def _leave_partner(conn: Connection, partner_id: int) -> None:
    with conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_unlock(%s, %s)", (_PARTNER_LOCK_CLASS, partner_id))
    conn.commit()


@contextmanager
def shard_lock(conn: Connection, shard: int, *, patience: float) -> Iterator[bool]:
    """Holds a shard of the watch for this session; False when another still has it after `patience` seconds."""
    taken = True
    with conn.cursor() as cur:
        try:
            cur.execute("SELECT set_config('lock_timeout', %s, true)", (f"{max(1, int(patience * 1000))}ms",))
            cur.execute("SELECT pg_advisory_lock(%s, %s)", (_WATCH_LOCK_CLASS, shard))
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
                cur.execute("SELECT pg_advisory_unlock(%s, %s)", (_WATCH_LOCK_CLASS, shard))
            conn.commit()


def _holder(cur: psycopg2.extensions.cursor, partner_id: int) -> str | None:
    cur.execute(
        "SELECT a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = %s AND l.objid::bigint = %s"
        # Other hubs on the same server lock partners of the same numbers.
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (_PARTNER_LOCK_CLASS, partner_id),
    )
    row = cur.fetchone()
    return f"'{row[0]}', connected since {row[1]:%Y-%m-%d %H:%M:%S} UTC" if row else None


def _one(cur: psycopg2.extensions.cursor) -> tuple[object, ...]:
    row = cur.fetchone()
    if row is None:
        raise DatabaseError("PostgreSQL answered a question of one row with none.")
    return tuple(row)
