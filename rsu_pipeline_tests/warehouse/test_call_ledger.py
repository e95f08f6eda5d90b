"""The call ledger, against real processes, a real database and a real HTTP server's own count."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2.errors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import call_ledger, database
from rsu_pipeline.warehouse.advisory_locks import Kind
from rsu_pipeline.warehouse.call_ledger import LANES, Lane, Ledger, Limits, NoCallLeft
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.warehouse.ledger_worker import Worker, answers, begin

PROCESSES = 8
LANE_NAMES: list[Lane] = ["race_day", "new_partner", "routine", "backfill"]
AT_ONCE = """
SELECT max(open) FROM (
    SELECT sum(step) OVER (ORDER BY moment, step) AS open
    FROM api_calls, LATERAL (VALUES (granted_at, 1), (settled_at, -1)) AS change (moment, step)
) AS running
"""
"""The most calls that were in flight at one moment, of those that were settled."""


class NoPlace(Exception):
    """The ledger would have waited for a place in flight."""


def no_waiting(seconds: float) -> None:
    raise NoPlace


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with database.session(database_url, purpose="tests") as opened:
        yield opened


def sql(conn: Connection, statement: str) -> list[tuple[Any, ...]]:
    with conn.cursor() as cur:
        cur.execute(statement)
        found = cur.fetchall() if cur.description else []
    conn.commit()
    return found


def ledger_on(
    conn: Connection,
    *,
    hour: int = 1000,
    in_flight: int = 100,
    lane: Lane = "race_day",
    credential: int = 1,
    api_key: int | None = None,
    **more: Any,
) -> Ledger:
    limits = Limits(hour, in_flight, all_credentials=more.pop("all_credentials", True))
    return Ledger(conn, credential, api_key or credential, lane, limits, **{"sleep": no_waiting} | more)


def take_all(ledger: Ledger) -> tuple[int, NoCallLeft]:
    """Take calls until none is left, and return how many there were and how the ledger refused the next."""
    taken = 0
    while True:
        try:
            grant = ledger.acquire("participants", 1)
        except NoCallLeft as error:
            return taken, error
        ledger.settle(grant, status=200, error=None, size=0, rows=0)
        taken += 1


def backdate(conn: Connection, seconds: float, which: str = "true") -> None:
    sql(conn, f"UPDATE api_calls SET granted_at = clock_timestamp() - interval '{seconds} seconds' WHERE {which}")


# Many processes


def test_eight_processes_together_get_exactly_the_limit(
    database_url: str, conn: Connection, start: Callable[..., Worker]
) -> None:
    workers = [start(database_url, "exhaust", calls_per_hour=200) for _ in range(PROCESSES)]
    begin(*workers)
    told = answers(workers)
    grants = [grant for answer in told for grant in answer["grants"]]
    assert len(grants) == len(set(grants)) == 200
    assert sql(conn, "SELECT count(*), count(settled_at), count(DISTINCT holder_pid) > 1 FROM api_calls") == [
        (200, 200, True)
    ]
    assert sql(conn, AT_ONCE)[0][0] <= 2
    # Each got the time when the oldest grant leaves the hour: no later than now, seen from that moment.
    ((frees_in,),) = sql(
        conn, "SELECT extract(epoch FROM min(granted_at) + interval '1 hour' - clock_timestamp()) FROM api_calls"
    )
    assert all(frees_in <= answer["frees_in"] <= 3600 for answer in told)
    assert {answer["lane"] for answer in told} == {"race_day"}


def test_eight_processes_never_have_more_than_two_calls_in_flight_at_runsignup(
    make_hub: Callable[..., Hub], start: Callable[..., Worker]
) -> None:
    hub = make_hub(scale="small", latency_ms=20)
    hub.sandbox.admin.reset_stats()
    workers = [
        start(
            hub.url,
            "call",
            calls=15,
            credential=1 + number % 2,
            partner=1 + number % 2,
            environment=hub.environment,
        )
        for number in range(PROCESSES)
    ]
    begin(*workers)
    told = answers(workers)
    assert [answer["calls"] for answer in told] == [15] * PROCESSES
    assert all(answer["races"] >= 15 for answer in told)
    stats = hub.sandbox.admin.stats()
    assert (stats["calls"], stats["violations"], stats["max_in_flight"]) == (15 * PROCESSES, 0, 2)
    assert (
        hub.value("SELECT count(*) FROM api_calls WHERE status = 200 AND error IS NULL AND bytes > 0") == 15 * PROCESSES
    )
    assert hub.value(AT_ONCE) == 2


@pytest.mark.parametrize("scope", ["all", "credential"])
def test_the_limit_holds_exactly_for_an_api_key_that_partners_share(
    make_hub: Callable[..., Hub], start: Callable[..., Worker], scope: str
) -> None:
    calls, most = spend_shared_key(make_hub, start, scope=scope)
    assert calls == 40
    assert most <= 2


def test_counting_by_credential_would_be_found(make_hub: Callable[..., Hub], start: Callable[..., Worker]) -> None:
    calls, _ = spend_shared_key(make_hub, start, scope="all", by_credential=True)
    assert calls == 80


def spend_shared_key(
    make_hub: Callable[..., Hub], start: Callable[..., Worker], *, scope: str, by_credential: bool = False
) -> tuple[int, int]:
    """Let four processes of two partners with one API key make calls until none is left.

    Return how many RunSignup saw, and how many at once.
    """
    hub = make_hub(scale="small", latency_ms=5)
    environment = hub.environment | {"RSU_CALLS_PER_HOUR": "40", "RSU_IN_FLIGHT_SCOPE": scope}
    shared = hub.sandbox.admin.partners()[0]
    hub.execute(
        "UPDATE partner_provider_credentials SET principal = %s, secret = %s WHERE timing_partner_id = 2",
        shared["key"],
        shared["secret"],
    )
    hub.sandbox.admin.reset_stats()
    workers = [
        start(hub.url, "spend", partner=1 + number % 2, environment=environment, by_credential=by_credential)
        for number in range(4)
    ]
    begin(*workers)
    told = answers(workers)
    stats = hub.sandbox.admin.stats()
    assert sum(answer["calls"] for answer in told) == stats["calls"] == hub.value("SELECT count(*) FROM api_calls")
    assert {entry["key_tail"] for entry in stats["log"]} == {shared["key"][-4:]}
    return stats["calls"], stats["max_in_flight"]


def test_a_killed_process_gives_its_place_back_but_not_its_call(
    database_url: str, conn: Connection, start: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = start(database_url, "hold", max_in_flight=1)
    begin(holder)
    assert holder.stdout is not None
    grant = json.loads(holder.stdout.readline())["grant"]
    with monkeypatch.context() as at_once, pytest.raises(NoPlace):
        # Its process lives, and so it holds its place, however long the call takes.
        at_once.setattr(call_ledger, "ABANDONED_SECONDS", 0.0)
        ledger_on(conn, hour=2, in_flight=1).acquire("participants", 1)
    holder.kill()
    holder.communicate(timeout=60)
    patient = ledger_on(conn, hour=2, in_flight=1, sleep=until(time.monotonic() + 30))
    second = patient.acquire("participants", 1)
    assert second > grant
    patient.settle(second, status=200, error=None, size=0, rows=0)
    assert sql(conn, f"SELECT settled_at FROM api_calls WHERE api_call_id = {grant}") == [(None,)]
    with pytest.raises(NoCallLeft):
        patient.acquire("participants", 1)


def until(deadline: float) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        assert time.monotonic() < deadline, "no place came free"
        time.sleep(seconds)

    return sleep


def test_an_abandoned_call_counts_as_in_flight_for_a_few_seconds_more(database_url: str, conn: Connection) -> None:
    with database.session(database_url, purpose="tests") as gone:
        ledger_on(gone).acquire("participants", 1)
        pid = gone.info.backend_pid
    deadline = time.monotonic() + 30
    while sql(conn, f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ledger = ledger_on(conn, in_flight=1)
    backdate(conn, -60)  # in the future: surely younger than the few seconds, however slow this machine is
    with pytest.raises(NoPlace):
        ledger.acquire("participants", 1)
    backdate(conn, call_ledger.ABANDONED_SECONDS + 0.1)
    assert ledger.acquire("participants", 1) > 1


def test_a_later_session_with_the_number_of_a_dead_one_does_not_hold_its_place(
    database_url: str, conn: Connection
) -> None:
    ledger_on(conn).acquire("participants", 1)
    with database.session(database_url, purpose="tests") as later:
        sql(
            later,
            "UPDATE api_calls SET holder_pid = pid, granted_at = backend_start - interval '4 seconds'"
            " FROM pg_stat_activity WHERE pid = pg_backend_pid()",
        )
        assert ledger_on(conn, in_flight=1).acquire("participants", 1) > 1


def test_a_call_that_never_ends_loses_its_place_at_last(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ledger_on(conn, in_flight=1)
    ledger.acquire("participants", 1)
    monkeypatch.setattr(call_ledger, "ABANDONED_SECONDS", 0.0)
    with pytest.raises(NoPlace):
        ledger.acquire("participants", 1)
    monkeypatch.setattr(call_ledger, "STUCK_SECONDS", 0.0)
    assert ledger.acquire("participants", 1) > 1


# The hour


def test_the_hour_slides(conn: Connection) -> None:
    ledger = ledger_on(conn, hour=10)
    taken, refusal = take_all(ledger)
    assert taken == 10
    assert 0 < refusal.frees_in <= 3600
    backdate(conn, 3590, "api_call_id <= 3")
    taken, refusal = take_all(ledger)
    assert taken == 0
    assert 0 < refusal.frees_in <= 10
    backdate(conn, 3601, "api_call_id <= 3")
    taken, refusal = take_all(ledger)
    assert taken == 3
    assert 10 < refusal.frees_in <= 3600
    assert ledger.calls == 13


def test_a_refusal_says_when_the_lane_has_a_call_again(conn: Connection) -> None:
    take_all(ledger_on(conn, hour=10))
    for number in range(1, 11):
        backdate(conn, 3600 - 100 * number, f"api_call_id = {number}")
    # 10 used; backfill may have 7: the fourth oldest must leave the hour before it has one.
    with pytest.raises(NoCallLeft) as caught:
        ledger_on(conn, hour=10, lane="backfill").acquire("participants", 1)
    assert 300 < caught.value.frees_in <= 400
    assert str(caught.value).startswith("no call left for lane backfill for ")


def test_backfill_stops_first_and_race_day_last(conn: Connection) -> None:
    counts = []
    for lane in reversed(LANE_NAMES):
        ledger = ledger_on(conn, hour=20, lane=lane)
        left = ledger.left()
        taken, refusal = take_all(ledger)
        assert (taken, refusal.lane, ledger.left()) == (left, lane, 0)
        counts.append(taken)
    assert counts == [14, 4, 1, 1]
    for lane in LANE_NAMES:
        with pytest.raises(NoCallLeft):
            ledger_on(conn, hour=20, lane=lane).acquire("participants", 1)


def test_each_api_key_has_an_hour_of_its_own(conn: Connection) -> None:
    assert take_all(ledger_on(conn, hour=5, credential=1))[0] == 5
    assert take_all(ledger_on(conn, hour=5, credential=2))[0] == 5
    assert call_ledger.count_calls_this_hour(conn, 1) == call_ledger.count_calls_this_hour(conn, 2) == 5
    assert call_ledger.count_calls_this_hour(conn, 3) == 0
    with pytest.raises(NoCallLeft):
        ledger_on(conn, hour=5, credential=3, api_key=2).acquire("participants", 1)
    assert ledger_on(conn, hour=5, credential=1, api_key=3).left() == 5


def test_a_lane_gets_its_share_and_never_less_than_one_call(conn: Connection) -> None:
    @settings(max_examples=200)
    @given(st.integers(1, 1_000_000))
    def rule(hour: int) -> None:
        limit = {lane: ledger_on(conn, hour=hour, lane=lane).lane_limit for lane in LANE_NAMES}
        assert limit["race_day"] == hour
        assert 1 <= limit["backfill"] <= limit["routine"] <= limit["new_partner"] <= limit["race_day"]
        for lane in LANE_NAMES:
            exact = hour * round(LANES[lane] * 100) / 100
            assert limit[lane] == 1 or exact - 1 <= limit[lane] <= exact
        assert hour < 20 or limit["backfill"] < limit["routine"] < limit["new_partner"] < limit["race_day"]

    rule()


def test_a_ledger_sees_the_grant_of_whoever_had_the_lock_before(database_url: str, conn: Connection) -> None:
    """Even where the database's default is an isolation that would freeze what a transaction sees at its start."""
    sql(
        conn,
        "ALTER DATABASE " + database_url.rsplit("/", 1)[1] + " SET default_transaction_isolation = 'repeatable read'",
    )
    refusals: list[NoCallLeft] = []

    def second() -> None:
        with database.session(database_url, purpose="tests") as other, pytest.raises(NoCallLeft) as caught:
            ledger_on(other, hour=1).acquire("participants", 1)
        refusals.append(caught.value)

    thread = threading.Thread(target=second)
    with database.session(database_url, purpose="tests") as first, first.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock(%s, 0)", (Kind.LEDGER,))
        thread.start()
        deadline = time.monotonic() + 30
        while sql(conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == [(0,)]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        cur.execute(
            "INSERT INTO api_calls (credential_id, api_key_id, lane, endpoint) VALUES (1, 1, 'race_day', 'races')"
        )
        first.commit()
    thread.join(30)
    assert len(refusals) == 1
    assert sql(conn, "SELECT count(*) FROM api_calls") == [(1,)]


# In flight


def test_places_in_flight_count_over_all_api_keys_or_for_each_alone(conn: Connection) -> None:
    ledger_on(conn, in_flight=1, credential=1).acquire("participants", 1)
    with pytest.raises(NoPlace):
        ledger_on(conn, in_flight=1, credential=2).acquire("participants", 1)
    with pytest.raises(NoPlace):
        ledger_on(conn, in_flight=1, credential=1, all_credentials=False).acquire("participants", 1)
    with pytest.raises(NoPlace):
        ledger_on(conn, in_flight=1, credential=2, api_key=1, all_credentials=False).acquire("participants", 1)
    other = ledger_on(conn, in_flight=1, credential=2, all_credentials=False)
    other.settle(other.acquire("participants", 1), status=200, error=None, size=0, rows=0)


def test_the_last_place_is_not_for_backfill_until_it_has_waited_long(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    backfill = ledger_on(conn, in_flight=2, lane="backfill")
    first = backfill.acquire("participants", 1)
    with pytest.raises(NoPlace):
        backfill.acquire("participants", 1)
    race_day = ledger_on(conn, in_flight=2)
    race_day.settle(race_day.acquire("participants", 1), status=200, error=None, size=0, rows=0)
    with monkeypatch.context() as at_once:
        at_once.setattr(call_ledger, "BACKFILL_MAX_WAIT_SECONDS", 0.0)
        second = backfill.acquire("participants", 1)
        with pytest.raises(NoPlace):
            backfill.acquire("participants", 1)
    for grant in (first, second):
        backfill.settle(grant, status=200, error=None, size=0, rows=0)
    # Where there is one place only, it is for everybody.
    ledger_on(conn, in_flight=1, lane="backfill").acquire("participants", 1)


def test_settling_gives_the_place_back_and_keeps_what_came_of_it(conn: Connection) -> None:
    ledger = ledger_on(conn, in_flight=1, lane="routine")
    grant = ledger.acquire("removed-participants", 77)
    with pytest.raises(NoPlace):
        ledger.acquire("races", None)
    ledger.settle(grant, status=503, error="server error", size=321, rows=5)
    columns = (
        "lane, endpoint, race_id, status, error, bytes, rows, settled_at >= granted_at, holder_pid = pg_backend_pid()"
    )
    assert sql(conn, f"SELECT {columns} FROM api_calls") == [
        ("routine", "removed-participants", 77, 503, "server error", 321, 5, True, True)
    ]
    assert ledger.acquire("races", None) > grant


def test_race_day_asks_more_often_than_the_others(conn: Connection) -> None:
    ledger_on(conn, in_flight=1).acquire("participants", 1)
    longest: dict[Lane, float] = {}
    for lane in LANE_NAMES:
        pauses: list[float] = []

        def sleep(seconds: float, pauses: list[float] = pauses) -> None:
            pauses.append(seconds)
            if len(pauses) == 50:
                raise NoPlace

        with pytest.raises(NoPlace):
            ledger_on(conn, in_flight=1, lane=lane, sleep=sleep).acquire("participants", 1)
        assert len(set(pauses)) > 10, "waiters that ask in step would block one another"
        assert min(pauses) > 0
        longest[lane] = max(pauses)
    assert longest["race_day"] <= 0.015
    assert all(0.015 < longest[lane] <= 0.03 for lane in LANE_NAMES[1:])


def test_a_ledger_that_others_hold_is_asked_again_after_the_lock_timeout(database_url: str, conn: Connection) -> None:
    pauses: list[float] = []
    sql(conn, "SET lock_timeout = '100ms'")
    with database.session(database_url, purpose="tests") as holder, holder.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock(%s, 0)", (Kind.LEDGER,))

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                holder.rollback()

        assert ledger_on(conn, sleep=sleep).acquire("participants", 1) == 1
    assert len(pauses) == 2


def test_no_transaction_is_open_while_a_call_is_in_flight(database_url: str, conn: Connection) -> None:
    ledger = ledger_on(conn, hour=1)
    state = f"SELECT state FROM pg_stat_activity WHERE pid = {conn.info.backend_pid}"
    with database.session(database_url, purpose="tests") as other:
        grant = ledger.acquire("participants", 1)
        assert sql(other, state) == [("idle",)]
        with pytest.raises(NoCallLeft):
            ledger.acquire("participants", 1)
        assert sql(other, state) == [("idle",)]
        ledger.settle(grant, status=200, error=None, size=0, rows=0)
        assert ledger.left() == 0
        assert sql(other, state) == [("idle",)]


def test_an_error_in_the_ledger_is_not_taken_for_a_full_one(conn: Connection) -> None:
    sql(conn, "ALTER TABLE api_calls RENAME TO api_calls_away")
    with pytest.raises(psycopg2.errors.UndefinedTable):
        ledger_on(conn).acquire("participants", 1)
    sql(conn, "ALTER TABLE api_calls_away RENAME TO api_calls")
    assert ledger_on(conn).acquire("participants", 1) == 1


def test_a_database_clock_that_is_set_back_blocks_no_call_and_frees_none_too_early(conn: Connection) -> None:
    ledger = ledger_on(conn, hour=4)
    for _ in range(3):
        ledger.settle(ledger.acquire("participants", 1), status=200, error=None, size=1, rows=1)
    # As if the clock had been a day ahead, the first of them made two hours before the last.
    sql(
        conn,
        "UPDATE api_calls SET granted_at = granted_at + interval '1 day', settled_at = settled_at + interval '1 day'",
    )
    sql(conn, "UPDATE api_calls SET granted_at = granted_at - interval '2 hours' WHERE api_call_id = 1")
    ledger.settle(ledger.acquire("participants", 1), status=200, error=None, size=1, rows=1)
    ledger.settle(ledger.acquire("participants", 1), status=200, error=None, size=1, rows=1)
    with pytest.raises(NoCallLeft) as caught:
        ledger.acquire("participants", 1)
    assert 3500 < caught.value.frees_in <= 3600
    assert sql(conn, "SELECT count(*) FROM api_calls WHERE granted_at > clock_timestamp()") == [(0,)]
    assert sql(conn, "SELECT count(*) FROM api_calls WHERE settled_at < granted_at") == [(0,)]


def test_a_call_in_flight_when_the_database_clock_is_set_back_gives_its_place_back(conn: Connection) -> None:
    ledger_on(conn, in_flight=1).acquire("participants", 1)
    # The session that sent it is gone.
    sql(conn, "UPDATE api_calls SET granted_at = granted_at + interval '2 hours', holder_pid = 0")
    began = time.monotonic()
    ledger_on(conn, in_flight=1, sleep=time.sleep).acquire("participants", 1)
    assert time.monotonic() - began < 2 * call_ledger.ABANDONED_SECONDS
