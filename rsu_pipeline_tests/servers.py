"""A PostgreSQL server seen from outside: what makes and drops databases and roles."""

import hashlib
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg2
from psycopg2.extensions import parse_dsn


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


def create_database(url: str, name: str, template: str) -> None:
    """Copy a database by its files.

    Since PostgreSQL 15 the default is to copy it through the log. That is for large ones: it takes twice the processor time,
    and dropping the copy three times as much.
    """
    with closing(psycopg2.connect(url)) as conn:
        conn.autocommit = True
        strategy = "STRATEGY file_copy" if conn.server_version >= 150000 else ""
        with conn.cursor() as cur:
            cur.execute(f"CREATE DATABASE {name} TEMPLATE {template} {strategy}")


def drop_database(url: str, name: str) -> None:
    """Drop a database with its sessions."""
    execute(url, f"DROP DATABASE {name} WITH (FORCE)")


def relax(url: str, folder: Path) -> None:
    """Spare an embedded server what only a crash or an eavesdropper would show. Tests of those have servers of their own.

    Half of a connection's processor time was the thousands of hashes of SCRAM. MD5 refuses a wrong password as well.
    """
    parts = parse_dsn(url)
    digest = hashlib.md5(f"{parts['password']}{parts['user']}".encode(), usedforsecurity=False).hexdigest()
    execute(url, f"ALTER ROLE CURRENT_USER PASSWORD 'md5{digest}'")
    execute(url, "ALTER ROLE CURRENT_USER SET synchronous_commit = off")
    execute(url, "ALTER SYSTEM SET full_page_writes = off")
    rules = folder / "data" / "pg_hba.conf"
    rules.write_text(rules.read_text().replace("scram-sha-256", "md5"))
    execute(url, "SELECT pg_reload_conf()")
