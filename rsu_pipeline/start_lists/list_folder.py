"""A folder with a file for each start list, kept current, from which scoring programs import.

A file is written beside its place and renamed, so that nobody reads half of it. One whose content is the same is not touched,
so that its time shows when the list last changed. The file of a list that no longer exists is deleted, since it has names.
"""

import datetime as dt
import os
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection

from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.start_lists.list_formats import format_entries
from rsu_pipeline.warehouse import database

POLL_SECONDS = 2.0
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
            OSError: a file cannot be written. It is tried again by the next call.
        """
        present = start_list_store.read_build_times(conn)
        touched = []
        for (partner_id, event_id), built_at in present.items():
            if self._built.get((partner_id, event_id)) == built_at:
                continue
            found = start_list_store.read_start_list(conn, event_id, now, partner_id=partner_id)
            content = format_entries(start_list_store.read_entries(conn, found), self._kind).encode()
            path = self._folder / f"{partner_id}-{event_id}.csv"
            if not path.is_file() or path.read_bytes() != content:
                self._replace(path, content)
                touched.append(path)
            self._built[partner_id, event_id] = built_at
        conn.rollback()
        wanted = {f"{partner_id}-{event_id}.csv" for partner_id, event_id in present}
        for path in self._folder.iterdir():
            if _FILE.fullmatch(path.name) and path.name not in wanted:
                path.unlink()
                touched.append(path)
        self._built = {key: at for key, at in self._built.items() if key in present}
        return touched

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
    """Keep the folder current until `ended` is set. What fails is logged once and tried again."""
    lists = ListFolder(folder, kind)
    reported = ""
    while not ended.is_set():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with database.session(url, purpose="start list files") as conn:
                while not ended.is_set():
                    lists.update(conn, dt.datetime.now(dt.UTC))
                    reported = ""
                    ended.wait(POLL_SECONDS)
        except (OSError, psycopg2.Error, database.DatabaseError, start_list_store.NoStartList) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if reason != reported:
                log(f"start lists are not written to {folder} now: {reason}")
            reported = reason
            ended.wait(POLL_SECONDS)
