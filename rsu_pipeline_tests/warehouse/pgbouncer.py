"""Debian's pgbouncer between a test and the server."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import psycopg2.extensions


@contextmanager
def pgbouncer(url: str, *, pool_mode: str, default_pool_size: int = 20, more: str = "") -> Iterator[str]:
    """Run pgbouncer before a server, and provide the address of the same database through it."""
    parts = psycopg2.extensions.parse_dsn(url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="rsu-pgbouncer-"))
    folder.chmod(0o755)
    users, configuration = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{parts["user"]}" "{parts["password"]}"\n')
    configuration.write_text(
        f"[databases]\n* = host={parts['host']} port={parts['port']}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
        f"auth_file = {users}\npool_mode = {pool_mode}\ndefault_pool_size = {default_pool_size}\n{more}"
    )
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    # It refuses to run as root.
    account = ["-u", "nobody"] if os.getuid() == 0 else []
    process = subprocess.Popen([program, "-q", *account, str(configuration)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, process.communicate(timeout=60)[1]
                assert time.monotonic() < deadline, "pgbouncer does not answer"
                time.sleep(0.02)
        yield f"postgresql://{parts['user']}:{parts['password']}@127.0.0.1:{port}/{parts['dbname']}"
    finally:
        process.kill()
        process.wait(60)
        shutil.rmtree(folder)
