"""Take back a credential that RunSignup rejected when it was entered, so that nothing is left half entered."""

import datetime as dt
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.credentials import PROVIDER

_COLUMNS = "principal, secret, credential_type, verified_at, rejected_at, rejected_reason, entered_at, shares_api_key, api_key_id"


@dataclass(frozen=True)
class Before:
    """What was stored of a partner before a credential was entered. `credential` has the columns of its row, None without one."""

    is_known: bool
    disabled_at: dt.datetime | None
    credential: tuple[object, ...] | None


def remember(conn: Connection, name: str) -> Before:
    """Return what is stored of the partner with this name."""
    with conn.cursor() as cur:
        cur.execute("SELECT timing_partner_id, disabled_at FROM timing_partners WHERE company_name = %s", (name,))
        partner = cur.fetchone()
        if partner is None:
            return Before(False, None, None)
        cur.execute(
            f"SELECT {_COLUMNS} FROM partner_provider_credentials c JOIN providers v USING (provider_id)"
            " WHERE c.timing_partner_id = %s AND lower(v.name) = %s",
            (partner[0], PROVIDER),
        )
        return Before(True, partner[1], cur.fetchone())


def undo(conn: Connection, partner_id: int, before: Before) -> None:
    """Store again what was there before. A partner that is new is deleted. Commits."""
    ours = "timing_partner_id = %s AND provider_id IN (SELECT provider_id FROM providers WHERE lower(name) = %s)"
    with conn.cursor() as cur:
        if before.credential is None:
            cur.execute(f"DELETE FROM partner_provider_credentials WHERE {ours}", (partner_id, PROVIDER))
        else:
            # Twice, since a trigger forgets the number of the API key when the key changes.
            for _ in range(2):
                cur.execute(
                    f"UPDATE partner_provider_credentials SET ({_COLUMNS}) = ROW (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
                    f" WHERE {ours}",
                    (*before.credential, partner_id, PROVIDER),
                )
        if before.is_known:
            cur.execute(
                "UPDATE timing_partners SET disabled_at = %s WHERE timing_partner_id = %s",
                (before.disabled_at, partner_id),
            )
        else:
            cur.execute("DELETE FROM timing_partners WHERE timing_partner_id = %s", (partner_id,))
    conn.commit()
