"""Backfill requests and their state: requests, races that failed, events read."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse import fleet
from rsu_pipeline.warehouse.credentials import PROVIDER
from rsu_pipeline.warehouse.event_times import AHEAD_TOLERANCE, ENDS_AT, NEEDS_CLOSING_READ, OVER_AT

MAX_WAIT = dt.timedelta(hours=24)
"""The longest time by which a slice or a failed race is delayed."""
MAX_QUEUED_SLICES = 50
"""Slices that wait in Dagster's queue at once. The others are requested at later ticks, longest waiting first.

Two runs at a time, of 5 s at least, end 24 slices between two ticks of the sensor, so the lane never waits for a request.
"""
CONFIRMED_AFTER = dt.timedelta(hours=1)
"""How far apart two reads are that together show that nothing follows: longer than a transient empty response lasts."""


@dataclass(frozen=True)
class Request:
    """The request for a partner's backfill.

    Events of years before `since_year` are left out. `listed_at` is None
    until the partner's races were listed for it, `finished_at` while something is left, `cancelled_at` unless it was cancelled.
    """

    partner_id: int
    since_year: int | None
    requested_at: dt.datetime
    listed_at: dt.datetime | None
    not_before: dt.datetime
    slices: int
    finished_at: dt.datetime | None
    cancelled_at: dt.datetime | None


@dataclass(frozen=True)
class PastEvent:
    """An event that is over. `edition` groups the events of one edition."""

    event_id: int
    edition: int
    starts_at: dt.datetime | None


@dataclass(frozen=True)
class PastRace:
    """A race with something left to do.

    Its editions are to be requested if `needs_detail`, these past events are to be read, and those of
    `needs_catch_up` are to be caught up
    after an interrupted read. `newest` is the start of its newest known event.
    """

    race_id: int
    name: str
    needs_detail: bool
    events: tuple[PastEvent, ...]
    needs_catch_up: tuple[int, ...]
    newest: dt.datetime | None
    retry_at: dt.datetime | None
    failures: int


_REQUEST = "timing_partner_id, since_year, requested_at, listed_at, not_before, slices, finished_at, cancelled_at"

_SQL = load(
    __file__,
    REQUEST=_REQUEST,
    ACTIVE=fleet.ACTIVE,
    IS_ACTIVE=fleet.IS_ACTIVE,
    ENDS_AT=ENDS_AT,
    OVER_AT=OVER_AT,
    NEEDS_CLOSING_READ=NEEDS_CLOSING_READ,
)
PAST_EVENTS, RACES_LEFT = _SQL["past_events"], _SQL["races_left"]


def request_backfill(
    conn: Connection,
    partner_id: int,
    *,
    since_year: int | None = None,
    reload: bool = False,
    run_id: str | None = None,
    backfill_id: str | None = None,
) -> Request:
    """Request a partner's backfill, in the caller's transaction.

    An earlier request, even a cancelled one, continues with the years now given. `reload` reads everything again. `run_id`
    and `backfill_id` are Dagster's ids of the requester.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["request_backfill"],
            {"partner": partner_id, "since": since_year, "reload": reload, "run": run_id, "backfill": backfill_id},
        )
        request = Request(*(cur.fetchone() or ()))
        if reload:
            # A slice may be working on it: then its read does not count, and the next slice starts from scratch.
            cur.execute(
                "UPDATE read_passes SET started_at = to_timestamp(0) WHERE timing_partner_id = %s AND mode = 'history'",
                (partner_id,),
            )
        cur.execute("UPDATE history_races SET retry_at = now() WHERE timing_partner_id = %s AND error IS NOT NULL",
                    (partner_id,))  # fmt: skip
    return request


def get_request(conn: Connection, partner_id: int) -> Request | None:
    """Return the request for a partner's backfill, or None if there is none."""
    with conn.cursor() as cur:
        cur.execute(f"SELECT {_REQUEST} FROM history_requests WHERE timing_partner_id = %s", (partner_id,))
        row = cur.fetchone()
    return Request(*row) if row else None


def list_waiting_requests(conn: Connection, now: dt.datetime) -> list[str]:
    """Return the partition keys of the partners whose next slice may begin, longest waiting first.

    Disabled partners and those without a working credential are left out. A wait longer than any that is set was recorded by a
    clock that was ahead.
    """
    return list(read_due_requests(conn, now))


def read_due_requests(conn: Connection, now: dt.datetime) -> dict[str, tuple[int, dt.datetime]]:
    """Return the partners of `list_waiting_requests`, and since when each waits.

    Times are of the database's clock, converted to that of `now`.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["find_due_requests"],
            {"provider": PROVIDER, "now": now, "longest": MAX_WAIT + AHEAD_TOLERANCE},
        )
        return {key: (partner_id, since) for key, partner_id, since in cur.fetchall()}


def reopen(conn: Connection, partner_id: int, now: dt.datetime) -> bool:
    """Reopen a finished backfill if a race is new to the partner or an old edition was added. Return whether it was reopened.

    Events that ended a short time ago are left to their closing reads. Runs in the caller's transaction.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["reopen"],
            {"partner": partner_id, "now": now, "race": None},
        )
        return bool(cur.rowcount)


def read_database_time(conn: Connection) -> dt.datetime:
    """Return the database's clock, by which slices and retries are timed."""
    with conn.cursor() as cur:
        cur.execute("SELECT clock_timestamp()")
        ((now,),) = cur.fetchall()
    found: dt.datetime = now
    return found


def begin_slice(conn: Connection, partner_id: int, *, if_it_dies: dt.timedelta) -> None:
    """Count a slice, and set how long its successor waits if this one ends without a report. Commits."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE history_requests SET slices = slices + 1, not_before = now() + %s WHERE timing_partner_id = %s",
            (if_it_dies, partner_id),
        )
    conn.commit()


def note_listed(conn: Connection, partner_id: int) -> None:
    """Record that the partner's races were listed. Commits."""
    with conn.cursor() as cur:
        cur.execute("UPDATE history_requests SET listed_at = now() WHERE timing_partner_id = %s", (partner_id,))
    conn.commit()


def end_slice(conn: Connection, partner_id: int, *, wait: float, finished: bool) -> None:
    """Record that the next slice may begin in `wait` seconds, or that none follows if `finished`. Commits."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE history_requests SET not_before = now() + make_interval(secs => %s),"
            " finished_at = CASE WHEN %s THEN now() END WHERE timing_partner_id = %s",
            (wait, finished, partner_id),
        )
    conn.commit()


def read_races_left(
    conn: Connection, partner_id: int, now: dt.datetime, *, race_id: int | None = None
) -> list[PastRace]:
    """Return the partner's races with something left to do at `now`, the one with the newest past event first.

    `race_id` limits it to one race.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["find_races_left"],
            {"partner": partner_id, "now": now, "race": race_id},
        )
        return [
            PastRace(
                race_id,
                name,
                needs_detail,
                _events(ids, editions, starts),
                tuple(behind or ()),
                newest,
                retry_at,
                failures,
            )
            for race_id, name, needs_detail, ids, editions, starts, behind, newest, retry_at, failures in cur.fetchall()
        ]


def _events(
    ids: Sequence[int] | None, editions: Sequence[int] | None, starts: Sequence[dt.datetime | None] | None
) -> tuple[PastEvent, ...]:
    return tuple(map(PastEvent, ids or (), editions or (), starts or ()))


def read_open_pass_events(conn: Connection, partner_id: int, race_id: int) -> set[int]:
    """Return the events of the race's backfill pass that a slice left unfinished, or an empty set."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT event_ids FROM read_passes WHERE timing_partner_id = %s AND race_id = %s AND mode = 'history'"
            " AND started_at > to_timestamp(0)",
            (partner_id, race_id),
        )
        row = cur.fetchone()
    return set(row[0]) if row else set()


def note_detail(conn: Connection, partner_id: int, race_id: int) -> None:
    """Record that the race's editions were requested, in the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO history_races (timing_partner_id, race_id, detail_read_at) VALUES (%s, %s, clock_timestamp())"
            " ON CONFLICT (timing_partner_id, race_id) DO UPDATE SET detail_read_at = excluded.detail_read_at",
            (partner_id, race_id),
        )


def note_failure(conn: Connection, partner_id: int, race_id: int, error: str, *, wait: dt.timedelta) -> None:
    """Record that the race failed and is retried after `wait`, in the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO history_races AS h (timing_partner_id, race_id, failures, error, retry_at)"
            " VALUES (%(partner)s, %(race)s, 1, %(error)s, now() + %(wait)s) ON CONFLICT (timing_partner_id, race_id)"
            " DO UPDATE SET failures = h.failures + 1, error = excluded.error, retry_at = excluded.retry_at",
            {"partner": partner_id, "race": race_id, "error": error[:1000], "wait": wait},
        )


def note_success(conn: Connection, partner_id: int, race_id: int) -> None:
    """Record that nothing of the race failed, in the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE history_races SET failures = 0, error = NULL, retry_at = NULL"
            " WHERE timing_partner_id = %s AND race_id = %s AND retry_at IS NOT NULL",
            (partner_id, race_id),
        )


def forget_failures_of_others(conn: Connection, partner_id: int, race_ids: Sequence[int]) -> None:
    """Forget failures of all races but these, which have something left to read. Runs in the caller's transaction.

    A failed race may have been read by a sync since, or be gone.
    """
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE history_races SET failures = 0, error = NULL, retry_at = NULL"
            " WHERE timing_partner_id = %s AND error IS NOT NULL AND NOT race_id = ANY (%s::bigint[])",
            (partner_id, list(race_ids)),
        )


def note_read(
    conn: Connection,
    partner_id: int,
    race_id: int,
    event_ids: Sequence[int],
    *,
    needs_catch_up: bool,
    unconfirmed: Sequence[int],
) -> None:
    """Record that the race's pass read these past events, in the caller's transaction.

    They are `empty` if nothing is stored of them, else `loaded`. `needs_catch_up` means that the read was interrupted and has to be
    caught up. The `unconfirmed` events are read again after CONFIRMED_AFTER. A pass that began before a request to read everything
    again counts as read long ago.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["note_read"],
            {
                "partner": partner_id,
                "race": race_id,
                "events": list(event_ids),
                "behind": needs_catch_up,
                "unconfirmed": list(unconfirmed),
            },
        )


def read_confirmable(conn: Connection, partner_id: int, event_ids: Sequence[int]) -> set[int]:
    """Return which of these events were read with an unconfirmed end, at least CONFIRMED_AFTER ago."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["read_confirmable"], {"partner": partner_id, "events": list(event_ids), "wait": CONFIRMED_AFTER}
        )
        return {event_id for (event_id,) in cur.fetchall()}


def wait_for_confirmation(conn: Connection, partner_id: int, race_id: int) -> None:
    """Have the race's unconfirmed events read again after CONFIRMED_AFTER, in the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute(_SQL["wait_for_confirmation"], {"partner": partner_id, "race": race_id, "wait": CONFIRMED_AFTER})


def note_caught_up(conn: Connection, partner_id: int, event_ids: Sequence[int]) -> None:
    """Record that changes made while these events were read are stored. Commits."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE history_events SET behind = false WHERE timing_partner_id = %s AND event_id = ANY (%s::bigint[])",
            (partner_id, list(event_ids)),
        )
    conn.commit()


def note_unavailable(conn: Connection, partner_id: int, event_ids: Sequence[int], reason: str) -> None:
    """Record that RunSignup refuses these past events, in the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO history_events (timing_partner_id, event_id, state, reason, read_at)"
            " SELECT %s, e.id, 'unavailable', %s, clock_timestamp() FROM unnest(%s::bigint[]) AS e (id)"
            " ON CONFLICT (timing_partner_id, event_id) DO UPDATE SET state = excluded.state, reason = excluded.reason,"
            " read_at = excluded.read_at",
            (partner_id, reason[:1000], list(event_ids)),
        )


def list_failing_races(conn: Connection, partner_id: int) -> list[tuple[int, str, dt.datetime]]:
    """Return the races whose last attempt failed: id, error, and when they are retried."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT race_id, error, retry_at FROM history_races WHERE timing_partner_id = %s AND error IS NOT NULL"
            " ORDER BY race_id",
            (partner_id,),
        )
        return cur.fetchall()
