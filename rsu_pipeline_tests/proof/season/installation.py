"""What an installation does by itself, in simulated time and by the product's own decisions.

And what an operator may ask.

Dagster is left out: its schedules and sensors only turn these decisions into runs (see orchestration.schedules, sensors and
batch), which tests of their own cover.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from psycopg2.extensions import connection as Connection

from rsu_pipeline.runsignup.api_errors import ApiError
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync import cadence, history, listing, partner_sync
from rsu_pipeline.sync.clocks import Clock, Present
from rsu_pipeline.sync.session import Clients, CredentialRejected, PartnerSession, partner_session_on
from rsu_pipeline.sync.sync_outcome import SyncOutcome
from rsu_pipeline.sync.watch import Watch
from rsu_pipeline.sync.watch_pace import select_watched_races
from rsu_pipeline.warehouse import backfill_state, call_ledger, cursors, database, fleet
from rsu_pipeline.warehouse.credentials import PartnerError
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.proof.season.clocks import Clocks

FORESEEN = (ApiError, CredentialRejected, PartnerError)
"""Failures that a run reports and the next one mends."""
PROXIMITY_EVERY = dt.timedelta(minutes=5)
FLOOR = 1
"""Removals that are allowed whatever their share. In these small worlds the usual number would allow nearly all."""
PAUSE_SECONDS = 5.0
"""How far time goes on while the watch waits for its next poll."""


class Installation:
    """The work of one hub for some partners, over sessions that are kept for a while."""

    def __init__(self, hub: Hub, clocks: Clocks, *, run_id: str = "season", removals_floor: int = FLOOR) -> None:
        self._hub = hub
        self._clocks = clocks
        self._run_id = run_id
        settings = hub.settings
        self._settings: Settings = replace(settings, sync=replace(settings.sync, mass_removal_floor=removals_floor))
        self._clock = Clock(
            self._settings.sync.max_clock_skew,
            hub=clocks.hub_now,
            database=clocks.database_now,
            monotonic=lambda: clocks.time,
        )
        self._open: dict[str, tuple[Connection, Connection, Clients]] = {}

    def close(self) -> None:
        """End the sessions."""
        for conn, ledger_conn, clients in self._open.values():
            clients.close()
            ledger_conn.close()
            conn.close()
        self._open.clear()

    def __enter__(self) -> "Installation":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The schedules.

    def nightly(self) -> None:
        """Visit every partner with its listing, as the schedule nightly does."""
        with self._control() as conn:
            present = self._present(conn)
            keys = [partner.key for partner in fleet.select_partners_to_sync(conn, present.now, present.also)]
        for key in keys:
            self._visit(key, race_ids=None, relist=True)

    def proximity(self) -> None:
        """Visit what is due, as the schedule race_proximity does."""
        with self._control() as conn:
            present = self._present(conn)
            partners = fleet.select_partners_to_sync(conn, present.now, present.also)
            races = fleet.select_races_to_read(conn, present.now, present.also)
        every = self._settings.cadence
        for visit in cadence.due(partners, races, present.now, every, early=PROXIMITY_EVERY / 2, also=present.also):
            self._visit(visit.key, race_ids=list(visit.race_ids), relist=visit.relist)

    def watch(self, seconds: float) -> None:
        """Watch the races in their window for this number of seconds, as the sensor race_day does."""
        with self._control() as conn:
            present = self._present(conn)
            races = fleet.select_races_to_read(conn, present.now, present.also)
            if not select_watched_races(races, present.now, self._settings, also=present.also):
                return
        Watch(
            self._hub.url,
            self._hub.secret_box,
            self._settings,
            run_id=self._run_id,
            log=lambda line: None,
            now=self._clocks.hub_now,
            database_now=self._clocks.database_now,
            clock=lambda: self._clocks.time,
            pause=lambda _: self._clocks.advance(PAUSE_SECONDS),
        ).run(seconds)

    def go_on_with_backfills(self) -> None:
        """Read a slice of each backfill that waits for one, as the sensor history has it done."""
        with self._control() as conn:
            waiting = backfill_state.list_waiting_requests(conn, self._clocks.hub_now())
        for key in waiting:
            with suppress(*FORESEEN), self._partner_session(key, lane="backfill") as session:
                history.run_slice(session, 1e6)

    # The operator.

    def request_backfill(self, key: str) -> None:
        """Request a partner's past editions, unless that was done before."""
        with self._control() as conn:
            partner_id = int(key.split("-")[0])
            if backfill_state.get_request(conn, partner_id) is None:
                backfill_state.request_backfill(conn, partner_id)
                conn.commit()

    def sync(
        self, key: str, *, race_ids: Sequence[int] = (), full: bool = False, confirm_removals: bool = False
    ) -> SyncOutcome | None:
        """Run job sync_partner, as `rsu sync` and the UI do. The result is None when it failed."""
        with suppress(*FORESEEN), self._partner_session(key) as session:
            listing.refresh_events(session, show_end=True)
            plan = partner_sync.make_plan(session, force_full=full, race_ids=race_ids)
            return partner_sync.sync_participants(session, plan, confirm_removals=confirm_removals)
        return None

    def confirm_pending_removals(self, keys: Sequence[str]) -> None:
        """Confirm what the hub asks to be confirmed, and nothing else."""
        for key in keys:
            with self._control() as conn, conn.cursor() as cur:
                cur.execute(
                    "SELECT DISTINCT race_id FROM event_cursors JOIN future_events USING (timing_partner_id, event_id, race_id)"
                    " WHERE timing_partner_id = %s AND needs_full = %s",
                    (int(key.split("-")[0]), cursors.REMOVALS_PENDING),
                )
                race_ids = [race_id for (race_id,) in cur.fetchall()]
            if race_ids:
                self.sync(key, race_ids=race_ids, confirm_removals=True)

    # How.

    def _present(self, conn: Connection) -> Present:
        self._clock.compare(conn)
        return self._clock.present()

    def _visit(self, key: str, *, race_ids: Sequence[int] | None, relist: bool) -> None:
        with suppress(*FORESEEN), self._partner_session(key) as session:
            partner_sync.sync_partner(session, race_ids=race_ids, relist=relist)

    @contextmanager
    def _control(self) -> Iterator[Connection]:
        conn = self._sessions("routine")[0]
        try:
            yield conn
        finally:
            if not conn.closed:
                conn.rollback()

    @contextmanager
    def _partner_session(self, key: str, *, lane: call_ledger.Lane = "routine") -> Iterator[PartnerSession]:
        conn, _, clients = self._sessions(lane)
        with partner_session_on(
            conn,
            clients,
            self._hub.secret_box,
            self._settings,
            key,
            run_id=self._run_id,
            log=lambda line: None,
            clock=self._clock,
        ) as session:
            yield session

    def _sessions(self, lane: call_ledger.Lane) -> tuple[Connection, Connection, Clients]:
        if lane not in self._open:
            conn = database.connect(self._hub.url, purpose=f"sync {self._run_id}")
            ledger_conn = database.connect(self._hub.url, purpose=f"ledger {self._run_id}")
            self._open[lane] = (conn, ledger_conn, Clients(self._settings, ledger_conn, lane, self._clock.hear))
        return self._open[lane]


def one_of(installation: Installation, work: str, key: str) -> Callable[[], object]:
    """Return a piece of work by its name."""
    return {
        "nightly": installation.nightly,
        "proximity": installation.proximity,
        "watch": lambda: installation.watch(25),
        "backfill": installation.go_on_with_backfills,
        "sync": lambda: installation.sync(key),
        "full sync": lambda: installation.sync(key, full=True),
    }[work]
