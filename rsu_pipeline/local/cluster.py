"""The PostgreSQL cluster of an embedded server: creating it, starting its server, and checking whether it answers."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import psycopg2

from rsu_pipeline.local import keeper
from rsu_pipeline.local.keeper import data_lock, open_file, postmaster, try_lock
from rsu_pipeline.local.pg_binaries import (
    SYSTEM_FOLDER,
    EmbeddedError,
    clean_environment,
    last_line,
    machine_binaries,
    major,
    make_system_folder,
    reaches,
    run,
    server_account,
    server_version,
    usable_binaries,
    wheel_binaries,
)
from rsu_pipeline.warehouse import addresses

NAME = "rsu"
"""The role that owns everything, and its database."""

START_ATTEMPTS = 3
START_SECONDS = 300
"""How long a server may replay its log after a crash."""
RECOVER_SECONDS = 30.0
"""How long remains of an earlier server may take to end, by themselves and by signals."""
LOG_BYTES = 10 * 1024 * 1024
PORTS = range(15432, 32000)
"""Below the ports that kernels assign to outgoing connections, so that a remembered port stays free."""

# Connections without an address are off. "peer" only keeps initdb from requiring a password file.
INITDB_OPTIONS = (
    "--locale=C",
    "--encoding=UTF8",
    "--data-checksums",
    "--auth-local=peer",
    "--auth-host=scram-sha-256",
)

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "fsync": "on",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    # Statements, and the details of errors, quote people's data.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class Cluster:
    """The server of one folder, for a process that has its lease and its start.lock."""

    def __init__(self, folder: Path, binaries: Path | None) -> None:
        self.folder = folder
        self.wanted = binaries
        self.account = server_account(folder)
        self.log = folder / "server.log"
        self.data = self._data_folder()
        self.home = self.data.parent
        self.unfinished = self.data.with_name(self.data.name + ".new")

    def _data_folder(self) -> Path:
        """Return where the data are or will be: in the folder, unless the server's account cannot get there."""
        data = self.folder / "data"
        if data.is_symlink():
            return self.folder / data.readlink()
        if data.exists() or reaches(self.account, self.folder):
            return data
        name = re.sub(r"[^A-Za-z0-9_-]", "", self.folder.name) or "folder"
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        return make_system_folder() / f"{name}-{digest}" / "data"

    def bring_up(self) -> str:
        """Ensure that a server answers and that a keeper will stop it, and return the URL.

        Raises:
            EmbeddedError: the server cannot be started.
            OSError: the folder cannot be used.
        """
        if not self.home.is_dir():
            if self.home.parent == SYSTEM_FOLDER:
                make_system_folder()
            self.home.mkdir()
            self.home.chmod(0o711)  # the server's account passes through to its data
        # The keeper comes first: if this process is killed while starting the server, the keeper stops it.
        self._ensure_keeper()
        failures: list[str] = []
        begun = time.monotonic()
        quit_sent = False
        while True:
            lock = try_lock(data_lock(self.data))
            if lock is not None:  # no process of the server is alive
                try:
                    if len(failures) == START_ATTEMPTS:
                        raise EmbeddedError(failures[-1])
                    failures.append(self._start(lock) or f"The server of {self.data} ends at once: see {self.log}.")
                finally:
                    os.close(lock)
                begun = time.monotonic()
                continue
            problem = self._problem()
            if problem is None:
                self._ensure_keeper()  # again: the one seen above may just have been ending
                return self._url()
            waited = time.monotonic() - begun
            if postmaster(self.data) is None:
                # Its processes have outlived it, or were left by a start that was killed half-way.
                if waited > RECOVER_SECONDS / 2:
                    keeper.signal_holders(data_lock(self.data), signal.SIGKILL)
                elif waited > RECOVER_SECONDS / 10 and not quit_sent:
                    keeper.signal_holders(data_lock(self.data), signal.SIGQUIT)
                    quit_sent = True
            if waited > (START_SECONDS if "starting up" in problem or "recovery" in problem else RECOVER_SECONDS):
                raise EmbeddedError(
                    f"The PostgreSQL server in {self.data} is blocked by processes that do not answer ({problem}): "
                    f"end what still uses it, perhaps in another container or on another machine. See {self.log}."
                )
            time.sleep(0.05)

    def _ensure_keeper(self) -> None:
        """Start a keeper unless there is one.

        Raises:
            EmbeddedError: it cannot be started.
        """
        # Run by its path and isolated: independent of where the project was imported from.
        command = [sys.executable, "-I", "-S", keeper.__file__, str(self.folder), str(self.data)]
        for _ in range(START_ATTEMPTS):
            lock = try_lock(self.folder / "keeper.lock")
            if lock is None:
                return
            os.close(lock)
            with self._open_log() as log:
                done = subprocess.run(  # noqa: S603 - the project's own file
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=clean_environment(),
                    start_new_session=True,
                    check=False,
                )
            if done.returncode == 0:
                return
        raise EmbeddedError(f"The process that stops PostgreSQL after use could not be started: see {self.log}.")

    def _start(self, lock: int) -> str | None:
        """Start the server, creating it first if there is none. Return None, or why it did not start this time.

        `lock` is the descriptor of data.lock, which every process of PostgreSQL inherits.

        Raises:
            EmbeddedError: another attempt would fail as well.
            OSError: a file cannot be used.
        """
        binaries = self._binaries()
        version = server_version(binaries)
        programs = usable_binaries(binaries, self.account)
        if not (self.data / "PG_VERSION").exists() or (self.home != self.folder and not self._linked()):
            self._make(programs, lock)
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if major(made_by) != major(version):
            raise EmbeddedError(
                f"The data in {self.data} were made by PostgreSQL {made_by} and cannot be used by PostgreSQL {version} "
                f"({binaries}): dump them with version {made_by} and restore them, or move the folder away to begin "
                "with an empty database."
            )
        if not self._password():
            self._set_password(programs, lock, self.data)
        # Its process is gone, as the lock shows. Its process id may have been reused since.
        if postmaster(self.data) is None:
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        port = _free_port(self._remembered_port())
        _write(self.folder / "port", str(port))
        self._rotate_log()
        options = SETTINGS | {"port": str(port)}
        with self._open_log() as log:
            begin = log.tell()
            done = run(
                [programs / "pg_ctl", "start", "-w", "-t", str(START_SECONDS), "-o", _options(options)],
                self.account,
                output=log,
                environment={"PGDATA": str(self.data)},  # not -D, which pg_ctl passes to a shell unquoted
                pass_fds=[lock],
            )
        if done.returncode == 0:
            return None
        said = self._log_since(begin)
        if "could not bind" in said or "could not create any TCP/IP sockets" in said:
            (self.folder / "port").unlink(missing_ok=True)
        # The line that ends it, and the one before, which often has the reason.
        lines = re.findall(r"(?:LOG|ERROR|FATAL|PANIC): +(.*)", said.partition("could not start server")[0])
        reason = " / ".join(lines[-2:]) or last_line(said)
        return f"PostgreSQL did not start on {self.data}: {reason} (details are in {self.log})."

    def _make(self, programs: Path, lock: int) -> None:
        """Create an empty cluster with its role and database. It is renamed last, so that `data` is always complete."""
        remove_tree(self.unfinished)
        if self.data.exists():
            if any(self.data.iterdir()) and self.home == self.folder:
                raise EmbeddedError(f"{self.data} contains something that is not a PostgreSQL cluster: move it away.")
            # Left by an earlier folder of the same name that was deleted.
            self.data.rename(self.data.with_name(f"data.abandoned-{time.time_ns()}"))
        self.unfinished.mkdir(mode=0o700)
        if self.account:
            os.chown(self.unfinished, self.account.uid, self.account.gid, follow_symlinks=False)
        made = run(
            [programs / "initdb", "-D", self.unfinished, "-U", NAME, *INITDB_OPTIONS],
            self.account,
            pass_fds=[lock],
        )
        if made.returncode != 0:
            faults = re.findall(r"(?:error|FATAL|PANIC): +(.*)", made.stderr)
            reason = faults[0] if faults else last_line(made.stderr)
            raise EmbeddedError(f"A PostgreSQL cluster could not be created in {self.unfinished}: {reason}.")
        self._set_password(programs, lock, self.unfinished)
        self._single_user(programs, lock, self.unfinished, f"CREATE DATABASE {NAME} OWNER {NAME};")
        self.unfinished.rename(self.data)
        if self.home != self.folder and not self._linked():
            (self.folder / "data").symlink_to(self.data)
        for folder in (self.home, self.folder):
            _sync(folder)

    def _set_password(self, programs: Path, lock: int, data: Path) -> None:
        """Set the role's password: the one of the file, or a new one that is written there once it is in force."""
        password = self._password() or secrets.token_hex(24)
        self._single_user(programs, lock, data, f"ALTER ROLE {NAME} PASSWORD '{password}';")
        _write(self.folder / "password", password)

    def _single_user(self, programs: Path, lock: int, data: Path, statement: str) -> None:
        """Execute a statement on a cluster whose server does not run."""
        keep = {name: value for name, value in SETTINGS.items() if name.startswith(("log", "password"))}
        options = [part for name, value in keep.items() for part in ("-c", f"{name}={value}")]
        done = run(
            [programs / "postgres", "--single", "-D", data, *options, "postgres"],
            self.account,
            stdin=statement + "\n",
            pass_fds=[lock],
        )
        # It continues after an error, so its exit status alone is not enough.
        faults = [line.strip() for line in done.stderr.splitlines() if re.search(r"(ERROR|FATAL|PANIC):", line)]
        if done.returncode != 0 or faults:
            reason = faults[0] if faults else last_line(done.stderr)
            raise EmbeddedError(f"The PostgreSQL cluster in {data} could not be set up: {reason}.")

    def _problem(self) -> str | None:
        """Return why the server does not answer now, or None if it does.

        Raises:
            EmbeddedError: it will never answer, because the password is wrong.
        """
        try:
            address = addresses.parse(f"{self._url()}?connect_timeout=5")
            addresses.open_connection(address.for_psycopg2("rsu embedded")).close()
        except psycopg2.OperationalError as error:
            problem = last_line(str(error))
            refused = "authentication failed" in problem or "no password supplied" in problem
            if refused and postmaster(self.data) is not None:
                raise EmbeddedError(
                    f"The running PostgreSQL server of {self.folder} does not accept the password in "
                    f"{self.folder / 'password'}: delete that file, end every process that uses the server, try again."
                ) from error
            return problem
        return None

    def _url(self) -> str:
        lines = keeper.postmaster_lines(self.data)
        port = int(lines[3]) if len(lines) > 3 and lines[3].isdigit() else self._remembered_port() or 1
        return f"postgresql://{NAME}:{self._password()}@127.0.0.1:{port}/{NAME}"

    def _password(self) -> str:
        path = self.folder / "password"
        return path.read_text().strip() if path.exists() else ""

    def _remembered_port(self) -> int | None:
        path = self.folder / "port"
        text = path.read_text().strip() if path.exists() else ""
        return int(text) if text.isdigit() and 0 < int(text) < 65536 else None

    def _binaries(self) -> Path:
        if self.wanted is not None:
            return self.wanted
        try:
            return wheel_binaries()
        except EmbeddedError:
            found = machine_binaries()
            if found is None:
                raise
            return found

    def _linked(self) -> bool:
        return (self.folder / "data").is_symlink()

    def _open_log(self) -> IO[bytes]:
        return os.fdopen(open_file(self.log, os.O_APPEND), "ab")

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_name("server.log.1"))

    def _log_since(self, begin: int) -> str:
        with self.log.open("rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace")


def _free_port(remembered: int | None) -> int:
    """Return a port on which a server can listen, preferably the remembered one.

    Raises:
        EmbeddedError: none is found.
    """
    others = (PORTS[secrets.randbelow(len(PORTS))] for _ in range(100))
    for port in (remembered, *others) if remembered else others:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
            try:
                probe.bind(("127.0.0.1", port))
                probe.listen()
            except OSError:
                continue
            return port
    raise EmbeddedError(f"No port between {PORTS.start} and {PORTS.stop} is free on 127.0.0.1.")


def _write(path: Path, text: str) -> None:
    """Replace a small file that only its owner may read, safe against a crash at any moment."""
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    fd = open_file(scratch)  # creates it with the right owner and mode
    try:
        os.write(fd, f"{text}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    scratch.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _options(settings: dict[str, str]) -> str:
    """Return settings as the one argument that pg_ctl passes to postgres through a shell."""
    return " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())


def remove_tree(folder: Path) -> None:
    """Delete a folder with everything in it, if it exists.

    Raises:
        OSError: something cannot be deleted.
    """
    if folder.exists():
        shutil.rmtree(folder)
