"""New rows of the bib log."""

import datetime as dt
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

MAX_BIBS_AT_ONCE = 10_000
REPORT_WITHIN_DAYS = 2
"""Older changes were reported by the syncs since."""


@dataclass(frozen=True)
class NewBibs:
    """Bib changes of one partner that have not been handled yet.

    `slowest` is the longest time from RunSignup's change to the stored row, in seconds, or None if RunSignup sent no time.
    """

    partner_id: int
    key: str
    assigned: int
    changed: int
    cleared: int
    first_at: dt.datetime
    last_at: dt.datetime
    slowest: float | None

    @property
    def total(self) -> int:
        return self.assigned + self.changed + self.cleared


def claim_new_bibs(conn: Connection) -> list[NewBibs]:
    """Mark every unhandled change as handled and return them by partner, in the caller's transaction.

    What acts on them commits with the mark. They are not found by a growing id, because rows become visible out of order.
    """
    with conn.cursor() as cur:
        cur.execute(
            """
            WITH new AS (
                INSERT INTO bib_changes_handled (bib_change_id)
                SELECT b.bib_change_id FROM runsignup_bib_changes b
                WHERE NOT EXISTS (SELECT FROM bib_changes_handled h WHERE h.bib_change_id = b.bib_change_id)
                    AND b.recorded_at > now() - make_interval(days => %s)
                ORDER BY b.recorded_at
                LIMIT %s
                ON CONFLICT DO NOTHING
                RETURNING bib_change_id
            )
            SELECT b.timing_partner_id, t.partition_key, count(*) FILTER (WHERE b.kind = 'assigned'),
                count(*) FILTER (WHERE b.kind = 'changed'), count(*) FILTER (WHERE b.kind = 'cleared'),
                min(b.recorded_at), max(b.recorded_at),
                max(extract(epoch FROM b.recorded_at) - b.modified_epoch)::float
            FROM new JOIN runsignup_bib_changes b USING (bib_change_id) JOIN timing_partners t USING (timing_partner_id)
            GROUP BY b.timing_partner_id, t.partition_key
            ORDER BY b.timing_partner_id
            """,
            (REPORT_WITHIN_DAYS, MAX_BIBS_AT_ONCE),
        )
        return [NewBibs(*row) for row in cur.fetchall()]
