"""Dagster's own storage, in a schema of the hub's database.

dagster-postgres does the work; this class only finds the address, so that `dagster dev`, the commands and the tests need
no more configuration than the pipeline itself.
"""

from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import quote

import dagster as dg
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from rsu_pipeline import installation
from rsu_pipeline.warehouse import database

SCHEMA = "dagster"


class HubStorage(DagsterPostgresStorage):
    """Runs, events, schedules and partitions in schema `dagster` beside the hub's tables."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {"should_autocreate_tables": dg.Field(bool, is_required=False, default_value=True)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(
            inst_data=inst_data,
            postgres_url=storage_url(installation.current().database_url),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
        )


def storage_url(database_url: str) -> str:
    """The hub's address with Dagster's schema as search path; makes the schema when it is not there."""
    with database.session(database_url, purpose="dagster schema") as conn, conn.cursor() as cur:
        # Looked up first: a role that may not create schemas can still use the one it was given.
        cur.execute("SELECT to_regnamespace(%s) IS NULL", (SCHEMA,))
        if (cur.fetchone() or (False,))[0]:
            cur.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        conn.commit()
    return f"{database_url}{'&' if '?' in database_url else '?'}options={quote(f'-csearch_path={SCHEMA}')}"
