"""The race-day watch: polls races in their window in turn, at the shortest interval that budget and calls in flight allow.

What it finds is stored at once by the same engine as every sync. The pure functions of `watch_pace` decide how often to poll
and what to poll next, and `Watch` is the thin shell around them.
"""

import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace

from psycopg2.extensions import connection as Connection

from rsu_pipeline import cancellation
from rsu_pipeline.display import counted
from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline.settings import Settings
from rsu_pipeline.start_lists.start_list_store import RebuildFailed
from rsu_pipeline.sync import event_refresh, partner_sync, start_list_rebuild
from rsu_pipeline.sync.clocks import Clock
from rsu_pipeline.sync.poll_plan import plan_poll
from rsu_pipeline.sync.read_plan import Plan
from rsu_pipeline.sync.session import Clients, CredentialRejected, PartnerSession, partner_session_on
from rsu_pipeline.sync.silent_races import SilentRaces
from rsu_pipeline.sync.sync_outcome import SyncOutcome
from rsu_pipeline.sync.watch_pace import CALL_SECONDS, WatchedRace, next_poll, poll_interval, select_watched_races
from rsu_pipeline.warehouse import call_ledger, database, events, fleet
from rsu_pipeline.warehouse.credentials import PartnerError
from rsu_pipeline.warehouse.secret_box import SecretBox, SecretKeyError
from rsu_pipeline.warehouse.staging import Counts

LISTS_EVERY = 60.0
"""Seconds between two rebuilds of a partner's start lists by its polls."""
FIND_RACES_SECONDS = 15.0
"""Seconds between two queries for the races in their window."""
READ_ELSEWHERE_RETRY_SECONDS = 5.0
"""How soon a race that another sync is reading is polled again. That read may have begun before a bib was set."""


@dataclass
class PartnerWatched:
    """The result of a slice for one partner.

    `busy` counts polls that were postponed because another sync was reading the race, `trouble` has a sentence for each race whose
    last poll failed, `lacking_calls` those that only lacked a call, `lists_rebuilt` means that start lists were rebuilt.
    """

    counts: Counts = field(default_factory=Counts)
    looks: int = 0
    calls: int = 0
    busy: int = 0
    lists_rebuilt: bool = False
    trouble: dict[int, str] = field(default_factory=dict)
    lacking_calls: set[int] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Polled:
    """A poll of a race.

    `not_refreshed` is why its events could not be. Moments are seconds of the monotonic clock: `polled_at` is before the refresh.
    """

    outcome: SyncOutcome
    not_refreshed: str | None
    timed_out: bool
    slowest_answer: float
    calls: int
    began: float
    polled_at: float
    ended: float


class Watch:
    """One slice of watching. `run` returns its result, by partition key."""

    def __init__(
        self,
        url: str,
        secret_box: SecretBox,
        settings: Settings,
        *,
        run_id: str,
        log: Callable[[str], None],
        lane: call_ledger.Lane = "race_day",
        shard: int = 0,
        now: Callable[[], dt.datetime] | None = None,
        database_now: Callable[[], dt.datetime] | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = cancellation.sleep,
    ) -> None:
        self._url = url
        self._secret_box = secret_box
        self._settings = settings
        self._run_id = run_id
        self._log = log
        self._lane: call_ledger.Lane = lane
        self._shard = shard
        self._clocks = Clock(settings.sync.max_clock_skew, hub=now, database=database_now, monotonic=clock)
        self._clock = clock
        self._pause = pause
        self._guard = threading.Lock()
        self._races: list[WatchedRace] = []
        self._races_at = float("-inf")
        self._due_at: dict[tuple[int, int], float] = {}
        self._looks: Counter[tuple[int, int]] = Counter()
        self._calls_per_poll: dict[tuple[int, int], float] = {}
        self._large_read = threading.Lock()
        self._busy: set[tuple[int, int]] = set()
        self._silent = SilentRaces()
        self._done: dict[str, PartnerWatched] = {}
        self._call_seconds: float | None = None
        self._bug: Exception | None = None
        self._lists_behind: set[int] = set()
        self._lists_at: dict[int, float] = {}
        self._refreshed_at: dict[int, dt.datetime] = {}
        self._interval = settings.watch.interval

    def run(self, seconds: float) -> dict[str, PartnerWatched]:
        """Poll races for `seconds`, or until none is in its window.

        Raises:
            DatabaseError: the database cannot be used.
            Exception: a bug that affected one race, once the slice is over, because the other races are still watched.
        """
        until = self._clock() + seconds
        # One more than calls in flight: a poll that waits for a race that does not answer, or stores its result, makes no call.
        workers = self._settings.budget.max_in_flight + 1
        with ThreadPoolExecutor(max_workers=workers) as pool:
            for ended in [pool.submit(self._work, until) for _ in range(workers)]:
                ended.result()
        if self._bug is not None:
            bug, self._bug = self._bug, None
            raise bug
        return self.done

    @property
    def done(self) -> dict[str, PartnerWatched]:
        """The result so far, by partition key, also after `run` raised."""
        return self._done

    def _work(self, until: float) -> None:
        short = self._run_id[:8]
        with (
            database.session(self._url, purpose=f"watch {short}") as conn,
            database.session(self._url, purpose=f"ledger {short}") as ledger_conn,
            closing(Clients(self._settings, ledger_conn, self._lane, self._clocks.hear)) as clients,
        ):
            while self._clock() < until:
                race, wait = self._choose_race(conn)
                if race is None and wait is None:
                    return
                if race is None:
                    self._pause(min(wait or 0.0, 0.25, max(0.0, until - self._clock())))
                    continue
                try:
                    self._poll(conn, clients, race)
                finally:
                    with self._guard:
                        self._busy.discard(race.number)

    def _choose_race(self, conn: Connection) -> tuple[WatchedRace | None, float | None]:
        """Return a race to poll now, or else how many seconds to wait, or neither if no race is in its window."""
        with self._guard:
            now = self._clock()
            if now - self._races_at >= FIND_RACES_SECONDS:
                self._find_races(conn)
                self._races_at = now
            if self._call_seconds is None:
                # A slice continues with the calls of the one before.
                self._call_seconds = call_ledger.measure_usual_call_seconds(conn) or CALL_SECONDS
            if not self._races:
                return None, None
            left_out = self._silent.to_leave_out([race.number for race in self._races], self._busy, now)
            races = [race for race in self._races if race.number not in left_out]
            following = next_poll(races, self._due_at, self._busy, now)
            if following is None:
                return None, 0.05
            race, due_at = following
            if due_at > now:
                return None, due_at - now
            self._busy.add(race.number)
            self._interval = poll_interval(
                self._races,
                race.call_budget_id,
                target=self._settings.watch.interval,
                calls_per_hour=self._settings.budget.calls_per_hour,
                in_flight=self._settings.budget.max_in_flight,
                call_seconds=self._call_seconds,
            )
            self._due_at[race.number] = now + self._interval
            return race, None

    def _find_races(self, conn: Connection) -> None:
        """Query the races in their window, each with the calls that its polls take."""
        self._clocks.compare(conn)
        present = self._clocks.present()
        found = fleet.select_races_to_read(conn, present.now, present.also)
        conn.rollback()
        shards = self._settings.watch.shards
        races = select_watched_races(
            found, present.now, self._settings, shard=self._shard, shards=shards, also=present.also
        )
        self._races = [
            replace(race, calls_per_poll=self._calls_per_poll.get(race.number, race.calls_per_poll)) for race in races
        ]

    def _poll(self, conn: Connection, clients: Clients, race: WatchedRace) -> None:
        """Poll a race once and note what that found. A failure is its problem, and the other races are watched on."""
        with self._guard:
            done = self._done.setdefault(race.key, PartnerWatched())
        try:
            with partner_session_on(
                conn,
                clients,
                self._secret_box,
                self._settings,
                race.key,
                run_id=self._run_id,
                log=lambda line: None,
                clock=self._clocks,
            ) as session:
                polled = self._poll_in_session(session, race)
                if polled.outcome.counts.has_changes:
                    self._lists_behind.add(race.partner_id)
                self._rebuild_lists(session, done)
        except (ApiError, CredentialRejected, PartnerError, SecretKeyError) as error:
            self._record_problem(done, race, str(error))
        except Exception as error:
            if conn.closed:
                raise
            conn.rollback()
            failure = database.find_statement_error(conn, error)
            self._bug = self._bug if failure else error
            self._record_problem(done, race, str(failure or f"{type(error).__name__}, raised when this slice ends"))
        else:
            self._record_poll(done, race, polled)

    def _poll_in_session(self, session: PartnerSession, race: WatchedRace) -> Polled:
        """Read the race and refresh its events if that is due."""
        began, calls = self._clock(), session.ledger.calls
        with self._guard:
            session.client.longest_call = self._silent.longest_call(race.number, began)
        session.client.slowest_answer = 0.0
        outcome = self._read(
            session, race, reads_removed=self._looks[race.number] % self._settings.watch.removed_every == 0
        )
        slowest_answer, polled_at = session.client.slowest_answer, self._clock()
        # Only a poll that timed out gives the next one more time, and the detail of many events may need it.
        session.client.longest_call = float("inf")
        timed_out = any(
            isinstance(read.error, ApiError) and read.error.cause is Cause.TIMEOUT for read in outcome.reads
        )
        # What hangs would hang a second time, or has no call for it. The refresh is due again at the next poll.
        not_refreshed = None if timed_out or outcome.out_of_budget is not None else self._refresh_events(session, race)
        return Polled(
            outcome=outcome,
            not_refreshed=not_refreshed,
            timed_out=timed_out,
            slowest_answer=slowest_answer,
            calls=session.ledger.calls - calls,
            began=began,
            polled_at=polled_at,
            ended=self._clock(),
        )

    def _record_poll(self, done: PartnerWatched, race: WatchedRace, polled: Polled) -> None:
        """Note a poll for the pace of the next ones, in the result and in the log."""
        outcome = polled.outcome
        if outcome.elsewhere or outcome.shared:
            done.busy += 1  # the other sync stores what it reads
            if outcome.elsewhere:
                self._due_at[race.number] = self._clock() + min(self._interval, READ_ELSEWHERE_RETRY_SECONDS)
            return
        self._record_pace(race, polled)
        with self._guard:
            # Several races of a partner are polled at once.
            done.looks += 1
            done.calls += polled.calls
            done.counts.add(outcome.counts)
        problems = [polled.not_refreshed, *outcome.failures] if polled.not_refreshed else outcome.failures
        lacks_call = outcome.out_of_budget is not None and not problems
        if outcome.out_of_budget is not None:
            problems = [*problems, f"call budget used up, a call is free in {outcome.out_of_budget:.0f} s"]
        if problems:
            self._record_problem(done, race, "; ".join(problems), lacks_call=lacks_call)
        else:
            done.trouble.pop(race.race_id, None)
        if outcome.counts.has_changes:
            counts = outcome.counts
            self._log(
                f"{race.key}, race {race.race_id}: {counts.inserted} new, {counts.updated + counts.reactivated} changed,"
                f" {counts.removed} removed, {counted(counts.bib_changes, 'bib change')}"
            )

    def _record_pace(self, race: WatchedRace, polled: Polled) -> None:
        """Note how many calls the poll took, how long they took, and whether the race is silent."""
        key = race.number
        self._looks[key] += 1
        expected = self._calls_per_poll.get(key, race.calls_per_poll)
        self._calls_per_poll[key] = expected + (polled.calls - expected) / 10
        with self._guard:
            if not polled.timed_out:
                self._silent.note_answer(key, polled.slowest_answer, polled.polled_at)
            elif self._silent.note_time_out(key, polled.began, polled.polled_at):
                self._due_at[key] = polled.polled_at
        # The time of a poll that timed out shows nothing about the races that answer.
        if polled.calls and self._call_seconds is not None and not polled.timed_out:
            seconds = polled.ended - polled.began
            self._call_seconds += (seconds / polled.calls - self._call_seconds) / 10

    def _read(self, session: PartnerSession, race: WatchedRace, *, reads_removed: bool) -> SyncOutcome:
        """Read the race. A full read of several pages is made by one worker at a time, so that the others keep polling."""
        plan = plan_poll(session, race.race_id, reads_removed=reads_removed)
        is_large = not race.is_small and any(read.mode == "full" for read in plan.reads)
        if not is_large:
            return _read(session, plan, reads_removed)
        may_read = self._large_read.acquire(blocking=False)
        # A page of a large race may take long.
        session.client.longest_call = float("inf")
        try:
            if not may_read:
                plan = plan_poll(session, race.race_id, reads_removed=reads_removed, postpones_full=True)
            return _read(session, plan, reads_removed)
        finally:
            if may_read:
                self._large_read.release()

    def _refresh_events(self, session: PartnerSession, race: WatchedRace) -> str | None:
        """Request the race's events if that is due, and return why that failed, else None. The poll continues either way.

        A slice continues with what was requested before it by any process. If polls are rarer than wanted, so are refreshes.
        """
        stored = events.read_stored_details(session.conn, [race.race_id]).get(race.race_id)
        session.conn.rollback()
        now = session.now()
        tried_at = self._refreshed_at.get(race.race_id, stored.read_at if stored else None)
        every = dt.timedelta(seconds=self._settings.watch.refresh_seconds)
        stretched = every * max(1.0, self._interval / self._settings.watch.interval)
        if not event_refresh.is_refresh_due(tried_at, now, stretched, race.next_over_at):
            return None
        self._refreshed_at[race.race_id] = now
        return event_refresh.refresh_race_events(session, race.race_id)

    def _rebuild_lists(self, session: PartnerSession, done: PartnerWatched) -> None:
        """Rebuild the partner's start lists for what its polls brought, once in LISTS_EVERY.

        New bibs do not wait for it: the sensor bib_changes handles them.
        """
        partner_id, now = session.partner_id, self._clock()
        last = self._lists_at.get(partner_id, float("-inf"))
        if partner_id not in self._lists_behind or now - last < LISTS_EVERY:
            return
        self._lists_behind.discard(partner_id)
        self._lists_at[partner_id] = now
        built = start_list_rebuild.rebuild_start_lists(session)
        if isinstance(built, RebuildFailed):
            self._log(f"{session.key}: start lists could not be built: {built.reason}")
        elif built is not None:
            done.lists_rebuilt = True

    def _record_problem(self, done: PartnerWatched, race: WatchedRace, problem: str, lacks_call: bool = False) -> None:
        """Record a problem of a race, and log it if it is new. The race is tried again at its next turn."""
        if race.race_id not in done.trouble:
            self._log(f"{race.key}, race {race.race_id}: {problem}")
        done.trouble[race.race_id] = problem
        if lacks_call:
            done.lacking_calls.add(race.race_id)
        else:
            done.lacking_calls.discard(race.race_id)


def _read(session: PartnerSession, plan: Plan, reads_removed: bool) -> SyncOutcome:
    """Make the reads of a poll now or not at all: no poll waits for another sync."""
    return partner_sync.sync_participants(session, plan, with_removed=reads_removed, quiet=True, max_stall=0.0)
