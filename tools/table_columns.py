"""The columns that the web UI shows of the tables that assets fill, from the catalogue of a migrated PostgreSQL.

`make docs` writes them to rsu_pipeline/orchestration/tables.json. A test fails where that file differs.
"""

import json
from pathlib import Path

import rsu_pipeline.orchestration
from rsu_pipeline.orchestration import table_metadata
from tools.schema_catalogue import Schema

FILE = Path(next(iter(rsu_pipeline.orchestration.__path__))) / table_metadata.FILE
TABLES = ("runsignup_events", "future_events", "runsignup_participants", "start_list_entries")


def text(schema: Schema) -> str:
    """Return the file's content."""
    shown = {
        name: [
            {"name": column.name, "type": column.type, "not_null": column.not_null, "meaning": column.meaning}
            for column in schema[name].columns
        ]
        for name in TABLES
    }
    return json.dumps(shown, indent=1, ensure_ascii=False) + "\n"
