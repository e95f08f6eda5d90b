"""Clocks are checked: one that is wrong moves no checkpoint into the future, and no window is missed."""

import datetime as dt
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.race_morning import fast
from rsu_pipeline.reading_settings import CadenceSettings
from rsu_pipeline.runsignup import transport
from rsu_pipeline.settings import load_settings
from rsu_pipeline.sync import cadence, clocks, forecast, listing, partner_sync, read_plan, watch_pace
from rsu_pipeline.sync.clocks import Clock, Readings
from rsu_pipeline.sync.session import open_partner_session
from rsu_pipeline.warehouse import database, hub_clocks
from rsu_pipeline.warehouse.cursors import EventCursor
from rsu_pipeline.warehouse.events import StoredEvent
from rsu_pipeline.warehouse.fleet import FleetPartner, FleetRace
from rsu_pipeline.warehouse.freshness import EventRead
from rsu_pipeline.warehouse.hub_clocks import HubClock
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.servers import create_database
from rsu_pipeline_tests.specs import estate
from runsignup_sandbox.process import SandboxProcess

SKEW = 120.0
TRUE = 1_790_000_000.0
NOW = dt.datetime.fromtimestamp(TRUE, dt.UTC)
HOUR = dt.timedelta(hours=1)
EVERY = CadenceSettings()
SETTINGS = load_settings({})
SPEC = estate(events=2, registrations=12)
DISTANCES = st.floats(-SKEW / 2, SKEW / 2) | st.sampled_from([-30e6, -86400, -3600, 3600, 86400, 30e6])
WRONG_WITHIN_A_MONTH = st.floats(-30 * 86400.0, 30 * 86400.0)


# What is believed.


@given(which=st.integers(0, 2), wrong=st.floats(-3e8, 3e8), small=st.tuples(*[st.floats(-SKEW / 2, SKEW / 2)] * 3))
def test_one_clock_that_is_wrong_by_anything_changes_nothing(
    which: int, wrong: float, small: tuple[float, float, float]
) -> None:
    hub, base, theirs = (TRUE + own + (wrong if number == which else 0) for number, own in enumerate(small))
    readings = Readings(hub, base, theirs)
    assert any(abs(moment - TRUE) <= 1.5 * SKEW for moment in clocks.moments(readings, SKEW))
    assert clocks.page_moment(readings, int(theirs), 1.0, SKEW).at <= TRUE + SKEW / 2
    if which < 2 and abs(wrong) > 2 * SKEW:
        # RunSignup and the other one outvote it.
        assert len(clocks.moments(readings, SKEW)) == 1
        assert clocks.page_moment(readings, int(theirs), 1.0, SKEW).is_confirmed


@given(wrong=WRONG_WITHIN_A_MONTH)
def test_two_clocks_of_one_machine_that_are_wrong_together_hide_no_present(wrong: float) -> None:
    readings = Readings(TRUE + wrong, TRUE + wrong + 0.1, TRUE)
    assert any(abs(moment - TRUE) <= SKEW for moment in clocks.moments(readings, SKEW))
    assert clocks.page_moment(readings, int(TRUE), 1.0, SKEW).at <= TRUE


@given(hub=DISTANCES, base=DISTANCES)
def test_without_runsignups_clock_the_earlier_of_two_moves_a_checkpoint_and_both_may_be_the_present(
    hub: float, base: float
) -> None:
    readings = Readings(TRUE + hub, TRUE + base)
    found = clocks.page_moment(readings, None, 2.0, SKEW)
    assert not found.is_confirmed and found.at == int(min(TRUE + hub, TRUE + base) - 2.0)
    moments = clocks.moments(readings, SKEW)
    assert (len(moments) == 1) == (abs(hub - base) <= SKEW)
    assert set(moments) <= {readings.hub, readings.database}


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        (Readings(0, 0, 0), [0]),
        (Readings(100, 0, 0), [100]),
        (Readings(7200, 0, 30), [0]),
        (Readings(0, -7200, 30), [0]),
        (Readings(0, 0, 7200), [0, 7200]),
        (Readings(0, 7200, 14400), [0, 7200, 14400]),
        (Readings(0, 7200), [0, 7200]),
        (Readings(7200, 0), [0, 7200]),
        (Readings(0, 0), [0]),
        (Readings(0, 0, 40 * 86400), [0]),
        (Readings(0, 7200, -40 * 86400), [0, 7200]),
    ],
)
def test_what_the_present_may_be(readings: Readings, expected: list[float]) -> None:
    assert clocks.moments(readings, SKEW) == expected


def test_a_stored_comparison_tells_runsignups_clock_until_a_clock_steps() -> None:
    stored = HubClock("a", NOW, runsignup_seconds=3.0, database_seconds=-4.0)
    assert clocks.estimate_present(TRUE, TRUE - 4, stored, SKEW) == TRUE + 3
    assert clocks.estimate_present(TRUE, TRUE - 3600, stored, SKEW) is None
    assert clocks.estimate_present(TRUE + 3600, TRUE - 4, stored, SKEW) is None
    assert clocks.estimate_present(TRUE, TRUE, None, SKEW) is None
    assert clocks.estimate_present(TRUE, TRUE, HubClock("a", NOW, None, 0.0), SKEW) is None


# `Date` as evidence.


@pytest.mark.parametrize(
    ("header", "date"),
    [
        ("Sat, 03 Oct 2026 21:25:50 GMT", 1_791_062_750),
        (None, None),
        ("", None),
        ("yesterday, at noon", None),
        ("Thu, 01 Jan 1970 00:00:01 GMT", None),
        ("Mon, 05 Jan 2099 10:00:00 GMT", 4_071_290_400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
    ],
)
def test_a_date_without_sense_is_none(header: str | None, date: int | None) -> None:
    assert transport.read_date(header) == date


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0), ("3600", 3600), (None, 0), ("", 0), ("-5", 0), ("1e9", 0), ("9" * 30, 0), ("٣", 0)],
)
def test_the_age_of_a_kept_answer(header: str | None, seconds: float) -> None:
    assert transport.age(header) == seconds


class _Kept(BaseHTTPRequestHandler):
    """Answers as a cache does: an hour late, with the `Date` of the first answer, and slowly."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() - 3600)

    def do_GET(self) -> None:
        time.sleep(0.6)
        self.send_response(200)
        self.send_header("Age", "3600")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def kept() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Kept)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_cached_answer_is_as_old_as_its_date_while_the_clock_is_todays(kept: str) -> None:
    answer = transport.fetch(transport.Session(), kept, {}, (5, 5), 10)
    assert answer.date is not None and 3599 <= time.time() - answer.date <= 3602
    # The latency of the call is within the tolerance.
    assert abs(answer.date + answer.elapsed - time.time()) < 2
    readings = Readings(time.time(), time.time(), answer.date + answer.elapsed)
    assert clocks.moments(readings, SKEW) == [readings.hub]
    # What the answer shows is an hour old all the same.
    assert clocks.page_moment(readings, answer.date, answer.seconds, SKEW).at == answer.date


# Checkpoints.

DATE_ABSENT = ""


@pytest.mark.parametrize(
    ("days", "machine", "date"),
    [
        *((days, machine, None) for days in (-2, 0.2, 40) for machine in ("hub", "database", "both")),
        *((days, "both", DATE_ABSENT) for days in (-2, 0.2, 40)),
        (0.2, "hub", DATE_ABSENT),
        (0, "hub", DATE_ABSENT),
        (0.2, "both", "Thu, 01 Jan 1970 00:00:01 GMT"),
        (0.2, "both", "Mon, 05 Jan 2099 10:00:00 GMT"),
        (0, "hub", "Mon, 05 Jan 2099 10:00:00 GMT"),
    ],
)
def test_a_wrong_clock_skips_no_change(shared_hub: Hub, days: float, machine: str, date: str | None) -> None:
    hub, admin = shared_hub, shared_hub.sandbox.admin
    hub.ahead = days * 86400 if machine in ("hub", "both") else 0.0
    hub.database_ahead = days * 86400 if machine in ("database", "both") else 0.0
    if date is not None:
        admin.fault("date", 0, message=date)
    assert not hub.sync(full=True).failures
    admin.clock(advance=600)
    number, other = sorted(hub.stored())[:2]
    admin.bib(number, int(time.time() * 1000) % 100_000)
    admin.clock(advance=600)
    assert not hub.sync().failures
    hub.assert_equal()
    admin.edit(other, {"first_name": f"Nr {days} {machine}"})
    admin.clock(advance=600)
    admin.clear_faults()
    hub.ahead, hub.database_ahead = 0.0, None
    assert not hub.sync().failures
    hub.assert_equal()
    latest = admin.clock() + SKEW
    for row in hub.rows("SELECT modified_after, extract(epoch FROM last_full_at)::float AS full_at FROM event_cursors"):
        assert row["modified_after"] <= latest and row["full_at"] <= latest


@pytest.fixture(scope="module")
def shared_hub(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    create_database(server, "rsu_clocks", template)
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        yield Hub(at(server, "rsu_clocks"), sandbox, tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("ahead", [3600.0, 30 * 86400.0])
def test_a_checkpoint_that_is_in_the_future_is_noticed_and_healed_by_a_full_read(
    make_hub: Callable[..., Hub], ahead: float
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    hub.execute(
        "UPDATE event_cursors SET modified_after = modified_after + %(ahead)s, removed_after = removed_after + %(ahead)s,"
        " last_full_at = last_full_at + make_interval(secs => %(ahead)s),"
        " last_read_at = last_read_at + make_interval(secs => %(ahead)s)".replace("%(ahead)s", str(int(ahead)))
    )
    admin = hub.sandbox.admin
    gone, changed = sorted(hub.stored())[:2]
    admin.remove(gone, "deferred")
    admin.bib(changed, 4711)
    admin.clock(advance=300)
    outcome = hub.sync()
    assert {(read.read.mode, read.read.reason) for read in outcome.reads} == {
        ("full", "its checkpoint is in the future, so a clock was wrong")
    }
    hub.assert_equal()
    hub.assert_removals()
    assert hub.value("SELECT max(modified_after) FROM event_cursors") <= admin.clock()
    assert {read.read.mode for read in hub.sync().reads} == {"incremental"}


def test_a_clock_that_steps_back_while_a_sync_runs_leaves_the_copy_equal(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    admin = hub.sandbox.admin
    steps = iter([0.0, 0.0, 7200.0, 7200.0, -7200.0])
    last = [0.0]

    def stepping() -> dt.datetime:
        last[0] = next(steps, last[0])
        return dt.datetime.fromtimestamp(admin.clock() + last[0], dt.UTC)

    for number in sorted(hub.stored())[:3]:
        admin.bib(number, number % 1000)
        with hub.partner_session() as session:
            session.clock = Clock(SKEW, hub=stepping, database=lambda: dt.datetime.fromtimestamp(admin.clock(), dt.UTC))
            session.clock.hear(int(admin.clock()), 0.0)
            partner_sync.sync_participants(session, partner_sync.make_plan(session))
        admin.clock(advance=200)
    hub.sync()
    hub.assert_equal()
    assert hub.value("SELECT max(modified_after) FROM event_cursors") <= admin.clock()


def test_the_database_clock_stepping_back_loses_nothing_and_blocks_nothing(
    make_empty_database: Callable[[], str], make_sandbox: Callable[..., SandboxProcess], tmp_path: Path
) -> None:
    """The clock of a real PostgreSQL steps: a day ahead, an hour behind, right again."""
    url = make_empty_database()
    with database.session(url, purpose="tests") as conn:
        fast.prepare_database(conn)
    with database.session(url, purpose="tests") as conn:
        database.migrate(conn)
    hub = Hub(url, make_sandbox(spec=SPEC, seed=7), tmp_path, RSU_CALLS_PER_HOUR="40")
    admin = hub.sandbox.admin

    def sync() -> None:
        with open_partner_session(
            hub.url, hub.secret_box, hub.settings, hub.partners[1], lane="routine", run_id="test", log=lambda line: None
        ) as session:
            listing.refresh_events(session)
            partner_sync.sync_participants(session, partner_sync.make_plan(session))

    for step in (86400.0, -3600.0, 0.0):
        with database.session(url, purpose="tests") as conn:
            wall = time.time()
            fast.set_database_clock(conn, fast.FastClock(wall + step, time.monotonic(), wall, 1.0))
        with database.session(url, purpose="tests") as conn:
            assert abs(hub_clocks.read_database_time(conn) - time.time() - step) < 5
        sync()
        admin.bib(min(hub.stored()), int(time.time() * 1000) % 100_000)
        sync()
        hub.assert_equal()
        assert hub.value("SELECT max(modified_after) FROM event_cursors") <= time.time()
        (row,) = hub.rows("SELECT * FROM hub_clocks")
        assert row["hub"] == socket.gethostname()
        assert abs(row["database_seconds"] - step) < 10 and abs(row["runsignup_seconds"]) < 10


# Tiers and windows.


def race(start: dt.datetime, tried: dt.datetime | None) -> FleetRace:
    return FleetRace(1, "1-acme", 1, 10, ((start, start + 6 * HOUR),), (tried,), failed=False)


@pytest.mark.parametrize("behind", [5, 24, 24 * 20])
@pytest.mark.parametrize("which", ["hub", "both"])
def test_a_hub_whose_clock_is_behind_misses_no_window(behind: float, which: str) -> None:
    hub = TRUE - behind * 3600
    readings = Readings(hub, hub if which == "both" else TRUE, TRUE)
    now, *also = (dt.datetime.fromtimestamp(one, dt.UTC) for one in clocks.moments(readings, SKEW))
    near = race(NOW + HOUR, NOW - 10 * dt.timedelta(minutes=1))
    assert [found.race_id for found in watch_pace.select_watched_races([near], now, SETTINGS, also=also)] == [10]
    (visit,) = cadence.due([FleetPartner(1, "1-acme", NOW, failed=False)], [near], now, EVERY, also=also)
    assert visit.tier == "window" and visit.race_ids == (10,)


@pytest.mark.parametrize("ahead", [5, 24, 24 * 20])
@pytest.mark.parametrize("which", ["hub", "both"])
def test_a_hub_whose_clock_is_ahead_does_not_take_a_race_for_over(ahead: float, which: str) -> None:
    hub = TRUE + ahead * 3600
    readings = Readings(hub, hub if which == "both" else TRUE, TRUE)
    now, *also = (dt.datetime.fromtimestamp(one, dt.UTC) for one in clocks.moments(readings, SKEW))
    begun = race(NOW - HOUR, NOW)
    assert watch_pace.select_watched_races([begun], now, SETTINGS, also=also)
    event = StoredEvent(1, 10, "Run", "5K", NOW - HOUR, NOW + 5 * HOUR, False, False, False, True)
    (planned,) = read_plan.plan_reads([event], {1: cursor(NOW - HOUR / 2)}, now, also=also).events
    assert planned.tier == "window"


def test_a_try_that_is_dated_in_the_future_is_no_try() -> None:
    listed = FleetPartner(1, "1-acme", NOW + 10 * HOUR, failed=False)
    far = race(NOW + 60 * HOUR, NOW + 10 * HOUR)
    (visit,) = cadence.due([listed], [far], NOW, EVERY)
    assert visit.relist and visit.race_ids == (10,)
    assert cadence.due([FleetPartner(1, "1-acme", NOW, False)], [race(NOW + 60 * HOUR, NOW)], NOW, EVERY) == []


def test_disagreeing_clocks_do_not_have_everything_read_at_every_tick() -> None:
    """Stamps are by one of the clocks, and have their age by that one."""
    far = race(NOW + 20 * 24 * HOUR, NOW)
    listed = FleetPartner(1, "1-acme", NOW, failed=False)
    for other in (NOW + 30 * HOUR, NOW + 15 * 24 * HOUR):
        assert cadence.due([listed], [far], NOW, EVERY, also=[other]) == []
    for other in (NOW - 30 * HOUR, NOW - 15 * 24 * HOUR):
        assert cadence.due([listed], [far], other, EVERY, also=[NOW]) == []


def test_a_final_read_dated_in_the_future_is_none() -> None:
    start, end = NOW - 40 * HOUR, NOW - 34 * HOUR
    assert cadence.closing_read(start, end, NOW - HOUR, NOW) is None
    assert cadence.closing_read(start, end, NOW + HOUR, NOW) == (
        "final read, since the last one is dated in the future"
    )


def cursor(full: dt.datetime) -> EventCursor:
    return EventCursor(1, int(full.timestamp()), int(full.timestamp()), full, full, None, 10)


# What is reported of clocks that differ.


@pytest.mark.parametrize(
    ("base", "theirs", "machine", "says"),
    [
        (0.0, 0.0, None, ""),
        (100.0, -10.0, None, ""),
        (5.0, None, None, ""),
        (-7200.0, -7201.0, "web-1", "The clock of the hub on web-1 is 2.0 h ahead of RunSignup's and the database's"),
        (
            250000.0,
            1.0,
            "database",
            "The database's clock is 2.9 days ahead of RunSignup's and that of the hub on web-1",
        ),
        (1.0, 600.0, "web-1 and database", "The clocks of the hub on web-1 and of the database are 10.0 min behind"),
        (-600.0, None, "web-1 or database", "The clock of the hub on web-1 is 10.0 min ahead of the database's"),
        (-600.0, 600.0, "web-1 and database", "and the database's is 20.0 min behind it."),
    ],
)
def test_the_clock_that_is_wrong_is_named(base: float, theirs: float | None, machine: str | None, says: str) -> None:
    found = clocks.disagreement(HubClock("web-1", NOW, theirs, base), SKEW)
    assert (found.machine if found else None) == machine
    assert found is None or (says in found.sentence and found.sentence.endswith("Set the clock right, best by NTP."))


def test_a_read_that_is_dated_in_the_future_is_not_fresh() -> None:
    item = EventRead(1, "1-acme", 1, 10, 1, NOW + 20 * HOUR, None, NOW + 3 * HOUR, NOW - 9 * HOUR, 10, needs_full=False)
    (found,) = forecast.measure_freshness([item], NOW, EVERY)
    assert found.is_stale and found.age == 9 * HOUR
    (found,) = forecast.measure_freshness([replace(item, read_at=NOW)], NOW, EVERY)
    assert not found.is_stale
