"""A PostgreSQL server seen from outside: what makes and drops databases and roles. Servers that end with a block."""

import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import parse_dsn


def execute(url: str, statement: str) -> None:
    """Run a statement that cannot be part of a transaction."""
    with closing(psycopg2.connect(url)) as conn:
        conn.autocommit = True
        with conn.cursor() as cur:
            cur.execute(statement)


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """Run a server that prints one line once it listens, and ends when its input is closed. Provides that line."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    try:
        yield process.stdout.readline().strip()
        process.stdin.close()
        process.wait(10)
    finally:
        end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """Kill a process that still runs, and close its pipes."""
    process.kill()
    process.wait(30)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


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
    """Drop a database with its sessions. They are waited for here: the statement does so in steps of a tenth of a second."""
    deadline = time.monotonic() + 30
    with closing(psycopg2.connect(url)) as conn:
        conn.autocommit = True
        with conn.cursor() as cur:
            while True:
                cur.execute("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s", (name,))
                if cur.fetchone() == (0,) or time.monotonic() > deadline:
                    break
                time.sleep(0.002)
            cur.execute(f"DROP DATABASE {name} WITH (FORCE)")


def relax(url: str, folder: Path) -> None:
    """Turn off at an embedded server what only a crash or an eavesdropper would show. Tests of those have servers of their own.

    Half of a connection's processor time was the thousands of hashes of SCRAM. MD5 refuses a wrong password as well.
    """
    parts = parse_dsn(url)
    digest = hashlib.md5(f"{parts['password']}{parts['user']}".encode(), usedforsecurity=False).hexdigest()
    rules = folder / "data" / "pg_hba.conf"
    rules.write_text(rules.read_text().replace("scram-sha-256", "md5"))
    with closing(psycopg2.connect(url)) as conn:
        conn.autocommit = True
        with conn.cursor() as cur:
            cur.execute("ALTER SYSTEM SET full_page_writes = off")
            cur.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = off")
            cur.execute("SELECT pg_reload_conf()")
            # The new rule takes the old password too. The old rule, which holds until the server has read the file, needs it.
            _wait_until_off(cur, "full_page_writes")
            cur.execute(f"ALTER ROLE CURRENT_USER PASSWORD 'md5{digest}'")


def _wait_until_off(cur: Cursor, setting: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        cur.execute(f"SHOW {setting}")
        if cur.fetchone() == ("off",):
            return
        assert time.monotonic() < deadline, f"{setting} is still on"
        time.sleep(0.01)
