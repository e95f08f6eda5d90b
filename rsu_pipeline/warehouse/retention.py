"""How long the hub keeps what it records about itself. Participants, events and the bib log are never deleted.

Contact data is deleted by `privacy`.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import race_locks
from rsu_pipeline.warehouse.webhook_outbox import DEAD_LETTER_DAYS

BATCH = 5000
"""Rows deleted in one transaction, so that no sync waits for long."""


@dataclass(frozen=True)
class Rule:
    """A rule of retention.

    Rows of `table` that are older than `days` are deleted under the condition, with %(before)s. `order` has the columns of an
    index that begins with the oldest rows.
    """

    table: str
    order: str
    days: int
    condition: str


RULES = (
    # The budget counts the last hour. The rest is for people who want to know what made the calls.
    Rule("api_calls", "api_call_id", 14, "granted_at < %(before)s"),
    Rule(
        "sync_history",
        "sync_history_id",
        180,
        # Only what this program wrote: other programs of the hub use the table too. The newest row of a race and outcome is
        # never deleted, because it shows when the race was last read, and that the partner had its first sync.
        """finished_at < %(before)s AND run_id IS NOT NULL AND sync_direction = 'pull' AND EXISTS (
            SELECT FROM sync_history n WHERE n.timing_partner_id = t.timing_partner_id
                AND n.race_id IS NOT DISTINCT FROM t.race_id AND n.status = t.status AND n.run_id IS NOT NULL
                AND (n.finished_at, n.sync_history_id) > (t.finished_at, t.sync_history_id))""",
    ),
    Rule("quarantined_rows", "quarantined_row_id", 90, "resolved_at < %(before)s"),
    Rule("foreign_writes", "foreign_write_id", 90, "last_at < %(before)s"),
    # Longer than a change may wait to be reported, so that it is not reported twice.
    Rule("bib_changes_handled", "bib_change_id", 14, "handled_at < %(before)s"),
    Rule("start_list_folders", "folder, machine", 1, "kept_at < %(before)s"),
    Rule("webhook_messages", "message_id", 3, "delivered_at < %(before)s"),
    Rule("webhook_messages", "message_id", DEAD_LETTER_DAYS, "dead_at < %(before)s"),
)
STALE_PASS_DAYS = 7
"""A pass is resumed within a day. One of a race that is no longer read would stay."""


def delete_old_rows(conn: Connection, now: dt.datetime) -> dict[str, int]:
    """Delete what is too old, batch by batch, committing each. Return the rows deleted by table."""
    deleted = Counter[str]()
    for rule in RULES:
        deleted[rule.table] += sum(_batches(conn, rule, now))
    deleted["read_passes"] = _delete_stale_passes(conn, now)
    return dict(deleted)


def _batches(conn: Connection, rule: Rule, now: dt.datetime) -> Iterator[int]:
    while True:
        with conn.cursor() as cur:
            cur.execute(
                f"DELETE FROM {rule.table} WHERE ({rule.order}) IN (SELECT {rule.order} FROM {rule.table} t"
                f" WHERE {rule.condition} ORDER BY {rule.order} LIMIT %(limit)s)",
                {"before": now - dt.timedelta(days=rule.days), "limit": BATCH},
            )
            count = cur.rowcount
        conn.commit()
        yield count
        if count < BATCH:
            return


def _delete_stale_passes(conn: Connection, now: dt.datetime) -> int:
    """Delete stale passes race by race, under the race's lock, because no sync may be working on them.

    A race that is being read is left for the next night.
    """
    stale = {"before": now - dt.timedelta(days=STALE_PASS_DAYS)}
    with conn.cursor() as cur:
        cur.execute("SELECT DISTINCT timing_partner_id, race_id FROM read_passes WHERE started_at < %(before)s", stale)
        races = cur.fetchall()
    conn.commit()
    deleted = 0
    for partner, race in races:
        with suppress(race_locks.ReadElsewhere), race_locks.race_lock(conn, partner, race), conn.cursor() as cur:
            cur.execute(
                "DELETE FROM read_passes"
                " WHERE timing_partner_id = %(partner)s AND race_id = %(race)s AND started_at < %(before)s",
                {"partner": partner, "race": race, **stale},
            )
            deleted += cur.rowcount
            conn.commit()
    return deleted
