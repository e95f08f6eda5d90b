"""Queries of the race-day board: each race near its start, recent bib changes, and entrants without a bib."""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.credentials import PROVIDER
from rsu_pipeline.warehouse.event_times import OVER_AT
from rsu_pipeline.warehouse.fleet import ACTIVE, CALL_BUDGET

STARTS_WITHIN = dt.timedelta(hours=24)
"""How long before its start an event is on the board."""
LAST_BIB_WITHIN = dt.timedelta(hours=24)
"""How far back the last bib of a race is searched."""


@dataclass(frozen=True)
class NearRace:
    """A race of a partner with an event that is not over and starts within a day.

    Attributes:
        call_budget_id: as in `fleet.FleetRace`.
        zone: RunSignup's name of the race's zone, None if it sends none.
        times: (start, end) instants of its near events.
        is_rejected: whether RunSignup rejects the partner's credential.
        is_denied: whether it denies access to this race.
        refused_events: near events that RunSignup refuses one by one.
        read_at: when the stalest near event was last read, None if one was never read.
        failed_at: when its last attempt failed, None if that succeeded.
        failure: why, in one sentence.
        entrants: entrants on the start lists of its near events. `with_bib` and `duplicate_bibs` likewise.
        events_without_list: near events that have no start list yet.
        held_back: quarantined rows of these events.
        last_bib: the last bib set, None if the last change cleared one, or none changed within a day.
        last_bib_kind: assigned, changed or cleared. None if none changed.
        last_bib_modified_at: when RunSignup changed the registration, by its clock.
        last_bib_recorded_at: when the change was stored here.
    """

    partner_id: int
    key: str
    call_budget_id: int
    race_id: int
    name: str
    zone: str | None
    times: tuple[tuple[dt.datetime | None, dt.datetime | None], ...]
    is_rejected: bool
    is_denied: bool
    refused_events: int
    read_at: dt.datetime | None
    failed_at: dt.datetime | None
    failure: str | None
    entrants: int
    with_bib: int
    duplicate_bibs: int
    events_without_list: int
    held_back: int
    last_bib: str | None
    last_bib_kind: Literal["assigned", "changed", "cleared"] | None
    last_bib_modified_at: dt.datetime | None
    last_bib_recorded_at: dt.datetime | None

    @property
    def without_bib(self) -> int:
        """How many entrants have no bib."""
        return self.entrants - self.with_bib


@dataclass(frozen=True)
class BibChange:
    """A row of the bib log with the present name of the entrant."""

    key: str
    race_id: int
    event_id: int
    event: str
    registration_id: int
    name: str
    kind: Literal["assigned", "changed", "cleared"]
    old_bib: str | None
    new_bib: str | None
    modified_at: dt.datetime | None
    recorded_at: dt.datetime


@dataclass(frozen=True)
class Entrant:
    """An entrant of a near event without a bib."""

    key: str
    race_id: int
    event_id: int
    event: str
    registration_id: int
    name: str


# Volunteers' events have no bibs. Disabled partners are not shown on race morning.
_NEAR = f"""
near AS MATERIALIZED (
    SELECT t.timing_partner_id, t.partition_key, {CALL_BUDGET} AS call_budget_id, c.rejected_at, l.race_id, l.access,
        e.event_id, e.name, e.starts_at, e.ends_at, k.last_read_at
    {ACTIVE}
    JOIN partner_races l USING (timing_partner_id)
    JOIN runsignup_events e ON e.race_id = l.race_id
    LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
    WHERE t.disabled_at IS NULL AND t.partition_key IS NOT NULL AND e.gone_at IS NULL AND e.volunteer IS NOT TRUE
        AND l.lost_at IS NULL
        AND e.starts_at <= %(now)s + %(starts_within)s AND {OVER_AT} > %(now)s
        AND (%(partner)s::int IS NULL OR t.timing_partner_id = %(partner)s)
        AND (%(race)s::bigint IS NULL OR l.race_id = %(race)s)
)"""

_RACES = f"""
WITH {_NEAR},
races AS (
    SELECT n.timing_partner_id, n.partition_key, min(n.call_budget_id) AS call_budget_id, n.race_id,
        array_agg(n.starts_at ORDER BY n.event_id) AS starts, array_agg(n.ends_at ORDER BY n.event_id) AS ends,
        bool_or(n.rejected_at IS NOT NULL) AS is_rejected, bool_or(n.access = 'denied') AS is_denied,
        count(f.event_id) AS refused,
        CASE WHEN bool_and(n.last_read_at IS NOT NULL OR f.event_id IS NOT NULL)
            THEN min(n.last_read_at) FILTER (WHERE f.event_id IS NULL) END AS read_at,
        coalesce(sum(s.entrants), 0) AS entrants, coalesce(sum(s.with_bib), 0) AS with_bib,
        coalesce(sum(s.duplicate_bibs), 0) AS duplicate_bibs, count(*) FILTER (WHERE s.event_id IS NULL) AS unlisted,
        array_agg(n.event_id) AS event_ids
    FROM near n
    LEFT JOIN start_lists s ON s.timing_partner_id = n.timing_partner_id AND s.event_id = n.event_id
    LEFT JOIN refused_events f ON f.timing_partner_id = n.timing_partner_id AND f.event_id = n.event_id
    GROUP BY n.timing_partner_id, n.partition_key, n.race_id
),
bibs AS (
    SELECT DISTINCT ON (b.timing_partner_id, b.race_id) b.timing_partner_id, b.race_id, b.new_bib, b.kind,
        to_timestamp(b.modified_epoch) AS modified_at, b.recorded_at
    FROM runsignup_bib_changes b WHERE b.recorded_at > %(now)s - %(last_bib_within)s
    ORDER BY b.timing_partner_id, b.race_id, b.bib_change_id DESC
),
held AS (
    SELECT q.timing_partner_id, q.race_id, count(*) AS n FROM quarantined_rows q
    WHERE q.resolved_at IS NULL AND NOT q.is_stored GROUP BY q.timing_partner_id, q.race_id
)
SELECT r.timing_partner_id, r.partition_key, r.call_budget_id, r.race_id, coalesce(a.name, ''), a.timezone, r.starts, r.ends,
    r.is_rejected, r.is_denied, r.refused, r.read_at, tried.finished_at, tried.reason, r.entrants, r.with_bib,
    r.duplicate_bibs, r.unlisted, coalesce(h.n, 0), b.new_bib, b.kind, b.modified_at, b.recorded_at
FROM races r
JOIN runsignup_races a USING (race_id)
LEFT JOIN bibs b ON b.timing_partner_id = r.timing_partner_id AND b.race_id = r.race_id
LEFT JOIN held h ON h.timing_partner_id = r.timing_partner_id AND h.race_id = r.race_id
LEFT JOIN LATERAL (
    SELECT last.finished_at, last.reason FROM (
        SELECT n.finished_at, n.reason, n.status FROM sync_history n
        WHERE n.timing_partner_id = r.timing_partner_id AND n.race_id = r.race_id
            AND n.operation_type IS DISTINCT FROM 'history'
        ORDER BY n.finished_at DESC LIMIT 1
    ) last
    -- A poll that succeeded and found nothing leaves no history, only a read.
    WHERE last.status = 'failed' AND (r.read_at IS NULL OR last.finished_at > r.read_at)
) tried ON true
ORDER BY r.timing_partner_id, r.race_id
"""

_CHANGES = f"""
WITH {_NEAR}
SELECT n.partition_key, n.race_id, n.event_id, coalesce(n.name, ''), b.registration_id,
    concat_ws(' ', p.first_name, p.last_name), b.kind, b.old_bib, b.new_bib, to_timestamp(b.modified_epoch), b.recorded_at
FROM runsignup_bib_changes b
JOIN near n ON n.timing_partner_id = b.timing_partner_id AND n.event_id = b.event_id
LEFT JOIN runsignup_participants p
    ON p.timing_partner_id = b.timing_partner_id AND p.registration_id = b.registration_id
WHERE b.recorded_at > %(since)s
ORDER BY b.bib_change_id DESC
"""

_WITHOUT_BIB = f"""
WITH {_NEAR}
SELECT n.partition_key, n.race_id, n.event_id, coalesce(n.name, ''), s.registration_id,
    concat_ws(' ', s.first_name, s.last_name)
FROM near n JOIN start_list_entries s USING (timing_partner_id, event_id)
WHERE s.bib IS NULL
ORDER BY n.starts_at, n.race_id, n.event_id, lower(s.last_name), lower(s.first_name), s.registration_id
"""


def read_near_races(conn: Connection, now: dt.datetime) -> list[NearRace]:
    """Return every race with an event that is not over and starts within a day, in order of partner and race."""
    with conn.cursor() as cur:
        cur.execute(_RACES, _parameters(now, None, None))
        return [
            NearRace(*(*row[:6], tuple(zip(row[6], row[7], strict=True)), *row[8:]))  # the times of its events
            for row in cur.fetchall()
        ]


def read_bib_changes(
    conn: Connection,
    now: dt.datetime,
    since: dt.datetime,
    *,
    partner_id: int | None = None,
    race_id: int | None = None,
) -> list[BibChange]:
    """Return the changes of bibs in near events that were stored since then, newest first."""
    with conn.cursor() as cur:
        cur.execute(_CHANGES, _parameters(now, partner_id, race_id) | {"since": since})
        return [BibChange(*row) for row in cur.fetchall()]


def read_entrants_without_bib(
    conn: Connection, now: dt.datetime, *, partner_id: int | None = None, race_id: int | None = None
) -> list[Entrant]:
    """Return the entrants of near events who have no bib, first start first, then by name."""
    with conn.cursor() as cur:
        cur.execute(_WITHOUT_BIB, _parameters(now, partner_id, race_id))
        return [Entrant(*row) for row in cur.fetchall()]


def _parameters(now: dt.datetime, partner_id: int | None, race_id: int | None) -> dict[str, object]:
    return {
        "now": now,
        "provider": PROVIDER,
        "partner": partner_id,
        "race": race_id,
        "starts_within": STARTS_WITHIN,
        "last_bib_within": LAST_BIB_WITHIN,
    }
