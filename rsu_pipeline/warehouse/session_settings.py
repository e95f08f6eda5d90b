"""The settings that every session of the hub relies on: set after connecting, and checked in the same round trip.

Defaults of the server, the database, the role, a service file or the environment may differ, and some of them would
corrupt data silently: a client encoding, a time zone, a search path. Start-up `options` are not used, because poolers
refuse them or, worse, drop them.
"""

from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.addresses import DatabaseError, ReadOnlyError

SETTINGS = {
    "timezone": "UTC",
    # The hash of a row is computed from its text.
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    # Adoption compares definitions of indexes as text.
    "quote_all_identifiers": "off",
    # The ledger and the migrations lock in one statement and read in the next, which must see what is new.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "lock_timeout": "30s",
    # The longest statements are those of an adoption and of a migration.
    "statement_timeout": "1h",
    "idle_in_transaction_session_timeout": "10min",
    # A policy that hides rows fails a statement instead of making it read too few.
    "row_security": "off",
    # 64 MB lets the merge of a page keep its hash in memory. jit costs more than it saves on such statements.
    "work_mem": "64MB",
    "jit": "off",
}
_SETTINGS_SINCE = {
    # A session waits for RunSignup, and shows that its run is alive.
    140000: {"idle_session_timeout": "0"},
    170000: {"transaction_timeout": "0"},
}
# A machine that lost its power does not close its sessions: its session, with its race's lock, ends after a minute. Not
# checked, because they read 0 on a Unix socket.
_UNCHECKED = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
# The first is set when the session starts, the second only a superuser can set.
_CHECKED_ONLY = {"client_encoding": "UTF8", "session_replication_role": "origin"}

# Schemas with the tables of a hub, regardless of the search path. Tables of an older program have no event_cursors beside.
_HUBS = """
ARRAY(
    SELECT n.nspname::text FROM pg_catalog.pg_namespace n
    WHERE 2 = (SELECT count(*) FROM pg_catalog.pg_class c
        WHERE c.relnamespace = n.oid AND c.relname IN ('runsignup_participants', 'event_cursors') AND c.relkind IN ('r', 'p'))
    ORDER BY 1)
"""
# The search path of the address, else the session's own, unless it leads to another schema than the hub's.
_SEARCH_PATH = """
coalesce(%s, CASE
    WHEN h.hubs = '{}' OR current_schema()::text = ANY (h.hubs) OR cardinality(h.hubs) > 1 THEN current_setting('search_path')
    ELSE quote_ident(h.hubs[1]) END)
"""


@dataclass(frozen=True)
class _Session:
    """The state of a session once its settings are made."""

    settings: dict[str, str]
    backend_pid: int
    user: str
    schema: str | None
    hubs: list[str]
    is_standby: bool
    is_read_only: bool


def apply_settings(
    conn: Connection, place: str, application_name: str, *, search_path: str | None = None, schema: str | None = None
) -> int:
    """Set and check what a session relies on, in one round trip.

    Args:
        conn: A new connection.
        place: The server, for messages.
        application_name: The name in pg_stat_activity.
        search_path: The search path that the address requests.
        schema: The schema of this session's tables, if they are not the hub's.

    Returns:
        The process id of the server process that answers. If libpq was given another one, there is a pooler in between.

    Raises:
        DatabaseError: The database is not in UTF8, the server does not write, or a setting has a wrong value.
        psycopg2.Error: The connection is lost, or the server refuses a setting.
    """
    encoding = conn.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DatabaseError(_not_utf8(conn, place, str(encoding)))
    wanted = {"application_name": application_name} | SETTINGS
    for version, settings in _SETTINGS_SINCE.items():
        if conn.server_version >= version:
            wanted |= settings
    session = _set_and_read(conn, wanted, schema or search_path)
    for name, value in (wanted | _CHECKED_ONLY).items():
        if session.settings[name] != value:
            raise DatabaseError(
                f"A session at {place} has {name} {session.settings[name]!r} and needs {value!r}: remove the setting from role"
                f" {session.user} (ALTER ROLE ... RESET {name}), from the database and from a pooler in between."
            )
    _check_writable(session, place)
    if schema is None:
        _check_schema(session, place, search_path)
    elif session.schema != schema:
        raise DatabaseError(
            f"Role {session.user} may not use schema {schema} at {place}: GRANT USAGE, CREATE ON SCHEMA {schema} TO it."
        )
    return session.backend_pid


def _set_and_read(conn: Connection, wanted: dict[str, str], search_path: str | None) -> _Session:
    to_set = [text for setting in (wanted | _UNCHECKED).items() for text in setting]
    names = [*wanted, *_CHECKED_ONLY]
    # A transaction of its own, which no later rollback undoes.
    conn.autocommit = True
    with conn.cursor() as cur:
        cur.execute(
            f"SELECT {', '.join(['set_config(%s, %s, false)'] * (len(to_set) // 2))};"
            f"SELECT set_config('search_path', {_SEARCH_PATH}, false) FROM (SELECT {_HUBS} AS hubs) h;"
            f"SELECT ARRAY[{', '.join(['current_setting(%s)'] * len(names))}], pg_backend_pid(), current_user::text,"
            f" current_schema()::text, {_HUBS}, pg_is_in_recovery(), current_setting('transaction_read_only')::boolean",
            [*to_set, search_path, *names],
        )
        row = cur.fetchone()
    conn.autocommit = False
    if row is None:
        raise DatabaseError("PostgreSQL returned no row where one was expected.")
    return _Session(dict(zip(names, row[0], strict=True)), *row[1:])


def _check_writable(session: _Session, place: str) -> None:
    if session.is_standby:
        raise ReadOnlyError(
            f"PostgreSQL at {place} is a standby, which only reads: name the primary in RSU_DATABASE_URL, or all hosts and"
            " target_session_attrs=read-write."
        )
    if session.is_read_only:
        raise ReadOnlyError(
            f"PostgreSQL at {place} only reads: default_transaction_read_only is on, for the server, the database or role"
            f" {session.user}. Some providers turn it on when the disk is full."
        )


def _check_schema(session: _Session, place: str, search_path: str | None) -> None:
    """Refuse a session whose new tables would be in another schema than the hub's, or than the address's."""
    asked = _first_schema(search_path)
    if session.schema is None or (asked and session.schema != asked):
        name = asked or "public"
        raise DatabaseError(
            f"Role {session.user} has no schema {name} to use at {place}: an administrator gives it one by CREATE SCHEMA"
            f" {name} AUTHORIZATION {session.user}, or GRANT USAGE, CREATE ON SCHEMA {name} TO {session.user}."
        )
    if session.hubs and session.schema not in session.hubs:
        raise DatabaseError(
            f"The hub's tables at {place} are in schema {' and in '.join(session.hubs)}, and a session's search path leads to"
            f" schema {session.schema}: name the right one in RSU_DATABASE_URL, as in"
            f" ?options=-csearch_path%3D{session.hubs[0]}."
        )


def _first_schema(search_path: str | None) -> str | None:
    """Return the first schema of a search path, or None if there is none or the server decides it."""
    first = (search_path or "").split(",")[0].strip()
    first = first.strip('"').replace('""', '"') if first.startswith('"') else first.lower()
    return None if first in ("", "$user") else first


def _not_utf8(conn: Connection, place: str, encoding: str) -> str:
    """Return the sentence about a database that is not in UTF8, with the statement that creates one that is."""
    with conn.cursor() as cur:
        # template0 accepts any encoding that its locale allows.
        cur.execute(
            "SELECT quote_ident(current_database() || '_utf8'), CASE"
            " WHEN t.encoding = pg_char_to_encoding('UTF8') OR t.datcollate ~* 'utf-?8$' THEN ''"
            " ELSE ' LOCALE ' || quote_literal(coalesce((SELECT min(collname) FROM pg_collation"
            " WHERE collname IN ('C.UTF-8', 'C.utf8') AND collprovider = 'c'), 'C')) END"
            " FROM pg_database t WHERE t.datname = 'template0'"
        )
        name, locale = cur.fetchone() or ("hub", "")
    conn.rollback()
    return (
        f"The database at {place} is in {encoding}, in which not every name can be stored: make one in UTF8 by CREATE DATABASE"
        f" {name} ENCODING 'UTF8' TEMPLATE template0{locale}; and name it in RSU_DATABASE_URL."
    )
