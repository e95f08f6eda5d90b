"""The folder of start lists has each list as it is now, whole, and nothing of a list that is gone."""

import csv
import datetime as dt
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from rsu_pipeline.setting_values import LIST_FORMATS
from rsu_pipeline.start_lists.list_folder import ListFolder, keep_current
from rsu_pipeline.start_lists.list_formats import FORMATS
from rsu_pipeline.warehouse import database, start_list_folders
from rsu_pipeline_tests.start_lists.lists_rows import NOW, Lists


@pytest.fixture
def put(database_url: str) -> Iterator[Lists]:
    """Provide events 1 and 2 with an entrant each, whose lists are built."""
    with database.session(database_url, purpose="tests") as conn:
        put = Lists(conn)
        put.race()
        for event in (1, 2):
            put.event(event)
            put.enter(event, str(100 + event), first_name="Ann", last_name="Quill")
        put.build(NOW)
        conn.commit()
        yield put


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "lists"
    made.mkdir(mode=0o750)
    return made


def bibs(folder: Path) -> dict[str, list[str]]:
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open(newline="") as file:
            found[path.name] = [row["bib"] for row in csv.DictReader(file)]
    return found


def test_every_list_has_a_file_that_follows_it(put: Lists, folder: Path) -> None:
    lists = ListFolder(folder, "csv")
    assert len(lists.update(put.conn, NOW)) == 2
    assert bibs(folder) == {"1-1.csv": ["101"], "1-2.csv": ["102"]}
    put.enter(1, "7", first_name="Bo", last_name="Ash")
    put.build(NOW)
    put.conn.commit()
    assert [path.name for path in lists.update(put.conn, NOW)] == ["1-1.csv"]
    assert bibs(folder)["1-1.csv"] == ["7", "101"]
    assert lists.update(put.conn, NOW) == []


def test_a_file_is_replaced_as_a_whole_and_not_touched_when_nothing_changed(put: Lists, folder: Path) -> None:
    ListFolder(folder, "csv").update(put.conn, NOW)
    path = folder / "1-1.csv"
    before = path.stat()
    assert ListFolder(folder, "csv").update(put.conn, NOW) == []
    assert path.stat().st_ino == before.st_ino
    with path.open() as old:
        put.enter(1, "7")
        put.build(NOW)
        put.conn.commit()
        ListFolder(folder, "csv").update(put.conn, NOW)
        assert len(old.readlines()) == 2, "who reads the file of before reads all of it"
    assert path.stat().st_ino != before.st_ino
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []


def test_who_may_read_the_folder_may_read_its_files(put: Lists, folder: Path) -> None:
    os.umask(0o077)
    ListFolder(folder, "raceresult").update(put.conn, NOW)
    assert stat.S_IMODE((folder / "1-1.csv").stat().st_mode) == 0o640


def test_the_file_of_a_list_that_is_gone_is_deleted_and_other_files_stay(put: Lists, folder: Path) -> None:
    lists = ListFolder(folder, "csv")
    lists.update(put.conn, NOW)
    (folder / "notes.csv").write_text("bib\n")
    put.sql("DELETE FROM future_events WHERE event_id = 2")
    put.build(NOW + dt.timedelta(days=30))
    put.conn.commit()
    lists.update(put.conn, NOW)
    assert "1-2.csv" not in bibs(folder) and "notes.csv" in bibs(folder)


def test_a_folder_that_cannot_be_written_is_logged_once_and_written_when_it_can_be(
    put: Lists, database_url: str, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    ended, logged = threading.Event(), list[str]()
    thread = threading.Thread(target=keep_current, args=(database_url, blocked / "lists", "csv", ended, logged.append))
    thread.start()
    deadline = time.monotonic() + 20
    while not logged:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    blocked.unlink()
    while not (blocked / "lists" / "1-1.csv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ended.set()
    thread.join()
    assert len(logged) == 1 and logged[0].startswith(f"start lists are not written to {blocked / 'lists'} now: ")


def test_a_file_that_cannot_be_written_leaves_the_others(put: Lists, folder: Path) -> None:
    # A folder in the place of the first file, since tests may run as root.
    (folder / "1-1.csv").mkdir()
    (folder / "9-9.csv").mkdir()
    (folder / "9-8.csv").touch()
    lists = ListFolder(folder, "csv")
    with pytest.raises(OSError, match=r"1-1\.csv"):
        lists.update(put.conn, NOW)
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["1-2.csv"]
    (folder / "1-1.csv").rmdir()
    (folder / "9-9.csv").rmdir()
    assert [path.name for path in lists.update(put.conn, NOW)] == ["1-1.csv"]
    assert bibs(folder) == {"1-1.csv": ["101"], "1-2.csv": ["102"]}


def test_a_folder_that_cannot_be_written_is_recorded_until_it_can(put: Lists, database_url: str, folder: Path) -> None:
    (folder / "1-1.csv").mkdir()
    ended, logged = threading.Event(), list[str]()
    thread = threading.Thread(target=keep_current, args=(database_url, folder, "csv", ended, logged.append))
    thread.start()

    def until(is_failing: bool) -> start_list_folders.KeptFolder:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for kept in start_list_folders.read_folders(put.conn):
                if (kept.failing_since is not None) == is_failing:
                    return kept
            put.conn.rollback()
            time.sleep(0.02)
        raise AssertionError("nothing was recorded")

    kept = until(True)
    assert kept.folder == str(folder) and kept.last_error and "1-1.csv" in kept.last_error
    (folder / "1-1.csv").rmdir()
    until(False)
    ended.set()
    thread.join()
    put.conn.rollback()
    assert start_list_folders.read_folders(put.conn) == [] and len(logged) == 1


def test_a_fault_of_the_program_ends_no_thread(
    put: Lists, database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, calls = ListFolder.update, list[int]()

    def faulty(lists: ListFolder, conn: Connection, now: dt.datetime) -> list[Path]:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("invented")
        return update(lists, conn, now)

    monkeypatch.setattr(ListFolder, "update", faulty)
    ended, logged = threading.Event(), list[str]()
    thread = threading.Thread(target=keep_current, args=(database_url, folder, "csv", ended, logged.append))
    thread.start()
    deadline = time.monotonic() + 20
    while not (folder / "1-1.csv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ended.set()
    thread.join()
    assert [line.rsplit(": ", 1)[1] for line in logged] == ["invented"]


def test_the_names_of_formats_are_those_of_the_setting() -> None:
    assert tuple(FORMATS) == LIST_FORMATS
