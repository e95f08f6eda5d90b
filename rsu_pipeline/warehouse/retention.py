"""How long the hub keeps what it writes about itself. Participants, events and the bib log are never touched; contact data is a
matter of `privacy`."""

import datetime as dt
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import race_locks

BATCH = 5000
"""Rows deleted in one transaction, so that no sync waits for long."""


@dataclass(frozen=True)
class Rule:
    """`table` and the condition, with %(before)s, under which a row that is older than `days` goes; `order` is an index
    whose beginning holds the oldest rows."""

    table: str
    order: str
    days: int
    condition: str


RULES = (
    # The budget counts the last hour; the rest is for people who ask where the calls went.
    Rule("api_calls", "api_call_id", 14, "granted_at < %(before)s"),
    Rule(
        "sync_history",
        "sync_history_id",
        180,
        # Only what this program wrote: other programs of the hub use the table too. The newest row of a race and outcome
        # stays for ever, since it says when the race was last read, and that the partner had its first sync.
        """finished_at < %(before)s AND run_id IS NOT NULL AND sync_direction = 'pull' AND EXISTS (
            SELECT FROM sync_history n WHERE n.timing_partner_id = t.timing_partner_id
                AND n.race_id IS NOT DISTINCT FROM t.race_id AND n.status = t.status AND n.run_id IS NOT NULL
                AND (n.finished_at, n.sync_history_id) > (t.finished_at, t.sync_history_id))""",
    ),
    Rule("quarantined_rows", "quarantined_row_id", 90, "resolved_at < %(before)s"),
    Rule("foreign_writes", "foreign_write_id", 90, "last_at < %(before)s"),
    # Longer than a change may wait to be told, lest it be told twice.
    Rule("bib_changes_handled", "bib_change_id", 14, "handled_at < %(before)s"),
)
STALE_PASS_DAYS = 7
"""A pass is taken up again within a day; one of a race that is read no more would stay."""


def delete_old(conn: Connection, now: dt.datetime) -> dict[str, int]:
    """Deletes what is too old, batch by batch, committing each. Returns the rows deleted by table."""
    deleted = {rule.table: sum(_batches(conn, rule, now)) for rule in RULES}
    deleted["read_passes"] = _delete_stale_passes(conn, now)
    return deleted


def _batches(conn: Connection, rule: Rule, now: dt.datetime) -> Iterator[int]:
    while True:
        with conn.cursor() as cur:
            cur.execute(
                f"DELETE FROM {rule.table} WHERE {rule.order} IN (SELECT {rule.order} FROM {rule.table} t"
                f" WHERE {rule.condition} ORDER BY {rule.order} LIMIT %(limit)s)",
                {"before": now - dt.timedelta(days=rule.days), "limit": BATCH},
            )
            count = cur.rowcount
        conn.commit()
        yield count
        if count < BATCH:
            return


def _delete_stale_passes(conn: Connection, now: dt.datetime) -> int:
    """Race by race, under the race's lock: no sync may be at work with them. The turn of a race that is being read comes the
    next night."""
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
