"""A whole installation as an operator starts it, in a folder of its own, and what its processes cost."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import requests
from psycopg2.extensions import connection as Connection

from benchmarks.measure import cpu_of
from benchmarks.race_morning.cpu import children
from rsu_pipeline.settings import Settings, load_settings
from rsu_pipeline.warehouse import credentials, database
from rsu_pipeline.warehouse.secret_box import SecretBox, generate_secret_key
from runsignup_sandbox.process import SandboxProcess

KINDS = (
    ("run", ("execute_run", "spawn_main")),
    ("code server", ("api grpc", "resource_tracker")),
    ("web UI", ("orchestration.webserver",)),
    ("daemon", ("dagster-daemon",)),
    ("rsu up", ("rsu up",)),
)
"""What a process is, by a part of its command line."""


@dataclass
class Installation:
    """`rsu up` at work.

    `conn` is a session at its database, in autocommit. `keys` are the partners' in order of number.
    """

    url: str
    settings: Settings
    secret_box: SecretBox
    conn: Connection
    keys: list[str]
    process: "subprocess.Popen[bytes]"
    log: Path
    environment: dict[str, str]
    peak_mib_of_a_run: int = 0
    _seen: dict[int, tuple[str, float]] = field(default_factory=dict)

    def rows(self, query: str, *parameters: object, **named: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query, from a new session where a restart of the server ended the one before."""
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.conn.closed:
                    self.conn = database.connect(self.url, purpose="benchmark")
                    self.conn.autocommit = True
                with self.conn.cursor() as cur:
                    cur.execute(query, named or parameters or None)
                    return cur.fetchall()
            except (psycopg2.OperationalError, database.DatabaseError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def value(self, query: str) -> Any:
        return self.rows(query)[0][0]

    def until(self, what: str, ask: Callable[[], object], *, seconds: float = 600, or_else: bool = True) -> None:
        """Ask until the answer is true. Past the time it raises, or goes on if `or_else` is false."""
        deadline = time.monotonic() + seconds
        while not ask():
            if self.process.poll() is not None:
                raise RuntimeError(f"rsu up ended with {self.process.returncode}: {self.log.read_text()[-3000:]}")
            if time.monotonic() > deadline:
                if not or_else:
                    return
                raise RuntimeError(f"Not within {seconds:g} s: {what}. {self.log.read_text()[-3000:]}")
            time.sleep(0.5)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start `rsu` with these arguments beside it, of the same installation. Its output goes to the log."""
        with self.log.open("a") as stream:
            return subprocess.Popen(
                [str(Path(sys.executable).with_name("rsu")), *arguments],
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    @contextmanager
    def measuring(self) -> Iterator[dict[str, float]]:
        """Provide CPU seconds for the length of a block, by kind of process. They are filled in at its end."""
        self._sample()
        before = dict(self._seen)
        ended = threading.Event()

        def sample() -> None:
            while not ended.wait(0.25):
                self._sample()

        thread = threading.Thread(target=sample)
        thread.start()
        used: dict[str, float] = {}
        try:
            yield used
        finally:
            ended.set()
            thread.join()
            self._sample()
            for pid, (kind, seconds) in self._seen.items():
                used[kind] = used.get(kind, 0.0) + seconds - before.get(pid, (kind, 0.0))[1]
            for kind in used:
                used[kind] = round(used[kind], 2)

    def _sample(self) -> None:
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            waiting += children(pid)
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                # Of one that has ended and is still counted, only the number is left.
                known = self._seen.get(pid, ("other", 0.0))[0]
                kind = next((name for name, marks in KINDS if any(mark in command for mark in marks)), known)
                if seconds := cpu_of(pid):
                    self._seen[pid] = (kind, seconds)
                if kind == "run":
                    self.peak_mib_of_a_run = max(self.peak_mib_of_a_run, _peak_mib(pid))


@contextmanager
def installed(
    url: str, sandbox: SandboxProcess, folder: Path, *, secret_key: str | None = None, is_empty: bool = False
) -> Iterator[Installation]:
    """Start `rsu up` with everything of its own. All of it ends with the block.

    With a `secret_key` the database has the sandbox's partners already, encrypted with it. Else they are added, unless it is to
    be without partners (`is_empty`).
    """
    port, adds_partners = _free_port(), secret_key is None
    secret_key = secret_key or generate_secret_key()
    environment = {
        "RSU_HOME": str(folder / "home"),
        "RSU_DATABASE_URL": url,
        "RSU_API_BASE_URL": sandbox.api_url,
        "RSU_SECRET_KEY": secret_key,
        "RSU_UI_PORT": str(port),
        "RSU_CALLS_PER_HOUR": "1000",
        "RSU_MAX_IN_FLIGHT": "2",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RSU_", "DAGSTER_"))}
    secret_box = SecretBox([secret_key], source="RSU_SECRET_KEY")
    with database.session(url, purpose="benchmark") as conn:
        database.migrate(conn)
        keys = []
        for item in [] if is_empty else sandbox.admin.partners():
            partner_id = item["partner"]
            if adds_partners:
                partner_id = credentials.add(
                    conn, secret_box, name=item["name"], principal=item["key"], secret=item["secret"]
                )
            keys.append(credentials.ensure_key(conn, partner_id))
        conn.commit()
        conn.autocommit = True
        log = folder / "up.log"
        with (
            log.open("w") as stream,
            subprocess.Popen(
                [str(Path(sys.executable).with_name("rsu")), "up"],
                env=kept | environment,
                cwd=folder,
                stdout=stream,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            here = Installation(
                url, load_settings(environment), secret_box, conn, keys, process, log, kept | environment
            )
            try:
                here.until("the web UI answers", lambda: _answers(f"http://127.0.0.1:{port}/server_info"), seconds=120)
                yield here
            finally:
                # A process that was started in the background ignores SIGINT.
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()


def _answers(url: str) -> bool:
    with requests.Session() as session, suppress(requests.RequestException):
        session.trust_env = False
        return session.get(url, timeout=5).status_code == 200
    return False


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _peak_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)
