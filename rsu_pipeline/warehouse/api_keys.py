"""Which credentials have the same RunSignup API key, without any of them in clear text.

RunSignup limits calls by API key, so the call ledger counts by API key. Each key is a row of `runsignup_api_keys` with a
number that never changes, and a fingerprint that can be computed only with the installation's encryption key. The key's
text alone decides: `api_key` and `rsu_api_key` are two ways of sending a key, and one limit is the safe assumption for both.

While several encryption keys are in use, a fingerprint is searched under each of them. A new one is written under the oldest,
which every process has. `refresh_fingerprint` moves it to the newest when credentials are encrypted with it.
"""

from collections.abc import Iterable, Mapping

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.secret_box import SecretBox


def number_of(conn: Connection, secret_box: SecretBox, api_key: str) -> int:
    """Return the number under which calls with this API key are counted."""
    return numbers_of(conn, secret_box, [api_key])[api_key]


def numbers_of(conn: Connection, secret_box: SecretBox, api_keys: Iterable[str]) -> dict[str, int]:
    """Return the numbers of several API keys, by two statements however many they are."""
    fingerprints = {api_key: secret_box.fingerprints(api_key) for api_key in api_keys}
    with conn.cursor() as cur:
        cur.execute(
            "SELECT fingerprint, api_key_id FROM runsignup_api_keys WHERE fingerprint = ANY (%s)",
            ([fingerprint for each in fingerprints.values() for fingerprint in each],),
        )
        known: dict[str, int] = dict(cur.fetchall())
        new = sorted({each[-1] for each in fingerprints.values() if known.keys().isdisjoint(each)})
        if new:
            # DO UPDATE, so that the row of a session that was faster is returned as well.
            cur.execute(
                "INSERT INTO runsignup_api_keys (fingerprint) SELECT unnest(%s::text[])"
                " ON CONFLICT (fingerprint) DO UPDATE SET fingerprint = excluded.fingerprint"
                " RETURNING fingerprint, api_key_id",
                (new,),
            )
            known |= dict(cur.fetchall())
    return {
        api_key: min(known[fingerprint] for fingerprint in each if fingerprint in known)
        for api_key, each in fingerprints.items()
    }


def find_number(conn: Connection, secret_box: SecretBox, api_key: str) -> int | None:
    """Return the number of this API key, or None if it was never stored."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT min(api_key_id) FROM runsignup_api_keys WHERE fingerprint = ANY (%s)",
            (secret_box.fingerprints(api_key),),
        )
        (number,) = cur.fetchone() or (None,)
    return None if number is None else int(number)


def assign(conn: Connection, credential_id: int, number: int) -> None:
    """Record that a credential has this API key, and count its calls of the last hour that name none."""
    assign_all(conn, {credential_id: number})


def assign_all(conn: Connection, numbers: Mapping[int, int]) -> None:
    """Do the same for several credentials: the number of each one's API key by the credential's id."""
    pairs = (list(numbers), list(numbers.values()))
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE partner_provider_credentials c SET api_key_id = n.number FROM unnest(%s::int[], %s::int[]) n (id, number)"
            " WHERE c.partner_provider_credential_id = n.id AND c.api_key_id IS DISTINCT FROM n.number",
            pairs,
        )
        cur.execute(
            "UPDATE api_calls a SET api_key_id = n.number FROM unnest(%s::int[], %s::int[]) n (id, number)"
            " WHERE a.credential_id = n.id AND a.api_key_id IS NULL AND a.granted_at > clock_timestamp() - interval '1 hour'",
            pairs,
        )


def take_over_number(conn: Connection, secret_box: SecretBox, number: int, api_key: str) -> None:
    """Give the number, and so the calls, of an API key that no encryption key decrypts any more to this API key.

    It may be the same key. Does nothing if this API key has a number already.
    """
    if find_number(conn, secret_box, api_key) is None:
        with conn.cursor() as cur:
            cur.execute(
                "UPDATE runsignup_api_keys SET fingerprint = %s WHERE api_key_id = %s",
                (secret_box.fingerprints(api_key)[-1], number),
            )


def refresh_fingerprint(conn: Connection, secret_box: SecretBox, number: int, api_key: str) -> int:
    """Store the fingerprint under the newest encryption key and return the number of the API key.

    Another number is returned if a process that had only the newest encryption key stored the same API key. The two are merged,
    with the calls of both.
    """
    newest = secret_box.fingerprints(api_key)[0]
    with conn.cursor() as cur:
        cur.execute("SELECT api_key_id FROM runsignup_api_keys WHERE fingerprint = %s", (newest,))
        (other,) = cur.fetchone() or (None,)
        if other is None:
            cur.execute("UPDATE runsignup_api_keys SET fingerprint = %s WHERE api_key_id = %s", (newest, number))
        elif other != number:
            for table in ("partner_provider_credentials", "api_calls"):
                cur.execute(f"UPDATE {table} SET api_key_id = %s WHERE api_key_id = %s", (other, number))
            cur.execute("DELETE FROM runsignup_api_keys WHERE api_key_id = %s", (number,))
            return int(other)
    return number


def minutes_until_forgotten(conn: Connection) -> float | None:
    """Return how many minutes the calls of API keys without a credential still count, or None if there are none.

    Their fingerprints cannot be moved to another encryption key, so such a key would come back as a new one.
    """
    with conn.cursor() as cur:
        cur.execute(
            "SELECT extract(epoch FROM max(a.granted_at) + interval '1 hour' - clock_timestamp()) / 60 FROM api_calls a"
            f" WHERE a.granted_at > clock_timestamp() - interval '1 hour' AND a.api_key_id IN ({_UNUSED})"
        )
        (minutes,) = cur.fetchone() or (None,)
    return None if minutes is None else float(minutes)


def delete_unused(conn: Connection) -> int:
    """Delete the fingerprints of API keys that no credential has, and return how many."""
    with conn.cursor() as cur:
        cur.execute(f"DELETE FROM runsignup_api_keys WHERE api_key_id IN ({_UNUSED})")
        return cur.rowcount


_UNUSED = """
SELECT k.api_key_id FROM runsignup_api_keys k
WHERE NOT EXISTS (SELECT FROM partner_provider_credentials c WHERE c.api_key_id = k.api_key_id)
"""
