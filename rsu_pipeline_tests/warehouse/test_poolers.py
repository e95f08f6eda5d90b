"""Poolers: one that pools sessions does, any other is refused."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest

from rsu_pipeline.warehouse import database, poolers, race_locks
from rsu_pipeline.warehouse.database import DatabaseError
from rsu_pipeline_tests.cli.shell import rsu
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate
from rsu_pipeline_tests.warehouse.pgbouncer import pgbouncer
from rsu_pipeline_tests.warehouse.sessions import rows

SPEC = estate(registrations=10)
REFUSED = r"^The pooler at 127\.0\.0\.1:\d+/\S+ pools transactions, .*pool_mode=session"


@pytest.fixture(autouse=True)
def poolers_not_yet_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_pools_of_sessions", set())


def test_a_hub_syncs_through_a_pooler_of_sessions(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    with pgbouncer(hub.url, pool_mode="session") as url:
        settings = hub.environment | {"RSU_DATABASE_URL": url}
        assert rsu("db", "migrate", settings=settings).returncode == 0
        synced = rsu("sync", "--full", settings=settings)
        assert synced.returncode == 0, synced
        exported = rsu("db", "export", str(tmp_path / "hub.dump"), settings=settings)
        assert exported.returncode == 0, exported
        counted = rsu("db", "psql", "-At", "-c", "SELECT count(*) FROM runsignup_participants", settings=settings)
        assert counted.stdout.strip() == "10", counted
    hub.assert_equal()


def test_settings_and_locks_hold_through_a_pooler_of_sessions(database_url: str) -> None:
    with (
        pgbouncer(database_url, pool_mode="session") as url,
        database.session(url, purpose="sync first") as first,
        database.session(url, purpose="sync second") as second,
        race_locks.race_lock(first, 7, 70),
    ):
        with (
            pytest.raises(race_locks.ReadElsewhere, match="rsu sync first "),
            race_locks.race_lock(second, 7, 70),
        ):
            pass
        with first.cursor() as cur:
            cur.execute("SELECT current_setting('timezone'), current_setting('lock_timeout'), current_schema()")
            assert cur.fetchone() == ("UTC", "30s", "public")


@pytest.mark.parametrize("size", [1, 2, 20])
@pytest.mark.parametrize("order", ["last used first", "in turn"])
def test_a_pooler_of_transactions_is_refused(database_url: str, size: int, order: str) -> None:
    more = f"server_round_robin = {int(order == 'in turn')}\n"
    with pgbouncer(database_url, pool_mode="transaction", default_pool_size=size, more=more) as url:
        with pytest.raises(DatabaseError, match=REFUSED):
            database.connect(url, purpose="tests")
        # As when other programs have opened sessions at the server before.
        opened = [psycopg2.connect(url) for _ in range(min(size, 3))]
        for conn in opened:
            conn.cursor().execute("SELECT 1")
        for conn in opened:
            conn.rollback()
        with pytest.raises(DatabaseError, match=REFUSED):
            database.connect(url, purpose="tests")
        for conn in opened:
            conn.close()


def test_a_pooler_of_transactions_is_refused_while_others_use_it(database_url: str) -> None:
    stop = threading.Event()

    def use(url: str) -> None:
        conn = psycopg2.connect(url)
        while not stop.is_set():
            with conn, conn.cursor() as cur:
                cur.execute("SELECT pg_sleep(random() * 0.01)")
        conn.close()

    with pgbouncer(database_url, pool_mode="transaction", default_pool_size=6) as url:
        threads = [threading.Thread(target=use, args=(url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                with pytest.raises(DatabaseError, match=REFUSED):
                    database.connect(url, purpose="tests")
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_a_pooler_of_statements_is_refused(database_url: str) -> None:
    with (
        pgbouncer(database_url, pool_mode="statement") as url,
        pytest.raises(DatabaseError, match=r"^The pooler at \S+ pools (statements|transactions), "),
    ):
        database.connect(url, purpose="tests")


def test_a_pool_of_one_session_is_refused_within_seconds(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poolers, "SECOND_SESSION_SECONDS", 1.0)
    began = time.monotonic()
    with (
        pgbouncer(database_url, pool_mode="session", default_pool_size=1) as url,
        pytest.raises(DatabaseError, match=r"opens no second session within 1 s .*default_pool_size"),
    ):
        database.connect(url, purpose="tests")
    assert time.monotonic() - began < 10


def test_without_a_pooler_there_is_no_second_session(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poolers, "require_sessions", None)
    assert rows(database_url, "SELECT 1") == [(1,)]
