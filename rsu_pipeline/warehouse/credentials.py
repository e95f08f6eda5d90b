"""Timing partners and their RunSignup credentials."""

import datetime as dt
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg2
import psycopg2.errors
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.sealing import PREFIX, Sealer, SecretKeyError

PROVIDER = "runsignup"
"""Name of the provider, in lower case; its number differs between installations."""
LONGEST_NAME = 255


class PartnerError(ValueError):
    """A partner cannot be found or made; one sentence: what is wrong and what to do."""


@dataclass(frozen=True)
class Partner:
    """A timing partner and the state of its credential.

    `key` is the partition key; None until the partner is onboarded. `credential_id` is None when there is no
    credential.
    """

    partner_id: int
    name: str
    key: str | None
    disabled_at: dt.datetime | None
    credential_id: int | None
    scheme: str
    verified_at: dt.datetime | None
    rejected_at: dt.datetime | None
    rejected_reason: str | None
    entered_at: dt.datetime | None = None

    @property
    def is_active(self) -> bool:
        """Whether the partner is to be synced at all."""
        return self.disabled_at is None and self.credential_id is not None


@dataclass(frozen=True)
class OpenCredential:
    """A credential with its key and secret in clear; never printed."""

    credential_id: int
    scheme: str
    principal: str = field(repr=False)
    secret: str = field(repr=False)


def slug(name: str) -> str:
    """`"Acme Timing, Inc."` → `acme-timing-inc`; at most 40 characters, `partner` when nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "partner"


_SELECT = r"""
SELECT p.timing_partner_id, p.company_name, p.partition_key, p.disabled_at, c.partner_provider_credential_id,
    coalesce(nullif(lower(c.credential_type), ''), 'api_key'), c.verified_at, c.rejected_at, c.rejected_reason, c.entered_at
FROM timing_partners p
LEFT JOIN (partner_provider_credentials c JOIN providers v ON v.provider_id = c.provider_id AND lower(v.name) = %(provider)s)
    ON c.timing_partner_id = p.timing_partner_id
    AND c.principal ~ '\S' AND c.secret ~ '\S'
"""


def partners(conn: Connection) -> list[Partner]:
    """Every partner, in order of number."""
    with conn.cursor() as cur:
        cur.execute(_SELECT + " ORDER BY p.timing_partner_id", {"provider": PROVIDER})
        return [Partner(*row) for row in cur.fetchall()]


def partner(conn: Connection, name: str) -> Partner:
    """The partner with this partition key or number. Raises PartnerError."""
    with conn.cursor() as cur:
        cur.execute(
            _SELECT + " WHERE p.partition_key = %(name)s OR p.timing_partner_id::text = %(name)s",
            {"provider": PROVIDER, "name": name.strip()},
        )
        row = cur.fetchone()
    if row is None:
        raise PartnerError(f"There is no partner {name!r}: `rsu partners list` shows them.")
    return Partner(*row)


def awaiting_first_sync(conn: Connection) -> list[Partner]:
    """Active partners for whom no run has tried anything since their present key and secret were entered."""
    with conn.cursor() as cur:
        cur.execute(
            _SELECT + " WHERE p.disabled_at IS NULL AND c.partner_provider_credential_id IS NOT NULL"
            " AND NOT EXISTS (SELECT FROM sync_history h WHERE h.timing_partner_id = p.timing_partner_id"
            " AND h.finished_at >= c.entered_at) ORDER BY p.timing_partner_id",
            {"provider": PROVIDER},
        )
        return [Partner(*row) for row in cur.fetchall()]


def ensure_key(conn: Connection, partner_id: int) -> str:
    """The partner's partition key, made from its number and name the first time."""
    with conn.cursor() as cur:
        cur.execute("SELECT company_name FROM timing_partners WHERE timing_partner_id = %s", (partner_id,))
        row = cur.fetchone()
        if row is None:
            raise PartnerError(f"There is no partner {partner_id}: `rsu partners list` shows them.")
        cur.execute(
            "UPDATE timing_partners SET partition_key = coalesce(partition_key, %s) WHERE timing_partner_id = %s"
            " RETURNING partition_key",
            (f"{partner_id}-{slug(row[0])}", partner_id),
        )
        (key,) = cur.fetchone() or (None,)
    return str(key)


def add(conn: Connection, sealer: Sealer, *, name: str, principal: str, secret: str, scheme: str = "api_key") -> int:
    """Makes a partner with a credential, or gives an existing partner of exactly this name a new one. Raises
    PartnerError."""
    if len(name) > LONGEST_NAME:
        raise PartnerError(f"A partner's name has at most {LONGEST_NAME} characters; this one has {len(name)}.")
    with conn.cursor() as cur:
        cur.execute("SELECT timing_partner_id FROM timing_partners WHERE company_name = %s", (name,))
        found = cur.fetchall()
        if len(found) > 1:
            raise PartnerError(f"There are {len(found)} partners named {name!r}: change the credential by SQL.")
        if found:
            partner_id = int(found[0][0])
        else:
            cur.execute("INSERT INTO timing_partners (company_name) VALUES (%s) RETURNING timing_partner_id", (name,))
            (partner_id,) = cur.fetchone() or (0,)
        _hold_keys(conn)
        cur.execute(
            """
            INSERT INTO partner_provider_credentials (provider_id, timing_partner_id, principal, secret, credential_type)
            SELECT provider_id, %s, %s, %s, %s FROM providers WHERE lower(name) = %s
            ON CONFLICT (timing_partner_id, provider_id) DO UPDATE SET principal = excluded.principal,
                secret = excluded.secret, credential_type = excluded.credential_type,
                verified_at = NULL, rejected_at = NULL, rejected_reason = NULL, entered_at = now()
            """,
            (partner_id, sealer.seal(principal), sealer.seal(secret), scheme, PROVIDER),
        )
        if cur.rowcount != 1:
            raise PartnerError(f"Table providers has {cur.rowcount} rows named RunSignup, but must have one.")
        cur.execute("UPDATE timing_partners SET disabled_at = NULL WHERE timing_partner_id = %s", (partner_id,))
    ensure_key(conn, partner_id)
    return partner_id


_RUNSIGNUP = "WHERE provider_id IN (SELECT provider_id FROM providers WHERE lower(name) = %(provider)s)"
_KEYS_LOCK = (0x525355, 2)


def _hold_keys(conn: Connection) -> None:
    """Until the transaction ends no key is dropped: what is sealed in it would be sealed with a key that is gone."""
    with conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", _KEYS_LOCK)


@contextmanager
def keys_alone(conn: Connection) -> Iterator[None]:
    """Nobody seals anything while the block runs. The caller commits inside it. Raises SecretKeyError when somebody does for
    too long."""
    with conn.cursor() as cur:
        try:
            cur.execute("SELECT pg_advisory_lock(%s, %s)", _KEYS_LOCK)
        except psycopg2.errors.LockNotAvailable:
            raise SecretKeyError(
                "Another session is entering or sealing credentials: run it again in a moment."
            ) from None
    conn.commit()
    try:
        yield
    finally:
        if not conn.closed:
            conn.rollback()
            with conn.cursor() as cur:
                cur.execute("SELECT pg_advisory_unlock(%s, %s)", _KEYS_LOCK)
            conn.commit()


@dataclass(frozen=True)
class Resealed:
    """What a rotation did: credentials sealed anew, those that were so already, and partners whose credential no key
    opens."""

    sealed: int
    unchanged: int
    closed: list[int]


def reseal(conn: Connection, sealer: Sealer, *, batch: int = 100) -> Resealed:
    """Seals every credential for RunSignup with the newest key, committing batch by batch. What else is known of a credential
    stays. One that no key opens is left as it is."""
    seal_all(conn, sealer)
    conn.commit()
    sealed, unchanged, closed, last = 0, 0, [], 0
    while True:
        with conn.cursor() as cur:
            _hold_keys(conn)
            cur.execute(
                "SELECT partner_provider_credential_id, timing_partner_id, principal, secret"
                f" FROM partner_provider_credentials {_RUNSIGNUP} AND partner_provider_credential_id > %(last)s"
                " ORDER BY 1 LIMIT %(batch)s FOR UPDATE",
                {"provider": PROVIDER, "last": last, "batch": batch},
            )
            rows = cur.fetchall()
            for credential_id, partner_id, principal, secret in rows:
                try:
                    anew = [_anew(text, sealer) for text in (principal, secret)]
                except SecretKeyError:
                    closed.append(int(partner_id))
                    continue
                if anew == [principal, secret]:
                    unchanged += 1
                    continue
                cur.execute(
                    "UPDATE partner_provider_credentials SET principal = %s, secret = %s"
                    " WHERE partner_provider_credential_id = %s",
                    (*anew, credential_id),
                )
                sealed += 1
        conn.commit()
        if not rows:
            return Resealed(sealed, unchanged, closed)
        last = rows[-1][0]


def _anew(text: str | None, sealer: Sealer) -> str | None:
    """A value sealed with the newest key; a blank one stays."""
    if not text or not text.startswith(PREFIX) or sealer.is_newest(text):
        return text
    return sealer.seal(sealer.open(text))


def seal_all(conn: Connection, sealer: Sealer) -> int:
    """Seals every key and secret for RunSignup that stands in clear, and returns how many credentials had one. What
    other programs keep for other providers is left alone."""
    in_clear = (
        f"SELECT partner_provider_credential_id, principal, secret FROM partner_provider_credentials {_RUNSIGNUP}"
        " AND (principal NOT LIKE %(sealed)s OR secret NOT LIKE %(sealed)s)"
    )
    parameters = {"sealed": PREFIX + "%", "provider": PROVIDER}
    with conn.cursor() as cur:
        cur.execute(in_clear, parameters)
        if not cur.fetchall():
            return 0
        _hold_keys(conn)
        cur.execute(f"{in_clear} FOR UPDATE", parameters)
        count = 0
        for credential_id, principal, secret in cur.fetchall():
            sealed = [
                # Blank is no secret, and stays blank: sealed it would pass for one.
                text if not text or not text.strip() or text.startswith(PREFIX) else sealer.seal(text.strip())
                for text in (principal, secret)
            ]
            if sealed != [principal, secret]:
                count += 1
                cur.execute(
                    "UPDATE partner_provider_credentials SET principal = %s, secret = %s"
                    " WHERE partner_provider_credential_id = %s",
                    (*sealed, credential_id),
                )
    return count


def open_credential(conn: Connection, sealer: Sealer, partner_id: int) -> OpenCredential:
    """The partner's credential in clear; seals it first when it is not. Raises PartnerError, SecretKeyError."""
    try:
        return _open(conn, sealer, partner_id)
    except SecretKeyError:
        # Between the reading of the row and that of the key a rotation may have sealed it anew and dropped the old key.
        return _open(conn, sealer, partner_id)


def _open(conn: Connection, sealer: Sealer, partner_id: int) -> OpenCredential:
    seal_all(conn, sealer)
    with conn.cursor() as cur:
        cur.execute(
            "SELECT c.partner_provider_credential_id, coalesce(nullif(lower(c.credential_type), ''), 'api_key'),"
            " c.principal, c.secret FROM partner_provider_credentials c JOIN providers v USING (provider_id)"
            r" WHERE c.timing_partner_id = %s AND lower(v.name) = %s AND c.principal ~ '\S' AND c.secret ~ '\S'",
            (partner_id, PROVIDER),
        )
        row = cur.fetchone()
    conn.commit()
    if row is None:
        raise PartnerError(f"Partner {partner_id} has no RunSignup credential: add one with `rsu partners add`.")
    credential_id, scheme, principal, secret = row
    if scheme not in ("api_key", "rsu_api_key", "sp_api_key"):
        raise PartnerError(
            f"Partner {partner_id} has credential_type {scheme!r}: use api_key, rsu_api_key or sp_api_key."
        )
    return OpenCredential(credential_id, scheme, sealer.open(principal), sealer.open(secret))


def mark_verified(conn: Connection, credential_id: int) -> None:
    """Access was proved just now."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE partner_provider_credentials SET verified_at = now(), rejected_at = NULL, rejected_reason = NULL"
            " WHERE partner_provider_credential_id = %s",
            (credential_id,),
        )
    conn.commit()


def mark_rejected(conn: Connection, credential_id: int, reason: str) -> None:
    """RunSignup refused the credential just now."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE partner_provider_credentials SET rejected_at = now(), rejected_reason = %s"
            " WHERE partner_provider_credential_id = %s",
            (reason[:500], credential_id),
        )
    conn.commit()


def set_disabled(conn: Connection, partner_id: int, disabled: bool) -> None:
    """Switches a partner off or on; nothing of its data changes."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE timing_partners SET disabled_at = CASE WHEN %s THEN coalesce(disabled_at, now()) END"
            " WHERE timing_partner_id = %s",
            (disabled, partner_id),
        )
    conn.commit()
