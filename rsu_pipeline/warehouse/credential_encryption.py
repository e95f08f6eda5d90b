"""The encryption of credentials in their table: of those entered in clear text, and of all when the key changes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg2.errors
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import api_keys, database
from rsu_pipeline.warehouse.advisory_locks import Only
from rsu_pipeline.warehouse.secret_box import PREFIX, SecretBox, SecretKeyError

PROVIDER = "runsignup"
"""Name of the provider, in lower case. Its id differs between installations."""
OF_RUNSIGNUP = "WHERE provider_id IN (SELECT provider_id FROM providers WHERE lower(name) = %(provider)s)"
"""SQL, parameter `provider`: the condition for credentials of RunSignup, to be continued with AND."""
_KEYS_LOCK = Only.API_KEYS.key


def hold_keys(conn: Connection) -> None:
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
            hold_keys(conn)
            cur.execute(
                "SELECT partner_provider_credential_id, timing_partner_id, principal, secret, api_key_id"
                f" FROM partner_provider_credentials {OF_RUNSIGNUP} AND partner_provider_credential_id > %(last)s"
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
                    _store(conn, {credential_id: anew})
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


def _store(conn: Connection, sealed: Mapping[int, Sequence[str | None]]) -> None:
    """Store encrypted keys and secrets by the credential's id. Its API key is unknown then, until it is assigned."""
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE partner_provider_credentials c SET principal = s.principal, secret = s.secret"
            " FROM unnest(%s::int[], %s::text[], %s::text[]) s (id, principal, secret)"
            " WHERE c.partner_provider_credential_id = s.id",
            (list(sealed), [principal for principal, _ in sealed.values()], [secret for _, secret in sealed.values()]),
        )


def encrypt_all(conn: Connection, secret_box: SecretBox) -> int:
    """Encrypt every key and secret for RunSignup that is stored in clear text, and return how many credentials had one.

    Credentials of other programs for other providers are left alone. A credential whose API key has no number gets one.
    """
    unfinished = (
        "SELECT partner_provider_credential_id, principal, secret, api_key_id"
        f" FROM partner_provider_credentials {OF_RUNSIGNUP} AND (principal NOT LIKE %(sealed)s OR secret NOT LIKE %(sealed)s"
        r" OR api_key_id IS NULL AND principal ~ '\S')"
    )
    parameters = {"sealed": PREFIX + "%", "provider": PROVIDER}
    with conn.cursor() as cur:
        cur.execute(unfinished, parameters)
        if not cur.fetchall():
            return 0
        hold_keys(conn)
        cur.execute(f"{unfinished} ORDER BY 1 FOR UPDATE", parameters)
        sealed: dict[int, list[str | None]] = {}
        unnumbered: dict[int, str] = {}
        for credential_id, principal, secret, number in cur.fetchall():
            values = [
                # A blank value is no secret, and stays blank: encrypted it would look like one.
                text if not text or not text.strip() or text.startswith(PREFIX) else secret_box.encrypt(text.strip())
                for text in (principal, secret)
            ]
            if values != [principal, secret]:
                sealed[credential_id] = values
            if values[0] and values[0].startswith(PREFIX) and (values[0] != principal or number is None):
                # One that no encryption key decrypts has no number.
                with suppress(SecretKeyError):
                    unnumbered[credential_id] = secret_box.decrypt(values[0])
        _store(conn, sealed)
        numbers = api_keys.numbers_of(conn, secret_box, unnumbered.values())
        api_keys.assign_all(conn, {credential_id: numbers[key] for credential_id, key in unnumbered.items()})
    return len(sealed)
