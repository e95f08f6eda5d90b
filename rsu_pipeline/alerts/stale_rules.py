"""Find partners of which nothing has been read for longer than their cadence allows."""

import datetime as dt
from collections.abc import Iterator

from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts import rule_queries
from rsu_pipeline.alerts.alert_store import Problem
from rsu_pipeline.alerts.rule_queries import PartnerReadTimes
from rsu_pipeline.display import format_utc
from rsu_pipeline.settings import Settings

STALE_AFTER = dt.timedelta(hours=8)
STALE_BEFORE_START = dt.timedelta(minutes=45)
"""For a race that starts within 24 h."""


def find_stale_partners(conn: Connection, settings: Settings, now: dt.datetime) -> Iterator[Problem]:
    """Yield a problem for each partner of which no race has been read for hours, or not one that starts within 24 h."""
    longest = max(STALE_AFTER, 2 * dt.timedelta(seconds=settings.cadence.later))
    before_start = max(STALE_BEFORE_START, 3 * dt.timedelta(seconds=settings.cadence.day))
    for reading in rule_queries.read_partner_read_times(conn, now):
        if reading.near_read_at is not None and now - reading.near_read_at > before_start:
            read_at = format_utc(reading.near_read_at)
            sentence = f"race {reading.near_race_id} starts within 24 h and was last read before {read_at}."
            yield _stale(conn, reading, sentence, reading.near_race_id, now - before_start)
        elif now - reading.last_read_at > longest:
            sentence = f"no race has been read since {format_utc(reading.last_read_at)}."
            yield _stale(conn, reading, sentence, None, now - longest)


def _stale(
    conn: Connection, reading: PartnerReadTimes, sentence: str, race_id: int | None, since: dt.datetime
) -> Problem:
    """Return the problem. A try after `since` that RunSignup did not answer shows that syncs go on."""
    return Problem(
        "partner_stale",
        str(reading.partner_id),
        reading.key,
        f"{reading.key}: {sentence} Run `rsu sync --partner {reading.partner_id}`, which reports the cause.",
        races=() if race_id is None else (race_id,),
        is_at_runsignup=rule_queries.is_unanswered(conn, reading.partner_id, race_id, since),
    )
