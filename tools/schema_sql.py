"""The schema that the migrations make, as one file, from pg_dump of a migrated PostgreSQL.

`make docs` writes it to rsu_pipeline/warehouse/schema.sql, and a test fails where that file differs. It is to be read: databases
are made by the migrations alone.
"""

import re
import subprocess
from pathlib import Path

import rsu_pipeline.warehouse
from rsu_pipeline.local import client_programs
from rsu_pipeline.warehouse import addresses, database

FILE = Path(next(iter(rsu_pipeline.warehouse.__path__))) / "schema.sql"
HEAD = "-- Generated from the migrations by `make docs`, to be read. The migrations make the schema.\n\n"
_OPTIONS = ("--schema-only", "--no-owner", "--no-privileges")
_OF_PG_DUMP = re.compile(r"^(?:--|SET |SELECT pg_catalog\.set_config|\\(?:un)?restrict).*\n", re.MULTILINE)
"""What pg_dump writes about itself, its server and its session."""


def text(url: str) -> str:
    """Return the file's content, for a migrated database."""
    with database.session(url, purpose="docs") as conn:
        server = client_programs.Server.of(conn)
    program = client_programs.choose_pg_dump(client_programs.find_programs("pg_dump"), server)
    conninfo, environment = addresses.parse(url).for_programs()
    done = subprocess.run(
        [program.path, *_OPTIONS, "--dbname", conninfo], env=environment, capture_output=True, text=True, check=True
    )
    statements = re.sub(r"\n{3,}", "\n\n", _OF_PG_DUMP.sub("", done.stdout)).strip()
    return f"{HEAD}{statements}\n"
