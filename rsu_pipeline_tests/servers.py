"""A PostgreSQL server seen from outside: what makes and drops databases and roles."""

from contextlib import closing

import psycopg2


def execute(url: str, statement: str) -> None:
    """Runs a statement that can stand in no transaction."""
    with closing(psycopg2.connect(url)) as conn:
        conn.autocommit = True
        with conn.cursor() as cur:
            cur.execute(statement)
