"""Races, events and the partners with access to them, as rows."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse import race_locks
from rsu_pipeline.warehouse.event_times import ENDS_AT, IS_UPCOMING, ended_before

_SQL = load(__file__, IS_UPCOMING=IS_UPCOMING, ENDS_AT=ENDS_AT)

Access = Literal["granted", "denied", "not_found"]
"""RunSignup's answer to a partner's request for a race's participants."""

RACE_COLUMNS = (
    "race_id name description last_date last_end_date next_date next_end_date created last_modified is_draft_race"
    " is_private_race is_registration_open real_time_notifications_enabled url external_race_url external_results_url"
    " logo_url fb_page_id fb_event_id timezone address payload"
).split()
EVENT_COLUMNS = (
    "event_id race_id race_event_days_id name details giveaway start_time starts_at end_time ends_at registration_opens"
    " age_calc_base_date event_type distance distance_text volunteer require_dob require_phone is_bundle sub_event_ids"
    " gone_at payload"
).split()


@dataclass(frozen=True)
class UpsertCounts:
    """Counts of rows that a statement inserted, updated, and left unchanged."""

    inserted: int
    updated: int
    unchanged: int


@dataclass(frozen=True)
class StoredEvent:
    """What planning needs of an event.

    `starts_at` and `ends_at` are instants. `lost` means that the partner cannot read the race any more. `refused_at` is when
    RunSignup last refused this event while it answered for others of the race. `timezone` is its name of the race's zone.
    """

    event_id: int
    race_id: int
    race_name: str
    name: str
    starts_at: dt.datetime | None
    ends_at: dt.datetime | None
    volunteer: bool
    is_bundle: bool
    lost: bool
    refused_at: dt.datetime | None = None
    timezone: str | None = None


@dataclass(frozen=True)
class AccessCandidate:
    """A race with which a credential can be verified, with an event to request.

    `was_readable` means that the partner's last attempt at it succeeded, `is_upcoming` that an event of it is not over.
    """

    race_id: int
    event_id: int
    was_readable: bool
    is_upcoming: bool
    starts_at: dt.datetime | None


def store_races(conn: Connection, partner_id: int, key: str, races: Sequence[Mapping[str, object]]) -> UpsertCounts:
    """Upsert races (dicts of RACE_COLUMNS) and the partner's links to them."""
    written = _upsert(conn, "runsignup_races", "race_id", RACE_COLUMNS, races, partner_id, key)
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO partner_races AS l (timing_partner_id, race_id) SELECT %s, unnest(%s::bigint[])"
            " ON CONFLICT (timing_partner_id, race_id) DO UPDATE SET unlisted_at = NULL, check_at = NULL"
            " WHERE l.unlisted_at IS NOT NULL",
            (partner_id, [race["race_id"] for race in races]),
        )
    return written


def store_events(conn: Connection, partner_id: int, key: str, events: Sequence[Mapping[str, object]]) -> UpsertCounts:
    """Upsert events (dicts of EVENT_COLUMNS). Their races must be stored."""
    with conn.cursor() as cur:
        for wanted in (_WANT_CONTACT_AGAIN, _WANT_MOVED):
            cur.execute(wanted, {"rows": json.dumps(list(events))})
    return _upsert(conn, "runsignup_events", "event_id", EVENT_COLUMNS, events, partner_id, key)


def _upsert(
    conn: Connection,
    table: str,
    identity: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, object]],
    partner_id: int,
    key: str,
) -> UpsertCounts:
    """Upsert all rows in one statement. An unchanged row is not rewritten.

    The partner and the key stay those of the first partner that brought the row, so that a race that two partners share is
    not rewritten by every sync.
    """
    names = ", ".join(columns)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name != identity)
    theirs, ours = (", ".join(f"{alias}.{name}" for name in columns) for alias in ("c", "o"))
    # A race's detail has fields that its listing lacks: what one response brought stays when the other is stored.
    combined = ", ".join(
        "coalesce(o.payload, '{}') || i.payload" if name == "payload" else f"i.{name}" for name in columns
    )
    by_id = {row[identity]: row for row in rows}
    with conn.cursor() as cur:
        cur.execute(
            f"""
            WITH incoming AS (SELECT {names} FROM jsonb_populate_recordset(NULL::{table}, %(rows)s::jsonb)),
            combined ({names}) AS (SELECT {combined} FROM incoming i LEFT JOIN {table} o USING ({identity})),
            changed AS (
                SELECT c.* FROM combined c LEFT JOIN {table} o USING ({identity})
                WHERE o.{identity} IS NULL OR ({ours}) IS DISTINCT FROM ({theirs})
            ),
            written AS (
                INSERT INTO {table} ({names}, timing_partner_id, credentials_used)
                SELECT {names}, %(partner)s, %(key)s FROM changed
                ON CONFLICT ({identity}) DO UPDATE SET {changes}, fetched_date = now()
                RETURNING (xmax = 0) AS inserted
            )
            SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM written
            """,
            {"rows": json.dumps(list(by_id.values())), "partner": partner_id, "key": key},
        )
        inserted, updated = cur.fetchone() or (0, 0)
    return UpsertCounts(inserted, updated, len(by_id) - inserted - updated)


def read_known_races(conn: Connection, partner_id: int) -> set[int]:
    """Return the races RunSignup has listed for the partner so far."""
    with conn.cursor() as cur:
        cur.execute("SELECT race_id FROM partner_races WHERE timing_partner_id = %s", (partner_id,))
        return {race_id for (race_id,) in cur.fetchall()}


def read_listed_races(conn: Connection, partner_id: int) -> set[int]:
    """Return the races of the partner's last listing."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT race_id FROM partner_races WHERE timing_partner_id = %s AND unlisted_at IS NULL", (partner_id,)
        )
        return {race_id for (race_id,) in cur.fetchall()}


@dataclass(frozen=True)
class StoredDetail:
    """What is known of a race's full detail.

    `as_of` is the race's `last_modified` in it (Eastern wall time), and `read_at` when RunSignup returned it. None: not known.
    """

    as_of: dt.datetime | None
    read_at: dt.datetime | None


def read_stored_details(conn: Connection, race_ids: Sequence[int]) -> dict[int, StoredDetail]:
    """Return those of these races whose full detail was read, for any partner."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT race_id, detail_as_of, detail_read_at FROM runsignup_races"
            " WHERE race_id = ANY (%s::bigint[]) AND (detail_as_of IS NOT NULL OR detail_read_at IS NOT NULL)",
            (list(race_ids),),
        )
        return {race_id: StoredDetail(as_of, read_at) for race_id, as_of, read_at in cur.fetchall()}


def note_detail_read(conn: Connection, race_id: int, read_at: dt.datetime) -> None:
    """Record when RunSignup returned the race's full detail."""
    with conn.cursor() as cur:
        cur.execute("UPDATE runsignup_races SET detail_read_at = %s WHERE race_id = %s", (read_at, race_id))


def listing_number(conn: Connection, partner_id: int) -> int:
    """Return the number of the last complete listing of the partner's races (see cursors.next_read_number), 0 for none."""
    with conn.cursor() as cur:
        cur.execute("SELECT listing_number FROM timing_partners WHERE timing_partner_id = %s", (partner_id,))
        (number,) = cur.fetchone() or (0,)
    return int(number)


def note_listed(conn: Connection, partner_id: int, number: int) -> None:
    """Record that the listing with this number is complete, in the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute("UPDATE timing_partners SET listing_number = %s WHERE timing_partner_id = %s", (number, partner_id))


def mark_unlisted(conn: Connection, partner_id: int, listed: Sequence[int]) -> int:
    """Mark the partner's races that a complete listing no longer has, and return how many are newly marked."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE partner_races SET unlisted_at = now(), check_at = NULL"
            " WHERE timing_partner_id = %s AND unlisted_at IS NULL AND race_id <> ALL (%s::bigint[])",
            (partner_id, list(listed)),
        )
        return int(cur.rowcount)


@dataclass(frozen=True)
class VanishedEvent:
    """A stored event that its race's detail lacks, with the time since then (None: this detail is the first)."""

    event_id: int
    vanished_at: dt.datetime | None


def find_events_not_in(conn: Connection, race_id: int, present: Sequence[int]) -> list[VanishedEvent]:
    """Return the race's stored events that are not gone and not among these."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT event_id, vanished_at FROM runsignup_events"
            " WHERE race_id = %s AND gone_at IS NULL AND event_id <> ALL (%s::bigint[]) ORDER BY event_id",
            (race_id, list(present)),
        )
        return [VanishedEvent(*row) for row in cur.fetchall()]


def find_races_with_vanished_events(conn: Connection, partner_id: int) -> list[int]:
    """Return the partner's races with an event that their detail lacked and that no second answer has confirmed as gone."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT DISTINCT race_id FROM partner_races l JOIN runsignup_events e USING (race_id)"
            " WHERE l.timing_partner_id = %s AND e.vanished_at IS NOT NULL AND e.gone_at IS NULL ORDER BY race_id",
            (partner_id,),
        )
        return [race_id for (race_id,) in cur.fetchall()]


def mark_vanished(
    conn: Connection, race_id: int, *, gone: Sequence[int], unsettled: Sequence[int], now: dt.datetime
) -> None:
    """Record the race's events that its detail lacks as `gone`, or as `unsettled`. Nothing is unsettled for its others."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["mark_vanished"], {"race": race_id, "gone": list(gone), "unsettled": list(unsettled), "now": now}
        )


def mark_detail(conn: Connection, race_id: int, *, is_settled: bool) -> None:
    """Record that the race's full detail has been stored as of its present `last_modified`.

    A detail that left something unsettled stays due.
    """
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE runsignup_races SET detail_as_of = CASE WHEN %s THEN last_modified END WHERE race_id = %s",
            (is_settled, race_id),
        )


def set_access(conn: Connection, partner_id: int, race_id: int, access: Access, now: dt.datetime) -> bool:
    """Record RunSignup's answer for the race, and return whether it changed anything. A readable race is no longer lost."""
    with conn.cursor() as cur:
        cur.execute(_SQL["set_access"], {"partner": partner_id, "race": race_id, "access": access, "now": now})
        return bool(cur.rowcount)


def read_access_candidates(conn: Connection, partner_id: int, now: dt.datetime) -> list[AccessCandidate]:
    """Return the partner's listed races that are not lost and have an event, each with the event that starts last."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_access_candidates"], {"partner": partner_id, "now": now})
        return [AccessCandidate(*row) for row in cur.fetchall()]


def note_refused(conn: Connection, partner_id: int, event_ids: Sequence[int], reason: str) -> None:
    """Record that RunSignup refuses these events whenever they are requested."""
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO refused_events (timing_partner_id, event_id, reason) SELECT %s, unnest(%s::bigint[]), %s"
            " ON CONFLICT (timing_partner_id, event_id) DO UPDATE SET refused_at = now(), reason = excluded.reason",
            (partner_id, list(event_ids), reason[:500]),
        )


def forget_refused(conn: Connection, partner_id: int, event_ids: Sequence[int]) -> None:
    """Record that these events could be read."""
    with conn.cursor() as cur:
        cur.execute(
            "DELETE FROM refused_events WHERE timing_partner_id = %s AND event_id = ANY (%s::bigint[])",
            (partner_id, list(event_ids)),
        )


def read_events(conn: Connection, partner_id: int) -> list[StoredEvent]:
    """Return every event of the partner's races that RunSignup still has, past ones included."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_events"], {"partner": partner_id})
        return [StoredEvent(*row) for row in cur.fetchall()]


def replace_plan(conn: Connection, partner_id: int, rows: Sequence[Mapping[str, object]]) -> None:
    """Replace the partner's rows of `future_events`."""
    race_locks.wait_for_turn(conn, partner_id)
    with conn.cursor() as cur:
        cur.execute("DELETE FROM future_events WHERE timing_partner_id = %s", (partner_id,))
        cur.execute(
            """
            INSERT INTO future_events (timing_partner_id, event_id, race_id, tier, starts_at, over_at, next_read, reason)
            SELECT %s, event_id, race_id, tier, starts_at, over_at, next_read, reason
            FROM jsonb_populate_recordset(NULL::future_events, %s::jsonb)
            """,
            (partner_id, json.dumps(list(rows), default=str)),
        )


# The registrations of an event that was moved have the race that it is in now, past ones included.
_WANT_MOVED = """
UPDATE event_cursors c SET needs_full = 'moved to another race', last_full_at = to_timestamp(0)
FROM jsonb_populate_recordset(NULL::runsignup_events, %(rows)s::jsonb) i JOIN runsignup_events e USING (event_id)
WHERE c.event_id = i.event_id AND e.race_id <> i.race_id
"""

# An incremental read would not return what did not change at RunSignup.
_WANT_CONTACT_AGAIN = f"""
UPDATE event_cursors c SET needs_full = 'moved ahead after its contact data was purged'
FROM contact_retention r, jsonb_populate_recordset(NULL::runsignup_events, %(rows)s::jsonb) i
JOIN runsignup_events e USING (event_id)
WHERE c.event_id = i.event_id AND {ended_before("e", "r.before")} AND coalesce(NOT ({ended_before("i", "r.before")}), true)
"""
