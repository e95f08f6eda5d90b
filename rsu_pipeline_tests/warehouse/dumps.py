"""A whole database as SQL, to search it."""

import subprocess

from rsu_pipeline.commands import backup
from rsu_pipeline.warehouse import database


def dump(url: str) -> str:
    """Return every table of every schema, Dagster's too, as pg_dump writes it."""
    arguments, variables = backup.connection(url)
    with database.session(url, purpose="tests") as conn:
        program = backup._program("pg_dump", conn)
    command = [program, *arguments, "--inserts"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
