"""Several syncs of one partner at once share its races."""

import threading
import time
from collections.abc import Callable

import pytest

from rsu_pipeline.sync import history, listing, partner_sync, sharing
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.sync.sync_outcome import SyncOutcome
from rsu_pipeline.warehouse import backfill_state, database, race_locks
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(races=4, registrations=5)


class Sync:
    """A sync of the partner in a thread of its own."""

    def __init__(self, hub: Hub, *, run_id: str = "test", until: threading.Barrier | None = None) -> None:
        self._hub = hub
        self._run_id = run_id
        self._until = until
        self._outcome: SyncOutcome | BaseException | None = None
        self.lines: list[str] = []
        self.listing: listing.EventsOutcome | None = None
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        try:
            with self._hub.partner_session(run_id=self._run_id) as session:
                session.log = self.lines.append
                if self._until:
                    self._until.wait(30)
                self.listing = listing.refresh_events(session)
                self._outcome = partner_sync.sync_participants(
                    session, partner_sync.make_plan(session, force_full=True)
                )
        except BaseException as error:
            self._outcome = error

    def outcome(self) -> SyncOutcome:
        self.thread.join()
        assert isinstance(self._outcome, SyncOutcome), self._outcome
        return self._outcome


def calls(hub: Hub, race_id: int | None = None) -> int:
    """Return calls about registrations, of all races or of one."""
    return int(
        hub.value(
            "SELECT count(*) FROM api_calls WHERE endpoint = 'participants' AND coalesce(%s, race_id) = race_id",
            race_id,
        )
    )


def races_of(hub: Hub) -> list[int]:
    return [race["race_id"] for race in hub.sandbox.admin.truth(1)["races"]]


def full_read(session: PartnerSession) -> SyncOutcome:
    return partner_sync.sync_participants(session, partner_sync.make_plan(session, force_full=True))


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_read(hub: Hub, race_id: int) -> bool:
    with database.session(hub.url, purpose="tests") as conn:
        return race_locks.find_reader(conn, 1, race_id) is not None


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    made = make_hub(spec=SPEC, seed=7)
    made.environment["RSU_MAX_IN_FLIGHT"] = "2"
    return made


def test_two_syncs_of_one_partner_at_once_share_its_races_and_make_the_calls_of_one(hub: Hub) -> None:
    hub.sync(full=True)
    admin = hub.sandbox.admin
    admin.reset_stats()
    hub.sync(full=True)
    alone = admin.stats()["calls"]
    admin.switch(latency_ms=200)
    admin.reset_stats()
    both = threading.Barrier(2)
    first, second = Sync(hub, until=both), Sync(hub, until=both)
    outcomes = first.outcome(), second.outcome()
    assert not any(outcome.failures or outcome.elsewhere for outcome in outcomes)
    assert sum(len(outcome.reads) for outcome in outcomes) == sum(len(outcome.shared) for outcome in outcomes) == 4
    assert all(outcome.reads for outcome in outcomes), "one of them did all of the work"
    assert admin.stats()["calls"] == alone
    listed = [sync.listing.elsewhere for sync in (first, second) if sync.listing]
    assert sorted(map(bool, listed)) == [False, True]
    hub.assert_equal()


def test_a_race_whose_read_began_before_the_request_is_read_again(hub: Hub) -> None:
    hub.sync(full=True)
    race = races_of(hub)[0]
    before = calls(hub, race)
    hub.sandbox.admin.fault("timeout", 1, endpoint="participants", race_id=race, seconds=3)
    hub.environment["RSU_READ_TIMEOUT"] = "20"
    first = Sync(hub)
    until(lambda: is_read(hub, race))
    second = Sync(hub)
    found = second.outcome()
    assert not first.outcome().failures and not found.failures
    assert race in {result.read.race_id for result in found.reads} and race not in found.shared
    # The call that hung, and two reads of a page and of the empty one after it.
    assert calls(hub, race) - before == 5
    assert any(f"race {race} of partner 1 is being read by 'rsu sync test" in line for line in second.lines)
    hub.assert_equal()


def test_one_race_that_hangs_keeps_no_other_race_waiting(hub: Hub) -> None:
    hub.sync(full=True)
    hung, *others = races_of(hub)
    hub.sandbox.admin.fault("timeout", 1, endpoint="participants", race_id=hung, seconds=6)
    hub.environment["RSU_READ_TIMEOUT"] = "20"
    first = Sync(hub, run_id="first")
    until(lambda: is_read(hub, hung))
    began = time.monotonic()
    second = Sync(hub, run_id="second")
    read = "SELECT count(DISTINCT race_id) FROM sync_history WHERE run_id = 'second' AND race_id IS NOT NULL"
    until(lambda: hub.value(read) == len(others))
    assert time.monotonic() - began < 5 and is_read(hub, hung)
    assert not first.outcome().failures and not second.outcome().failures
    hub.assert_equal()


def test_a_reader_that_stores_nothing_is_named_and_the_sync_ends_well(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.sync(full=True)
    race, *others = races_of(hub)
    monkeypatch.setattr(sharing, "MAX_STALL_SECONDS", 1.0)
    with (
        database.session(hub.url, purpose="sync hung") as conn,
        race_locks.race_lock(conn, 1, race),
        hub.partner_session() as session,
    ):
        outcome = full_read(session)
    assert not outcome.failures and {result.read.race_id for result in outcome.reads} == set(others)
    (sentence,) = outcome.elsewhere.values()
    assert sentence.startswith(f"race {race} of partner 1 is being read by 'rsu sync hung ")
    assert sentence.endswith("UTC, which has stored nothing for 1 s: it is left to that sync")


def test_a_reader_that_makes_progress_is_waited_for_however_long_it_takes() -> None:
    stalls = sharing.Stalls(10.0)
    assert not any(stalls.is_over(7, ("page", page), 9.0 * page) for page in range(100))
    assert not stalls.is_over(7, ("page", 99), 900.0)
    assert stalls.is_over(7, ("page", 99), 901.0)
    assert not stalls.is_over(8, None, 5000.0)
    assert sharing.Stalls(0.0).is_over(7, None, 1.0), "a poll only tries"


def test_a_sync_reads_again_what_it_read_itself(hub: Hub) -> None:
    with hub.partner_session() as session:
        listing.refresh_events(session)
        assert len(full_read(session).reads) == 4
        again = full_read(session)
        assert len(again.reads) == 4 and not again.shared
        assert listing.refresh_events(session).elsewhere is None


@pytest.mark.parametrize("kind", ["incremental", "confirmed"])
def test_a_read_that_is_less_than_was_requested_does_not_count(hub: Hub, kind: str) -> None:
    hub.sync(full=True)
    with hub.partner_session() as session:
        hub.sync(full=kind == "confirmed")
        # Begun after the request, but not in full; or in full, but without the removals that a person confirmed.
        plan = partner_sync.make_plan(session, force_full=True)
        outcome = partner_sync.sync_participants(session, plan, confirm_removals=kind == "confirmed")
    assert len(outcome.reads) == 4 and not outcome.shared


def test_a_full_read_counts_for_a_sync_that_wants_changes(hub: Hub) -> None:
    hub.sync(full=True)
    with hub.partner_session() as session:
        hub.sync(full=True)
        outcome = partner_sync.sync_participants(session, partner_sync.make_plan(session))
    assert outcome.shared == set(races_of(hub)) and not outcome.reads and outcome.calls == 0
    assert outcome.has_read


def test_two_slices_of_one_backfill_share_its_races(hub: Hub) -> None:
    admin = hub.sandbox.admin
    for race in races_of(hub):
        admin.register(admin.add_event(race, "Last year", start_in_hours=-8736, race_event_days_id=7001), count=5)
    hub.sync()
    with hub.partner_session() as session:
        backfill_state.request_backfill(session.conn, 1)
        session.conn.commit()
        history._refresh_listing(session)
    admin.switch(latency_ms=200)
    before = calls(hub)
    done: list[history.Slice] = []
    threads = [threading.Thread(target=lambda: done.append(hub.history(ask=False))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2 and not any(one.problems for one in done) and sum(one.races for one in done) == 4
    # A page and the empty one after it, of each race once.
    assert calls(hub) - before == 8
    hub.assert_equal(past_too=True)


def test_what_is_requested_again_is_read_again_though_a_slice_is_at_work(hub: Hub) -> None:
    admin = hub.sandbox.admin
    race = races_of(hub)[0]
    admin.register(admin.add_event(race, "Last year", start_in_hours=-8736, race_event_days_id=7001), count=5)
    hub.sync()
    admin.fault("timeout", 1, endpoint="participants", race_id=race, seconds=3)
    hub.environment["RSU_READ_TIMEOUT"] = "20"
    thread = threading.Thread(target=hub.history)
    thread.start()
    until(lambda: is_read(hub, race))
    with hub.partner_session() as session:
        backfill_state.request_backfill(session.conn, 1, reload=True)
        session.conn.commit()
    thread.join()
    progress = hub.history_progress()
    assert (progress.settled, progress.events) == (0, 1), "a read begun before the request counts"
    assert hub.history(ask=False).finished
    hub.assert_equal(past_too=True)
