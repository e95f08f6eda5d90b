"""Start lists, made from the registrations held: who starts where with which bib, and what is wrong with it.

An event has a list while it lies ahead (it is in `future_events`), and for two days after it is over, so that scoring on
Sunday still has Saturday's. Volunteers' events have none. How each problem is found:

- `no_bib`: there is no bib at RunSignup and none was given here.
- `duplicate_bib`: another entrant of the event has the same bib; compared as text, without blanks around it.
- `bib_in_other_event`: another person has the bib in another event of the same race on the same day.
- `out_of_range`: the bib is a number beyond Tukey's fences of the event's bibs (the quartiles, and one and a half times
  their distance further out) and fewer than five of the event's entrants are in its hundred, so that a block of its own,
  for an elite say, is none. Asked only where the event has twenty different numbers.
- `in_two_events`: the person is in another event of the edition, and not because of a bundle.

A person is a RunSignup account; without one, a name and birth date, or a name and e-mail address. Whoever took a bundle has a
row in it and one in each of its events, with one bib: these are one entry.
"""

import datetime as dt
import time
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.event_times import OVER_AT

KEPT_AFTER = dt.timedelta(days=2)
"""How long an event that is over keeps its list."""
_BUILD_LOCK_CLASS = 0x525359
"""First part of the lock that keeps two rebuilds of a partner apart; the second is the partner's number."""


class NoStartList(LookupError):
    """An event has no start list; one sentence: why, and what to do."""


@dataclass(frozen=True)
class Built:
    """What a rebuild did to the rows of `start_list_entries`, and how many rows of `start_lists` it wrote or deleted."""

    inserted: int
    updated: int
    deleted: int
    unchanged: int
    lists_written: int
    seconds: float

    @property
    def written(self) -> int:
        """Rows written or deleted, of both tables."""
        return self.inserted + self.updated + self.deleted + self.lists_written


@dataclass(frozen=True)
class NotBuilt:
    """A rebuild that PostgreSQL refused: what it said, in one line."""

    reason: str


@dataclass(frozen=True)
class StartList:
    """An event's list in figures. `start` is wall time in the race's zone; `near` tells that the event starts within 24
    hours, or started less than 24 hours ago and is not over. The other members are the columns of `start_lists`."""

    partner_id: int
    event_id: int
    race: str
    event: str
    start: dt.datetime | None
    near: bool
    entrants: int
    with_bib: int
    without_bib: int
    duplicate_bibs: int
    bibs_in_other_events: int
    out_of_range: int
    in_two_events: int
    lowest_bib: int | None
    highest_bib: int | None
    built_at: dt.datetime


@dataclass(frozen=True)
class Entry:
    """An entrant, as a row of `start_list_entries`."""

    bib: str | None
    first_name: str | None
    last_name: str | None
    age: int | None
    gender: str | None
    city: str | None
    state: str | None
    team: str | None
    problems: list[str]
    registration_id: int

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.first_name, self.last_name) if part)


@dataclass(frozen=True)
class Problem:
    """An entrant with a problem, by number only."""

    registration_id: int
    event_id: int
    problems: list[str]


def rebuild(conn: Connection, partner_id: int, now: dt.datetime) -> Built:
    """Brings a partner's start lists up to date as of `now`, in the caller's transaction. A row that is as it should be is
    not written again."""
    began = time.monotonic()
    with conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_BUILD_LOCK_CLASS, partner_id))
        cur.execute(_REBUILD, _parameters(partner_id, now))
        entrants, inserted, updated, deleted, lists_written = cur.fetchone() or (0, 0, 0, 0, 0)
    unchanged = entrants - inserted - updated
    return Built(inserted, updated, deleted, unchanged, lists_written, time.monotonic() - began)


def try_rebuild(conn: Connection, partner_id: int, now: dt.datetime) -> Built | NotBuilt:
    """`rebuild`, after whose failure the caller's transaction is as before it. The lists are then not current, and built at
    the partner's next visit."""
    with conn.cursor() as cur:
        cur.execute("SAVEPOINT start_lists")
        try:
            built = rebuild(conn, partner_id, now)
        except psycopg2.Error as error:
            if conn.closed:
                raise
            cur.execute("ROLLBACK TO SAVEPOINT start_lists")
            return NotBuilt((str(error).splitlines() or [type(error).__name__])[0])
        cur.execute("RELEASE SAVEPOINT start_lists")
    return built


def is_current(conn: Connection, partner_id: int, now: dt.datetime) -> bool:
    """Whether a partner has the lists it should have at `now`, and no registration in them has changed since they were
    built. What other programs change, a bib given here for one, shows only to a rebuild."""
    with conn.cursor() as cur:
        cur.execute(_IS_CURRENT, _parameters(partner_id, now))
        (current,) = cur.fetchone() or (False,)
    return bool(current)


def lists_of(conn: Connection, partner_id: int, now: dt.datetime) -> list[StartList]:
    """The partner's lists, the first start first."""
    with conn.cursor() as cur:
        cur.execute(
            f"{_LISTS} WHERE s.timing_partner_id = %(partner)s ORDER BY e.starts_at NULLS LAST, s.event_id",
            _parameters(partner_id, now),
        )
        return [StartList(*row) for row in cur.fetchall()]


def list_of(conn: Connection, event_id: int, now: dt.datetime, *, partner_id: int | None = None) -> StartList:
    """The list of an event: of this partner, or of the first that has one. Raises NoStartList."""
    with conn.cursor() as cur:
        cur.execute(
            f"{_LISTS} WHERE s.event_id = %(event)s AND (%(partner)s IS NULL OR s.timing_partner_id = %(partner)s)"
            " ORDER BY s.timing_partner_id LIMIT 1",
            _parameters(partner_id, now) | {"event": event_id},
        )
        if row := cur.fetchone():
            return StartList(*row)
        cur.execute("SELECT coalesce(volunteer, false) FROM runsignup_events WHERE event_id = %s", (event_id,))
        known = cur.fetchone()
    if known is None:
        raise NoStartList(f"There is no event {event_id}: `rsu db psql -c 'SELECT * FROM unified_events'` shows them.")
    if known[0]:
        raise NoStartList(f"Event {event_id} is for volunteers and has no start list.")
    whose = "" if partner_id is None else f" of partner {partner_id}"
    raise NoStartList(
        f"Event {event_id} has no start list{whose}: it is over for more than two days, or was not synced since it was"
        " entered (`rsu sync` does that)."
    )


def entries_of(conn: Connection, found: StartList, *, problems_only: bool = False) -> list[Entry]:
    """The entrants of a list in order of bib, those without one last."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT bib, first_name, last_name, age, gender, city, state, team, problems, registration_id"
            " FROM start_list_entries WHERE timing_partner_id = %s AND event_id = %s AND (NOT %s OR problems <> '{}')"
            " ORDER BY bib IS NULL, bib_number NULLS LAST, bib, lower(last_name), lower(first_name), registration_id",
            (found.partner_id, found.event_id, problems_only),
        )
        return [Entry(*row) for row in cur.fetchall()]


def problems_of(
    conn: Connection, partner_id: int, limit: int, *, only: tuple[str, ...] = (), events: list[int] | None = None
) -> list[Problem]:
    """Some of the partner's entrants with problems: with one of `only` where given, of these events where given; the first
    start first."""
    with conn.cursor() as cur:
        cur.execute(
            """
            SELECT s.registration_id, s.event_id, s.problems
            FROM start_list_entries s JOIN runsignup_events e USING (event_id)
            WHERE s.timing_partner_id = %(partner)s AND s.problems <> '{}'
                AND (%(only)s::text[] = '{}' OR s.problems && %(only)s::text[])
                AND (%(events)s::bigint[] IS NULL OR s.event_id = ANY (%(events)s::bigint[]))
            ORDER BY e.starts_at NULLS LAST, s.event_id, s.registration_id LIMIT %(limit)s
            """,
            {"partner": partner_id, "only": list(only), "events": events, "limit": limit},
        )
        return [Problem(*row) for row in cur.fetchall()]


def _parameters(partner_id: int | None, now: dt.datetime) -> dict[str, object]:
    return {"partner": partner_id, "now": now, "kept": KEPT_AFTER}


_LISTS = f"""
SELECT s.timing_partner_id, s.event_id, coalesce(r.name, ''), coalesce(e.name, ''), e.start_time,
    coalesce(abs(extract(epoch FROM e.starts_at - %(now)s)) <= 86400 AND {OVER_AT} > %(now)s, false),
    s.entrants, s.with_bib, s.without_bib, s.duplicate_bibs, s.bibs_in_other_events, s.out_of_range, s.in_two_events,
    s.lowest_bib, s.highest_bib, s.built_at
FROM start_lists s JOIN runsignup_events e USING (event_id) JOIN runsignup_races r ON r.race_id = s.race_id
"""

# The events that are to have a list. One that is over must have been read, or an empty list would say that nobody came.
_WANTED = f"""
wanted AS MATERIALIZED (
    SELECT e.event_id, e.race_id, coalesce(e.race_event_days_id, -e.event_id) AS edition, e.start_time::date AS race_day,
        h.changed_at, h.active
    FROM partner_races l JOIN runsignup_events e USING (race_id)
    CROSS JOIN LATERAL (
        SELECT max(p.changed_at) AS changed_at, count(*) FILTER (WHERE p.removed_at IS NULL) AS active
        FROM runsignup_participants p WHERE p.timing_partner_id = %(partner)s AND p.event_id = e.event_id) h
    WHERE l.timing_partner_id = %(partner)s AND e.gone_at IS NULL AND e.volunteer IS NOT TRUE
        AND NOT (l.access = 'denied' AND l.unlisted_at IS NOT NULL)
        AND CASE WHEN {OVER_AT} <= %(now)s
            THEN {OVER_AT} > %(now)s - %(kept)s AND EXISTS (SELECT FROM event_cursors c
                WHERE c.timing_partner_id = l.timing_partner_id AND c.event_id = e.event_id)
            ELSE EXISTS (SELECT FROM future_events f
                WHERE f.timing_partner_id = l.timing_partner_id AND f.event_id = e.event_id) END
)"""

_IS_CURRENT = f"""
WITH {_WANTED}
SELECT NOT EXISTS (
    SELECT FROM wanted w
    FULL JOIN (SELECT * FROM start_lists WHERE timing_partner_id = %(partner)s) s USING (event_id)
    WHERE w.race_id IS NULL OR s.race_id IS NULL
        OR (w.race_day, w.changed_at, w.active) IS DISTINCT FROM (s.race_day, s.registrations_changed_at, s.entrants))
"""

_ENTRY = "event_id race_id bib bib_number first_name last_name age gender city state team problems".split()
_FIGURES = (
    "race_id race_day entrants with_bib without_bib duplicate_bibs bibs_in_other_events out_of_range in_two_events"
    " lowest_bib highest_bib registrations_changed_at"
).split()


def _columns(names: list[str], alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in names)


def _cleaned(text: str) -> str:
    return rf"nullif(btrim({text}, E' \t\r\n'), '')"


# Counted by windows, never by joining rows to each other: a bib that a thousand entrants share would make a million pairs.
# Of the rows with one bib on one race day, those of other events and other persons are all, less those of the event, less
# those of the person, and those of both were taken away twice.
_REBUILD = f"""
WITH {_WANTED},
bundles AS (
    SELECT b.event_id AS bundle_id, b.race_id, coalesce(b.race_event_days_id, -b.event_id) AS edition,
        b.start_time::date AS race_day, w.event_id
    FROM wanted w JOIN runsignup_events b ON b.race_id = w.race_id AND b.is_bundle AND w.event_id = ANY (b.sub_event_ids)
),
-- A bundle that has no list any more still tells who is in its later events because of it.
scope AS (
    SELECT event_id, race_id, edition, race_day, true AS is_listed FROM wanted
    UNION
    SELECT bundle_id, race_id, edition, race_day, false FROM bundles
    WHERE bundle_id NOT IN (SELECT event_id FROM wanted)
),
held AS (
    SELECT s.*, p.registration_id, p.user_id, p.age AS sent_age, p.dob, p.gender,
        coalesce({_cleaned("p.bib_num")}, {_cleaned("p.local_bib")}) AS bib,
        {_cleaned("p.first_name")} AS first_name, {_cleaned("p.last_name")} AS last_name, lower(p.email) AS email,
        {_cleaned("p.address ->> 'city'")} AS city, {_cleaned("p.address ->> 'state'")} AS state,
        {_cleaned("p.team_info ->> 'team_name'")} AS team
    FROM scope s JOIN runsignup_participants p ON p.timing_partner_id = %(partner)s AND p.event_id = s.event_id
        AND p.removed_at IS NULL
),
named AS (
    SELECT h.*, CASE WHEN bib ~ '^[0-9]{{1,18}}$' THEN bib::bigint END AS bib_number,
        lower(concat_ws(' ', first_name, last_name)) || '|' || coalesce(dob::text, nullif(email, '')) AS who
    FROM held h
),
persons AS MATERIALIZED (
    SELECT n.*, coalesce(
        'u' || coalesce(user_id, CASE WHEN who NOT LIKE '|%%' THEN min(user_id) OVER (PARTITION BY race_id, who COLLATE "C") END),
        'n' || CASE WHEN who NOT LIKE '|%%' THEN who END, 'r' || registration_id) COLLATE "C" AS person
    FROM named n
),
by_bundle AS MATERIALIZED (
    SELECT b.event_id, p.person FROM bundles b JOIN persons p ON p.event_id = b.bundle_id
),
placed AS (
    -- IN over a subquery is hashed whatever the planner takes the rows of a WITH to be; a join was planned as a nested loop.
    SELECT p.*, CASE WHEN (event_id, person) NOT IN (SELECT event_id, person FROM by_bundle) THEN event_id END AS own_event
    FROM persons p
),
fences AS MATERIALIZED (
    SELECT event_id, quartiles[1] - 1.5 * (quartiles[2] - quartiles[1]) AS low,
        quartiles[2] + 1.5 * (quartiles[2] - quartiles[1]) AS high
    FROM (
        SELECT event_id, percentile_cont(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY bib_number::float) AS quartiles
        FROM (SELECT DISTINCT event_id, bib_number FROM persons WHERE is_listed AND bib_number IS NOT NULL) d
        GROUP BY event_id HAVING count(*) >= 20) q
),
counted AS (
    SELECT p.*,
        count(*) OVER (PARTITION BY p.race_id, race_day, bib COLLATE "C") AS of_day,
        count(*) OVER (PARTITION BY p.race_id, race_day, bib COLLATE "C", p.event_id) AS of_event,
        count(*) OVER (PARTITION BY p.race_id, race_day, bib COLLATE "C", p.person) AS of_person,
        count(*) OVER (PARTITION BY p.race_id, race_day, bib COLLATE "C", p.event_id, p.person) AS of_both,
        count(*) OVER (PARTITION BY p.event_id, bib_number / 100) AS of_hundred,
        bib_number < f.low OR bib_number > f.high AS is_beyond,
        min(own_event) OVER (PARTITION BY p.race_id, edition, p.person)
            < max(own_event) OVER (PARTITION BY p.race_id, edition, p.person) AS in_two
    FROM placed p
    LEFT JOIN fences f ON f.event_id = p.event_id
),
aged AS (
    SELECT c.*, (to_char(race_day, 'YYYYMMDD')::integer - to_char(dob, 'YYYYMMDD')::integer) / 10000 AS years
    FROM (SELECT c.*, dob <= race_day AS is_born FROM counted c WHERE is_listed) c
),
entries AS MATERIALIZED (
    SELECT registration_id, event_id, race_id, bib, bib_number, first_name, last_name,
        CASE WHEN is_born THEN years ELSE sent_age END AS age, gender, city, state, team,
        array_remove(ARRAY[
            CASE WHEN bib IS NULL THEN 'no_bib' END,
            CASE WHEN bib IS NOT NULL AND of_event > 1 THEN 'duplicate_bib' END,
            CASE WHEN bib IS NOT NULL AND of_day - of_event - of_person + of_both > 0 THEN 'bib_in_other_event' END,
            CASE WHEN is_beyond AND of_hundred < 5 THEN 'out_of_range' END,
            CASE WHEN in_two THEN 'in_two_events' END], NULL) AS problems
    FROM aged
),
gone AS (
    DELETE FROM start_list_entries
    WHERE timing_partner_id = %(partner)s AND registration_id NOT IN (SELECT registration_id FROM entries)
    RETURNING event_id
),
written AS (
    INSERT INTO start_list_entries (timing_partner_id, registration_id, {", ".join(_ENTRY)})
    SELECT %(partner)s, e.registration_id, {_columns(_ENTRY, "e")}
    -- LATERAL keeps to the whole key of the index; a join was planned over all the partner's rows for each entrant.
    FROM entries e LEFT JOIN LATERAL (SELECT * FROM start_list_entries h
        WHERE h.timing_partner_id = %(partner)s AND h.registration_id = e.registration_id LIMIT 1) s ON true
    WHERE s.registration_id IS NULL OR ({_columns(_ENTRY, "e")}) IS DISTINCT FROM ({_columns(_ENTRY, "s")})
    ON CONFLICT (timing_partner_id, registration_id) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in _ENTRY)}, changed_at = now()
    RETURNING event_id, xmax = 0 AS is_new
),
summed AS (
    SELECT event_id, count(*) AS entrants, count(bib) AS with_bib,
        count(*) FILTER (WHERE 'duplicate_bib' = ANY (problems)) AS duplicate_bibs,
        count(*) FILTER (WHERE 'bib_in_other_event' = ANY (problems)) AS bibs_in_other_events,
        count(*) FILTER (WHERE 'out_of_range' = ANY (problems)) AS out_of_range,
        count(*) FILTER (WHERE 'in_two_events' = ANY (problems)) AS in_two_events,
        min(bib_number) AS lowest_bib, max(bib_number) AS highest_bib
    FROM entries GROUP BY event_id
),
figures AS (
    SELECT w.event_id, w.race_id, w.race_day, w.changed_at AS registrations_changed_at,
        coalesce(s.entrants, 0) AS entrants, coalesce(s.with_bib, 0) AS with_bib,
        coalesce(s.entrants - s.with_bib, 0) AS without_bib, coalesce(s.duplicate_bibs, 0) AS duplicate_bibs,
        coalesce(s.bibs_in_other_events, 0) AS bibs_in_other_events, coalesce(s.out_of_range, 0) AS out_of_range,
        coalesce(s.in_two_events, 0) AS in_two_events, s.lowest_bib, s.highest_bib
    FROM wanted w LEFT JOIN summed s USING (event_id)
),
lists_gone AS (
    DELETE FROM start_lists
    WHERE timing_partner_id = %(partner)s AND event_id NOT IN (SELECT event_id FROM wanted)
    RETURNING 1
),
lists_written AS (
    INSERT INTO start_lists (timing_partner_id, event_id, {", ".join(_FIGURES)})
    SELECT %(partner)s, f.event_id, {_columns(_FIGURES, "f")}
    FROM figures f LEFT JOIN start_lists s ON s.timing_partner_id = %(partner)s AND s.event_id = f.event_id
    WHERE s.event_id IS NULL OR ({_columns(_FIGURES, "f")}) IS DISTINCT FROM ({_columns(_FIGURES, "s")})
        OR f.event_id IN (SELECT event_id FROM written UNION SELECT event_id FROM gone)
    ON CONFLICT (timing_partner_id, event_id) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in _FIGURES)}, built_at = now()
    RETURNING 1
)
SELECT (SELECT count(*) FROM entries), count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new),
    (SELECT count(*) FROM gone), (SELECT count(*) FROM lists_written) + (SELECT count(*) FROM lists_gone)
FROM written
"""
