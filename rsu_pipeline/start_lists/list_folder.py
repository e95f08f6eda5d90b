"""A folder with a file for each start list, kept current, from which scoring programs import.

A file is written beside its place and renamed, so that nobody reads half of it. One whose content is the same is not touched,
so that its time shows when the list last changed. The file of a list that no longer exists is deleted, since it has names.
One that cannot be written leaves the others. Programs that import from the folder read an old list then, so the process
records in the database whether all files are current.
"""

import datetime as dt
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection

from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.start_lists.list_formats import format_entries
from rsu_pipeline.warehouse import database, start_list_folders

POLL_SECONDS = 2.0
RECORD_SECONDS = 10.0
"""How often the process records that it is at work."""
MAX_REASON_CHARS = 300
_FILE = re.compile(r"\d+-\d+\.csv")
"""Names of files of this module: partner and event."""


class ListFolder:
    """The files of a folder. `kind` is their format."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder
        self._kind = kind
        self._built: dict[tuple[int, int], dt.datetime] = {}

    def update(self, conn: Connection, now: dt.datetime) -> list[Path]:
        """Write the lists that changed since the last call, delete those that are gone, and return what was touched.

        Raises:
            OSError: a file cannot be written or deleted. The others are, and it is tried again by the next call.
        """
        present = start_list_store.read_build_times(conn)
        touched: list[Path] = []
        failed: list[OSError] = []
        for (partner_id, event_id), built_at in present.items():
            if self._built.get((partner_id, event_id)) == built_at:
                continue
            try:
                touched += self._write(conn, partner_id, event_id, now)
                self._built[partner_id, event_id] = built_at
            except start_list_store.NoStartList:
                continue  # it has ended meanwhile, and the next call deletes its file
            except OSError as error:
                failed.append(error)
        conn.rollback()
        wanted = {f"{partner_id}-{event_id}.csv" for partner_id, event_id in present}
        for path in self._folder.iterdir():
            if _FILE.fullmatch(path.name) and path.name not in wanted:
                try:
                    path.unlink()
                    touched.append(path)
                except OSError as error:
                    failed.append(error)
        self._built = {key: at for key, at in self._built.items() if key in present}
        if failed:
            raise failed[0]
        return touched

    def _write(self, conn: Connection, partner_id: int, event_id: int, now: dt.datetime) -> list[Path]:
        """Write a list's file unless it is current, and return what was written."""
        found = start_list_store.read_start_list(conn, event_id, now, partner_id=partner_id)
        content = format_entries(start_list_store.read_entries(conn, found), self._kind).encode()
        path = self._folder / f"{partner_id}-{event_id}.csv"
        if path.is_file() and path.read_bytes() == content:
            return []
        self._replace(path, content)
        return [path]

    def _replace(self, path: Path, content: bytes) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=self._folder)
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # Who may read the folder may read its files.
            draft.chmod(self._folder.stat().st_mode & 0o666)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def keep_current(url: str, folder: Path, kind: str, ended: threading.Event, log: Callable[[str], None]) -> None:
    """Keep the folder current until `ended` is set. What fails is logged once, recorded for the alerts, and tried again."""
    keeper = _Keeper(folder, kind, log)
    while not ended.is_set():
        try:
            with database.session(url, purpose="start list files") as conn:
                while not ended.is_set():
                    keeper.step(conn)
                    ended.wait(POLL_SECONDS)
        except Exception as error:
            # Without the database nothing changes either. A fault of this program ends no thread: its silence is an alert.
            keeper.report(_reason(error))
            ended.wait(POLL_SECONDS)
    with suppress(psycopg2.Error, database.DatabaseError), database.session(url, purpose="start list files") as conn:
        start_list_folders.forget(conn, str(folder), keeper.machine)
        conn.commit()


class _Keeper:
    """The process that keeps a folder, with what it last reported."""

    def __init__(self, folder: Path, kind: str, log: Callable[[str], None]) -> None:
        self._folder = folder
        self._lists = ListFolder(folder, kind)
        self._log = log
        self._reported = ""
        self._recorded: tuple[str, float] | None = None
        self.machine = f"{socket.gethostname()}:{os.getpid()}"

    def step(self, conn: Connection) -> None:
        """Update the folder once, and record how that went."""
        reason = ""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lists.update(conn, dt.datetime.now(dt.UTC))
        except OSError as error:
            conn.rollback()
            reason = _reason(error)
        self.report(reason)
        if self._recorded is None:
            start_list_folders.take_over(conn, str(self._folder))
        if not self._recorded or self._recorded[0] != reason or time.monotonic() - self._recorded[1] >= RECORD_SECONDS:
            start_list_folders.record(conn, str(self._folder), self.machine, reason or None)
            conn.commit()
            self._recorded = reason, time.monotonic()

    def report(self, reason: str) -> None:
        """Log a reason for which files are not written, once while it lasts."""
        if reason and reason != self._reported:
            self._log(f"start lists are not written to {self._folder} now: {reason}")
        self._reported = reason


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:MAX_REASON_CHARS]
