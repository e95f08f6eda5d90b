"""Another program leaves a transaction open that has locked rows of one race: the other races go on, and it is named."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import database, events, session_settings, waiting
from rsu_pipeline.warehouse.failed_polls import read_failed_polls
from rsu_pipeline.warehouse.statement_errors import CAUSE, StatementError
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate
from rsu_pipeline_tests.sync.test_history import add_past
from rsu_pipeline_tests.sync.test_watch import watching

MakeHub = Callable[..., Hub]
NAMED = (
    r"could not execute a statement: canceling statement due to lock timeout\. In an open transaction session (\d+)"
    r" \(a pencil, role \w+, from [\w.]+\) has locked rows of runsignup_participants since [^;]+ UTC\. .*"
    r"pg_terminate_backend\(\1\)"
)


@pytest.fixture(autouse=True)
def short_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have sessions wait for a lock for a moment, and name those that have just begun."""
    monkeypatch.setitem(session_settings.SETTINGS, "lock_timeout", "300ms")
    monkeypatch.setattr(waiting, "BLOCKED_SECONDS", 0.0)


@contextmanager
def locked(hub: Hub, race_id: int) -> Iterator[Connection]:
    """Hold locks on the registrations of a race, as a transaction does that was left open."""
    conn = psycopg2.connect(hub.url, application_name="a pencil")
    try:
        with conn.cursor() as cur:
            cur.execute("SELECT FROM runsignup_participants WHERE race_id = %s FOR UPDATE", (race_id,))
        yield conn
    finally:
        conn.close()


def give_bibs(hub: Hub) -> dict[int, int]:
    """Give a bib to one registration of each race at RunSignup, and return the registrations by race."""
    first = {row["race_id"]: key for key, row in sorted(hub.stored().items(), reverse=True)}
    for number, registration in enumerate(first.values(), start=9001):
        hub.sandbox.admin.bib(registration, number)
    return first


@pytest.mark.parametrize("full", [False, True], ids=["incremental", "full"])
def test_rows_of_one_race_that_are_locked_leave_the_other_races(make_hub: MakeHub, full: bool) -> None:
    hub = make_hub(spec=estate(races=3, events=1, registrations=6), seed=3)
    hub.sync()
    given = give_bibs(hub)
    broken = min(given)
    with locked(hub, broken):
        outcome = hub.sync(full=full)
    (failure,) = [read for read in outcome.reads if read.error]
    assert failure.read.race_id == broken and isinstance(failure.error, StatementError)
    assert failure.error.details()["cause"] == CAUSE
    bibs = {race_id: hub.stored()[registration]["bib_num"] for race_id, registration in given.items()}
    assert bibs.pop(broken) is None and None not in bibs.values()
    assert hub.value("SELECT reason FROM sync_history WHERE status = 'failed'") == str(failure.error)
    assert hub.value("SELECT count(*) FROM partner_provider_credentials WHERE rejected_at IS NOT NULL") == 0
    assert not hub.sync().failures
    hub.assert_equal()
    hub.assert_bib_log_replays()


def test_who_has_locked_the_rows_is_named(make_hub: MakeHub) -> None:
    hub = make_hub(spec=estate(races=1, events=1, registrations=6), seed=3)
    hub.sync()
    broken = min(give_bibs(hub))
    with locked(hub, broken):
        (sentence,) = hub.sync().failures
    assert re.search(NAMED, sentence)


def test_past_editions_of_one_race_that_are_locked_leave_those_of_the_others(make_hub: MakeHub) -> None:
    hub = make_hub(spec=estate(races=3, events=1, registrations=6), seed=3)
    for race in hub.sandbox.admin.truth(1)["races"]:
        add_past(hub, race["race_id"])
    hub.sync()
    assert hub.history().finished
    broken = min(row["race_id"] for row in hub.stored().values())
    past = "event_id IN (SELECT event_id FROM history_events)"
    hub.execute(f"UPDATE runsignup_participants SET first_name = 'Altered' WHERE {past}")
    with locked(hub, broken):
        done = hub.history(reload=True)
    (problem,) = done.problems
    assert problem.startswith(f"race {broken}: ") and "lock timeout" in problem
    altered = f"SELECT array_agg(DISTINCT race_id) FROM runsignup_participants WHERE first_name = 'Altered' AND {past}"
    assert hub.value(altered) == [broken]


def test_the_watch_polls_on_names_the_cause_and_its_slice_ends_without_a_bug(make_hub: MakeHub) -> None:
    hub = make_hub(spec=estate(races=2, events=1, registrations=6, start_in_hours=2), seed=3)
    hub.environment["RSU_WATCH_INTERVAL"] = "1"
    hub.sync()
    given = give_bibs(hub)
    broken, other = sorted(given)
    with locked(hub, broken), database.session(hub.url, purpose="tests") as conn:
        (item,) = watching(hub).run(2.5).values()
        (poll,) = read_failed_polls(conn, [(1, broken)])
    assert "lock timeout" in item.trouble[broken] and poll.cause == CAUSE
    assert list(item.trouble) == [broken] and hub.stored()[given[other]]["bib_num"] is not None
    (item,) = watching(hub).run(2.5).values()
    assert item.trouble == {}
    hub.assert_equal()


PARTNER_TABLES = ("timing_partners", "partner_provider_credentials")


@contextmanager
def changing(hub: Hub, table: str) -> Iterator[None]:
    """Leave a transaction open that has changed the partners' rows of a table."""
    conn = psycopg2.connect(hub.url, application_name="a pencil")
    try:
        with conn.cursor() as cur:
            cur.execute(f"UPDATE {table} SET updated_at = now()")
        yield
    finally:
        conn.close()


@pytest.mark.parametrize("table", PARTNER_TABLES)
def test_a_partners_row_that_another_program_is_changing_delays_no_poll(make_hub: MakeHub, table: str) -> None:
    hub = make_hub(spec=estate(races=2, events=1, registrations=6, start_in_hours=2), seed=3)
    hub.environment["RSU_WATCH_INTERVAL"] = "1"
    hub.sync()
    given = give_bibs(hub)
    with changing(hub, table):
        (item,) = watching(hub).run(2.5).values()
    assert not item.trouble
    assert all(hub.stored()[registration]["bib_num"] for registration in given.values())


@pytest.mark.parametrize("table", PARTNER_TABLES)
def test_a_listing_that_a_lock_kept_from_being_stored_is_recorded_as_failed(make_hub: MakeHub, table: str) -> None:
    hub = make_hub(spec=estate(races=1, events=1, registrations=6), seed=3)
    with changing(hub, table), pytest.raises(StatementError, match=f"a pencil.* has locked rows of {table} since"):
        hub.sync()
    query = "SELECT status, reason FROM sync_history WHERE operation_type = 'events'"
    (row,) = hub.rows(query)
    assert row["status"] == "failed" and "lock timeout" in row["reason"]
    hub.sync()
    hub.assert_equal()


def test_a_listing_that_was_interrupted_is_recorded_neither_as_complete_nor_as_failed(
    make_hub: MakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(spec=estate(races=1, events=1, registrations=6), seed=3)

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(events, "note_listed", interrupted)
        hub.sync()
    assert hub.value("SELECT count(*) FROM sync_history") == 0
    hub.sync()
    hub.assert_equal()
