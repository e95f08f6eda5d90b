"""Cursors, checkpoints and quarantine: how far a copy reaches, and which rows it could not store."""

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.included_fields import NONE
from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.event_times import AHEAD_TOLERANCE
from rsu_pipeline.warehouse.foreign_writes import NEEDS_FULL

_SQL = load(__file__, NEEDS_FULL=NEEDS_FULL)

Mode = Literal["full", "incremental", "history"]
"""Mode of a pass. `history` reads all registrations of past events, as `full` does of upcoming ones.

Each mode of a race has a pass of its own.
"""
Feed = Literal["participants", "removed"]

REMOVALS_PENDING = "removals held back, waiting to be confirmed"
"""Why an event needs a full read after one that would have removed too many of its registrations."""
NOT_EQUAL = "last full read was not proved equal"
"""Why an event needs a full read if its stored rows differ from what the last one received."""
END_UNCONFIRMED = "last full read ended with an empty answer after a full page"
"""Why an event needs a full read if nothing but responses at one time shows that nothing follows the rows received."""
RESUME_WITHIN = dt.timedelta(hours=24)
"""A pass that began longer ago is restarted: its first pages no longer describe the present."""


@dataclass(frozen=True)
class EventCursor:
    """How far a partner's copy of an event reaches. See the table's comments."""

    event_id: int
    modified_after: int
    removed_after: int
    last_full_at: dt.datetime
    last_read_at: dt.datetime
    needs_full: str | None
    registrations: int
    included: str = NONE

    @property
    def furthest(self) -> dt.datetime:
        """The latest of its times. None may be later than the present."""
        cursors = max(self.modified_after, self.removed_after)
        return max(dt.datetime.fromtimestamp(cursors, dt.UTC), self.last_full_at, self.last_read_at)


@dataclass
class Position:
    """The checkpoint of a pass over a race.

    `after` is the registration id up to which everything is stored, `first_page_at` when the first page was read (None before
    it), `changes_from` from when on the next incremental read requests changes. Both times are Unix seconds, and the earliest that
    the clocks allow. `is_last_short` means that the last page with active registrations had fewer than requested, `resumed` that an
    earlier process began the pass. `read_number` orders it among other reads by their beginning.
    """

    partner_id: int
    race_id: int
    mode: Mode
    feed: Feed
    event_ids: list[int]
    modified_after: int | None
    first_page_at: int | None
    changes_from: int | None
    after: int
    pages: int
    is_last_short: bool
    is_resumed: bool
    read_number: int
    included: str = NONE

    @property
    def reads_all(self) -> bool:
        """Whether the pass sees every active registration of its events, and so what is gone."""
        return self.mode != "incremental"


def read_event_cursors(conn: Connection, partner_id: int) -> dict[int, EventCursor]:
    """Return the partner's cursors, by event."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_event_cursors"], {"partner": partner_id})
        return {row[0]: EventCursor(*row) for row in cur.fetchall()}


def read_loaded_events(conn: Connection, partner_id: int, event_ids: Sequence[int], *, overlap: int) -> dict[int, bool]:
    """Return the events that were ever read in full, each with whether its last pass showed the end of the feed.

    A pass that did not show it left the cursor where an earlier pass set it, more than `overlap` seconds before.
    """
    with conn.cursor() as cur:
        cur.execute(_SQL["read_loaded_events"], {"overlap": overlap, "partner": partner_id, "events": list(event_ids)})
        return dict(cur.fetchall())


def open_pass(
    conn: Connection,
    partner_id: int,
    race_id: int,
    mode: Mode,
    event_ids: Sequence[int],
    modified_after: int | None,
    *,
    included: str = NONE,
) -> Position:
    """Return the pass of this mode over these events. Commits.

    It is the one that an earlier process left unfinished, if that read the same events with the same optional fields and is not
    too old, else a new one.
    """
    wanted = sorted(event_ids)
    its = {"partner": partner_id, "race": race_id, "mode": mode, "events": wanted, "included": included}
    with conn.cursor() as cur:
        cur.execute(_SQL["find_unfinished_pass"], its | {"within": RESUME_WITHIN, "ahead": AHEAD_TOLERANCE})
        row = cur.fetchone()
        if row is None:
            drop_pass(conn, partner_id, race_id, mode)
            cur.execute(
                "INSERT INTO read_passes (timing_partner_id, race_id, mode, event_ids, modified_after, included)"
                " VALUES (%(partner)s, %(race)s, %(mode)s, %(events)s::bigint[], %(after)s, %(included)s) RETURNING read_number",
                its | {"after": modified_after},
            )
            ((number,),) = cur.fetchall()
            row = ("participants", modified_after, None, None, 0, 0, False, number)
            if mode != "incremental":
                # The target of the foreign key of all rows that the pass will store. Incrementally read events have a cursor.
                cur.execute(
                    "INSERT INTO pass_counts (timing_partner_id, race_id, mode, event_id, rows, hash)"
                    " SELECT %s, %s, %s, unnest(%s::bigint[]), 0, 0",
                    (partner_id, race_id, mode, wanted),
                )
    conn.commit()
    feed, since, first_page_at, changes_from, after, pages, is_last_short, number = row
    return Position(
        partner_id,
        race_id,
        mode,
        feed,
        wanted,
        since,
        first_page_at,
        changes_from,
        after,
        pages,
        is_last_short,
        is_resumed=pages > 0,
        read_number=number,
        included=included,
    )


def next_read_number(conn: Connection) -> int:
    """Return a number for a request or a read that begins now, higher than those of all that began before.

    Leaves a transaction open.
    """
    with conn.cursor() as cur:
        cur.execute("SELECT nextval('read_passes_read_number_seq')")
        ((number,),) = cur.fetchall()
    return int(number)


def read_read_numbers(conn: Connection, partner_id: int, event_ids: Sequence[int], *, full: bool) -> list[int]:
    """Return the number of each event's last complete read, or of its last full one, 0 if there was none."""
    with conn.cursor() as cur:
        cur.execute(
            f"SELECT coalesce(c.{'full_read_number' if full else 'read_number'}, 0) FROM unnest(%s::bigint[]) AS e (id)"
            " LEFT JOIN event_cursors c ON c.timing_partner_id = %s AND c.event_id = e.id",
            (list(event_ids), partner_id),
        )
        return [number for (number,) in cur.fetchall()]


def save(conn: Connection, position: Position) -> None:
    """Store the checkpoint, in the caller's transaction."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE read_passes SET feed = %s, modified_after = %s, first_page_at = %s, changes_from = %s,"
            " after_registration_id = %s, pages = %s, is_last_short = %s"
            " WHERE timing_partner_id = %s AND race_id = %s AND mode = %s",
            (
                position.feed,
                position.modified_after,
                position.first_page_at,
                position.changes_from,
                position.after,
                position.pages,
                position.is_last_short,
                position.partner_id,
                position.race_id,
                position.mode,
            ),
        )


def drop_pass(conn: Connection, partner_id: int, race_id: int, mode: Mode) -> None:
    """Delete a pass, finished or abandoned."""
    with conn.cursor() as cur:
        cur.execute(
            "DELETE FROM read_passes WHERE timing_partner_id = %s AND race_id = %s AND mode = %s",
            (partner_id, race_id, mode),
        )


def advance(
    conn: Connection, position: Position, *, overlap: int, with_removed: bool = True, is_end_shown: bool = True
) -> None:
    """Complete a pass: move its events' cursors to where its changes begin, less `overlap` seconds.

    The cursor of removed registrations moves only if `with_removed`, that of changed ones only if `is_end_shown`. Runs in the
    caller's transaction, with the last page.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["advance"],
            {
                "partner": position.partner_id,
                "race": position.race_id,
                "events": position.event_ids,
                "cursor": max(0, (position.changes_from or 0) - overlap),
                "first": position.first_page_at,
                "number": position.read_number,
                "full": position.reads_all,
                "removed": with_removed,
                "shown": is_end_shown,
                "included": position.included,
            },
        )


def read_newest_stamp(conn: Connection, partner_id: int, event_ids: Sequence[int]) -> int:
    """Return RunSignup's latest stamp on what is stored of these events, in Unix seconds, or 0 if nothing is."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT coalesce(max(greatest(t.last_modified_epoch, t.removed_epoch)), 0)"
            # Event by event, and `+ 0`, as in participants.note_missing.
            " FROM unnest(%s::bigint[]) AS e (id) JOIN runsignup_participants t ON t.event_id = e.id"
            " WHERE t.timing_partner_id + 0 = %s",
            (list(event_ids), partner_id),
        )
        (newest,) = cur.fetchone() or (0,)
    return int(newest)


def request_full_read(conn: Connection, partner_id: int, event_ids: Sequence[int], reason: str) -> None:
    """Request a full read of these events next time, and record the reason."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE event_cursors SET needs_full = %s WHERE timing_partner_id = %s AND event_id = ANY (%s::bigint[])",
            (reason[:300], partner_id, list(event_ids)),
        )


@dataclass(frozen=True)
class QuarantinedRow:
    """A row that could not be stored completely."""

    raw: bytes
    reason: str
    registration_id: int | None
    is_stored: bool


def quarantine(conn: Connection, partner_id: int, race_id: int, rows: Sequence[QuarantinedRow]) -> int:
    """Record a page's rows that did not fit, and return how many were not quarantined before.

    A known row only gets a new time.
    """
    if not rows:
        return 0
    # A row that was sent twice counts once.
    by_digest = {hashlib.sha256(row.raw).hexdigest(): row for row in rows}
    with conn.cursor() as cur:
        cur.execute(
            _SQL["quarantine"],
            {
                "partner": partner_id,
                "race": race_id,
                "registrations": [row.registration_id for row in by_digest.values()],
                "stored": [row.is_stored for row in by_digest.values()],
                "reasons": [row.reason[:2000] for row in by_digest.values()],
                "digests": list(by_digest),
                "texts": [row.raw.decode("utf-8", "replace").replace("\x00", "\ufffd") for row in by_digest.values()],
            },
        )
        (added,) = cur.fetchone() or (0,)
    return int(added)


def summarize_quarantine(
    conn: Connection, partner_id: int, sample: int
) -> tuple[int, int, list[tuple[int | None, str]]]:
    """Return the unresolved quarantined rows: how many are not stored, how many are stored with fields left NULL, and a sample.

    The sample has pairs of registration id and reason.
    """
    with conn.cursor() as cur:
        cur.execute(
            "SELECT registration_id, reason, is_stored FROM quarantined_rows"
            " WHERE timing_partner_id = %s AND resolved_at IS NULL ORDER BY is_stored, quarantined_row_id",
            (partner_id,),
        )
        rows = cur.fetchall()
    held_back = sum(not is_stored for _, _, is_stored in rows)
    return held_back, len(rows) - held_back, [(number, reason) for number, reason, _ in rows[:sample]]
