"""Merge a staged page of registrations into the stored rows, and find what a pass did not show.

Every function works inside the caller's transaction, so that rows and position commit together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from rsu_pipeline.eastern import EASTERN_SQL
from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse import privacy_classes, reconciliation
from rsu_pipeline.warehouse.staging import COLUMNS, Counts, RejectedRow, Source, StagedLine, params_of, stage_and


def merge_active(
    conn: Connection,
    lines: Sequence[StagedLine],
    source: Source,
    *,
    full: bool,
    upto: int | None = None,
    is_first_load: bool = False,
) -> tuple[Counts, list[RejectedRow]]:
    """Merge active registrations: insert new ones, update changed ones, leave unchanged ones alone.

    Every bib that changed after its event's first load is logged by the same statement. An incremental pass ignores a row that
    is older than its removal. A full pass does not: RunSignup has just listed the registration as active, and a reactivation may
    leave the timestamp unchanged.

    Args:
        conn: In the page's transaction.
        lines: The page.
        source: Where the page came from.
        full: Whether the pass counts what it was sent, for its proof.
        upto: The registration id up to which rows are counted for the proof, or None for all.
        is_first_load: Whether none of its events was ever loaded.
    """
    params = params_of(source) | {"full": full, "upto": upto}

    def merge(cur: Cursor) -> Counts:
        cur.execute(reconciliation.supersede(_IS_STALE), params)
        counts, is_all = _insert_new(cur, params) if is_first_load else (Counts(), False)
        if not is_all:
            counts.add(_counted(cur, _MERGE_ACTIVE, params))
        return counts

    return stage_and(conn, lines, merge, params, row_hash=reconciliation.row_hash("t"))


def _insert_new(cur: Cursor, params: dict[str, object]) -> tuple[Counts, bool]:
    """Insert the staged registrations that are not stored, and return whether these were all.

    The others stay in the staging table.
    """
    cur.execute(_INSERT_NEW, params)
    ((staged, inserted, _),) = cur.fetchall()
    if len(inserted) < staged:
        cur.execute("DELETE FROM participants_stage WHERE registration_id = ANY (%s::bigint[])", (_array(inserted),))
    return Counts(read=len(inserted), inserted=len(inserted)), len(inserted) == staged


def _counted(cur: Cursor, merge: str, params: dict[str, object]) -> Counts:
    cur.execute(merge, params)
    *counts, _ = cur.fetchone() or (0,)
    return Counts(*counts)


def merge_removed(
    conn: Connection, lines: Sequence[StagedLine], source: Source, *, overlap: int = 0
) -> tuple[Counts, list[RejectedRow]]:
    """Mark removed registrations with their reason.

    A removal that is older than the stored active row is ignored. A removal of the same second wins unless the pass saw the
    registration active, for a full pass after that second. A removal that is older than a full pass by more than `overlap`
    seconds is ignored if the pass saw the registration active: RunSignup had enough time to show it everywhere.
    """
    params = params_of(source) | {"full": source.mode != "incremental", "overlap": overlap}
    return stage_and(
        conn,
        lines,
        lambda cur: _counted(cur, _MERGE_REMOVED, params),
        params,
        row_hash=reconciliation.row_hash("t"),
    )


def held_as_sent(
    conn: Connection, source: Source, sent: Sequence[tuple[int, int | None, int]], *, upto: int | None
) -> dict[int, bool]:
    """Return which registrations are stored exactly as a full pass received them, each with whether it has field errors.

    These are active and have the content that was made of that digest. They need not be staged. They are counted for the proof
    as `merge_active` counts, and their field errors are noted as seen again.

    Args:
        conn: In the page's transaction.
        source: Where the page came from.
        sent: Registration id, event id and digest of each row.
        upto: The registration id up to which the page is complete, or None for all.
    """
    with conn.cursor() as cur:
        columns = map(_array, zip(*sent, strict=True)) if sent else [_array([])] * len(_SENT)
        cur.execute(_HELD_AS_SENT, params_of(source) | dict(zip(_SENT, columns, strict=True)) | {"upto": upto})
        return dict(cur.fetchall())


def compute_digest(sent: int, *, has_field_errors: bool) -> int:
    """Return the digest of a staged line from that of the row as RunSignup sent it."""
    return sent ^ _FIELD_ERRORS_MARK if has_field_errors else sent


def note_missing(
    conn: Connection,
    source: Source,
    event_ids: Sequence[int],
    *,
    after: int,
    upto: int | None,
    seen: Sequence[int],
    is_certain: bool = True,
) -> None:
    """Note after a page of a full pass which active registrations of its id range the page did not have.

    Since pages follow each other by id, the notes of all pages together are what the pass did not see.

    Args:
        conn: In the page's transaction.
        source: Where the page came from.
        event_ids: The events that the pass reads.
        after: The id after which the page begins.
        upto: The id up to which the page is complete, or None for all.
        seen: The registrations of the page.
        is_certain: Whether what the page did not have counts as missing.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SQL["note_missing"],
            params_of(source)
            | {"events": list(event_ids), "after": after, "upto": upto, "seen": _array(seen), "certain": is_certain},
        )


def note_seen(conn: Connection, source: Source, seen: Sequence[tuple[int, int]]) -> None:
    """Note after an incremental page the (registration, event) ids it showed as active."""
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO pass_registrations (timing_partner_id, race_id, mode, registration_id, event_id, missing)"
            " SELECT %s, %s, 'incremental', registration_id, event_id, false"
            " FROM unnest(%s::bigint[], %s::bigint[]) AS s (registration_id, event_id) ON CONFLICT DO NOTHING",
            (source.partner_id, source.race_id, _array(pair[0] for pair in seen), _array(pair[1] for pair in seen)),
        )


@dataclass(frozen=True)
class Missing:
    """What a complete full pass did not see of one event: `missing` of the `held` active registrations."""

    event_id: int
    missing: int
    held: int


def find_missing(conn: Connection, partner_id: int, race_id: int, mode: str) -> list[Missing]:
    """Return per event the active registrations that a current full pass did not see, with the number stored."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["find_missing"],
            {"partner": partner_id, "race": race_id, "mode": mode},
        )
        return [Missing(*row) for row in cur.fetchall()]


def has_unexplained(
    conn: Connection, partner_id: int, event_ids: Sequence[int], since: int, upto: int | None = None
) -> bool:
    """Return whether one of these events has a registration that went missing without a reason then, in Unix seconds."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["has_unexplained"],
            {"partner": partner_id, "events": list(event_ids), "since": since, "upto": upto},
        )
        (found,) = cur.fetchone() or (False,)
    return bool(found)


def has_removed(conn: Connection, partner_id: int, event_ids: Sequence[int]) -> bool:
    """Return whether one of these events has a registration that is stored as removed."""
    with conn.cursor() as cur:
        cur.execute(_SQL["has_removed"], {"partner": partner_id, "events": list(event_ids)})
        (found,) = cur.fetchone() or (False,)
    return bool(found)


def remove_missing(conn: Connection, source: Source, event_ids: Sequence[int]) -> int:
    """Mark what a complete full pass did not see of these events as `missing_upstream`, and return how many."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["remove_missing"],
            params_of(source) | {"events": list(event_ids)},
        )
        return int(cur.rowcount)


def removal_context(conn: Connection, partner_id: int) -> tuple[int, int]:
    """Return how many active registrations the partner has, and how many went missing without a reason within a day."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT count(*) FILTER (WHERE removed_at IS NULL),"
            " count(*) FILTER (WHERE removed_reason = 'missing_upstream' AND changed_at > now() - interval '24 hours')"
            " FROM runsignup_participants WHERE timing_partner_id = %s",
            (partner_id,),
        )
        active, recently = cur.fetchone() or (0, 0)
    return int(active), int(recently)


def is_any_above(conn: Connection, partner_id: int, event_ids: Sequence[int], registration_id: int) -> bool:
    """Return whether one of these events has an active registration with a higher id."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["is_any_above"],
            {"partner": partner_id, "events": list(event_ids), "registration": registration_id},
        )
        (found,) = cur.fetchone() or (False,)
    return bool(found)


def read_active_ids(conn: Connection, partner_id: int, event_ids: Sequence[int]) -> set[int]:
    """Return the active registrations of these events."""
    with conn.cursor() as cur:
        cur.execute(
            # Event by event, and `+ 0`, as in note_missing.
            "SELECT t.registration_id FROM unnest(%s::bigint[]) AS e (id) JOIN runsignup_participants t ON t.event_id = e.id"
            " WHERE t.timing_partner_id + 0 = %s AND t.removed_at IS NULL",
            (list(event_ids), partner_id),
        )
        return {registration_id for (registration_id,) in cur.fetchall()}


def count_active(conn: Connection, partner_id: int, event_ids: Sequence[int]) -> int:
    """Count the active registrations of these events."""
    with conn.cursor() as cur:
        cur.execute(
            # Event by event, and `+ 0`, as in note_missing.
            "SELECT count(*) FROM unnest(%s::bigint[]) AS e (id) JOIN runsignup_participants t ON t.event_id = e.id"
            " WHERE t.timing_partner_id + 0 = %s AND t.removed_at IS NULL",
            (list(event_ids), partner_id),
        )
        (count,) = cur.fetchone() or (0,)
    return int(count)


def _array(numbers: Iterable[int]) -> str:
    """Format numbers as the text of a bigint[].

    psycopg2 writes a list as an expression for each member. For a page that costs more than the lookup of its rows.
    """
    return f"{{{','.join(map(str, numbers))}}}"


_SENT = ("registrations", "events", "digests")
_FIELD_ERRORS_MARK = 1
"""A row with field errors has a digest that differs by this, and so a seal by which it is not taken for one without."""
_UPTO = "(%(upto)s IS NULL OR registration_id <= %(upto)s)"
"""SQL: rows above `upto` come again with the next page."""
_NAMES = ", ".join(COLUMNS)
_NEW = ", ".join(f"i.{name}" for name in COLUMNS)
_COMPARED = [name for name in COLUMNS if name != "payload"]
_DIFFERS = " IS DISTINCT FROM ".join(
    f"({', '.join(privacy_classes.comparable(name, f'{alias}.{name}') for name in _COMPARED)})" for alias in "it"
)
_TEXT_DIFFERS = "i.payload::text IS DISTINCT FROM t.payload::text"
"""SQL: whether the payloads of a staged row i and its stored row t differ as text. Then they are compared as values."""
_CHANGES = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "registration_id")
_DERIVED = "registered_at, last_modified"
_DERIVATION = (
    f"i.registration_date AT TIME ZONE {EASTERN_SQL}, to_timestamp(i.last_modified_epoch) AT TIME ZONE {EASTERN_SQL}"
)

_NOTIFY = """
    (SELECT count(rsu_notify_participants(%(partner)s, race_id, event_id)) FROM (SELECT DISTINCT race_id, event_id FROM {0}) e)"""
"""SQL: notifies listeners of each event of which a CTE has registrations that were written."""
_NOTIFY_WRITTEN = _NOTIFY.format("written")
_IS_STALE = "(NOT %(full)s AND coalesce(t.removed_at IS NOT NULL AND i.last_modified_epoch < t.removed_epoch, false))"
"""SQL: whether a staged row i is older than the stored removal t, and its pass is no evidence against that."""
_WRITTEN = f"""
SELECT w.event_id, w.seal # i.digest AS hash FROM written w JOIN participants_stage i USING (registration_id) WHERE {_UPTO}
"""

# A full pass saw what it did not note as unseen. An incremental pass saw what it noted.
_WAS_SEEN = (
    "CASE WHEN %(full)s THEN s.registration_id IS NULL AND t.event_id = ANY (p.event_ids)"
    " ELSE s.registration_id IS NOT NULL END"
)

_SQL = load(
    __file__,
    COLUMNS=_NAMES,
    STAGED_COLUMNS=_NEW,
    DERIVED=_DERIVED,
    DERIVATION=_DERIVATION,
    CHANGES=_CHANGES,
    DIFFERS=_DIFFERS,
    TEXT_DIFFERS=_TEXT_DIFFERS,
    IS_STALE=_IS_STALE,
    WAS_SEEN=_WAS_SEEN,
    FIELD_ERRORS_MARK=str(_FIELD_ERRORS_MARK),
    STAGED_HASH=reconciliation.row_hash("i"),
    STORED_HASH=reconciliation.row_hash("h"),
    COUNT_SAME=reconciliation.add_to_counts(f"SELECT event_id, hash FROM same WHERE {_UPTO}"),
    COUNT_HASHED=reconciliation.add_to_counts(f"SELECT event_id, hash FROM hashed WHERE %(full)s AND {_UPTO}"),
    COUNT_WRITTEN=reconciliation.add_to_counts(_WRITTEN),
    COUNT_SUPERSEDED=reconciliation.add_counts(reconciliation.SUPERSEDED_BY_REMOVALS),
    NOTIFY_WRITTEN=_NOTIFY_WRITTEN,
    NOTIFY_INSERTED=_NOTIFY.format("inserted"),
)
_HELD_AS_SENT = _SQL["find_held_as_sent"]
_MERGE_ACTIVE = _SQL["merge_active"]
_INSERT_NEW = _SQL["insert_new"]
_MERGE_REMOVED = _SQL["merge_removed"]
