"""The locks under which races and listings are read."""

import signal
import threading
import time
from collections.abc import Callable

import psycopg2
import psycopg2.errors
import pytest
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import database, race_locks
from rsu_pipeline.warehouse.race_locks import LISTING, ReadElsewhere, race_lock
from rsu_pipeline_tests.warehouse.sessions import line_of, rows, started

HOLDER = """
import sys, time
from rsu_pipeline.warehouse import database, race_locks
with database.session(sys.argv[1], purpose="sync holder") as conn, race_locks.race_lock(conn, 7, 70):
    print("locked", flush=True)
    time.sleep(600)
"""


def is_free(conn: Connection, partner_id: int, race_id: int) -> bool:
    if taken := race_locks.acquire(conn, partner_id, race_id):
        race_locks.release(conn, partner_id, race_id)
    return taken


def test_a_lock_is_of_one_race_of_one_partner_in_one_database(
    make_database: Callable[[], str], database_url: str
) -> None:
    with (
        database.session(make_database(), purpose="sync other-hub") as far,
        database.session(database_url, purpose="sync first") as first,
        database.session(database_url, purpose="sync second") as second,
        race_lock(far, 7, 70),
    ):
        with race_lock(first, 7, 70):
            with (
                pytest.raises(ReadElsewhere, match=r"^race 70 of partner 7 is being read by 'rsu sync first "),
                race_lock(second, 7, 70),
            ):
                pass
            assert is_free(second, 7, 71) and is_free(second, 8, 70) and is_free(second, 7, LISTING)
        assert is_free(second, 7, 70)
        with race_lock(first, 7, LISTING), pytest.raises(ReadElsewhere, match=r"^the listing of partner 7 is being"):
            race_lock(second, 7, LISTING).__enter__()


def test_a_failure_under_the_lock_frees_the_race(database_url: str) -> None:
    with (
        database.session(database_url, purpose="sync first") as first,
        database.session(database_url, purpose="sync second") as second,
    ):
        with pytest.raises(psycopg2.errors.DivisionByZero), race_lock(first, 7, 70), first.cursor() as cur:
            cur.execute("SELECT 1 / 0")
        assert is_free(second, 7, 70)


def test_a_killed_process_frees_its_race(database_url: str) -> None:
    holder = started(HOLDER, database_url)
    assert line_of(holder) == "locked"
    with database.session(database_url, purpose="sync next") as conn:
        assert not is_free(conn, 7, 70)
        holder.send_signal(signal.SIGKILL)
        holder.communicate(timeout=60)
        deadline = time.monotonic() + 30
        while not is_free(conn, 7, 70):
            assert time.monotonic() < deadline, "the race is still locked"
            time.sleep(0.02)


def test_who_waits_has_the_race_as_soon_as_it_is_free(database_url: str) -> None:
    with (
        database.session(database_url, purpose="sync first") as first,
        database.session(database_url, purpose="sync second") as second,
    ):
        assert race_locks.acquire(first, 7, 70)
        threading.Timer(0.5, lambda: race_locks.release(first, 7, 70)).start()
        began = time.monotonic()
        assert race_locks.acquire(second, 7, 70, wait=20)
        assert 0.3 < time.monotonic() - began < 10


def test_a_session_that_was_ended_has_lost_its_race_and_cannot_write(database_url: str) -> None:
    with (
        database.session(database_url, purpose="sync next") as following,
        pytest.raises(database.DatabaseError, match="was lost"),
        database.session(database_url, purpose="sync lost") as lost,
        race_lock(lost, 7, 70),
        lost.cursor() as cur,
    ):
        cur.execute("INSERT INTO timing_partners (company_name) VALUES ('Juniper Timing')")
        rows(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'rsu sync lost%'",
        )
        assert race_locks.acquire(following, 7, 70, wait=20)
        cur.execute("INSERT INTO timing_partners (company_name) VALUES ('Larch Timing')")
        lost.commit()
    assert rows(database_url, "SELECT count(*) FROM timing_partners") == [(0,)]


def test_progress_of_a_reader_shows_with_each_page_that_it_stores(database_url: str) -> None:
    rows(
        database_url,
        "INSERT INTO timing_partners (timing_partner_id, company_name) VALUES (7, 'Juniper Timing');"
        "INSERT INTO runsignup_races (race_id, name) VALUES (70, 'Mill Pond Mile');"
        "INSERT INTO partner_races (timing_partner_id, race_id) VALUES (7, 70);"
        "INSERT INTO read_passes (timing_partner_id, race_id, mode, event_ids) VALUES (7, 70, 'full', '{1}') RETURNING 1",
    )
    with (
        database.session(database_url, purpose="sync first") as first,
        database.session(database_url, purpose="sync second") as second,
        race_lock(first, 7, 70),
    ):
        before = race_locks.find_reader(second, 7, 70)
        assert before is not None and before == race_locks.find_reader(second, 7, 70)
        with first.cursor() as cur:
            cur.execute("UPDATE read_passes SET pages = 1, after_registration_id = 99")
        first.commit()
        after = race_locks.find_reader(second, 7, 70)
        assert after is not None and after.name == before.name and after.progress != before.progress
        assert race_locks.find_reader(second, 7, 71) is None
