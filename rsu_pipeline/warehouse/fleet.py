"""All partners at once: which to sync, which races to read, and when each was last tried."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import AsIs
from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.credentials import PROVIDER
from rsu_pipeline.warehouse.event_times import AHEAD_TOLERANCE, IS_DUE_AT_ANY, is_in_window

REJECTED_RETRY_AFTER = dt.timedelta(minutes=5)
"""How long a rejected credential is not tried unless it changes.

The next sync then tries it again, so that access which returns on a race morning is noticed within minutes.
"""

# Partners to sync: enabled, with a credential that RunSignup did not reject a moment ago.
ACTIVE = """
FROM timing_partners t
JOIN partner_provider_credentials c USING (timing_partner_id)
JOIN providers v ON v.provider_id = c.provider_id AND lower(v.name) = %(provider)s
"""
IS_ACTIVE = rf"""
t.disabled_at IS NULL AND t.partition_key IS NOT NULL
    AND c.principal ~ '\S' AND c.secret ~ '\S'
    AND (c.rejected_at IS NULL
        OR c.rejected_at < %(now)s::timestamptz - interval '{REJECTED_RETRY_AFTER.total_seconds():.0f} seconds'
        OR c.rejected_at > %(now)s::timestamptz + interval '{AHEAD_TOLERANCE.total_seconds():.0f} seconds')
"""

# Races and events that are read: none that is lost to the partner, and no event that is gone.
IS_READ = "l.lost_at IS NULL AND e.gone_at IS NULL"

CALL_BUDGET = "coalesce(c.api_key_id, -c.timing_partner_id)"
"""The call budget of a credential: its API key's number, or minus the partner's id while the key has none."""

_SQL = load(
    __file__,
    IS_ABOUT_TO_BE=is_in_window("(statement_timestamp() + make_interval(secs => %(within)s))"),
    IS_IN_WINDOW=is_in_window("statement_timestamp()"),
    ACTIVE=ACTIVE,
    IS_ACTIVE=IS_ACTIVE,
    IS_READ=IS_READ,
    CALL_BUDGET=CALL_BUDGET,
    IS_DUE_AT_ANY=IS_DUE_AT_ANY,
)


@dataclass(frozen=True)
class FleetPartner:
    """A partner to sync. `listed_at` is when a run last tried its listing, `failed` whether that attempt failed."""

    partner_id: int
    key: str
    listed_at: dt.datetime | None
    failed: bool


@dataclass(frozen=True)
class FleetRace:
    """A race of such a partner.

    `times` are the (start, end) instants of its events that are due for reads: upcoming ones, and those that are over and
    due for a closing read. `registrations` is how many each had at its last full read. `tried_at` is when a run last tried each
    of these events, `failed` whether the race's last attempt failed. Partners with the same `call_budget_id` share one API
    key and its calls.
    """

    partner_id: int
    key: str
    call_budget_id: int
    race_id: int
    times: tuple[tuple[dt.datetime | None, dt.datetime | None], ...]
    tried_at: tuple[dt.datetime | None, ...]
    failed: bool
    registrations: tuple[int, ...] = ()


def select_partners_to_sync(conn: Connection, now: dt.datetime, also: Sequence[dt.datetime] = ()) -> list[FleetPartner]:
    """Return every partner to sync, in order of id.

    `also` are further moments that may be the present. An attempt that is dated in the future is ignored.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["select_partners_to_sync"],
            {"provider": PROVIDER, "now": now, "tolerated": max((now, *also)) + AHEAD_TOLERANCE},
        )
        return [FleetPartner(*row) for row in cur.fetchall()]


def select_races_to_read(conn: Connection, now: dt.datetime, also: Sequence[dt.datetime] = ()) -> list[FleetRace]:
    """Return every race of those partners with an event that is upcoming at `now`, or over and due for a closing read.

    `also` is as in partners_to_sync.
    """
    latest = max((now, *also))
    with conn.cursor() as cur:
        cur.execute(
            _SQL["select_races_to_read"],
            {
                "provider": PROVIDER,
                "now": now,
                "latest": latest,
                "tolerated": latest + AHEAD_TOLERANCE,
            },
        )
        return [_build_race(row, latest + AHEAD_TOLERANCE) for row in cur.fetchall()]


def _build_race(row: tuple[Any, ...], tolerated: dt.datetime) -> FleetRace:
    """Return a race of a row. The last sync counts as a try of the events that it names."""
    partner_id, key, call_budget_id, race_id, starts, ends, event_ids, reads, tried_at, tried, failed, registrations = (
        row
    )
    tries = (
        _last_try(read_at, tried_at if event_id in (tried or ()) else None, tolerated)
        for event_id, read_at in zip(event_ids, reads, strict=True)
    )
    times = tuple(zip(starts, ends, strict=True))
    return FleetRace(partner_id, key, call_budget_id, race_id, times, tuple(tries), failed, tuple(registrations))


def has_race_in_window(conn: Connection, api_key_id: int | None, *, within: float = 0.0) -> bool:
    """Return whether a race that the watch polls is in its window, or enters it within `within` seconds. Ends the transaction.

    The database's clock decides.

    Args:
        conn: a session at the hub's database.
        api_key_id: the API key whose races count, None for all.
        within: seconds.
    """
    now = "statement_timestamp()"
    with conn.cursor() as cur:
        cur.execute(
            _SQL["has_race_in_window"],
            {"provider": PROVIDER, "now": AsIs(now), "api_key": api_key_id, "within": within},
        )
        (found,) = cur.fetchone() or (False,)
    conn.rollback()
    return bool(found)


def _last_try(read_at: dt.datetime | None, tried_at: dt.datetime | None, latest: dt.datetime) -> dt.datetime | None:
    """Return the later of two times, ignoring those in the future."""
    return max((time for time in (read_at, tried_at) if time is not None and time <= latest), default=None)
