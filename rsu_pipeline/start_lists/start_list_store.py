"""Start lists, made from the stored registrations: who starts where with which bib, and which problems there are.

An event has a list while it is upcoming (it is in `future_events`), and for two days after it is over, so that scoring on
Sunday still has Saturday's. Volunteers' events have none. How each problem is found:

- `no_bib`: there is no bib at RunSignup, neither the entrant's nor the team's nor one on the row of a bundle, and none was
  assigned here.
- `duplicate_bib`: another entrant of the event has the same bib, and is no member of the team that it belongs to. Bibs are
  compared as text, without blanks around them.
- `bib_in_other_event`: another person, not of the same team, has the bib in another event of the same race on the same day.
- `out_of_range`: the bib is a number beyond Tukey's fences of the event's bibs (the quartiles, and one and a half times
  their distance further out) and fewer than five of the event's entrants are in its hundred, so that a separate block,
  for example for elite runners, is no problem. Evaluated only if the event has twenty different numbers.
- `in_two_events`: the person is in another event of the edition, and not because of a bundle.

The age is RunSignup's. If it sent none, it is computed from the birth date, on the event's `age_calc_base_date`, else on race
day.

A person is a RunSignup account, or without one a name and birth date, or a name and e-mail address. Somebody who took a bundle
has a row in it and one in each of its events, with one bib: these are one entry. If the bib is on the bundle's row alone, the
entries of its events have it too, with `bundle` as its source.
"""

import datetime as dt
import time
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import connection as Connection

from rsu_pipeline.errors import RsuError
from rsu_pipeline.sql_files import load
from rsu_pipeline.start_lists.start_list_rules import IS_CURRENT, REBUILD
from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.advisory_locks import Kind
from rsu_pipeline.warehouse.event_times import OVER_AT

_SQL = load(__file__)

KEPT_AFTER = dt.timedelta(days=2)
"""How long an event that is over keeps its list."""


class NoStartList(RsuError):
    """An event has no start list. The text is one sentence: why, and the next step."""


@dataclass(frozen=True)
class RebuildResult:
    """Counts of a rebuild: rows of `start_list_entries`, and rows of `start_lists` that it wrote or deleted."""

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
class RebuildFailed:
    """A rebuild that PostgreSQL refused, with its message in one line."""

    reason: str


@dataclass(frozen=True)
class StartList:
    """An event's list in figures.

    `start` is wall time in the race's zone, `timezone`, which is None if RunSignup sends none. `near` means that the event starts
    within 24 hours, or started less than 24 hours ago and is not over. The other fields are the columns of `start_lists`.
    """

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
    timezone: str | None


@dataclass(frozen=True)
class Entry:
    """An entrant, as a row of `start_list_entries`."""

    bib: str | None
    bib_source: str | None
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
    """An entrant with a problem, by registration id only."""

    registration_id: int
    event_id: int
    problems: list[str]


def rebuild(conn: Connection, partner_id: int, now: dt.datetime) -> RebuildResult:
    """Update a partner's start lists as of `now`, in the caller's transaction. An unchanged row is not rewritten."""
    began = time.monotonic()
    database.lease(conn)
    with conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock(%s, %s)", (Kind.START_LISTS, partner_id))
        cur.execute(REBUILD, _parameters(partner_id, now))
        entrants, inserted, updated, deleted, lists_written = cur.fetchone() or (0, 0, 0, 0, 0)
    unchanged = entrants - inserted - updated
    return RebuildResult(inserted, updated, deleted, unchanged, lists_written, time.monotonic() - began)


def try_rebuild(conn: Connection, partner_id: int, now: dt.datetime) -> RebuildResult | RebuildFailed:
    """Run `rebuild`, after whose failure the caller's transaction is as before it.

    After a failure the lists are not current, and are rebuilt at the partner's next sync.
    """
    with conn.cursor() as cur:
        cur.execute("SAVEPOINT start_lists")
        try:
            built = rebuild(conn, partner_id, now)
        except psycopg2.Error as error:
            if conn.closed:
                raise
            cur.execute("ROLLBACK TO SAVEPOINT start_lists")
            return RebuildFailed((str(error).splitlines() or [type(error).__name__])[0])
        cur.execute("RELEASE SAVEPOINT start_lists")
    return built


def is_current(conn: Connection, partner_id: int, now: dt.datetime) -> bool:
    """Return whether a partner has the lists it should have at `now`, with no registration changed since they were built.

    Changes by other programs, for example a bib assigned here, are noticed only by a rebuild.
    """
    with conn.cursor() as cur:
        cur.execute(IS_CURRENT, _parameters(partner_id, now))
        (current,) = cur.fetchone() or (False,)
    return bool(current)


def read_start_lists(conn: Connection, partner_id: int | None, now: dt.datetime) -> list[StartList]:
    """Return the lists of a partner, or of all, first start first."""
    with conn.cursor() as cur:
        cur.execute(
            f"{_LISTS} WHERE %(partner)s IS NULL OR s.timing_partner_id = %(partner)s"
            " ORDER BY e.starts_at NULLS LAST, s.event_id, s.timing_partner_id",
            _parameters(partner_id, now),
        )
        return [StartList(*row) for row in cur.fetchall()]


def read_build_times(conn: Connection) -> dict[tuple[int, int], dt.datetime]:
    """Return when each list was last written, by partner and event."""
    with conn.cursor() as cur:
        cur.execute("SELECT timing_partner_id, event_id, built_at FROM start_lists")
        return {(partner_id, event_id): built_at for partner_id, event_id, built_at in cur.fetchall()}


def read_start_list(conn: Connection, event_id: int, now: dt.datetime, *, partner_id: int | None = None) -> StartList:
    """Return the list of an event: of this partner, or of the first that has one.

    Raises:
        NoStartList: there is none.
    """
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
        raise NoStartList(f"There is no event {event_id}: `rsu start-list` lists those that have a start list.")
    if known[0]:
        raise NoStartList(f"Event {event_id} is for volunteers and has no start list.")
    whose = "" if partner_id is None else f" of partner {partner_id}"
    raise NoStartList(
        f"Event {event_id} has no start list{whose}: it is over for more than two days, or has not been synced since it was"
        " entered (`rsu sync` does that)."
    )


def read_entries(conn: Connection, found: StartList, *, problems_only: bool = False) -> list[Entry]:
    """Return the entrants of a list in order of bib, those without one last."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT bib, bib_source, first_name, last_name, age, gender, city, state, team, problems, registration_id"
            " FROM start_list_entries WHERE timing_partner_id = %s AND event_id = %s AND (NOT %s OR problems <> '{}')"
            " ORDER BY bib IS NULL, bib_number NULLS LAST, bib, lower(last_name), lower(first_name), registration_id",
            (found.partner_id, found.event_id, problems_only),
        )
        return [Entry(*row) for row in cur.fetchall()]


def read_problems(
    conn: Connection, partner_id: int, limit: int, *, only: tuple[str, ...] = (), events: list[int] | None = None
) -> list[Problem]:
    """Return some of the partner's entrants with problems, first start first.

    `only` limits them to these problems, `events` to these events.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["read_problems"], {"partner": partner_id, "only": list(only), "events": events, "limit": limit}
        )
        return [Problem(*row) for row in cur.fetchall()]


def _parameters(partner_id: int | None, now: dt.datetime) -> dict[str, object]:
    return {"partner": partner_id, "now": now, "kept": KEPT_AFTER}


_LISTS = f"""
SELECT s.timing_partner_id, s.event_id, coalesce(r.name, ''), coalesce(e.name, ''), e.start_time,
    coalesce(abs(extract(epoch FROM e.starts_at - %(now)s)) <= 86400 AND {OVER_AT} > %(now)s, false),
    s.entrants, s.with_bib, s.without_bib, s.duplicate_bibs, s.bibs_in_other_events, s.out_of_range, s.in_two_events,
    s.lowest_bib, s.highest_bib, s.built_at, r.timezone
FROM start_lists s JOIN runsignup_events e USING (event_id) JOIN runsignup_races r ON r.race_id = s.race_id
"""
