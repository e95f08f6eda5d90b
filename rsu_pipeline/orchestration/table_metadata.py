"""What the Dagster UI shows of the table that an asset fills: its name, its columns, its owners."""

import json
from importlib import resources
from typing import Any

import dagster as dg

OPERATORS, SCORING = "team:operators", "team:scoring"
FILE = "tables.json"
"""Columns by table, read from a migrated PostgreSQL by `make docs`, so that loading the definitions needs no database."""


def table_metadata(table: str) -> dict[str, Any]:
    """Return the metadata of an asset that fills this table."""
    columns = json.loads(resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8"))[table]
    return {
        "dagster/table_name": table,
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn(
                    name=column["name"],
                    type=column["type"],
                    description=column["meaning"],
                    constraints=dg.TableColumnConstraints(nullable=not column["not_null"]),
                )
                for column in columns
            ]
        ),
    }
