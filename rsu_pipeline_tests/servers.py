"""A PostgreSQL server seen from outside: what makes and drops databases and roles."""

import subprocess
from contextlib import closing
from pathlib import Path

import psycopg2


def execute(url: str, statement: str) -> None:
    """Run a statement that cannot be part of a transaction."""
    with closing(psycopg2.connect(url)) as conn:
        conn.autocommit = True
        with conn.cursor() as cur:
            cur.execute(statement)


def stop_at_once(folder: Path) -> None:
    """Stop an embedded server as a power cut would: no shutdown checkpoint, every session cut."""
    pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    subprocess.run(["kill", "-QUIT", str(pid)], check=True, timeout=120)
