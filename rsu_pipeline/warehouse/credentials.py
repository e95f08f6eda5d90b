"""Timing partners and their RunSignup credentials."""

import datetime as dt
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.errors import RsuError
from rsu_pipeline.included_fields import format_include, parse_include
from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse import api_keys, credential_encryption, duplicate_partners
from rsu_pipeline.warehouse.credential_encryption import OF_RUNSIGNUP
from rsu_pipeline.warehouse.secret_box import SecretBox, SecretKeyError

PROVIDER = credential_encryption.PROVIDER
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


_SQL = load(__file__)
_SELECT = _SQL["select_partners"]


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


def get_partner_by_key(conn: Connection, key: str) -> Partner | None:
    """Return the partner with this partition key, None if there is none."""
    with conn.cursor() as cur:
        cur.execute(_SELECT + " WHERE p.partition_key = %(key)s", {"provider": PROVIDER, "key": key})
        row = cur.fetchone()
    return Partner(*row) if row else None


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


def ensure_keys(conn: Connection, partners: Sequence[Partner]) -> dict[int, str]:
    """Return the partition keys of partners by id. Those that have none get theirs in one statement."""
    keys = {partner.partner_id: partner.key for partner in partners}
    new = {
        partner.partner_id: f"{partner.partner_id}-{slug(partner.name)}" for partner in partners if partner.key is None
    }
    if new:
        with conn.cursor() as cur:
            cur.execute(
                "UPDATE timing_partners t SET partition_key = coalesce(t.partition_key, made.key)"
                " FROM unnest(%s::int[], %s::text[]) AS made (id, key) WHERE t.timing_partner_id = made.id"
                " RETURNING t.timing_partner_id, t.partition_key",
                (list(new), list(new.values())),
            )
            keys |= dict(cur.fetchall())
    return {partner_id: str(key) for partner_id, key in keys.items()}


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
    credential_encryption.encrypt_all(conn, secret_box)  # so that a key entered by SQL a moment ago is known
    with conn.cursor() as cur:
        cur.execute("SELECT timing_partner_id FROM timing_partners WHERE company_name = %s", (name,))
        found = cur.fetchall()
        if len(found) > 1:
            raise PartnerError(f"There are {len(found)} partners named {_shown(name)!r}: change the credential by SQL.")
        if found:
            partner_id = int(found[0][0])
        else:
            _refuse_similar_name(conn, name)
            if not shares_api_key:  # before it has a number, which would be used up
                _refuse_shared_key(conn, api_keys.find_number(conn, secret_box, principal), None, "add --shared-key")
            partner_id = create_partner(conn, name)
    enter_credential(
        conn, secret_box, partner_id, principal=principal, secret=secret, scheme=scheme, shares_api_key=shares_api_key
    )
    return partner_id


def create_partner(conn: Connection, name: str, *, provisional_id: int | None = None) -> int:
    """Create a partner without a credential, and return its id.

    With `provisional_id`, which is negative, no number of partners is used up. The caller rolls back.
    """
    row = {"company_name": name} | ({} if provisional_id is None else {"timing_partner_id": provisional_id})
    statement = f"INSERT INTO timing_partners ({', '.join(row)}) VALUES %s RETURNING timing_partner_id"
    with conn.cursor() as cur:
        cur.execute(statement, (tuple(row.values()),))
        (partner_id,) = cur.fetchone() or (0,)
    return int(partner_id)


def enter_credential(
    conn: Connection,
    secret_box: SecretBox,
    partner_id: int,
    *,
    principal: str,
    secret: str,
    scheme: str,
    shares_api_key: bool,
    how_to_share: str = "add --shared-key",
) -> None:
    """Give an existing partner a credential, a partition key if it has none, and enable it. A first sync follows.

    `how_to_share` names what the caller accepts to set `shares_api_key`.

    Raises:
        PartnerError: another partner has this API key and `shares_api_key` is false.
    """
    with conn.cursor() as cur:
        credential_encryption.hold_keys(conn)
        present = _stored_api_key(conn, secret_box, partner_id, principal)
        api_key_id = api_keys.number_of(conn, secret_box, principal)
        if api_key_id != present and not shares_api_key:
            _refuse_shared_key(conn, api_key_id, partner_id, how_to_share)
        cur.execute(
            _SQL["store_credential"],
            {
                "partner": partner_id,
                "principal": secret_box.encrypt(principal),
                "secret": secret_box.encrypt(secret),
                "scheme": scheme,
                "shares": shares_api_key,
                "provider": PROVIDER,
                "api_key": api_key_id,
            },
        )
        if cur.rowcount != 1:
            raise PartnerError(f"Table providers has {cur.rowcount} rows named RunSignup, but must have one.")
        (credential_id,) = cur.fetchone() or (0,)
        api_keys.assign(conn, credential_id, api_key_id)
        cur.execute("UPDATE timing_partners SET disabled_at = NULL WHERE timing_partner_id = %s", (partner_id,))
    ensure_key(conn, partner_id)


def _stored_api_key(conn: Connection, secret_box: SecretBox, partner_id: int, principal: str) -> int | None:
    """Return the number of the API key that the partner has now.

    If no encryption key decrypts it any more, `principal` takes its place, which may be the same key: its calls of this hour
    keep counting.
    """
    with conn.cursor() as cur:
        cur.execute(
            f"SELECT principal, api_key_id FROM partner_provider_credentials {OF_RUNSIGNUP}"
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


def _refuse_shared_key(conn: Connection, api_key_id: int | None, partner_id: int | None, how_to_share: str) -> None:
    others = duplicate_partners.find_partners_with(conn, api_key_id, but=partner_id)
    if others:
        raise PartnerError(
            f"{others[0].label} has this API key already. RunSignup counts the calls of a key, not of a partner, and its"
            f" registrations would be stored twice. Enter the partner's own key, or {how_to_share} if both are meant to"
            " have this one."
        )


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


def is_stored(
    conn: Connection, secret_box: SecretBox, partner_id: int, *, principal: str, secret: str, scheme: str
) -> bool:
    """Return whether the partner has exactly this credential."""
    row = _read_encrypted(conn, partner_id)
    if row is None or row[1] != scheme:
        return False
    try:
        return [secret_box.decrypt(text) for text in row[2:4]] == [principal, secret]
    except SecretKeyError:
        return False


def _read_encrypted(conn: Connection, partner_id: int) -> tuple[int, str, str, str, int | None] | None:
    """Return id, scheme, key, secret and the key's number of a partner's credential, None if it has none."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT c.partner_provider_credential_id, coalesce(nullif(lower(c.credential_type), ''), 'api_key'),"
            " c.principal, c.secret, c.api_key_id FROM partner_provider_credentials c JOIN providers v USING (provider_id)"
            r" WHERE c.timing_partner_id = %s AND lower(v.name) = %s AND c.principal ~ '\S' AND c.secret ~ '\S'",
            (partner_id, PROVIDER),
        )
        return cur.fetchone()


def _open(conn: Connection, secret_box: SecretBox, partner_id: int) -> OpenCredential:
    credential_encryption.encrypt_all(conn, secret_box)
    row = _read_encrypted(conn, partner_id)
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
