"""A process that is paused keeps no lock and no slot in flight, and cannot write when it resumes.

Real processes, stopped by SIGSTOP and woken by SIGCONT. But for the durations, which are seconds here, as an installation
has it.
"""

import datetime as dt
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rsu_pipeline.sync import listing, partner_sync
from rsu_pipeline.warehouse import call_ledger, database, leases, race_locks
from rsu_pipeline.warehouse.leases import BEAT_SECONDS, SILENT_SECONDS, TAKE_OVER_SECONDS, Observer
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate
from rsu_pipeline_tests.warehouse import sleeper as sleepers
from rsu_pipeline_tests.warehouse.sessions import rows
from rsu_pipeline_tests.warehouse.sleeper import asleep

NOW = dt.datetime(2027, 6, 10, 12, tzinfo=dt.UTC)
SENTENCE = (
    r"^The connection to PostgreSQL at \S+ was lost: [^\n]* This process was stopped for \d+ s, so"
    r" others took over its work\. What was not committed is rolled back\. [^\n]*$"
)
SPEC = estate(races=2, registrations=9)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Provide leases of seconds, in this process as in the sleeper's."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", sleepers.BEAT_SECONDS)
    monkeypatch.setattr(leases, "SILENT_SECONDS", sleepers.SILENT_SECONDS)
    yield


def test_a_lock_and_a_slot_are_free_again_within_a_minute() -> None:
    # The last sign of life may be a beat old for the observer, and so may its last check.
    assert SILENT_SECONDS + 2 * BEAT_SECONDS <= 60
    # A keeper that starts with the first to wait checks after a beat.
    assert SILENT_SECONDS + 3 * BEAT_SECONDS < TAKE_OVER_SECONDS <= 60


@pytest.mark.usefixtures("short")
def test_a_race_whose_sync_stands_still_is_taken_over_and_the_sleeper_cannot_write(database_url: str) -> None:
    with asleep({"RSU_DATABASE_URL": database_url}, "hold", "race") as sleeper:
        began = time.monotonic()
        with (
            database.session(database_url, purpose="sync next") as conn,
            race_locks.race_lock(conn, 7, 70, wait=30),
        ):
            assert time.monotonic() - began < sleepers.SILENT_SECONDS + 8
            code, said = sleeper.wake()
    assert code == 1
    assert_is_sentence(said)
    assert rows(database_url, "SELECT count(*) FROM timing_partners") == [(0,)]


@pytest.mark.usefixtures("short")
def test_a_watch_that_stands_still_leaves_its_shard_to_its_successor(database_url: str) -> None:
    with (
        asleep({"RSU_DATABASE_URL": database_url}, "hold", "shard") as sleeper,
        database.session(database_url, purpose="watch next") as conn,
        database.shard_lock(conn, 7, lock_timeout=30) as mine,
    ):
        assert mine
        code, said = sleeper.wake()
    assert code == 1
    assert_is_sentence(said)


@pytest.mark.usefixtures("short")
def test_the_daemon_ends_the_sessions_of_a_run_that_stands_still_with_nobody_else_at_work(database_url: str) -> None:
    with asleep({"RSU_DATABASE_URL": database_url}, "hold", "race"):
        database.keeper(database_url).observe(20)
        deadline = time.monotonic() + 20
        while rows(
            database_url, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rsu sync sleeper%'"
        ) != [(0,)]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        database.keeper(database_url).observe(0)


@pytest.mark.usefixtures("short")
def test_a_process_that_waits_for_runsignup_keeps_its_locks(database_url: str) -> None:
    with asleep({"RSU_DATABASE_URL": database_url}, "hold", "race") as sleeper:
        sleeper.process.send_signal(signal.SIGCONT)
        with (
            database.session(database_url, purpose="sync next") as conn,
            pytest.raises(race_locks.ReadElsewhere),
            race_locks.race_lock(conn, 7, 70, wait=3 * sleepers.SILENT_SECONDS),
        ):
            pass
        assert sleeper.wake() == (0, "")
    assert rows(database_url, "SELECT count(*) FROM timing_partners") == [(1,)]


# A sync that is paused anywhere


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("point", "times"),
    [
        ("while the ledger is locked", 3),
        ("after a call is granted", 3),
        ("after an answer", 4),
        ("after a page is merged", 1),
    ],
)
def test_a_sync_that_stands_still_is_taken_over_and_nothing_is_written_twice(
    make_hub: Callable[..., Hub], point: str, times: int
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment |= {"RSU_PAGE_SIZE": "6", "RSU_MAX_IN_FLIGHT": "1"}
    with asleep(hub.environment, "sync", "1", point, str(times)) as sleeper:
        began = time.monotonic()
        with hub.partner_session() as session:
            listing.refresh_events(session)
            outcome = partner_sync.sync_participants(session, partner_sync.make_plan(session))
            assert not outcome.failures and not outcome.elsewhere
            seconds = time.monotonic() - began
        assert seconds < sleepers.SILENT_SECONDS + 8
        hub.assert_equal()
        first = versions(hub)
        calls = hub.sandbox.admin.stats()["calls"]
        code, said = sleeper.wake()
        assert code == 1
        assert_is_sentence(said)
    assert versions(hub) == first, "the sleeper wrote after it woke"
    # What can be: a call whose slot was granted before the process was paused may be sent as it wakes.
    assert hub.sandbox.admin.stats()["calls"] - calls <= 1
    hub.assert_equal()
    hub.assert_bib_log_replays()


def versions(hub: Hub) -> list[dict[str, object]]:
    """Return what was written, and by which transaction."""
    return hub.rows(
        "SELECT 'row' AS kind, registration_id AS id, xmin::text FROM runsignup_participants"
        " UNION ALL SELECT 'cursor', event_id, xmin::text FROM event_cursors"
        " UNION ALL SELECT 'bib', bib_change_id, xmin::text FROM runsignup_bib_changes"
        " UNION ALL SELECT 'read', sync_history_id, xmin::text FROM sync_history ORDER BY 1, 2"
    )


def assert_is_sentence(said: str) -> None:
    assert re.fullmatch(SENTENCE, said), said


def test_a_ledger_that_a_standing_process_has_locked_is_free_within_seconds(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    with asleep(hub.environment, "sync", "1", "while the ledger is locked", "1"):
        began = time.monotonic()
        with database.session(hub.url, purpose="tests") as conn:
            ledger = call_ledger.Ledger(conn, 1, 1, "race_day", call_ledger.Limits(1000, 2))
            ledger.settle(ledger.acquire("races", None), status=200, error=None, size=0, rows=0)
        assert time.monotonic() - began < 5


# Judging others


def test_a_process_is_silent_when_its_sign_has_not_changed_for_long() -> None:
    observer = Observer()
    silent_at = None
    for second in range(0, 60, 5):
        alive = NOW + dt.timedelta(seconds=second)
        if 2 in observer.judge({1: alive, 2: NOW, 3: NOW if second < 20 else alive}, float(second)):
            silent_at = silent_at or second
    assert silent_at == SILENT_SECONDS
    assert observer.judge({1: NOW, 2: NOW}, 60.0) == [2]


def test_a_process_that_never_showed_a_sign_is_silent_too() -> None:
    observer = Observer()
    silent = (second for second in range(0, 60, 5) if observer.judge({2: None}, float(second)) == [2])
    assert next(silent) == SILENT_SECONDS


def test_an_observer_that_stood_still_itself_begins_anew() -> None:
    observer = Observer()
    for second in (0.0, 5.0, 10.0):
        observer.judge({2: NOW}, second)
    assert observer.judge({2: NOW}, 3600.0) == []
    for second in range(5, 35, 5):
        assert observer.judge({2: NOW}, 3600.0 + second) == []
    assert observer.judge({2: NOW}, 3600.0 + SILENT_SECONDS) == [2]


def test_a_databases_clock_that_steps_ends_nobody() -> None:
    observer = Observer()
    for second in range(0, 100, 5):
        step = dt.timedelta(hours=3 if second > 50 else 0)
        assert observer.judge({2: NOW + step + dt.timedelta(seconds=second)}, float(second)) == []


def test_a_keeper_without_sessions_has_no_session_of_its_own(database_url: str) -> None:
    others = set(threading.enumerate())
    with database.session(database_url, purpose="tests") as conn:
        database.lease(conn)
        (keeper,) = set(threading.enumerate()) - others
        assert keeper.name == "lease keeper"
    deadline = time.monotonic() + 10
    while keeper.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
