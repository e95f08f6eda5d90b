"""Remove a partner from the hub, and merge one that was entered twice.

A removed partner is disabled and has no credential. Its registrations are removed as those of a partner that lost access to
all its races, which a sync undoes once the partner is entered again. Rows stay, since the bib log refers to them: erased ones
without anything about a person. Each step can be repeated, so a race that was busy is done by the next call.
"""

import datetime as dt
from dataclasses import dataclass, field

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse import containers, privacy, race_locks
from rsu_pipeline.warehouse.credentials import PROVIDER, Partner, PartnerError
from rsu_pipeline.warehouse.erasures import rewrite
from rsu_pipeline.warehouse.privacy_classes import without_person

_SQL = load(__file__)

LOCK_TIMEOUT_SECONDS = 60.0
MERGED = "merged with another partner"
"""Why an event needs a full read after a merge has added registrations to it."""


@dataclass
class Removal:
    """What was done: registrations marked as removed, copied to the other partner, and blanked. `busy` has what was being read."""

    removed: int = 0
    copied: int = 0
    erased: int = 0
    busy: list[str] = field(default_factory=list)


def remove(conn: Connection, partner: Partner, *, now: dt.datetime, erase: bool) -> Removal:
    """Remove a partner, and blank everything about people in its rows with `erase`. Commits."""
    removal = Removal()
    _withdraw(conn, partner.partner_id)
    _remove_races(conn, partner.partner_id, now, removal, erase=erase)
    if erase and not removal.busy:
        _log_erasure(conn, partner.partner_id, removal)
    return removal


def merge(conn: Connection, source: Partner, target: Partner, *, now: dt.datetime) -> Removal:
    """Copy what only `source` has to `target`, then remove `source`. Commits.

    Raises:
        PartnerError: they are one partner, or do not have the same API key.
    """
    _refuse_different_keys(conn, source, target)
    removal = Removal()
    _withdraw(conn, source.partner_id)
    for race_id in _races(conn, source.partner_id):
        try:
            with (
                race_locks.race_lock(conn, source.partner_id, race_id, wait=LOCK_TIMEOUT_SECONDS),
                race_locks.race_lock(conn, target.partner_id, race_id, wait=LOCK_TIMEOUT_SECONDS),
            ):
                removal.copied += _copy_race(conn, source, target, race_id)
                conn.commit()
        except race_locks.ReadElsewhere as error:
            removal.busy.append(str(error))
    if not removal.busy:
        _remove_races(conn, source.partner_id, now, removal, erase=False)
    return removal


def count_rows(conn: Connection, partner_id: int) -> tuple[int, int]:
    """Return how many races and registrations a partner has, removed ones included."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT (SELECT count(*) FROM partner_races WHERE timing_partner_id = %(partner)s),"
            " (SELECT count(*) FROM runsignup_participants WHERE timing_partner_id = %(partner)s)",
            {"partner": partner_id},
        )
        races, registrations = cur.fetchone() or (0, 0)
    return int(races), int(registrations)


def _withdraw(conn: Connection, partner_id: int) -> None:
    """Disable a partner, and delete its credential and its requested backfill, so that nothing reads for it any more."""
    values = {"partner": partner_id, "provider": PROVIDER}
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE timing_partners SET disabled_at = coalesce(disabled_at, now()) WHERE timing_partner_id = %(partner)s",
            values,
        )
        cur.execute(
            "DELETE FROM partner_provider_credentials WHERE timing_partner_id = %(partner)s"
            " AND provider_id IN (SELECT provider_id FROM providers WHERE lower(name) = %(provider)s)",
            values,
        )
        cur.execute("DELETE FROM history_requests WHERE timing_partner_id = %(partner)s", values)
    conn.commit()


def _remove_races(conn: Connection, partner_id: int, now: dt.datetime, removal: Removal, *, erase: bool) -> None:
    try:
        # A sync that is under way would find the races again.
        with race_locks.race_lock(conn, partner_id, race_locks.LISTING, wait=LOCK_TIMEOUT_SECONDS):
            for race_id in _races(conn, partner_id):
                _remove_race(conn, partner_id, race_id, now, removal, erase=erase)
            if not removal.busy:
                _delete_lists(conn, partner_id, erase=erase)
            conn.commit()
    except race_locks.ReadElsewhere as error:
        removal.busy.append(str(error))


def _remove_race(
    conn: Connection, partner_id: int, race_id: int, now: dt.datetime, removal: Removal, *, erase: bool
) -> None:
    try:
        with race_locks.race_lock(conn, partner_id, race_id, wait=LOCK_TIMEOUT_SECONDS):
            containers.mark_lost(conn, partner_id, race_id, "access_lost", now)
            removal.removed += containers.update_registrations(conn, partner_id, race_id, now)
            if erase:
                with conn.cursor() as cur:
                    cur.execute(_ERASE, {"partner": partner_id, "race": race_id})
                    removal.erased += cur.rowcount
            conn.commit()
    except race_locks.ReadElsewhere as error:
        removal.busy.append(str(error))


def _delete_lists(conn: Connection, partner_id: int, *, erase: bool) -> None:
    """Delete what is derived from the registrations, and hand the races to other partners that can read them."""
    race_locks.wait_for_turn(conn, partner_id)
    with conn.cursor() as cur:
        for table in ("start_list_entries", "start_lists", "future_events", "read_passes"):
            cur.execute(f"DELETE FROM {table} WHERE timing_partner_id = %s", (partner_id,))
        if erase:
            cur.execute("UPDATE quarantined_rows SET row_text = NULL WHERE timing_partner_id = %s", (partner_id,))
    containers.settle_owners(conn, partner_id)


def _log_erasure(conn: Connection, partner_id: int, removal: Removal) -> None:
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO privacy_log (who, kind, timing_partner_id, counts)"
            " VALUES (%s, 'erase', %s, jsonb_build_object('runsignup_participants', %s::bigint))",
            (privacy.operator(), partner_id, removal.erased),
        )
    conn.commit()


def _races(conn: Connection, partner_id: int) -> list[int]:
    with conn.cursor() as cur:
        cur.execute("SELECT race_id FROM partner_races WHERE timing_partner_id = %s ORDER BY 1", (partner_id,))
        found = [int(row[0]) for row in cur.fetchall()]
    conn.commit()
    return found


def _refuse_different_keys(conn: Connection, source: Partner, target: Partner) -> None:
    if source.partner_id == target.partner_id:
        raise PartnerError("A partner cannot be merged with itself. Name two partners.")
    with conn.cursor() as cur:
        cur.execute(
            "SELECT timing_partner_id, api_key_id FROM partner_provider_credentials JOIN providers USING (provider_id)"
            " WHERE timing_partner_id = ANY (%s) AND lower(name) = %s",
            ([source.partner_id, target.partner_id], PROVIDER),
        )
        keys = dict(cur.fetchall())
    if keys.get(target.partner_id) is None:
        raise PartnerError(f"Partner {target.key or target.partner_id} has no credential. Name the one to keep second.")
    # A source without a credential was merged before, and a race of it was busy.
    if keys.get(source.partner_id, keys[target.partner_id]) != keys[target.partner_id]:
        raise PartnerError(
            f"{source.key or source.partner_id} and {target.key or target.partner_id} have different API keys, so each sees"
            " races of its own. Enter one key for both with `rsu partners add --shared-key`, or remove one of them."
        )


def _copy_race(conn: Connection, source: Partner, target: Partner, race_id: int) -> int:
    """Copy the race's registrations that only the source has, with how far its events were read. Return how many."""
    values = {
        "source": source.partner_id,
        "target": target.partner_id,
        "race": race_id,
        "key": target.key,
        "merged": MERGED,
    }
    with conn.cursor() as cur:
        cur.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'runsignup_participants'::regclass AND attnum > 0"
            " AND NOT attisdropped AND attname NOT IN ('id', 'timing_partner_id', 'first_bib', 'credentials_used')"
        )
        columns = ", ".join(row[0] for row in cur.fetchall())
        cur.execute(_SQL["link_race"], values)
        cur.execute(_COPY.format(columns=columns), values)
        (copied,) = cur.fetchone() or (0,)
        for statement in (
            _SQL["keep_local_bibs"],
            _SQL["copy_cursors"],
            _SQL["copy_history_events"],
            _SQL["copy_history_races"],
        ):
            cur.execute(statement, values)
    return int(copied)


_ERASE = rewrite(without_person("t"), "t.timing_partner_id + 0 = %(partner)s AND t.race_id = %(race)s")

# The bib log of the source stays with the source, so that what is copied begins with the bib of today. An event that has been
# read for the target may have lost registrations since.
_COPY = """
WITH copied AS (
    INSERT INTO runsignup_participants ({columns}, timing_partner_id, first_bib, credentials_used)
    SELECT {columns}, %(target)s, rsu_bib(bib_num, team_info), %(key)s FROM runsignup_participants s
    WHERE s.timing_partner_id + 0 = %(source)s AND s.race_id = %(race)s
        AND NOT EXISTS (SELECT FROM runsignup_participants t
            WHERE t.timing_partner_id = %(target)s AND t.registration_id = s.registration_id)
    RETURNING event_id
),
doubted AS (
    UPDATE event_cursors SET needs_full = %(merged)s
    WHERE timing_partner_id = %(target)s AND event_id IN (SELECT event_id FROM copied)
)
SELECT count(*) FROM copied
"""
