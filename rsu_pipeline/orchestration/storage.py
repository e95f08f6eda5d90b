"""Dagster's own storage: in a schema of the hub's database, and files of runs in the installation's home.

Dagster's classes do the work; those here only find the address and the folder, so that `dagster dev`, the commands and
the tests need no more configuration than the pipeline itself.
"""

import os
import threading
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import quote

import dagster as dg
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine

from rsu_pipeline import installation
from rsu_pipeline.warehouse import database

SCHEMA = "dagster"
_SCHEMA_LOCK = (0x525355, 1)
_engines: dict[tuple[int, str], Engine] = {}
_engines_lock = threading.Lock()
_in_place: set[str] = set()
"""Addresses at which this process has found or made Dagster's tables. Every tick of a sensor or schedule makes an instance
of its own, and looking again cost 30 ms of processor time each."""


class HubStorage(DagsterPostgresStorage):
    """Runs, events, schedules and partitions in schema `dagster` beside the hub's tables."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {"should_autocreate_tables": dg.Field(bool, is_required=False, default_value=True)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        address = installation.current().database_url
        is_new = address not in _in_place
        storage = cls(
            inst_data=inst_data,
            postgres_url=storage_url(address) if is_new else _with_schema(address),
            should_autocreate_tables=is_new and config_value.get("should_autocreate_tables", True),
        )
        _in_place.add(address)
        engine = _engine(_with_schema(address))
        parts: tuple[Any, ...] = (storage.run_storage, storage.event_log_storage, storage.schedule_storage)
        for part in parts:
            part._engine = engine  # there is no public way
        return storage


class HomeLogs(LocalComputeLogManager):
    """What runs print, in the home folder's `dagster/logs`."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(base_dir=str(installation.current().settings.home / "dagster" / "logs"), inst_data=inst_data)


class HomeFiles(LocalArtifactStorage):
    """The little that Dagster keeps in files beside that, in the home folder's `dagster`."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(base_dir=str(installation.current().settings.home / "dagster"), inst_data=inst_data)


def storage_url(database_url: str) -> str:
    """The hub's address with Dagster's schema as search path; makes the schema when it is not there."""
    with database.session(database_url, purpose="dagster schema") as conn, conn.cursor() as cur:
        # Looked up first: a role that may not create schemas can still use the one it was given.
        cur.execute("SELECT to_regnamespace(%s) IS NULL", (SCHEMA,))
        if (cur.fetchone() or (False,))[0]:
            # IF NOT EXISTS alone fails where two processes start at once.
            cur.execute("SELECT pg_advisory_xact_lock(%s, %s)", _SCHEMA_LOCK)
            cur.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        conn.commit()
    return _with_schema(database_url)


def _engine(url: str) -> Engine:
    """This process's connections to Dagster's tables. dagster-postgres connects anew for every query, which was two
    fifths of what an idle daemon used; as many connections as are wanted at once may be open, two are kept."""
    key = (os.getpid(), url)
    with _engines_lock:
        if key not in _engines:
            # Only tests have a second installation in one process.
            for other in [other for other in _engines if other[0] == key[0]]:
                _engines.pop(other).dispose()
            _engines[key] = create_engine(
                url, isolation_level="AUTOCOMMIT", pool_size=2, max_overflow=-1, pool_recycle=600, pool_pre_ping=True
            )
        return _engines[key]


def _with_schema(database_url: str) -> str:
    return f"{database_url}{'&' if '?' in database_url else '?'}options={quote(f'-csearch_path={SCHEMA}')}"
