"""The race-day watch: pure choices, and real polls of a RunSignup in its own process."""

import datetime as dt
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.settings import load_settings
from rsu_pipeline.sync import partner_sync, watch, watch_pace
from rsu_pipeline.sync.read_plan import Plan
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.sync.watch import Watch
from rsu_pipeline.sync.watch_pace import WatchedRace
from rsu_pipeline.warehouse import call_ledger, database, race_locks
from rsu_pipeline.warehouse.fleet import FleetRace
from rsu_pipeline_tests.hub import Hub

MakeHub = Callable[..., Hub]
SETTINGS = load_settings({})


def races(*partners: int, is_small: bool = False) -> list[WatchedRace]:
    calls = watch_pace.calls_per_poll(is_small, removed_every=6, refreshes_per_poll=1 / 15)
    return [
        WatchedRace(partner, f"{partner}-acme", partner, number, is_small, calls)
        for number, partner in enumerate(partners, start=1)
    ]


def interval(fleet: list[WatchedRace], calls_per_hour: int = 1000, target: float = 20, in_flight: int = 2) -> float:
    return watch_pace.poll_interval(fleet, 1, target=target, calls_per_hour=calls_per_hour, in_flight=in_flight)


def test_thirteen_partners_with_three_races_each_are_looked_at_within_thirty_seconds() -> None:
    fleet = [number for number in range(1, 14) for _ in range(3)]
    assert interval(races(*fleet, is_small=True)) <= 30
    # Large ones too, but for the slowest calls that were ever seen.
    assert (
        watch_pace.poll_interval(races(*fleet), 1, target=20, calls_per_hour=1000, in_flight=2, call_seconds=1.2) <= 30
    )


def test_a_single_race_is_looked_at_at_the_target() -> None:
    assert interval(races(1)) == 20


@given(
    small=st.integers(0, 40),
    large=st.integers(0, 40),
    others=st.integers(0, 200),
    calls=st.integers(50, 2000),
    target=st.floats(1, 60),
)
def test_the_interval_never_outspends_the_hour(small: int, large: int, others: int, calls: int, target: float) -> None:
    fleet = races(*[1] * small, is_small=True) + races(*[1] * large, *range(2, 2 + others))
    seconds = interval(fleet, calls, target)
    assert (small * (1 + 1 / 15) + large * (1 + 1 / 6 + 1 / 15)) * 3600 / seconds <= calls * 0.9 + 1e-6
    assert seconds >= target


def test_small_races_are_polled_more_often_with_the_same_calls() -> None:
    assert interval(races(*[1] * 60, is_small=True)) == pytest.approx(
        interval(races(*[1] * 60)) * (1 + 1 / 15) / (1 + 1 / 6 + 1 / 15)
    )


def test_partners_with_one_api_key_are_polled_within_its_calls() -> None:
    apart = races(*[1] * 20, *[2] * 20)
    shared = [replace(race, call_budget_id=1) for race in apart]
    assert interval(apart, calls_per_hour=100) == interval(races(*[1] * 20), calls_per_hour=100)
    assert interval(shared, calls_per_hour=100) == interval(races(*[1] * 40), calls_per_hour=100)


def test_partners_with_one_api_key_are_in_one_shard() -> None:
    now = dt.datetime.now(dt.UTC)
    # The numbers of two API keys, and of a partner whose API key is not known yet.
    fleet = [
        FleetRace(partner, str(partner), budget, partner, ((now, None),), (None,), False)
        for partner, budget in ((1, 7), (2, 7), (3, 8), (4, -4))
    ]
    found = [
        {race.partner_id for race in watch_pace.select_watched_races(fleet, now, SETTINGS, shard=shard, shards=2)}
        for shard in range(2)
    ]
    assert found == [{3, 4}, {1, 2}]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.data())
def test_the_race_due_first_is_next_and_one_being_polled_never(partners: list[int], data: st.DataObject) -> None:
    fleet = races(*partners)
    due_at = {(race.partner_id, race.race_id): data.draw(st.floats(0, 100)) for race in fleet}
    busy = data.draw(st.sets(st.sampled_from(sorted(due_at))))
    now = data.draw(st.floats(0, 100))
    found = watch_pace.next_poll(fleet, due_at, busy, now)
    free = [race for race in fleet if race.number not in busy]
    if not free:
        assert found is None
        return
    assert found is not None
    race, moment = found
    due = [one for one in free if due_at[one.number] <= now]
    # Of those that are due, the ones of partners that nobody polls come first.
    alone = [one for one in due if one.partner_id not in {partner for partner, _ in busy}]
    candidates = alone or due or free
    assert race in candidates and moment == min(due_at[one.number] for one in candidates)


def test_every_partner_is_in_exactly_one_shard(make_hub: MakeHub) -> None:
    now = dt.datetime.now(dt.UTC)
    fleet = [FleetRace(number, str(number), number, number, ((now, None),), (None,), False) for number in range(1, 30)]
    found = [
        race.partner_id
        for shard in range(4)
        for race in watch_pace.select_watched_races(fleet, now, SETTINGS, shard=shard, shards=4)
    ]
    assert sorted(found) == list(range(1, 30))


SPEC = {"partners": 3, "races_per_partner": 2, "events_per_race": 1, "registrations_per_event": 15, "start_in_hours": 2}


def watching(hub: Hub) -> Watch:
    return Watch(hub.url, hub.secret_box, hub.settings, run_id="watch", log=lambda line: None)


def test_a_slice_goes_on_with_the_calls_that_the_one_before_it_measured(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment |= {"RSU_WATCH_INTERVAL": "1"}
    for partner in hub.partners:
        hub.sync(partner)
    assert interval(races(1, 1, 2, 2, 3, 3), target=1) > 4, "six races, were a call to take what is feared"
    looks = sum(done.looks for done in watching(hub).run(3.5).values())
    assert looks >= 12, "at least two of each"


def test_calls_of_long_ago_or_that_failed_say_nothing_of_how_long_one_takes(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=7)

    def usual() -> float | None:
        with database.session(hub.url, purpose="tests") as conn:
            return call_ledger.measure_usual_call_seconds(conn)

    def call(endpoint: str, began: str, seconds: int, error: str | None = None) -> None:
        hub.execute(
            "INSERT INTO api_calls (credential_id, lane, endpoint, granted_at, settled_at, error)"
            " SELECT 1, 'race_day', %s, began, began + make_interval(secs => %s), %s"
            " FROM (SELECT now() - %s::interval AS began) b",
            endpoint, seconds, error, began,
        )  # fmt: skip

    call("participants", "16 minutes", 9)
    call("participants", "1 minute", 9, "timeout")
    call("races", "1 minute", 9)
    assert usual() is None
    call("participants", "2 minutes", 1)
    call("removed-participants", "1 minute", 2)
    assert usual() == 1.5


def test_a_bib_given_out_while_watching_is_in_the_table_and_the_log_within_a_look(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment |= {"RSU_WATCH_INTERVAL": "1", "RSU_WATCH_REMOVED_EVERY": "2"}
    for partner in hub.partners:
        hub.sync(partner)
    admin = hub.sandbox.admin
    keys = {partner: min(hub.truth(partner)) for partner in hub.partners}
    gone = sorted(hub.truth(1))[1]

    def morning() -> None:
        time.sleep(1.5)
        for partner, key in keys.items():
            admin.bib(key, 500 + partner)
        admin.remove(gone, "cleared")
        while hub.stored(1)[keys[1]]["bib_num"] != "501" and thread.is_alive():
            time.sleep(0.1)
        admin.bib(keys[1], 600)

    thread = threading.Thread(target=morning)
    thread.start()
    done = watching(hub).run(15)
    thread.join()
    for partner, key in keys.items():
        assert hub.stored(partner)[key]["bib_num"] == (str(500 + partner) if partner > 1 else "600")
        hub.assert_equal(partner)
        hub.assert_bib_log_replays(partner)
    hub.assert_removals(1)
    assert {key: item.counts.bib_changes for key, item in done.items()} == {
        hub.partners[1]: 2,
        hub.partners[2]: 1,
        hub.partners[3]: 1,
    }
    assert all(not item.trouble for item in done.values())
    assert hub.value("SELECT max(extract(epoch FROM recorded_at) - modified_epoch) FROM runsignup_bib_changes") < 8
    assert admin.stats()["violations"] == 0 and admin.stats()["max_in_flight"] <= 2
    # Polls that find nothing leave no row in the history.
    rows = hub.value("SELECT count(*) FROM sync_history WHERE run_id = 'watch'")
    assert rows < sum(item.looks for item in done.values()) / 2


def test_the_watch_ends_when_no_race_is_in_its_window(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": 100}, seed=7)
    hub.sync(1)
    started = time.monotonic()
    assert watching(hub).run(60) == {}
    assert time.monotonic() - started < 30


def test_a_race_is_read_in_full_when_it_enters_its_window_and_once_just_before_its_start(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"partners": 1, "races_per_partner": 1, "start_in_hours": 5}, seed=7)
    admin = hub.sandbox.admin
    admin.clock(rate=0)
    hub.sync()
    reasons = []
    for hours in (1.1, 0.5, 3.0, 0.3, 0.2, 0.1):  # 3.9, 3.4, 0.4 and 0.1 h before; then 6 min after its start
        admin.clock(advance=hours * 3600)
        with hub.partner_session() as session:
            plan = watch.plan_poll(session, next(iter(hub.truth().values()))["race_id"])
            partner_sync.sync_participants(session, plan, with_removed=False, quiet=True)
        reasons += [read.reason for read in plan.reads if read.mode == "full"]
    assert reasons == ["entering the hours before its start", "just before its start"]


def test_the_watch_polls_the_other_races_while_one_hangs_in_another_sync(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"partners": 1, "races_per_partner": 3}, seed=7)
    hub.environment |= {"RSU_WATCH_INTERVAL": "1", "RSU_READ_TIMEOUT": "20", "RSU_MAX_IN_FLIGHT": "3"}
    hub.sync()
    admin = hub.sandbox.admin
    hung, *others = [race["race_id"] for race in admin.truth(1)["races"]]
    admin.fault("timeout", 1, endpoint="participants", race_id=hung, seconds=8)
    thread = threading.Thread(target=lambda: hub.sync(full=True))
    thread.start()
    until_locked(hub, hung)
    bibs = {}
    for number, race in enumerate(others, start=700):
        bibs[race] = next(row for row in admin.truth(1)["active"] if row["_race_id"] == race)["registration_id"]
        admin.bib(bibs[race], number)
    (item,) = watching(hub).run(4).values()
    assert thread.is_alive(), "the race did not hang for long enough"
    log = hub.rows("SELECT race_id, recorded_at, run_id FROM runsignup_bib_changes")
    assert {row["race_id"] for row in log} == set(others)
    assert item.looks >= 4 and item.busy >= 1 and not item.trouble
    thread.join()
    hub.assert_equal()


def until_locked(hub: Hub, race_id: int) -> None:
    deadline = time.monotonic() + 30
    with database.session(hub.url, purpose="tests") as conn:
        while race_locks.find_reader(conn, 1, race_id) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("kind", ["http_500", "unknown_shape"])
def test_trouble_with_one_race_is_told_and_gone_when_it_is_mended(make_hub: MakeHub, kind: str) -> None:
    hub = make_hub(spec=SPEC | {"partners": 1}, seed=7)
    hub.environment |= {"RSU_WATCH_INTERVAL": "1", "RSU_CALL_ATTEMPTS": "1"}
    hub.sync()
    broken = min(row["race_id"] for row in hub.truth().values())
    fault = hub.sandbox.admin.fault(kind, 0, endpoint="participants", race_id=broken)
    assert fault
    (item,) = watching(hub).run(2.5).values()
    assert list(item.trouble) == [broken] and item.looks >= 2
    hub.sandbox.admin.clear_faults()
    (item,) = watching(hub).run(2.5).values()
    assert item.trouble == {}
    hub.assert_equal()


def test_a_bug_that_meets_one_race_leaves_the_others_watched_and_is_raised_at_the_end(
    make_hub: MakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_WATCH_INTERVAL"] = "1"
    for partner in hub.partners:
        hub.sync(partner)
    unlucky = min(row["race_id"] for row in hub.truth(1).values())
    plan_poll = watch.plan_poll

    def buggy(session: PartnerSession, race_id: int, **how: bool) -> Plan:
        if race_id == unlucky:
            raise ZeroDivisionError("invented")
        return plan_poll(session, race_id, **how)

    monkeypatch.setattr(watch, "plan_poll", buggy)
    key = min(hub.truth(3))
    hub.sandbox.admin.bib(key, 77)
    with pytest.raises(ZeroDivisionError, match="invented"):
        watching(hub).run(4)
    assert hub.stored(3)[key]["bib_num"] == "77"


def test_a_sync_waits_for_a_look_of_the_watch_instead_of_failing(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"partners": 1}, seed=7)
    hub.environment["RSU_WATCH_INTERVAL"] = "1"
    hub.sync()
    hub.sandbox.admin.switch(latency_ms=700)
    thread = threading.Thread(target=lambda: watching(hub).run(6))
    thread.start()
    time.sleep(0.7)
    for _ in range(3):
        assert not hub.sync().failures
    thread.join()
