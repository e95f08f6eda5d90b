"""A database whose clock runs fast, and with it the hour of the ledger."""

import time

import pytest

from benchmarks.race_morning import fast
from benchmarks.race_morning.fast import FastClock
from rsu_pipeline.warehouse import call_ledger, database


def test_defaults_statements_and_the_ledgers_hour_follow_the_fast_clock(empty_database: str) -> None:
    with database.session(empty_database, purpose="tests") as conn:
        fast.prepare_database(conn)
    with database.session(empty_database, purpose="tests") as conn, conn.cursor() as cur:
        database.migrate(conn)
        limits = call_ledger.Limits(calls_per_hour=1, max_in_flight=2)
        ledger = call_ledger.Ledger(conn, 1, 1, "race_day", limits)
        ledger.settle(ledger.acquire("participants", 1), status=200, error=None, size=0, rows=0)
        with pytest.raises(call_ledger.NoCallLeft):
            ledger.acquire("participants", 1)
        clock = FastClock(time.time() + 1000, time.monotonic(), time.time(), 1800.0)
        fast.set_database_clock(conn, clock)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                ledger.acquire("participants", 1)
                break
            except call_ledger.NoCallLeft as error:
                assert error.frees_in < 3600
                time.sleep(0.05)
        cur.execute("SELECT extract(epoch FROM max(granted_at) - min(granted_at)) FROM api_calls")
        ((apart,),) = cur.fetchall()
        assert ledger.calls == 2 and apart > 3600
        for name in ("now", "clock_timestamp", "statement_timestamp"):
            conn.rollback()
            before = clock.time()
            cur.execute(f"SELECT extract(epoch FROM {name}())::float")
            ((told,),) = cur.fetchall()
            assert before - 1 <= told <= clock.time() + 1, name


def test_real_times_become_simulated_ones() -> None:
    clock = FastClock(epoch=5000.0, mark=time.monotonic(), wall=100.0, speed=20.0)
    assert (clock.simulated(100.0), clock.simulated(103.0)) == (5000.0, 5060.0)
    assert clock.now().timestamp() >= 5000
