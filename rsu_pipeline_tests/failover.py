"""A PostgreSQL with a standby behind one address, as a failover that keeps the address moves it."""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rsu_pipeline.local import pg_binaries

USER = "hub"
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
max_connections = 60
"""


@dataclass
class Address:
    """A port of this process that leads to one server at a time, or to none."""

    target: int | None
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            target = self.target
            if target is None:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", target))
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=ends, daemon=True).start()

    def lead_to(self, target: int | None) -> None:
        """Move new connections there, and cut those that are open."""
        self.target = target
        while self._open:
            _close(self._open.pop())

    def close(self) -> None:
        self._listener.close()
        self.lead_to(None)


def _copy(source: socket.socket, destination: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            destination.sendall(data)
    _close(source)
    _close(destination)


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@dataclass
class Pair:
    """A primary and its standby, in a folder that everybody can reach."""

    folder: Path
    binaries: Path
    address: Address
    ports: dict[str, int]

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.address.port}/hub"

    def lose_primary(self) -> None:
        """Stop the primary as by a power cut. Nothing answers at the address."""
        self.address.lead_to(None)
        self.run("pg_ctl", "-D", "primary", "-m", "immediate", "stop")

    def reach_standby(self) -> None:
        """Let the address lead to the standby, which only reads."""
        self.address.lead_to(self.ports["standby"])

    def promote(self) -> None:
        self.run("pg_ctl", "-D", "standby", "-w", "promote")

    def run(self, program: str, *arguments: str) -> None:
        # initdb and the server refuse to run as root.
        user = "nobody" if os.getuid() == 0 else None
        done = subprocess.run(
            [str(self.binaries / program), *arguments], user=user, cwd=self.folder, check=False, timeout=120,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    def start(self, name: str) -> None:
        self.run("pg_ctl", "-D", name, "-w", "-l", f"{name}.log", "-o", f"-p {self.ports[name]}", "start")


@contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Run a primary and a standby that follows it asynchronously."""
    if os.getuid() == 0:
        shutil.chown(folder, "nobody")
    ports = {name: _free_port() for name in ("primary", "standby")}
    address = Address(ports["primary"])
    both = Pair(folder, pg_binaries.machine_binaries() or pg_binaries.wheel_binaries(), address, ports)
    both.run("initdb", "-D", "primary", "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
    with (folder / "primary" / "postgresql.auto.conf").open("a") as stream:
        stream.write(_SETTINGS)
    thread = threading.Thread(target=address.serve, daemon=True)
    thread.start()
    try:
        both.start("primary")
        source = ("-h", "127.0.0.1", "-p", str(ports["primary"]), "-U", USER)
        both.run("createdb", *source, "hub")
        both.run("pg_basebackup", *source, "-D", "standby", "-R", "-c", "fast", "--no-sync")
        both.start("standby")
        yield both
    finally:
        address.close()
        for name in ports:
            if (folder / name / "postmaster.pid").exists():
                both.run("pg_ctl", "-D", name, "-m", "immediate", "stop")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
