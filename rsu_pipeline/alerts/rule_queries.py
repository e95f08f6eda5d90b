"""What the alert rules query. Disabled partners are left out everywhere."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.sync.failing_watch import UNANSWERED_CAUSES
from rsu_pipeline.warehouse.credentials import PROVIDER
from rsu_pipeline.warehouse.cursors import REMOVALS_PENDING
from rsu_pipeline.warehouse.event_times import AHEAD_TOLERANCE, IS_UPCOMING

_SQL = load(__file__, IS_UPCOMING=IS_UPCOMING)


def read_rejected_credentials(conn: Connection) -> list[tuple[int, str | None, dt.datetime]]:
    """Return the partners whose credential RunSignup rejects: id, partition key, since when."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT t.timing_partner_id, t.partition_key, c.rejected_at FROM timing_partners t"
            " JOIN partner_provider_credentials c USING (timing_partner_id)"
            " JOIN providers v ON v.provider_id = c.provider_id AND lower(v.name) = %s"
            " WHERE t.disabled_at IS NULL AND c.rejected_at IS NOT NULL ORDER BY 1",
            (PROVIDER,),
        )
        return cur.fetchall()


def read_pending_removals(conn: Connection) -> list[tuple[int, str | None, int, int]]:
    """Return the events whose removals are pending confirmation: partner, its partition key, race, event."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT t.timing_partner_id, t.partition_key, k.race_id, k.event_id FROM event_cursors k"
            " JOIN timing_partners t USING (timing_partner_id)"
            " WHERE t.disabled_at IS NULL AND k.needs_full = %s ORDER BY 1, 3, 4",
            (REMOVALS_PENDING,),
        )
        return cur.fetchall()


@dataclass(frozen=True)
class PartnerReadTimes:
    """When a partner with upcoming events was read: any of its races, and the stalest race that starts within 24 h.

    If nothing was read yet, the time when the credential was entered is used.
    """

    partner_id: int
    key: str
    last_read_at: dt.datetime
    near_race_id: int | None
    near_read_at: dt.datetime | None


def read_partner_read_times(conn: Connection, now: dt.datetime) -> list[PartnerReadTimes]:
    """Return every partner with upcoming events and a working credential. A read that is dated in the future does not count."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["read_partner_read_times"], {"provider": PROVIDER, "now": now, "latest": now + AHEAD_TOLERANCE}
        )
        return [PartnerReadTimes(*row) for row in cur.fetchall()]


def read_race_read_times(conn: Connection) -> dict[tuple[int, int], dt.datetime | None]:
    """Return when each race was last read, by partner and race, for races that a working credential may read."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_race_read_times"], {"provider": PROVIDER})
        return {(partner_id, race_id): read_at for partner_id, race_id, read_at in cur.fetchall()}


def read_vanished_events(conn: Connection, since: dt.datetime) -> list[tuple[int, str, int, int]]:
    """Return the events that their race's detail has lacked since then or longer, without a second answer that confirms it.

    The columns are partner, its partition key, race, event.
    """
    with conn.cursor() as cur:
        cur.execute(_SQL["read_vanished_events"], {"provider": PROVIDER, "since": since})
        return cur.fetchall()


def read_denied_access(conn: Connection, now: dt.datetime) -> list[tuple[int, str, int, int | None, dt.datetime, bool]]:
    """Return upcoming races and events that RunSignup lists but denies to a credential that works otherwise.

    The columns are partner, its partition key, race, event (None for the whole race), since when, whether RunSignup answers that
    the race does not exist.
    """
    with conn.cursor() as cur:
        cur.execute(_SQL["read_denied_access"], {"provider": PROVIDER, "now": now})
        return cur.fetchall()


def read_calls_used(conn: Connection) -> list[tuple[list[int], list[str], int]]:
    """Return the calls of the last hour with each working API key: its partners, their partition keys, calls."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_calls_used"], {"provider": PROVIDER})
        return cur.fetchall()


def read_duplicate_bibs(conn: Connection, now: dt.datetime) -> list[tuple[int, str | None, int, int, int]]:
    """Return the events within 24 h of their start and not over with bibs that several entrants have.

    The columns are partner, its partition key, race, event, entrants.
    """
    with conn.cursor() as cur:
        cur.execute(
            "SELECT t.timing_partner_id, t.partition_key, s.race_id, s.event_id, s.duplicate_bibs FROM start_lists s"
            " JOIN timing_partners t USING (timing_partner_id) JOIN runsignup_events e ON e.event_id = s.event_id"
            " WHERE t.disabled_at IS NULL AND s.duplicate_bibs > 0"
            " AND e.starts_at BETWEEN %(now)s - interval '24 hours' AND %(now)s + interval '24 hours'"
            f" AND {IS_UPCOMING} ORDER BY 1, 3, 4",
            {"now": now},
        )
        return cur.fetchall()


def read_left_bibs(conn: Connection, now: dt.datetime) -> list[tuple[int, str | None, int, int, int, str, int]]:
    """Return the events, not over, with entrants without a bib whose earlier registration was given one here.

    The columns are partner, its partition key, race, event, one of the registrations, its bib, entrants.
    """
    with conn.cursor() as cur:
        cur.execute(_SQL["read_left_bibs"], {"now": now})
        return cur.fetchall()


def read_failing_backfills(conn: Connection, more_than: int) -> list[tuple[int, str | None, int, int]]:
    """Return the races whose past editions failed more often in a row: partner, its partition key, race, failures."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT t.timing_partner_id, t.partition_key, h.race_id, h.failures FROM history_races h"
            " JOIN timing_partners t USING (timing_partner_id) JOIN history_requests q USING (timing_partner_id)"
            " WHERE t.disabled_at IS NULL AND q.finished_at IS NULL AND q.cancelled_at IS NULL AND h.failures > %s ORDER BY 1, 3",
            (more_than,),
        )
        return cur.fetchall()


def find_runs_with_pending_removals(conn: Connection, run_ids: Collection[str]) -> set[str]:
    """Return which of these runs failed because removals are pending confirmation."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT DISTINCT run_id FROM sync_history WHERE run_id = ANY (%s) AND error_details ? 'removals_held_back'",
            (list(run_ids),),
        )
        return {run_id for (run_id,) in cur.fetchall()}


@dataclass(frozen=True)
class FailedRead:
    """What a run could not read. `race_id` None is the listing. `is_at_runsignup`: RunSignup did not answer."""

    run_id: str
    key: str
    race_id: int | None
    is_read_since: bool
    is_at_runsignup: bool = False


def read_failed_reads(conn: Connection, run_ids: Collection[str]) -> list[FailedRead]:
    """Return what these runs could not read, a race several times if it failed for several causes."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_failed_reads"], {"runs": list(run_ids), "unanswered": sorted(UNANSWERED_CAUSES)})
        return [FailedRead(*row) for row in cur.fetchall()]


def find_unanswered(conn: Connection, tries: Collection[tuple[int, int | None, dt.datetime]]) -> set[int]:
    """Return the partners whose last try RunSignup did not answer, by one query for all.

    Each try is a partner, a race (None for anything of the partner), and the moment after which it counts.
    """
    if not tries:
        return set()
    partners, races, since = (list(column) for column in zip(*tries, strict=True))
    with conn.cursor() as cur:
        cur.execute(
            _SQL["find_unanswered"],
            {"partners": partners, "races": races, "since": since, "unanswered": sorted(UNANSWERED_CAUSES)},
        )
        return {partner_id for (partner_id,) in cur.fetchall()}


def find_recovering_partners(conn: Connection, since: dt.datetime) -> set[str]:
    """Return the partition keys of the partners with a race whose polls RunSignup did not answer until `since` or later."""
    with conn.cursor() as cur:
        cur.execute(_SQL["find_recovering_partners"], {"since": since, "unanswered": sorted(UNANSWERED_CAUSES)})
        return {key for (key,) in cur.fetchall()}
