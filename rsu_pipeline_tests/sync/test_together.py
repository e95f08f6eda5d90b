"""Race day, the nightly sync and a backfill at the same time, of the same partners: none starves another."""

import threading
import time
from collections.abc import Callable

from rsu_pipeline.sync import history, listing, partner_sync
from rsu_pipeline.sync.history import Slice
from rsu_pipeline.sync.sync_outcome import SyncOutcome
from rsu_pipeline.sync.watch import PartnerWatched, Watch
from rsu_pipeline.warehouse import backfill_state
from rsu_pipeline_tests.hub import Hub

SPEC = {"partners": 3, "races_per_partner": 3, "events_per_race": 1, "registrations_per_event": 12, "start_in_hours": 2}


class Together:
    """All three at work in threads of their own, each on sessions of its own, as the three runs are."""

    def __init__(self, hub: Hub, seconds: float) -> None:
        self.hub = hub
        self.watched: dict[str, PartnerWatched] = {}
        self.nightly: dict[int, list[SyncOutcome]] = {partner: [] for partner in hub.partners}
        self.history: dict[int, list[Slice]] = {partner: [] for partner in hub.partners}
        self.until = time.monotonic() + seconds
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,))
            for work in (lambda: self._watch(seconds), self._nightly, self._backfill)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        for thread in self._threads:
            thread.join()
        assert self._errors == []

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._errors.append(error)

    def _watch(self, seconds: float) -> None:
        hub = self.hub
        self.watched = Watch(hub.url, hub.secret_box, hub.settings, run_id="watch", log=lambda line: None).run(seconds)

    def _nightly(self) -> None:
        """Read every future event of every partner in full, over and over, as no night does."""
        while time.monotonic() < self.until:
            for partner in self.hub.partners:
                with self.hub.partner_session(partner, run_id="nightly") as session:
                    listing.refresh_events(session)
                    self.nightly[partner].append(
                        partner_sync.sync_participants(session, partner_sync.make_plan(session, force_full=True))
                    )

    def _backfill(self) -> None:
        """Backfill over and over: as soon as one is complete the next is requested."""
        while time.monotonic() < self.until:
            for partner in self.hub.partners:
                with self.hub.partner_session(partner, lane="backfill", run_id="backfill") as session:
                    finished = self.history[partner] and self.history[partner][-1].finished
                    if finished or not self.history[partner]:
                        backfill_state.request_backfill(session.conn, session.partner_id, reload=bool(finished))
                        session.conn.commit()
                    self.history[partner].append(history.run_slice(session, 2.0))


def with_past(hub: Hub) -> None:
    admin = hub.sandbox.admin
    for partner in hub.partners:
        for race in admin.truth(partner)["races"]:
            for years in (1, 2):
                event_id = admin.add_event(
                    race["race_id"], f"{years} years ago", start_in_hours=-8736 * years, race_event_days_id=7000 + years
                )
                admin.register(event_id, {"bib_num": 3}, count=12)
        hub.sync(partner)


def test_race_day_nightly_and_backfill_at_once_starve_nobody_and_hold_up_no_bib(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment |= {"RSU_WATCH_INTERVAL": "2", "RSU_PAGE_SIZE": "10"}
    with_past(hub)
    admin = hub.sandbox.admin
    admin.switch(latency_ms=60)
    admin.reset_stats()
    together = Together(hub, 24)
    runners = [(partner, key) for partner in hub.partners for key in sorted(hub.truth(partner))[:4]]
    for number, (_, key) in enumerate(runners, start=700):
        admin.bib(key, number)
        time.sleep(1)
    together.end()

    # Every bib was noticed by the first to read, and soon, though two others locked the partners in turn.
    log = hub.rows("SELECT extract(epoch FROM recorded_at) - modified_epoch AS wait FROM runsignup_bib_changes")
    waits = [float(row["wait"]) for row in log]
    assert len(waits) == len(runners) and max(waits) < 12, sorted(waits)
    assert all(item.looks >= 6 and not item.trouble for item in together.watched.values()), together.watched
    assert len(together.watched) == 3
    # Neither of the others was starved, and neither failed.
    for partner in hub.partners:
        assert together.nightly[partner] and not any(one.failures for one in together.nightly[partner])
        assert any(one.finished for one in together.history[partner]), together.history[partner]
        assert not any(one.problems for one in together.history[partner])
        hub.assert_equal(partner, past_too=True)
        hub.assert_bib_log_replays(partner)
    stats = admin.stats()
    assert stats["violations"] == 0 and stats["max_in_flight"] <= 2


def test_when_calls_run_short_history_stops_first_and_race_day_last(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC | {"partners": 1}, seed=7)
    hub.environment |= {"RSU_WATCH_INTERVAL": "1", "RSU_PAGE_SIZE": "5"}
    with_past(hub)
    used = hub.value("SELECT count(*) FROM api_calls")
    # Of what is left of the hour, history may have little, the nightly sync some, race day all.
    hub.environment["RSU_CALLS_PER_HOUR"] = str(used + 35)
    assert hub.history(1).out_of_budget is not None
    after_history = hub.value("SELECT count(*) FROM api_calls")
    outcome = hub.sync(1)
    assert not outcome.failures and outcome.out_of_budget is None
    done = Watch(hub.url, hub.secret_box, hub.settings, run_id="watch", log=lambda line: None).run(4)
    (item,) = done.values()
    # With so few calls an hour each race has its first poll, and the next in minutes.
    assert item.looks == 3 and not item.trouble
    assert after_history < hub.value("SELECT count(*) FROM api_calls") <= used + 35
    with hub.partner_session(1, lane="backfill") as session:
        assert session.ledger.left() == 0
