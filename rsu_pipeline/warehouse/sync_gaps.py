"""Times in which no sync finished, by the sync log and the call ledger, and what was stored of them since."""

import datetime as dt
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.event_times import NEEDS_CLOSING_READ, OVER_AT, WINDOW_BEFORE

SHOWN_FOR = dt.timedelta(days=3)
"""How long after its end a gap is reported."""
MIN_GAP = dt.timedelta(minutes=30)
"""Shorter gaps are ignored. Races that are near are read every 15 minutes."""
NAMELESS_WITHIN = dt.timedelta(hours=4)
"""Time after a gap in which a removal without a date counts as made in it.

RunSignup does not send when some registrations were removed. Those that are found missing this soon after a gap count as
removed in it.
"""


@dataclass(frozen=True)
class Gap:
    """A time without a finished sync or call.

    `until` is None while it lasts. `had_window` means that a race was in its window meanwhile.
    """

    since: dt.datetime
    until: dt.datetime | None
    had_window: bool


@dataclass(frozen=True)
class CaughtUp:
    """What happened to a partner's races and registrations in a gap, as stored by now.

    It counts races that ended, bibs set, registrations that are new, changed or removed, and events that still wait for a full
    read after their end.
    """

    partner_id: int
    races_over: int
    bibs: int
    new: int
    changed: int
    removed: int
    reads_left: int


# The watch's polls that find nothing are in the ledger alone, which is queried only if the log has a gap.
_GAPS = f"""
WITH log AS (
    SELECT finished_at AS at FROM sync_history
    WHERE status <> 'failed' AND finished_at > %(from)s AND finished_at <= %(now)s
    UNION ALL SELECT max(finished_at) FROM sync_history WHERE status <> 'failed' AND finished_at <= %(from)s
    UNION ALL SELECT %(now)s
), candidates AS (
    SELECT since, until FROM (SELECT lag(at) OVER (ORDER BY at) AS since, at AS until FROM log WHERE at IS NOT NULL) l
    WHERE until - since >= %(shortest)s
), signs AS (
    SELECT since, until, since AS at FROM candidates
    UNION SELECT since, until, until FROM candidates
    UNION SELECT c.since, c.until, a.granted_at
    FROM candidates c CROSS JOIN runsignup_api_keys k
    JOIN api_calls a ON a.api_key_id = k.api_key_id AND a.granted_at > c.since AND a.granted_at < c.until
    WHERE a.settled_at IS NOT NULL AND a.error IS NULL
), gaps AS (
    SELECT lag(at) OVER (PARTITION BY since ORDER BY at) AS since, at AS until FROM signs
)
SELECT g.since, nullif(g.until, %(now)s), EXISTS (
    SELECT FROM runsignup_events e JOIN partner_races l USING (race_id)
    JOIN timing_partners t ON t.timing_partner_id = l.timing_partner_id AND t.disabled_at IS NULL
    WHERE e.gone_at IS NULL AND l.unlisted_at IS NULL
        AND coalesce(e.starts_at, e.ends_at) - %(window)s < g.until AND {OVER_AT} > g.since)
FROM gaps g WHERE g.until - g.since >= %(shortest)s ORDER BY g.until DESC
"""


def find_gaps(conn: Connection, now: dt.datetime) -> list[Gap]:
    """Return the gaps that ended within SHOWN_FOR or still last, newest first."""
    with conn.cursor() as cur:
        cur.execute(_GAPS, {"from": now - SHOWN_FOR, "now": now, "shortest": MIN_GAP, "window": WINDOW_BEFORE})
        return [Gap(*row) for row in cur.fetchall()]


_CAUGHT_UP = f"""
SELECT t.timing_partner_id,
    (SELECT count(DISTINCT e.race_id) FROM partner_races l JOIN runsignup_events e USING (race_id)
     WHERE l.timing_partner_id = t.timing_partner_id AND e.gone_at IS NULL AND {OVER_AT} > %(since)s AND {OVER_AT} <= %(until)s),
    coalesce(b.bibs, 0), coalesce(p.new, 0), coalesce(p.changed, 0), coalesce(p.removed, 0),
    (SELECT count(*) FROM partner_races l JOIN runsignup_events e USING (race_id)
     LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
     WHERE l.timing_partner_id = t.timing_partner_id AND e.gone_at IS NULL AND l.unlisted_at IS NULL
        AND {OVER_AT} > %(since)s AND {NEEDS_CLOSING_READ})
FROM timing_partners t
LEFT JOIN (
    SELECT timing_partner_id, count(*) AS bibs FROM runsignup_bib_changes
    WHERE recorded_at > %(since)s AND to_timestamp(modified_epoch) BETWEEN %(since)s AND %(until)s GROUP BY 1
) b USING (timing_partner_id)
LEFT JOIN (
    SELECT timing_partner_id, count(*) FILTER (WHERE is_removed) AS removed,
        count(*) FILTER (WHERE is_new AND NOT is_removed) AS new,
        count(*) FILTER (WHERE NOT is_new AND NOT is_removed
            AND to_timestamp(last_modified_epoch) BETWEEN %(since)s AND %(until)s) AS changed
    FROM (
        SELECT timing_partner_id, last_modified_epoch,
            -- RunSignup sends the minute of a registration.
            first_seen_at > %(since)s AND registered_at BETWEEN %(since)s - interval '1 minute' AND %(until)s AS is_new,
            removed_at IS NOT NULL AND (to_timestamp(removed_epoch) BETWEEN %(since)s AND %(until)s
                OR removed_epoch IS NULL AND removed_at BETWEEN %(since)s AND %(until)s + %(nameless)s) AS is_removed
        FROM runsignup_participants WHERE changed_at > %(since)s
    ) r GROUP BY timing_partner_id
) p USING (timing_partner_id)
WHERE t.disabled_at IS NULL
ORDER BY t.timing_partner_id
"""


def find_caught_up(conn: Connection, gap: Gap, now: dt.datetime) -> list[CaughtUp]:
    """Return what is stored of a gap by now, for every enabled partner."""
    with conn.cursor() as cur:
        cur.execute(
            _CAUGHT_UP,
            {"since": gap.since, "until": gap.until or now, "now": now, "nameless": NAMELESS_WITHIN},
        )
        return [CaughtUp(*row) for row in cur.fetchall()]
