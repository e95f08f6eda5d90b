"""Other sessions at a database, and processes beside the test's own."""

import subprocess
import sys
from typing import Any

from rsu_pipeline.warehouse import database


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query, and commit what it changes."""
    with database.session(url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute(query)
        found = cur.fetchall() if cur.description else []
        conn.commit()
    return found


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process of Python that runs this code."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
