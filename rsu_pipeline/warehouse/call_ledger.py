"""The call ledger: a limit of calls per hour and API key, and of calls in flight, over all processes and machines.

Partners that share a key share its limit, and retries count.

A grant is a row of `api_calls`, counted and inserted under an advisory lock: the lock in one statement, the count in
the next (which then sees every grant before it), the insert, the commit, and only then the call. Time is the database
server's. A process killed with a call in flight releases its slot when its session ends. For a few seconds more the
abandoned call still counts, because RunSignup may still be working on it. Other processes end the session of a process
that has stopped (see leases).

While a race is in its window, one slot is reserved for lane race_day, the other slots go to it first, and the calls of all
lanes are short. A race-day call that waits acquires a shared lock that the other lanes see.
"""

import datetime as dt
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from rsu_pipeline import cancellation
from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse import database, fleet
from rsu_pipeline.warehouse.advisory_locks import Kind

Lane = Literal["race_day", "new_partner", "routine", "backfill"]
LANES: dict[Lane, float] = {"race_day": 1.0, "new_partner": 0.95, "routine": 0.9, "backfill": 0.7}
"""The share of the hour's calls after which a lane gets no more: backfill stops first, race day last."""

ABANDONED_SECONDS = 3.0
"""How long a call counts as in flight after the session that sent it is gone. RunSignup answers in 0.7 to 1.4 s."""
STUCK_SECONDS = 900.0
"""A call in flight for this long counts as lost even if its session lives."""

BACKFILL_MAX_WAIT_SECONDS = 30.0
"""Seconds after which a backfill takes any free slot."""
YIELD_SECONDS = 10.0
"""For how long another lane leaves free slots to race-day calls that wait.

Then it takes its turn like them, so that syncs continue if the races in their window use up all calls in flight.
"""
RESERVE_CHECK_SECONDS = 10.0
"""How old the result of the check for a race in its window may be."""
RETRY_SECONDS = 0.02
"""How long a lane waits on average before it tries again to get a slot. Race day tries twice as often."""

SLOW_SHARE = 2 / 3
"""A call that took this share of race day's longest call is slow: the next call to its race cannot use race day's slot."""
STEPPED_SECONDS = 5.0
"""A call granted more than this far in the future shows that the database's clock was set back."""
LEDGER_IDLE_TIMEOUT = "10s"
"""Time after which PostgreSQL ends a session that has the ledger locked and does nothing."""


class NoCallLeft(RuntimeError):
    """The lane has used up its calls. `frees_in` is the number of seconds until it has one."""

    def __init__(self, frees_in: float, lane: str) -> None:
        self.frees_in = frees_in
        self.lane = lane
        super().__init__(f"no call left for lane {lane} for {frees_in:.0f} s")


@dataclass(frozen=True)
class Limits:
    """The limits of the ledger.

    Attributes:
        calls_per_hour: calls of an API key in any hour.
        max_in_flight: calls at a time.
        all_credentials: whether `max_in_flight` counts over all API keys or for each alone.
        call_seconds: the longest that a call may take.
        race_day_call_seconds: the same for lane race_day, and for all lanes while a race is in its window.
    """

    calls_per_hour: int
    max_in_flight: int
    all_credentials: bool = True
    call_seconds: float = 120.0
    race_day_call_seconds: float = 15.0


def has_slot(
    lane: Lane,
    limits: Limits,
    in_flight: int,
    others: int,
    *,
    is_reserved: bool,
    steps_back: bool,
    is_slow: bool = False,
    yields: bool = False,
) -> bool:
    """Return whether a lane may have a concurrency slot.

    Args:
        lane: the lane of the call.
        limits: the limits of the ledger.
        in_flight: calls in flight now, of all lanes.
        others: those of them that are not race day's, or to a race whose last call was slow.
        is_reserved: whether a race is in its window, so that the other lanes leave one slot to race day.
        steps_back: whether the lane leaves the last free slot to the others.
        is_slow: whether the last call to this race was slow. Race day's slot is for races that answer.
        yields: whether a race-day call waits that this one has to let pass.
    """
    most = limits.max_in_flight
    but_one = max(1, most - 1)
    if (lane != "race_day" or is_slow) and is_reserved and (yields or others >= but_one):
        return False
    return in_flight < (but_one if steps_back else most)


class Ledger:
    """Grants for one credential and lane, made on a connection of its own, by one thread at a time.

    They count against the credential's API key, together with those of every other credential that has it.
    """

    def __init__(
        self,
        conn: Connection,
        credential_id: int,
        api_key_id: int,
        lane: Lane,
        limits: Limits,
        *,
        sleep: Callable[[float], None] = cancellation.sleep,
    ) -> None:
        self._conn = conn
        self._credential_id = credential_id
        self._api_key_id = api_key_id
        self.lane: Lane = lane
        self._limits = limits
        self._sleep = sleep
        self._is_reserved = False
        self._reserve_checked_at = float("-inf")
        self._is_waiting_shown = False
        self.calls = 0
        """Calls granted to this object so far."""

    @property
    def lane_limit(self) -> int:
        """Calls per hour up to which this lane may use the API key, at least one."""
        return max(1, int(self._limits.calls_per_hour * LANES[self.lane]))

    @property
    def call_seconds(self) -> float:
        """Seconds that a call granted now may take."""
        longest = self._limits.call_seconds
        return longest if self.retries_timeouts else min(longest, self._limits.race_day_call_seconds)

    @property
    def retries_timeouts(self) -> bool:
        """Whether the caller repeats a call that timed out.

        While a race is in its window, a retry would delay the other races and hold a slot for another 15 s. Race day's next poll is
        its retry. What another lane could not read is due again at its next sync.
        """
        return self.lane != "race_day" and not self._has_reserve()

    def acquire(self, endpoint: str, race_id: int | None) -> int:
        """Wait for a concurrency slot and return the id of the grant.

        While a race is in its window, one slot is race day's alone, and the others are left to race-day calls that wait, for
        YIELD_SECONDS. A single slot is for all lanes. The last slot is not for backfill until it has waited for BACKFILL_PATIENCE,
        because its long pages would keep race day waiting. Its runs still work in parallel, one writing while the other calls.

        Raises:
            NoCallLeft: the lane has used up its calls of this hour.
        """
        database.lease(self._conn)
        began = time.monotonic()
        try:
            while True:
                grant = self._try(endpoint, race_id, waited=time.monotonic() - began)
                if grant is not None:
                    self.calls += 1
                    return grant
                self._sleep(self._pause() * (0.5 + random.random()))  # noqa: S311 - jitter
        finally:
            self._hide_waiting()

    def settle(self, grant: int, *, status: int | None, error: str | None, size: int, rows: int) -> None:
        """Record how a granted call ended and release its slot."""
        with self._conn, self._conn.cursor() as cur:
            cur.execute(
                "UPDATE api_calls SET settled_at = clock_timestamp(), status = %s, error = %s, bytes = %s, rows = %s"
                " WHERE api_call_id = %s",
                (status, error, size, rows, grant),
            )

    def left(self) -> int:
        """Return the calls this lane has left in the present hour."""
        return max(0, self.lane_limit - count_calls_this_hour(self._conn, self._api_key_id))

    def _pause(self) -> float:
        return RETRY_SECONDS / 2 if self.lane == "race_day" else RETRY_SECONDS

    def _has_reserve(self) -> bool:
        """Return whether one slot is race day's, as of a few seconds ago at most.

        It becomes so one longest call before a race enters its window, so that no long call is in flight then.
        """
        now = time.monotonic()
        if now - self._reserve_checked_at >= RESERVE_CHECK_SECONDS:
            key = None if self._limits.all_credentials else self._api_key_id
            within = self._limits.call_seconds + RESERVE_CHECK_SECONDS
            self._is_reserved = fleet.has_race_in_window(self._conn, key, within=within)
            self._reserve_checked_at = now
        return self._is_reserved

    @property
    def _places(self) -> int:
        """What the slots are counted for: the number of an API key, or 0 for all of them."""
        return 0 if self._limits.all_credentials else self._api_key_id

    def _show_waiting(self, cur: Cursor) -> None:
        """Let the other lanes see that a race-day call waits. Called under the lock of the ledger, like the check for it."""
        if not self._is_waiting_shown:
            cur.execute("SELECT pg_advisory_lock_shared(%s, %s)", (Kind.RACE_DAY_WAITS, self._places))
            self._is_waiting_shown = True

    def _is_race_day_waiting(self, cur: Cursor) -> bool:
        cur.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (Kind.RACE_DAY_WAITS, self._places))
        ((nobody_waits,),) = cur.fetchall()
        return not nobody_waits

    def _hide_waiting(self) -> None:
        if self._is_waiting_shown and not self._conn.closed:
            with self._conn, self._conn.cursor() as cur:
                cur.execute("SELECT pg_advisory_unlock_shared(%s, %s)", (Kind.RACE_DAY_WAITS, self._places))
        self._is_waiting_shown = False

    def _try(self, endpoint: str, race_id: int | None, *, waited: float) -> int | None:
        is_reserved = self.lane == "race_day" or self._has_reserve()
        try:
            with self._conn.cursor() as cur:
                cur.execute(
                    # A process that stops between here and the commit would block every other call.
                    "SELECT set_config('idle_in_transaction_session_timeout', %s, true), pg_advisory_xact_lock(%s, %s)",
                    (LEDGER_IDLE_TIMEOUT, Kind.LEDGER, self._places),
                )
                cur.execute(
                    _SQL["count_calls"],
                    {
                        "api_key": self._api_key_id,
                        "all": self._limits.all_credentials,
                        "stuck": STUCK_SECONDS,
                        "abandoned": ABANDONED_SECONDS,
                        "limit": self.lane_limit,
                        "race": race_id,
                        "slow": self._limits.race_day_call_seconds * SLOW_SHARE,
                    },
                )
                used, frees_in, in_flight, others, is_slow, ahead = cur.fetchone() or (0, None, 0, 0, False, None)
                if ahead is not None and ahead > STEPPED_SECONDS:
                    cur.execute(_SQL["set_back"], {"seconds": ahead})
                    self._conn.commit()
                    return self._try(endpoint, race_id, waited=waited)
                if used >= self.lane_limit:
                    raise NoCallLeft(float(frees_in or 0.0), self.lane)
                goes_first = self.lane == "race_day" and not is_slow
                if not has_slot(
                    self.lane,
                    self._limits,
                    in_flight,
                    others,
                    is_reserved=is_reserved,
                    steps_back=self.lane == "backfill" and waited < BACKFILL_MAX_WAIT_SECONDS,
                    is_slow=is_slow,
                    yields=is_reserved and not goes_first and waited < YIELD_SECONDS and self._is_race_day_waiting(cur),
                ):
                    if goes_first:
                        self._show_waiting(cur)
                    return None
                cur.execute(
                    "INSERT INTO api_calls (credential_id, api_key_id, lane, endpoint, race_id)"
                    " VALUES (%s, %s, %s, %s, %s) RETURNING api_call_id",
                    (self._credential_id, self._api_key_id, self.lane, endpoint, race_id),
                )
                (grant,) = cur.fetchone() or (None,)
            self._conn.commit()
            return None if grant is None else int(grant)
        except psycopg2.errors.LockNotAvailable:
            # Other sessions held the ledger's lock for the whole of lock_timeout: no grant yet, try again.
            return None
        finally:
            if not self._conn.closed:
                self._conn.rollback()


_WAS_SLOW = """
coalesce((SELECT p.settled_at - p.granted_at >= make_interval(secs => %(slow)s) FROM api_calls p
    WHERE p.api_key_id = {api_key} AND p.race_id = {race} AND p.settled_at IS NOT NULL
        AND p.granted_at < {before} AND p.granted_at > {before} - interval '10 minutes'
    ORDER BY p.granted_at DESC LIMIT 1), false)
"""


_SQL = load(
    __file__,
    WAS_SLOW=_WAS_SLOW.format(api_key="c.api_key_id", race="c.race_id", before="c.granted_at"),
    IS_SLOW=_WAS_SLOW.format(api_key="%(api_key)s", race="%(race)s", before="statement_timestamp()"),
)


def count_calls_this_hour(conn: Connection, api_key_id: int) -> int:
    """Return the calls granted with an API key in the last 60 minutes, over all partners and lanes."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT count(*) FROM api_calls WHERE api_key_id = %s AND granted_at > statement_timestamp() - interval '1 hour'",
            (api_key_id,),
        )
        (count,) = cur.fetchone() or (0,)
    conn.rollback()
    return int(count)


def find_used_up(conn: Connection, within: Mapping[int, dt.timedelta], calls_per_hour: int) -> set[int]:
    """Return the API keys that had no call left for any lane at some moment of the last while, which `within` has for each.

    Only lane race_day uses the last calls of an hour, and it uses each that becomes free at its next poll.
    """
    keys = sorted(within)
    with conn.cursor() as cur:
        cur.execute(
            _SQL["find_used_up"],
            {"api_keys": keys, "seconds": [within[key].total_seconds() for key in keys], "limit": calls_per_hour},
        )
        return {key for (key,) in cur.fetchall()}


def measure_usual_call_seconds(conn: Connection) -> float | None:
    """Return how long recent calls for registrations took on average, from grant to settlement, in seconds.

    None if there were none in the last 15 minutes.
    """
    with conn.cursor() as cur:
        cur.execute(
            """
            SELECT extract(epoch FROM avg(settled_at - granted_at))::float
            FROM (SELECT * FROM api_calls ORDER BY api_call_id DESC LIMIT 200) c
            WHERE endpoint LIKE '%participants' AND error IS NULL AND granted_at > now() - interval '15 minutes'
            """
        )
        (seconds,) = cur.fetchone() or (None,)
    conn.rollback()
    return None if seconds is None else float(seconds)
