"""A whole database as SQL, to search it."""

import subprocess

from rsu_pipeline.local import client_programs, dumps
from rsu_pipeline.warehouse import database


def dump(url: str) -> str:
    """Return every table of every schema, Dagster's too, as pg_dump writes it."""
    arguments, variables = dumps.connection_arguments(url)
    with database.session(url, purpose="tests") as conn:
        server = client_programs.Server.of(conn)
    program = client_programs.choose_pg_dump(client_programs.find_programs("pg_dump"), server)
    command = [program.path, *arguments, "--inserts"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=120).stdout
