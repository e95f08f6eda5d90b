"""Find partners of which nothing has been read for longer than their cadence allows."""

import datetime as dt

from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts import rule_queries
from rsu_pipeline.alerts.alert_store import Problem
from rsu_pipeline.alerts.rule_queries import PartnerReadTimes
from rsu_pipeline.display import format_utc
from rsu_pipeline.settings import Settings

STALE_AFTER = dt.timedelta(hours=8)
STALE_BEFORE_START = dt.timedelta(minutes=45)
"""For a race that starts within 24 h."""


def find_stale_partners(conn: Connection, settings: Settings, now: dt.datetime) -> list[Problem]:
    """Return a problem for each partner of which no race has been read for hours, or not one that starts within 24 h.

    A try in that time that RunSignup did not answer shows that syncs go on.
    """
    longest = max(STALE_AFTER, 2 * dt.timedelta(seconds=settings.cadence.later))
    before_start = max(STALE_BEFORE_START, 3 * dt.timedelta(seconds=settings.cadence.day))
    stale: list[tuple[PartnerReadTimes, int | None, dt.datetime]] = []
    for reading in rule_queries.read_partner_read_times(conn, now):
        if reading.near_read_at is not None and now - reading.near_read_at > before_start:
            stale.append((reading, reading.near_race_id, now - before_start))
        elif now - reading.last_read_at > longest:
            stale.append((reading, None, now - longest))
    tries = [(reading.partner_id, race_id, since) for reading, race_id, since in stale]
    unanswered = rule_queries.find_unanswered(conn, tries)
    return [_stale(reading, race_id, reading.partner_id in unanswered) for reading, race_id, _ in stale]


def _stale(reading: PartnerReadTimes, race_id: int | None, is_at_runsignup: bool) -> Problem:
    if race_id is None or reading.near_read_at is None:
        what = f"no race has been read since {format_utc(reading.last_read_at)}."
    else:
        what = f"race {race_id} starts within 24 h and was last read before {format_utc(reading.near_read_at)}."
    return Problem(
        "partner_stale",
        str(reading.partner_id),
        reading.key,
        f"{reading.key}: {what} Run `rsu sync --partner {reading.partner_id}`, which reports the cause.",
        races=() if race_id is None else (race_id,),
        is_at_runsignup=is_at_runsignup,
    )
