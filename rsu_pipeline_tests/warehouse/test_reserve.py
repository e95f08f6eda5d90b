"""One place in flight is race day's while a race is in its window, and calls are short then."""

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from rsu_pipeline.sync.watch import Watch
from rsu_pipeline.warehouse import call_ledger, database, fleet
from rsu_pipeline.warehouse.advisory_locks import Kind
from rsu_pipeline.warehouse.call_ledger import LANES, Lane, Ledger, Limits
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.warehouse.fleet_rows import HOUR, MINUTE, Fleet
from rsu_pipeline_tests.warehouse.ledger_worker import Worker, begin
from rsu_pipeline_tests.warehouse.test_call_ledger import NoPlace, backdate, ledger_on, sql

OTHERS: list[Lane] = ["new_partner", "routine", "backfill"]


# Two hung calls of other partners


class Morning:
    """A race of partner 1 that is watched, while two processes sync partners 2 and 3, whose RunSignup never answers."""

    def __init__(self, hub: Hub, start: Callable[..., Worker], *, reserve: bool) -> None:
        self.hub = hub
        hub.environment |= {"RSU_WATCH_INTERVAL": "1", "RSU_READ_TIMEOUT": "120"}
        hub.sync(1)
        hub.sandbox.admin.fault("timeout", 0, endpoint="races")
        workers = [
            start(
                hub.url,
                "call",
                calls=1,
                partner=partner,
                credential=partner,
                lane="routine",
                environment=hub.environment,
                reserve=reserve,
            )
            for partner in (2, 3)
        ]
        self._workers = workers
        begin(*workers)
        wait_until(lambda: self.hung() >= (1 if reserve else 2))

    def hung(self) -> int:
        found = self.hub.value("SELECT count(*) FROM api_calls WHERE settled_at IS NULL AND lane = 'routine'")
        assert isinstance(found, int)
        return found

    def seconds_until_a_bib_is_here(self, patience: float) -> float | None:
        """Return how long a bib that is given out now takes, or None when it is not here within `patience` seconds."""
        key = min(self.hub.truth(1))
        hub = self.hub
        watch = Watch(hub.url, hub.secret_box, hub.settings, run_id="watch", log=lambda line: None)
        self._thread = threading.Thread(target=watch.run, args=(patience,), daemon=True)
        hub.sandbox.admin.bib(key, 77)
        began = time.monotonic()
        self._thread.start()
        while time.monotonic() < began + patience:
            if hub.stored(1)[key]["bib_num"] == "77":
                return time.monotonic() - began
            time.sleep(0.05)
        return None

    def end(self) -> None:
        """Kill the hung processes, so that a watch that waits for them ends."""
        for worker in self._workers:
            worker.kill()
        self._thread.join()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


OTHER_CALLS = """
SELECT api_call_id, granted_at, settled_at, lane <> 'race_day' OR coalesce(lag(settled_at - granted_at)
    OVER (PARTITION BY api_key_id, race_id ORDER BY granted_at) > interval '2.5 s', false) AS is_other
FROM api_calls WHERE granted_at > (SELECT min(granted_at) FROM api_calls WHERE lane = 'race_day')
"""
"""Calls since the watch began, and whether they have no right to race day's place."""

SPEC = {"partners": 3, "races_per_partner": 1, "events_per_race": 1, "registrations_per_event": 9, "start_in_hours": 2}


def test_bibs_arrive_while_two_routine_calls_of_other_partners_hang(
    make_hub: Callable[..., Hub], start: Callable[..., Worker]
) -> None:
    morning = Morning(make_hub(spec=SPEC, seed=7), start, reserve=True)
    seconds = morning.seconds_until_a_bib_is_here(8)
    assert seconds is not None and morning.hung() == 1
    morning.end()
    assert morning.hub.sandbox.admin.stats()["max_in_flight"] == 2


def test_without_the_reserved_place_bibs_wait_for_hung_calls(
    make_hub: Callable[..., Hub], start: Callable[..., Worker]
) -> None:
    morning = Morning(make_hub(spec=SPEC, seed=7), start, reserve=False)
    assert morning.seconds_until_a_bib_is_here(8) is None
    morning.end()


def test_races_that_do_not_answer_leave_the_others_their_polls(
    make_hub: Callable[..., Hub], start: Callable[..., Worker]
) -> None:
    """Two partners' RunSignup hangs, in the watch as in a routine sync."""
    hub = make_hub(spec=SPEC | {"races_per_partner": 2}, seed=7)
    hub.environment |= {"RSU_WATCH_INTERVAL": "1", "RSU_READ_TIMEOUT": "120", "RSU_RACE_DAY_TIMEOUT": "3"}
    for partner in hub.partners:
        hub.sync(partner)
    for partner in (2, 3):
        hub.sandbox.admin.fault("timeout", 0, partner=partner)
    routine = {"partner": 2, "credential": 2, "lane": "routine", "race_day_seconds": 3}
    begin(start(hub.url, "call", calls=1, environment=hub.environment, **routine))
    watch = Watch(hub.url, hub.secret_box, hub.settings, run_id="watch", log=lambda line: None)
    done = watch.run(18)
    assert done[hub.partners[1]].looks >= 4 and not done[hub.partners[1]].trouble
    assert all(done[hub.partners[partner]].trouble for partner in (2, 3))
    # Once a race is known not to answer, one call at a time waits for such a race or for the routine sync.
    assert hub.value("SELECT count(*) FILTER (WHERE is_other) > 1 FROM (" + OTHER_CALLS + ") c")
    assert (
        hub.value(
            f"SELECT count(*) FROM ({OTHER_CALLS}) a JOIN ({OTHER_CALLS}) b ON a.api_call_id < b.api_call_id"
            " AND a.is_other AND b.is_other AND b.granted_at < coalesce(a.settled_at, now())"
        )
        == 0
    )
    assert hub.sandbox.admin.stats()["max_in_flight"] <= 2


# Who may have a place


@given(
    lane=st.sampled_from(list(LANES)),
    most=st.integers(1, 8),
    race_day=st.integers(0, 8),
    others=st.integers(0, 8),
    is_reserved=st.booleans(),
    steps_back=st.booleans(),
    yields=st.booleans(),
)
def test_one_place_is_race_days_and_the_others_keep_at_least_one(
    lane: Lane, most: int, race_day: int, others: int, is_reserved: bool, steps_back: bool, yields: bool
) -> None:
    def has_place(lane: Lane, in_flight: int, others: int, *, steps_back: bool = False, is_slow: bool = False) -> bool:
        return call_ledger.has_slot(
            lane,
            Limits(1000, most),
            in_flight,
            others,
            is_reserved=is_reserved,
            steps_back=steps_back,
            is_slow=is_slow,
        )

    in_flight = race_day + others
    assert has_place("race_day", in_flight, others) == (in_flight < most)
    if is_reserved and most > 1 and others == most - 1:
        assert not has_place("race_day", in_flight, others, is_slow=True)
    if has_place(lane, in_flight, others, steps_back=steps_back):
        assert in_flight < most
        if lane != "race_day" and is_reserved and most > 1:
            assert others + 1 <= most - 1, "no place is left to race day"
    if lane != "race_day":
        assert has_place(lane, 0, 0, steps_back=steps_back), "a lane that never has a place starves"
        if is_reserved and yields:
            assert not call_ledger.has_slot(
                lane, Limits(1000, most), in_flight, others, is_reserved=True, steps_back=steps_back, yields=True
            )


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with database.session(database_url, purpose="tests") as opened:
        Now(opened).morning()
        yield opened


class Now(Fleet):
    """A fleet whose races start so long after the database's present."""

    def morning(self) -> None:
        """Give partner 1 a race in two hours, and partner 2 one next week."""
        for partner, hours in ((1, 2), (2, 168)):
            self.partner(partner)
            self.race(partner, partner)
            self.event(partner, partner)
            self.starts(partner, hours * HOUR)
        self.sql(
            "INSERT INTO runsignup_api_keys (fingerprint) VALUES ('a'), ('b');"
            "UPDATE partner_provider_credentials SET api_key_id = timing_partner_id"
        )
        self.conn.commit()

    def starts(self, event_id: int, later: dt.timedelta) -> None:
        self.sql(
            "UPDATE runsignup_events SET starts_at = now() + %s, ends_at = now() + %s + interval '6 hours'"
            " WHERE event_id = %s",
            later, later, event_id,
        )  # fmt: skip
        self.conn.commit()


def in_window(conn: Connection, api_key_id: int | None = None, within: float = 0.0) -> bool:
    return fleet.has_race_in_window(conn, api_key_id, within=within)


@pytest.mark.parametrize("lane", OTHERS)
def test_other_lanes_leave_one_place_to_race_day(conn: Connection, lane: Lane) -> None:
    other = ledger_on(conn, in_flight=2, lane=lane)
    first = other.acquire("participants", 1)
    with pytest.raises(NoPlace):
        ledger_on(conn, in_flight=2, lane="routine").acquire("participants", 1)
    race_day = ledger_on(conn, in_flight=2)
    settle(race_day, race_day.acquire("participants", 1))
    # Race day may have both: the others' is theirs as soon as one comes free.
    settle(other, first)
    grants = [race_day.acquire("participants", 1), race_day.acquire("participants", 1)]
    with pytest.raises(NoPlace):
        other.acquire("participants", 1)
    settle(race_day, grants[0])
    grant = ledger_on(conn, in_flight=2, lane="routine").acquire("participants", 1)
    assert grant > grants[1]


@pytest.fixture
def others(database_url: str) -> Iterator[Connection]:
    """Provide a session of another process."""
    with database.session(database_url, purpose="tests") as opened:
        yield opened


@pytest.mark.parametrize("places", [1, 2])
@pytest.mark.parametrize("lane", OTHERS)
def test_a_free_place_is_left_to_a_race_day_call_that_waits(
    conn: Connection, others: Connection, lane: Lane, places: int
) -> None:
    first = ledger_on(conn, in_flight=places)
    grants = [first.acquire("participants", 1) for _ in range(places)]
    other = ledger_on(others, in_flight=places, lane=lane)

    def sleep(seconds: float) -> None:
        settle(first, grants.pop())
        with pytest.raises(NoPlace):
            other.acquire("participants", 1)

    waiting = ledger_on(conn, in_flight=places, sleep=sleep)
    grant = waiting.acquire("participants", 1)
    for left in grants:
        settle(first, left)
    settle(waiting, grant)
    # Nobody waits any more, nor does a call that was given up.
    settle(other, other.acquire("participants", 1))
    grants = [first.acquire("participants", 1) for _ in range(places)]
    with pytest.raises(NoPlace):
        ledger_on(conn, in_flight=places).acquire("participants", 1)
    settle(first, grants.pop())
    if places == 1:
        settle(other, other.acquire("participants", 1))


def test_no_lane_lets_race_day_pass_for_longer_than_ten_seconds(
    conn: Connection, others: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ledger_on(conn, in_flight=1)
    grant = first.acquire("participants", 1)

    def sleep(seconds: float) -> None:
        settle(first, grant)
        with monkeypatch.context() as later:
            later.setattr(call_ledger, "YIELD_SECONDS", 0.0)
            ledger_on(others, in_flight=1, lane="routine").acquire("participants", 1)
        raise NoPlace

    assert call_ledger.YIELD_SECONDS == 10
    with pytest.raises(NoPlace):
        ledger_on(conn, in_flight=1, sleep=sleep).acquire("participants", 1)


def test_a_race_day_call_whose_process_died_waits_no_more(conn: Connection, others: Connection) -> None:
    first = ledger_on(conn, in_flight=1)
    grant = first.acquire("participants", 1)

    def die(seconds: float) -> None:
        others.close()
        raise NoPlace

    with pytest.raises(NoPlace):
        ledger_on(others, in_flight=1, sleep=die).acquire("participants", 1)
    settle(first, grant)
    wait_until(lambda: calls_waiting(conn) == 0)
    ledger_on(conn, in_flight=1, lane="routine").acquire("participants", 1)


def calls_waiting(conn: Connection) -> int:
    """Return how many sessions show that a race-day call waits."""
    ((count,),) = sql(conn, f"SELECT count(*) FROM pg_locks WHERE classid = {int(Kind.RACE_DAY_WAITS)}")
    return int(count)


def test_with_places_for_each_credential_only_a_race_of_its_api_key_reserves_one(conn: Connection) -> None:
    for api_key, may_have_both in ((1, False), (2, True)):
        ledger = ledger_on(conn, in_flight=2, lane="routine", credential=api_key, all_credentials=False)
        ledger.acquire("participants", 1)
        if may_have_both:
            ledger.acquire("participants", 1)
        else:
            with pytest.raises(NoPlace):
                ledger.acquire("participants", 1)
    assert (in_window(conn), in_window(conn, 1), in_window(conn, 2)) == (True, True, False)


def test_both_places_are_for_all_while_no_race_is_in_its_window(conn: Connection) -> None:
    Now(conn).starts(1, 5 * HOUR)
    ledger = ledger_on(conn, in_flight=2, lane="routine")
    ledger.acquire("participants", 1)
    ledger.acquire("participants", 1)


def test_a_race_whose_last_call_was_slow_has_no_right_to_race_days_place(conn: Connection) -> None:
    ledger = ledger_on(conn, in_flight=2)
    slow = ledger.acquire("participants", 11)
    backdate(conn, 14)
    settle(ledger, slow)
    hung = ledger.acquire("participants", 11)
    with pytest.raises(NoPlace):
        ledger_on(conn, in_flight=2, lane="routine").acquire("participants", 12)
    healthy = ledger.acquire("participants", 13)
    settle(ledger, healthy)
    settle(ledger, hung)
    # It answered at once, and so is as any other.
    grant = ledger_on(conn, in_flight=2, lane="routine").acquire("participants", 12)
    settle(ledger, ledger.acquire("participants", 11))
    settle(ledger, grant)


# When a place is reserved


@pytest.mark.parametrize(
    ("later", "is_so"),
    [(4 * HOUR + MINUTE, False), (4 * HOUR - MINUTE, True), (-7 * HOUR + MINUTE, True), (-7 * HOUR - MINUTE, False)],
)
def test_a_race_is_in_its_window_from_four_hours_before_its_start_until_it_is_over(
    conn: Connection, later: dt.timedelta, is_so: bool
) -> None:
    Now(conn).starts(1, later)
    assert in_window(conn) == is_so


def test_a_place_is_reserved_a_longest_call_before_the_window_begins(conn: Connection) -> None:
    Now(conn).starts(1, 4 * HOUR + MINUTE)
    assert not in_window(conn) and in_window(conn, within=61)
    assert ledger_on(conn, in_flight=2, lane="routine").call_seconds == 15


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param("UPDATE timing_partners SET disabled_at = now()", id="partner switched off"),
        pytest.param("UPDATE partner_provider_credentials SET rejected_at = now()", id="credential rejected"),
        pytest.param("UPDATE runsignup_events SET gone_at = now()", id="event gone"),
        pytest.param("UPDATE partner_races SET lost_at = now()", id="access lost"),
    ],
)
def test_a_race_that_is_not_polled_reserves_nothing(conn: Connection, spoil: str) -> None:
    Now(conn).sql(spoil)
    conn.commit()
    assert not in_window(conn)


def test_whether_a_race_is_in_its_window_is_asked_again_after_a_few_seconds(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_on(conn, lane="routine")
    assert ledger.call_seconds == 15
    Now(conn).starts(1, 9 * HOUR)
    assert ledger.call_seconds == 15
    monkeypatch.setattr(call_ledger, "RESERVE_CHECK_SECONDS", 0.0)
    assert ledger.call_seconds == 120


# How long a call may take


def test_calls_are_short_in_lane_race_day_and_while_a_race_is_in_its_window(conn: Connection) -> None:
    def seconds(lane: Lane, **more: float) -> float:
        return Ledger(conn, 1, 1, lane, Limits(1000, 2, **more)).call_seconds

    assert {lane: seconds(lane) for lane in LANES} == dict.fromkeys(LANES, 15)
    Now(conn).starts(1, 9 * HOUR)
    assert {lane: seconds(lane) for lane in LANES} == dict.fromkeys(LANES, 120) | {"race_day": 15}
    assert seconds("race_day", call_seconds=10) == 10


def test_time_outs_are_not_repeated_while_a_race_is_in_its_window_nor_by_race_day(conn: Connection) -> None:
    def retries(lane: Lane) -> bool:
        return Ledger(conn, 1, 1, lane, Limits(1000, 2)).retries_timeouts

    assert not any(retries(lane) for lane in LANES)
    Now(conn).starts(1, 9 * HOUR)
    assert [lane for lane in LANES if not retries(lane)] == ["race_day"]


def settle(ledger: Ledger, grant: int) -> None:
    ledger.settle(grant, status=200, error=None, size=0, rows=0)
