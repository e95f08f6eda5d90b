"""Dagster's own storage: in a schema of the hub's database, with the files of runs in the installation's home.

Dagster's classes do the work. Those here only find the address and the folder, so that `dagster dev`, the commands and
the tests need no more configuration than the pipeline itself.

SQLAlchemy gets an address of its own, `postgresql+hub:///N`, and a dialect that connects as the hub does everywhere: with
every form of RSU_DATABASE_URL, the settings made and checked, in Dagster's schema. It applies to every engine that
dagster-postgres makes, and none of them has the password.
"""

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import dagster as dg
import psycopg2
from dagster_postgres import DagsterPostgresStorage
from psycopg2.extensions import connection as Connection
from sqlalchemy import create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import URL, Engine

from rsu_pipeline import installation, private_files
from rsu_pipeline.local import embedded
from rsu_pipeline.orchestration.dagster_internals import (
    ConfigurableClass,
    ConfigurableClassData,
    DefsStateStorage,
    LocalArtifactStorage,
    LocalComputeLogManager,
    SqlEventLogStorage,
)
from rsu_pipeline.warehouse import database, server_lock
from rsu_pipeline.warehouse.advisory_locks import Only

SCHEMA = "dagster"
NO_STATE = "No definition of this project keeps state. Leave defs_state_storage out of dagster.yaml for one that does."
_engines: dict[tuple[int, str, int | None], Engine] = {}
_engines_lock = threading.Lock()
EMBEDDED = "embedded "
"""Begins what is kept in place of an embedded PostgreSQL's address: this, then its folder.

Such a server is started by the first connection, so that what only loads the definitions starts nothing.
"""
_creation = threading.RLock()
_being_created: set[str] = set()
_to_create: set[str] = set()
"""Embedded servers in which Dagster's tables are created, if they are not there, by the first connection."""
_in_place: set[str] = set()
"""Addresses at which this process has found or made Dagster's tables.

Every tick of a sensor or schedule makes an instance of its own, and another check cost 30 ms of processor time each.
"""
_found_columns: set[tuple[str, ...]] = set()
"""Columns of Dagster's tables that this process has found, by SQLAlchemy's address."""
_addresses: list[str] = []
"""RSU_DATABASE_URL, or EMBEDDED and a folder, by the number in SQLAlchemy's address. Only tests have several in a process."""


class HubDialect(PGDialect_psycopg2):
    """SQLAlchemy's psycopg2 dialect on the hub's sessions."""

    supports_statement_cache = True

    def __init__(self, **options: Any) -> None:
        # A query for the type hstore would cost each connection a round trip.
        super().__init__(use_native_hstore=False, **options)  # type: ignore[no-untyped-call]

    def create_connect_args(self, url: URL) -> tuple[list[str], dict[str, Any]]:
        return [url.database or ""], {}

    def connect(self, *arguments: Any, **options: Any) -> Any:
        """Return a session in Dagster's schema.

        Raises:
            psycopg2.OperationalError: there is none now. dagster-postgres retries it.
        """
        is_daemon = os.environ.get("PGAPPNAME", "").startswith(f"{server_lock.DAEMON} ")
        purpose = "daemon" if is_daemon else "dagster"
        try:
            return database.connect(_reach(_addresses[int(arguments[0])]), purpose=purpose, schema=SCHEMA)
        except (database.UnreachableError, database.ReadOnlyError) as error:
            raise psycopg2.OperationalError(str(error)) from None


registry.register("postgresql.hub", __name__, HubDialect.__name__)


class HubStorage(DagsterPostgresStorage):
    """Runs, events, schedules and partitions in schema `dagster` beside the hub's tables."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {"should_autocreate_tables": dg.Field(bool, is_required=False, default_value=True)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        settings = installation.current().settings
        creates_tables = bool(config_value.get("should_autocreate_tables", True))
        address = settings.database_url or f"{EMBEDDED}{settings.home / 'postgres'}"
        is_new = address not in _in_place
        if is_new and settings.database_url is None:
            is_new = False
            if creates_tables:
                _to_create.add(address)
        storage = cls(
            inst_data=inst_data,
            postgres_url=_make_schema(address) if is_new else sqlalchemy_url(address),
            should_autocreate_tables=is_new and creates_tables,
        )
        if settings.database_url is not None:
            _in_place.add(address)
        url = sqlalchemy_url(address)
        parts: tuple[Any, ...] = (storage.run_storage, storage.event_log_storage, storage.schedule_storage)
        for part in parts:
            part._engine = _engine(url)  # there is no public way
            _remember_columns(part, url)
            # Dagster's own gives the Dagster UI connections that are not tried before they are used: each that PostgreSQL has
            # ended since is a response with status 500.
            part.optimize_for_webserver = partial(_limit_statements, part, url)
        return storage


def _remember_columns(part: Any, url: str) -> None:
    """Have Dagster query once whether a table has the columns that one of its migrations adds.

    A sync queried them some 20 times and a check of the fleet 40 times, a tenth of what either took.
    """
    for name in ("_has_asset_key_col_on_connection", "has_run_stats_index_cols"):
        if hasattr(part, name):
            setattr(part, name, partial(_has_columns, getattr(part, name), url, name))


def _has_columns(query: Callable[..., bool], url: str, name: str, *arguments: Any) -> bool:
    """Query columns unless they were found before. `arguments` are a connection and a column's name, or nothing."""
    key = (url, name, *arguments[1:])
    if key not in _found_columns and query(*arguments):
        _found_columns.add(key)
    return key in _found_columns


def _limit_statements(part: Any, url: str, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
    """Limit the statements of a part of the storage to this many milliseconds, as the Dagster UI requires."""
    part._engine = _engine(url, statement_timeout)


class HomeLogs(LocalComputeLogManager):
    """The output of runs, in the home folder's `dagster/logs`.

    Every process with Dagster's instance has it, and so the umask that protects these and all other files from other users.
    """

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        private_files.set_umask()
        return cls(base_dir=str(installation.current().settings.home / "dagster" / "logs"), inst_data=inst_data)


class HomeFiles(LocalArtifactStorage):
    """The few files that Dagster keeps beside that, in the home folder's `dagster`."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(base_dir=str(installation.current().settings.home / "dagster"), inst_data=inst_data)


class NoDefinitionState(DefsStateStorage[dg.DagsterInstance], ConfigurableClass):
    """What definitions may keep from one load to the next: the project's keep nothing, so loading them queries no table."""

    def __init__(self, inst_data: ConfigurableClassData | None) -> None:
        self._inst_data = inst_data

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data)

    def get_latest_defs_state_info(self) -> None:
        return None

    def download_state_to_path(self, key: str, version: str, path: Path) -> None:
        raise dg.DagsterInvariantViolationError(NO_STATE)

    def upload_state_from_path(self, key: str, version: str, path: Path) -> None:
        raise dg.DagsterInvariantViolationError(NO_STATE)

    def set_latest_version(self, key: str, version: str | None) -> None:
        raise dg.DagsterInvariantViolationError(NO_STATE)


def sql_event_log(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    """Return an instance's events as tables, for statements that Dagster has no function for."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"Dagster's events have to be in SQL tables, and are in {type(storage).__name__}.")
    return storage


def _reach(address: str) -> str:
    """Return a database's address. An embedded server is started, and the first connection makes Dagster's tables in it.

    Raises:
        EmbeddedError: the embedded server cannot be started.
    """
    if not address.startswith(EMBEDDED):
        return address
    here, folder = installation.current(), Path(address.removeprefix(EMBEDDED))
    is_current = here.settings.database_url is None and here.settings.home / "postgres" == folder
    url = here.database_url if is_current else embedded.ensure_running(folder)
    if address not in _in_place:
        with _creation:
            # What creates the tables connects through here again, in the same thread.
            if address not in _in_place and address not in _being_created:
                _create_in(address, url)
    return url


def _create_in(address: str, url: str) -> None:
    _being_created.add(address)
    try:
        _make_schema(url)
        if address in _to_create:
            DagsterPostgresStorage(postgres_url=sqlalchemy_url(address), should_autocreate_tables=True)
        _in_place.add(address)
    finally:
        _being_created.discard(address)


def sqlalchemy_url(database_url: str) -> str:
    """Return SQLAlchemy's address of Dagster's schema in this database."""
    with _engines_lock:
        if database_url not in _addresses:
            _addresses.append(database_url)
        return f"postgresql+hub:///{_addresses.index(database_url)}"


def _make_schema(database_url: str) -> str:
    """Create Dagster's schema if it is not there, and return its address."""
    with database.session(database_url, purpose="dagster schema") as conn, conn.cursor() as cur:
        # Checked first: a role that may not create schemas can still use the one it was given.
        cur.execute("SELECT to_regnamespace(%s) IS NULL", (SCHEMA,))
        if (cur.fetchone() or (False,))[0]:
            # IF NOT EXISTS alone fails if two processes start at once.
            cur.execute("SELECT pg_advisory_xact_lock(%s, %s)", Only.DAGSTER_SCHEMA.key)
            cur.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        conn.commit()
        _check_rights(conn)
    return sqlalchemy_url(database_url)


def _check_rights(conn: Connection) -> None:
    """Check that the role may use Dagster's tables.

    Dagster itself would show each failed query with a traceback.

    Raises:
        DatabaseError: it may not.
    """
    with conn.cursor() as cur:
        cur.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p') AND NOT"
            " (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')"
            " AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))",
            (SCHEMA,),
        )
        (count,) = cur.fetchone() or (0,)
    if count:
        raise database.DatabaseError(
            f"Role {conn.info.user} may not use {count} tables of schema {SCHEMA}: run `rsu db roles` as an administrator, and"
            " grant this role the writer."
        )


def _engine(url: str, statement_timeout: int | None = None) -> Engine:
    """Return this process's connections to Dagster's tables, each tried before it is used.

    dagster-postgres reconnects for every query, which was two fifths of what an idle daemon used. The pool opens as many
    connections as are needed at once, and keeps two.

    Args:
        url: SQLAlchemy's address of Dagster's schema.
        statement_timeout: After how many milliseconds PostgreSQL ends a statement, None for the hub's own limit.
    """
    key = (os.getpid(), url, statement_timeout)
    with _engines_lock:
        if key not in _engines:
            # Only tests have a second installation in one process.
            for other in [other for other in _engines if other[0] == key[0] and other[1] != url]:
                _engines.pop(other).dispose()
            _engines[key] = create_engine(
                url, isolation_level="AUTOCOMMIT", pool_size=2, max_overflow=-1, pool_recycle=600, pool_pre_ping=True
            )
            if statement_timeout is not None:
                event.listen(_engines[key], "connect", partial(_set_statement_timeout, statement_timeout))
        return _engines[key]


def _set_statement_timeout(milliseconds: int, session: Connection, record: object) -> None:
    with session.cursor() as cur:
        cur.execute("SELECT set_config('statement_timeout', %s, false)", (str(milliseconds),))
    session.commit()
