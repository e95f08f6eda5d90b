"""A PostgreSQL server of a test's own: on a Unix socket, with TLS by an authority of its own, and with a standby."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rsu_pipeline.local import pg_binaries

USER = "hub"
DATABASE = "hub"
PASSWORD = "tops3cret"
_HBA = """
local all all trust
hostssl all all 127.0.0.1/32 scram-sha-256
hostssl all all ::1/128 scram-sha-256
"""


@dataclass
class OwnServer:
    """Where it is. The standby has the same socket folder and another port."""

    folder: Path
    port: int
    standby_port: int

    @property
    def root_certificate(self) -> Path:
        return self.folder / "root.crt"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _run(folder: Path, *command: str | Path) -> None:
    # initdb and the server refuse to run as root.
    user = "nobody" if os.getuid() == 0 else None
    done = subprocess.run(
        [str(part) for part in command], user=user, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _make_certificates(folder: Path) -> None:
    """Make a certificate for `localhost`, by an authority that no machine knows."""
    new = ("openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes")
    _run(folder, *new, "-x509", "-days", "2", "-subj", "/CN=tests", "-keyout", "root.key", "-out", "root.crt")
    _run(folder, *new, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    sign = ("openssl", "x509", "-req", "-days", "2", "-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial")
    _run(folder, *sign, "-in", "server.csr", "-out", "server.crt")
    (folder / "server.key").chmod(0o600)


def _pg_ctl(binaries: Path, data: Path) -> tuple[str | Path, ...]:
    return (binaries / "pg_ctl", "-D", data, "-w", "-l", f"{data}.log")


@contextmanager
def own_server(folder: Path) -> Iterator[OwnServer]:
    """Run the server and its standby in a folder that everybody can reach."""
    binaries = pg_binaries.machine_binaries()
    assert binaries is not None, "the machine's PostgreSQL has TLS, the wheel's has not"
    if os.getuid() == 0:
        shutil.chown(folder, "nobody")
    server = OwnServer(folder, _free_port(), _free_port())
    _make_certificates(folder)
    data, standby = folder / "data", folder / "standby"
    (folder / "password").write_text(PASSWORD)
    _run(
        folder, binaries / "initdb", "-D", data, "-U", USER, "--pwfile", folder / "password", "-E", "UTF8", "--no-sync"
    )
    (data / "pg_hba.conf").write_text(_HBA)
    (data / "postgresql.auto.conf").write_text(
        f"unix_socket_directories = '{folder}'\nlisten_addresses = '127.0.0.1, ::1'\nfsync = off\nssl = on\n"
        f"ssl_cert_file = '{folder}/server.crt'\nssl_key_file = '{folder}/server.key'\n"
    )
    _run(folder, *_pg_ctl(binaries, data), "-o", f"-p {server.port}", "start")
    _run(folder, binaries / "createdb", "-h", folder, "-p", str(server.port), "-U", USER, DATABASE)
    _run(folder, *_pg_ctl(binaries, data), "stop")
    _run(folder, "cp", "-a", data, standby)
    _run(folder, "touch", standby / "standby.signal")
    running = {data: server.port, standby: server.standby_port}
    try:
        for place, port in running.items():
            _run(folder, *_pg_ctl(binaries, place), "-o", f"-p {port}", "start")
        yield server
    finally:
        for place in running:
            _run(folder, binaries / "pg_ctl", "-D", place, "-m", "immediate", "stop")
