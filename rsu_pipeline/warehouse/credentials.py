"""Timing partners and their RunSignup credentials."""

import datetime as dt
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg2
import psycopg2.errors
from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.errors import RsuError
from rsu_pipeline.included_fields import format_include, parse_include
from rsu_pipeline.warehouse import api_keys, database, duplicate_partners
from rsu_pipeline.warehouse.advisory_locks import Only
from rsu_pipeline.warehouse.secret_box import PREFIX, SecretBox, SecretKeyError

PROVIDER = "runsignup"
"""Name of the provider, in lower case. Its id differs between installations."""
MAX_PARTNER_NAME_CHARS = 255
MAX_SCHEME_CHARS = 12
"""Characters of an unknown credential_type that a message repeats. It may be a secret in the wrong column."""


class PartnerError(RsuError):
    """A partner cannot be found or created. The text is one sentence: what is wrong, and the next step."""


@dataclass(frozen=True)
class Partner:
    """A timing partner and the state of its credential.

    `key` is the partition key, None until the partner is onboarded. `credential_id` is None if there is no credential. `include`
    are the optional fields of its registrations that are requested, None for those of the installation.
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
    include: tuple[str, ...] | None = None

    @property
    def is_active(self) -> bool:
        """Whether the partner is synced at all."""
        return self.disabled_at is None and self.credential_id is not None


@dataclass(frozen=True)
class OpenCredential:
    """A credential with its key and secret in clear text, which is never printed. Calls are counted by `api_key_id`."""

    credential_id: int
    api_key_id: int
    scheme: str
    principal: str = field(repr=False)
    secret: str = field(repr=False)


def slug(name: str) -> str:
    """Return a name as a slug: `"Acme Timing, Inc."` → `acme-timing-inc`, at most 40 characters, `partner` if nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "partner"


_SELECT = r"""
SELECT p.timing_partner_id, p.company_name, p.partition_key, p.disabled_at, c.partner_provider_credential_id,
    coalesce(nullif(lower(c.credential_type), ''), 'api_key'), c.verified_at, c.rejected_at, c.rejected_reason, c.entered_at,
    p.include
FROM timing_partners p
LEFT JOIN (partner_provider_credentials c JOIN providers v ON v.provider_id = c.provider_id AND lower(v.name) = %(provider)s)
    ON c.timing_partner_id = p.timing_partner_id
    AND c.principal ~ '\S' AND c.secret ~ '\S'
"""


def _partner(row: Sequence[Any]) -> Partner:
    partner, include = Partner(*row[:-1]), row[-1]
    return partner if include is None else replace(partner, include=parse_include(include))


def list_partners(conn: Connection) -> list[Partner]:
    """Return every partner, in order of id."""
    with conn.cursor() as cur:
        cur.execute(_SELECT + " ORDER BY p.timing_partner_id", {"provider": PROVIDER})
        return [_partner(row) for row in cur.fetchall()]


def find_partner(conn: Connection, name: str) -> Partner:
    """Return the partner with this partition key or id.

    Raises:
        PartnerError: there is none.
    """
    with conn.cursor() as cur:
        cur.execute(
            _SELECT + " WHERE p.partition_key = %(name)s OR p.timing_partner_id::text = %(name)s",
            {"provider": PROVIDER, "name": name.strip()},
        )
        row = cur.fetchone()
    if row is None:
        shown = sanitize_for_display(name, MAX_NAME_CHARS)
        raise PartnerError(f"There is no partner {shown!r}: `rsu partners list` shows them.")
    return _partner(row)


def list_partners_awaiting_first_sync(conn: Connection) -> list[Partner]:
    """Return the active partners that no run has tried to sync since their present key and secret were entered."""
    with conn.cursor() as cur:
        cur.execute(
            _SELECT + " WHERE p.disabled_at IS NULL AND c.partner_provider_credential_id IS NOT NULL"
            " AND NOT EXISTS (SELECT FROM sync_history h WHERE h.timing_partner_id = p.timing_partner_id"
            " AND h.finished_at >= c.entered_at) ORDER BY p.timing_partner_id",
            {"provider": PROVIDER},
        )
        return [_partner(row) for row in cur.fetchall()]


def ensure_key(conn: Connection, partner_id: int) -> str:
    """Return the partner's partition key, which is made from its id and name the first time."""
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


def add(
    conn: Connection,
    secret_box: SecretBox,
    *,
    name: str,
    principal: str,
    secret: str,
    scheme: str = "api_key",
    shares_api_key: bool = False,
) -> int:
    """Create a partner with a credential, or give an existing partner of exactly this name a new one.

    Raises:
        PartnerError: the name is too long or ambiguous, another partner has nearly this name, or another partner has this
            API key and `shares_api_key` is false.
    """
    if len(name) > MAX_PARTNER_NAME_CHARS:
        raise PartnerError(
            f"A partner's name has at most {MAX_PARTNER_NAME_CHARS} characters, this one has {len(name)}."
        )
    encrypt_all(conn, secret_box)  # so that a key entered by SQL a moment ago is known
    with conn.cursor() as cur:
        cur.execute("SELECT timing_partner_id FROM timing_partners WHERE company_name = %s", (name,))
        found = cur.fetchall()
        if len(found) > 1:
            raise PartnerError(f"There are {len(found)} partners named {_shown(name)!r}: change the credential by SQL.")
        if found:
            partner_id = int(found[0][0])
        else:
            _refuse_similar_name(conn, name)
            cur.execute("INSERT INTO timing_partners (company_name) VALUES (%s) RETURNING timing_partner_id", (name,))
            (partner_id,) = cur.fetchone() or (0,)
        _hold_keys(conn)
        present = _stored_api_key(conn, secret_box, partner_id, principal)
        api_key_id = api_keys.number_of(conn, secret_box, principal)
        if api_key_id != present and not shares_api_key:
            _refuse_shared_key(conn, api_key_id, partner_id)
        cur.execute(
            """
            INSERT INTO partner_provider_credentials
                (provider_id, timing_partner_id, principal, secret, credential_type, shares_api_key)
            SELECT provider_id, %s, %s, %s, %s, %s FROM providers WHERE lower(name) = %s
            ON CONFLICT (timing_partner_id, provider_id) DO UPDATE SET principal = excluded.principal,
                secret = excluded.secret, credential_type = excluded.credential_type,
                verified_at = NULL, rejected_at = NULL, rejected_reason = NULL, entered_at = now(),
                shares_api_key = excluded.shares_api_key
                    OR partner_provider_credentials.shares_api_key AND partner_provider_credentials.api_key_id = %s
            RETURNING partner_provider_credential_id
            """,
            (
                partner_id,
                secret_box.encrypt(principal),
                secret_box.encrypt(secret),
                scheme,
                shares_api_key,
                PROVIDER,
                api_key_id,
            ),
        )
        if cur.rowcount != 1:
            raise PartnerError(f"Table providers has {cur.rowcount} rows named RunSignup, but must have one.")
        (credential_id,) = cur.fetchone() or (0,)
        api_keys.assign(conn, credential_id, api_key_id)
        cur.execute("UPDATE timing_partners SET disabled_at = NULL WHERE timing_partner_id = %s", (partner_id,))
    ensure_key(conn, partner_id)
    return partner_id


def _stored_api_key(conn: Connection, secret_box: SecretBox, partner_id: int, principal: str) -> int | None:
    """Return the number of the API key that the partner has now.

    If no encryption key decrypts it any more, `principal` takes its place, which may be the same key: its calls of this hour
    keep counting.
    """
    with conn.cursor() as cur:
        cur.execute(
            f"SELECT principal, api_key_id FROM partner_provider_credentials {_RUNSIGNUP}"
            " AND timing_partner_id = %(partner)s AND api_key_id IS NOT NULL",
            {"provider": PROVIDER, "partner": partner_id},
        )
        row = cur.fetchone()
    if row is None:
        return None
    try:
        secret_box.decrypt(row[0])
    except SecretKeyError:
        api_keys.take_over_number(conn, secret_box, row[1], principal)
    return int(row[1])


def _refuse_similar_name(conn: Connection, name: str) -> None:
    other = duplicate_partners.find_similar_partner(conn, name)
    if other is not None:
        raise PartnerError(
            f"There is a partner named {_shown(other.name)!r} ({other.label}), and {_shown(name)!r} differs from it in case,"
            " blanks or the form of its characters only: write the name exactly so to change its credential."
        )


def _shown(name: str) -> str:
    return sanitize_for_display(name, MAX_NAME_CHARS)


def _refuse_shared_key(conn: Connection, api_key_id: int, partner_id: int) -> None:
    others = duplicate_partners.find_partners_with(conn, api_key_id, but=partner_id)
    if others:
        raise PartnerError(
            f"{others[0].label} has this API key already. RunSignup counts the calls of a key, not of a partner, and its"
            " registrations would be stored twice. Enter the partner's own key, or add --shared-key if both are meant to"
            " have this one."
        )


_RUNSIGNUP = "WHERE provider_id IN (SELECT provider_id FROM providers WHERE lower(name) = %(provider)s)"
_KEYS_LOCK = Only.API_KEYS.key


def _hold_keys(conn: Connection) -> None:
    """Prevent that an encryption key is dropped until the transaction ends, because values encrypted with it would be lost."""
    database.lease(conn)
    with conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", _KEYS_LOCK)


@contextmanager
def exclusive_key_lock(conn: Connection) -> Iterator[None]:
    """Acquire the exclusive right to encrypt credentials for the block. The caller commits inside it.

    Raises:
        SecretKeyError: another session encrypts credentials for too long.
    """
    database.lease(conn)
    with conn.cursor() as cur:
        try:
            cur.execute("SELECT pg_advisory_lock(%s, %s)", _KEYS_LOCK)
        except psycopg2.errors.LockNotAvailable:
            raise SecretKeyError(
                "Another session is entering or encrypting credentials: run it again in a moment."
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
class ReencryptionResult:
    """The result of a rotation: credentials encrypted again, unchanged ones, and partners whose credential no key decrypts."""

    sealed: int
    unchanged: int
    closed: list[int]


def reencrypt(conn: Connection, secret_box: SecretBox, *, batch: int = 100) -> ReencryptionResult:
    """Encrypt every credential for RunSignup with the newest key, committing batch by batch.

    Everything else about a credential is kept. One that no key decrypts is left unchanged.
    """
    encrypt_all(conn, secret_box)
    conn.commit()
    sealed, unchanged, closed, last = 0, 0, [], 0
    while True:
        with conn.cursor() as cur:
            _hold_keys(conn)
            cur.execute(
                "SELECT partner_provider_credential_id, timing_partner_id, principal, secret, api_key_id"
                f" FROM partner_provider_credentials {_RUNSIGNUP} AND partner_provider_credential_id > %(last)s"
                " ORDER BY 1 LIMIT %(batch)s FOR UPDATE",
                {"provider": PROVIDER, "last": last, "batch": batch},
            )
            rows = cur.fetchall()
            for credential_id, partner_id, principal, secret, number in rows:
                try:
                    anew = [_reencrypted(text, secret_box) for text in (principal, secret)]
                except SecretKeyError:
                    closed.append(int(partner_id))
                    continue
                is_newest = anew == [principal, secret]
                if not is_newest:
                    _store(conn, credential_id, *anew)
                if number is not None and principal:
                    # Also for one that is encrypted with the newest key: its fingerprint may be older.
                    number = api_keys.refresh_fingerprint(conn, secret_box, number, secret_box.decrypt(principal))
                    api_keys.assign(conn, credential_id, number)
                unchanged += is_newest
                sealed += not is_newest
        conn.commit()
        if not rows:
            return ReencryptionResult(sealed, unchanged, closed)
        last = rows[-1][0]


def _reencrypted(text: str | None, secret_box: SecretBox) -> str | None:
    """Return a value encrypted with the newest key. A blank one stays."""
    if not text or not text.startswith(PREFIX) or secret_box.is_newest(text):
        return text
    return secret_box.encrypt(secret_box.decrypt(text))


def _store(conn: Connection, credential_id: int, principal: str | None, secret: str | None) -> None:
    """Store a credential's encrypted values. Its API key is unknown then, until it is assigned."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE partner_provider_credentials SET principal = %s, secret = %s WHERE partner_provider_credential_id = %s",
            (principal, secret, credential_id),
        )


def encrypt_all(conn: Connection, secret_box: SecretBox) -> int:
    """Encrypt every key and secret for RunSignup that is stored in clear text, and return how many credentials had one.

    Credentials of other programs for other providers are left alone. A credential whose API key has no number gets one.
    """
    unfinished = (
        "SELECT partner_provider_credential_id, principal, secret, api_key_id"
        f" FROM partner_provider_credentials {_RUNSIGNUP} AND (principal NOT LIKE %(sealed)s OR secret NOT LIKE %(sealed)s"
        r" OR api_key_id IS NULL AND principal ~ '\S')"
    )
    parameters = {"sealed": PREFIX + "%", "provider": PROVIDER}
    with conn.cursor() as cur:
        cur.execute(unfinished, parameters)
        if not cur.fetchall():
            return 0
        _hold_keys(conn)
        cur.execute(f"{unfinished} ORDER BY 1 FOR UPDATE", parameters)
        count = 0
        for credential_id, principal, secret, number in cur.fetchall():
            sealed = [
                # A blank value is no secret, and stays blank: encrypted it would look like one.
                text if not text or not text.strip() or text.startswith(PREFIX) else secret_box.encrypt(text.strip())
                for text in (principal, secret)
            ]
            if sealed != [principal, secret]:
                count += 1
                _store(conn, credential_id, *sealed)
            if sealed[0] != principal or number is None:
                _assign_number(conn, secret_box, credential_id, sealed[0])
    return count


def _assign_number(conn: Connection, secret_box: SecretBox, credential_id: int, sealed: str | None) -> None:
    """Number the API key of a credential, unless it is blank or no encryption key decrypts it."""
    if sealed and sealed.startswith(PREFIX):
        with suppress(SecretKeyError):
            api_keys.assign(conn, credential_id, api_keys.number_of(conn, secret_box, secret_box.decrypt(sealed)))


def open_credential(conn: Connection, secret_box: SecretBox, partner_id: int) -> OpenCredential:
    """Return the partner's credential in clear text, and encrypt it in the table first if it is not.

    Raises:
        PartnerError: the partner has no usable credential.
        SecretKeyError: no encryption key decrypts it.
    """
    try:
        return _open(conn, secret_box, partner_id)
    except SecretKeyError:
        # Between the reading of the row and of the key a rotation may have encrypted it again and dropped the old key.
        return _open(conn, secret_box, partner_id)


def _open(conn: Connection, secret_box: SecretBox, partner_id: int) -> OpenCredential:
    encrypt_all(conn, secret_box)
    with conn.cursor() as cur:
        cur.execute(
            "SELECT c.partner_provider_credential_id, coalesce(nullif(lower(c.credential_type), ''), 'api_key'),"
            " c.principal, c.secret, c.api_key_id FROM partner_provider_credentials c JOIN providers v USING (provider_id)"
            r" WHERE c.timing_partner_id = %s AND lower(v.name) = %s AND c.principal ~ '\S' AND c.secret ~ '\S'",
            (partner_id, PROVIDER),
        )
        row = cur.fetchone()
    conn.commit()
    if row is None:
        raise PartnerError(f"Partner {partner_id} has no RunSignup credential: add one with `rsu partners add`.")
    credential_id, scheme, principal, secret, api_key_id = row
    if scheme not in ("api_key", "rsu_api_key", "sp_api_key"):
        shown = sanitize_for_display(scheme, MAX_SCHEME_CHARS)
        raise PartnerError(
            f"Partner {partner_id} has credential_type {shown!r}: use api_key, rsu_api_key or sp_api_key."
        )
    clear = secret_box.decrypt(principal), secret_box.decrypt(secret)
    if api_key_id is None:
        raise SecretKeyError(f"The API key of partner {partner_id} is being changed: run it again in a moment.")
    return OpenCredential(credential_id, api_key_id, scheme, *clear)


def mark_verified(conn: Connection, credential_id: int) -> None:
    """Record that access was verified now."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE partner_provider_credentials SET verified_at = now(), rejected_at = NULL, rejected_reason = NULL"
            " WHERE partner_provider_credential_id = %s",
            (credential_id,),
        )
    conn.commit()


def mark_rejected(conn: Connection, credential_id: int, reason: str) -> None:
    """Record that RunSignup rejected the credential now."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE partner_provider_credentials SET rejected_at = now(), rejected_reason = %s"
            " WHERE partner_provider_credential_id = %s",
            (reason[:500], credential_id),
        )
    conn.commit()


def set_include(conn: Connection, partner_id: int, include: Sequence[str] | None) -> None:
    """Set the optional fields that are requested for a partner, None for those of the installation. Commits."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE timing_partners SET include = %s WHERE timing_partner_id = %s",
            (None if include is None else format_include(include), partner_id),
        )
    conn.commit()


def set_disabled(conn: Connection, partner_id: int, disabled: bool) -> None:
    """Disable or enable a partner. Its data stays unchanged."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE timing_partners SET disabled_at = CASE WHEN %s THEN coalesce(disabled_at, now()) END"
            " WHERE timing_partner_id = %s",
            (disabled, partner_id),
        )
    conn.commit()
