"""Processes that are paused by SIGSTOP, while they hold a lock or a slot in flight, and go on when resumed.

    python -m rsu_pipeline_tests.warehouse.sleeper sync PARTNER POINT TIMES
    python -m rsu_pipeline_tests.warehouse.sleeper hold partner|shard

`sync` syncs a partner and stops at a point of the proof's victim. `hold` holds a lock until a line comes on standard input, and
then writes a row. The environment names the hub. What ends the process is printed as one sentence, with exit code 1.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsu_pipeline.settings import load_settings
from rsu_pipeline.sync import listing, partner_sync
from rsu_pipeline.sync.session import open_partner_session
from rsu_pipeline.warehouse import call_ledger, database, leases, race_locks
from rsu_pipeline.warehouse.database import DatabaseError
from rsu_pipeline.warehouse.secret_box import SecretBox

BEAT_SECONDS = 0.2
SILENT_SECONDS = 2.0


def shorten() -> None:
    """Have leases of this process end within seconds instead of most of a minute."""
    leases.BEAT_SECONDS, leases.SILENT_SECONDS = BEAT_SECONDS, SILENT_SECONDS
    call_ledger.LEDGER_IDLE_TIMEOUT = "1s"


def hold(what: str) -> None:
    url = str(load_settings().database_url)
    with database.session(url, purpose="sync sleeper") as conn, conn.cursor() as cur:
        lock = race_locks.race_lock(conn, 7, 70) if what == "race" else database.shard_lock(conn, 7, lock_timeout=1)
        with lock:
            print("held", flush=True)
            sys.stdin.readline()
            cur.execute("INSERT INTO timing_partners (company_name) VALUES ('Sleepers')")
            conn.commit()


def sync_partner(partner: str, point: str, times: str) -> None:
    from rsu_pipeline_tests.proof.victim import arm

    settings = load_settings()
    secret_box = SecretBox(settings.secret_keys, source="RSU_SECRET_KEY")
    arm(point, int(times), signal.SIGSTOP)
    with open_partner_session(
        str(settings.database_url),
        secret_box,
        settings,
        partner,
        lane="routine",
        run_id="sleeper",
        log=lambda line: None,
    ) as session:
        listing.refresh_events(session)
        partner_sync.sync_participants(session, partner_sync.make_plan(session, force_full=True))


# For the test that started it.


class Sleeper:
    """Such a process."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        command = [sys.executable, "-m", "rsu_pipeline_tests.warehouse.sleeper", *arguments]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wait_until_stopped(self) -> None:
        deadline = time.monotonic() + 60
        while _state(self.process.pid) != "T":
            assert self.process.poll() is None, self.process.communicate(timeout=60)
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def wake(self) -> tuple[int, str]:
        """Let it go on to its end: its exit code and what it prints."""
        self.process.send_signal(signal.SIGCONT)
        out, error = self.process.communicate("go\n", timeout=60)
        return self.process.returncode, (out + error).strip()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


@contextmanager
def asleep(environment: dict[str, str], *arguments: str) -> Iterator[Sleeper]:
    """Provide a process that has stopped: at once for `hold`, at its point for `sync`."""
    sleeper = Sleeper(environment, *arguments)
    try:
        if arguments[0] == "hold":
            assert sleeper.line() == "held"
            sleeper.stop()
        sleeper.wait_until_stopped()
        yield sleeper
    finally:
        sleeper.process.kill()
        sleeper.process.communicate(timeout=60)


if __name__ == "__main__":
    shorten()
    kind, *rest = sys.argv[1:]
    try:
        {"hold": hold, "sync": sync_partner}[kind](*rest)
    except DatabaseError as error:
        print(error)
        sys.exit(1)
