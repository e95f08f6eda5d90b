"""Which credentials have the same API key, through entry, SQL, rotation and loss of the secret key."""

import hashlib
import threading
from collections.abc import Iterator

import pytest
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import (
    api_keys,
    call_ledger,
    credential_encryption,
    credentials,
    database,
    duplicate_partners,
)
from rsu_pipeline.warehouse.credentials import PartnerError
from rsu_pipeline.warehouse.secret_box import SecretBox, generate_secret_key

OLD, NEW, LATER = generate_secret_key(), generate_secret_key(), generate_secret_key()
KEY = "clearKEY4711"


def secret_box(*keys: str) -> SecretBox:
    return SecretBox(keys, source="tests")


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with database.session(database_url, purpose="tests") as opened:
        yield opened


def sql(conn: Connection, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    with conn.cursor() as cur:
        cur.execute(statement, parameters or None)
        found = cur.fetchall() if cur.description else []
    conn.commit()
    return found


def add(conn: Connection, name: str, key: str = KEY, *, keys: tuple[str, ...] = (OLD,), **more: object) -> int:
    number = credentials.add(conn, secret_box(*keys), name=name, principal=key, secret="s3cret", **more)  # type: ignore[arg-type]
    conn.commit()
    return number


def by_sql(conn: Connection, name: str, key: str = KEY, scheme: str = "api_key") -> int:
    ((number,),) = sql(conn, "INSERT INTO timing_partners (company_name) VALUES (%s) RETURNING timing_partner_id", name)
    sql(
        conn,
        "INSERT INTO partner_provider_credentials (timing_partner_id, provider_id, principal, secret, credential_type)"
        " SELECT %s, provider_id, %s, 's3cret', %s FROM providers WHERE name = 'RunSignup'",
        number,
        key,
        scheme,
    )
    return int(str(number))


def numbers(conn: Connection) -> list[object]:
    """Return the number of each credential's API key, by partner."""
    found = sql(conn, "SELECT api_key_id FROM partner_provider_credentials ORDER BY timing_partner_id")
    return [number for (number,) in found]


def seal(conn: Connection, *keys: str) -> None:
    credential_encryption.encrypt_all(conn, secret_box(*keys))
    conn.commit()


# Entry


def test_one_api_key_is_one_number_whatever_the_partner_and_the_scheme(conn: Connection) -> None:
    by_sql(conn, "One", f" {KEY}\n")
    by_sql(conn, "Two", KEY, scheme="rsu_api_key")
    by_sql(conn, "Three", KEY.lower())
    assert numbers(conn) == [None] * 3
    seal(conn, OLD)
    one, two, three = numbers(conn)
    assert one == two != three and one is not None and three is not None
    opened = [credentials.open_credential(conn, secret_box(OLD), partner) for partner in (1, 2, 3)]
    assert [item.api_key_id for item in opened] == [one, two, three]


def test_a_fingerprint_tells_nothing_without_the_secret_key(conn: Connection) -> None:
    add(conn, "One")
    ((fingerprint,),) = sql(conn, "SELECT fingerprint FROM runsignup_api_keys")
    assert fingerprint not in (hashlib.sha256(KEY.encode()).hexdigest(), KEY)
    assert fingerprint == secret_box(OLD).fingerprints(KEY)[0] != secret_box(NEW).fingerprints(KEY)[0]
    assert len(str(fingerprint)) == 64


def test_an_api_key_that_another_partner_has_is_refused_with_that_partners_name(conn: Connection) -> None:
    add(conn, "Acme Timing")
    with pytest.raises(PartnerError, match=r"^1-acme-timing has this API key already\. .* add --shared-key"):
        add(conn, "Birch Timing")
    conn.rollback()
    assert sql(conn, "SELECT count(*) FROM timing_partners") == [(1,)]
    other = add(conn, "Birch Timing", "another")
    with pytest.raises(PartnerError, match="1-acme-timing has this API key"):
        add(conn, "Birch Timing", keys=(NEW, OLD))
    conn.rollback()
    assert credentials.open_credential(conn, secret_box(OLD), other).principal == "another"


def test_an_api_key_that_was_entered_by_sql_is_refused_too(conn: Connection) -> None:
    by_sql(conn, "Acme Timing")
    with pytest.raises(PartnerError, match="partner 1 has this API key already"):
        add(conn, "Birch Timing")


def test_of_two_that_enter_an_api_key_at_once_one_is_refused(database_url: str, conn: Connection) -> None:
    credentials.add(conn, secret_box(OLD), name="Acme Timing", principal=KEY, secret="s3cret")
    refused: list[str] = []

    def enter() -> None:
        with database.session(database_url, purpose="tests") as other:
            try:
                add(other, "Birch Timing")
            except PartnerError as error:
                refused.append(str(error))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive() and not refused
    conn.commit()
    thread.join(30)
    assert len(refused) == 1 and "has this API key already" in refused[0]


def test_an_api_key_may_be_shared_on_purpose_and_entered_again(conn: Connection) -> None:
    add(conn, "Acme Timing")
    add(conn, "Birch Timing", shares_api_key=True)
    assert len(set(numbers(conn))) == 1
    add(conn, "Acme Timing")
    add(conn, "Birch Timing")
    assert duplicate_partners.find_shared_api_keys(conn, intended=False) == []
    ((group,),) = [duplicate_partners.find_shared_api_keys(conn, intended=True)]
    assert [item.label for item in group] == ["1-acme-timing", "2-birch-timing"]
    # A third one is not meant by that.
    with pytest.raises(PartnerError, match="has this API key already"):
        add(conn, "Cedar Timing")


def test_api_keys_that_arrive_twice_by_sql_are_reported_until_one_changes(conn: Connection) -> None:
    by_sql(conn, "Acme Timing")
    by_sql(conn, "Birch Timing")
    seal(conn, OLD)
    ((one, two),) = duplicate_partners.find_shared_api_keys(conn, intended=False)
    assert (one.partner_id, two.partner_id) == (1, 2)
    mark = "UPDATE partner_provider_credentials SET shares_api_key = true WHERE timing_partner_id = 2"
    sql(conn, mark)
    assert duplicate_partners.find_shared_api_keys(conn, intended=False) == []
    sql(conn, "UPDATE partner_provider_credentials SET principal = 'another' WHERE timing_partner_id = 2")
    assert numbers(conn)[1] is None
    seal(conn, OLD)
    assert len(set(numbers(conn))) == 2
    assert duplicate_partners.find_shared_api_keys(conn, intended=True) == []
    # What was meant for the one key is not meant for the next.
    sql(conn, f"UPDATE partner_provider_credentials SET principal = '{KEY}' WHERE timing_partner_id = 2")
    seal(conn, OLD)
    assert len(duplicate_partners.find_shared_api_keys(conn, intended=False)) == 1
    credentials.set_disabled(conn, 2, True)
    assert duplicate_partners.find_shared_api_keys(conn, intended=True) == []


def test_an_encrypted_value_copied_by_sql_is_known_as_the_same_api_key(conn: Connection) -> None:
    add(conn, "One")
    add(conn, "Two", "another")
    sql(
        conn,
        "UPDATE partner_provider_credentials SET principal = (SELECT principal FROM partner_provider_credentials"
        " WHERE timing_partner_id = 1) WHERE timing_partner_id = 2",
    )
    assert credentials.open_credential(conn, secret_box(OLD), 2).api_key_id == numbers(conn)[0]


@pytest.mark.parametrize(
    "name",
    ["ACME TIMING", "Acme  Timing", "Acme\u00a0Timing", "\uff21cme Timing", "Acme\u200b Timing", "Acme Tim\u0131ng"],
)
def test_a_name_that_differs_in_case_blanks_or_form_is_refused(conn: Connection, name: str) -> None:
    add(conn, "Acme Timing")
    if "\u0131" in name:  # another letter, however alike
        add(conn, name, "another")
        return
    with pytest.raises(PartnerError, match=r"^There is a partner named 'Acme Timing' \(1-acme-timing\)"):
        add(conn, name, "another")
    conn.rollback()
    sql(conn, "INSERT INTO timing_partners (company_name) VALUES (%s)", name)
    (group,) = duplicate_partners.find_similar_names(conn)
    assert group[0].partner_id == 1 and len(group) == 2


def test_a_name_in_two_unicode_forms_is_one_name(conn: Connection) -> None:
    add(conn, "Caf\u00e9 Stra\u00dfe")
    with pytest.raises(PartnerError, match="There is a partner named"):
        add(conn, "cafe\u0301 STRASSE", "another")


# The ledger, from before the migration and over a change


def used(conn: Connection, partner: int, *keys: str) -> int:
    return call_ledger.count_calls_this_hour(
        conn, credentials.open_credential(conn, secret_box(*keys), partner).api_key_id
    )


def call(conn: Connection, partner: int, *keys: str) -> None:
    found = credentials.open_credential(conn, secret_box(*keys), partner)
    ledger = call_ledger.Ledger(conn, found.credential_id, found.api_key_id, "routine", call_ledger.Limits(100, 10))
    ledger.settle(ledger.acquire("races", None), status=200, error=None, size=0, rows=0)


def test_calls_made_before_the_migration_count(conn: Connection) -> None:
    add(conn, "One")
    add(conn, "Two", shares_api_key=True)
    # As it was: neither credentials nor calls know an API key.
    sql(conn, "UPDATE partner_provider_credentials SET api_key_id = NULL")
    sql(conn, "DELETE FROM runsignup_api_keys")
    sql(
        conn,
        "INSERT INTO api_calls (credential_id, lane, endpoint, granted_at)"
        " SELECT 1 + n % 2, 'routine', 'races', now() - n * interval '11 minutes' FROM generate_series(1, 6) n",
    )
    assert used(conn, 1, OLD) == used(conn, 2, OLD) == 5
    # A process that was started before it still names no API key.
    sql(conn, "INSERT INTO api_calls (credential_id, lane, endpoint) VALUES (2, 'routine', 'races')")
    assert used(conn, 1, OLD) == 6


def test_another_api_key_has_its_own_hour_and_the_calls_stay_with_the_old_one(conn: Connection) -> None:
    add(conn, "One")
    call(conn, 1, OLD)
    add(conn, "One", "another")
    assert used(conn, 1, OLD) == 0
    call(conn, 1, OLD)
    call(conn, 1, OLD)
    # The old key comes back with another partner, and so do its calls.
    add(conn, "Two")
    assert (used(conn, 1, OLD), used(conn, 2, OLD)) == (2, 1)
    sql(conn, "DELETE FROM partner_provider_credentials WHERE timing_partner_id = 2")
    add(conn, "Three")
    assert used(conn, 3, OLD) == 1


# Rotation of the secret key


def test_an_api_key_keeps_its_number_and_calls_through_a_rotation(conn: Connection) -> None:
    add(conn, "One")
    add(conn, "Two", "another")
    call(conn, 1, OLD)
    before = numbers(conn)
    # The new secret key is known to some processes, and nothing is encrypted with it yet.
    with pytest.raises(PartnerError, match="1-one has this API key"):
        add(conn, "Three", keys=(NEW, OLD))
    conn.rollback()
    # Entered by a process with both secret keys, and again by SQL and one that has only the old.
    add(conn, "Four", "fourth", keys=(NEW, OLD))
    by_sql(conn, "Five", "fourth")
    seal_with_old = secret_box(OLD)
    credential_encryption.encrypt_all(conn, seal_with_old)
    conn.commit()
    assert numbers(conn)[2] == numbers(conn)[3]
    # Half of the credentials are encrypted with the new one.
    with conn.cursor() as cur:
        cur.execute("SELECT principal FROM partner_provider_credentials WHERE timing_partner_id = 1")
        (text,) = cur.fetchone() or ("",)
        api_keys.refresh_fingerprint(conn, secret_box(NEW, OLD), int(str(before[0])), secret_box(OLD).decrypt(text))
    conn.commit()
    with pytest.raises(PartnerError, match="1-one has this API key"):
        add(conn, "Three", keys=(NEW, OLD))
    conn.rollback()
    credential_encryption.reencrypt(conn, secret_box(NEW, OLD))
    assert numbers(conn)[:2] == before
    assert numbers(conn)[2] == numbers(conn)[3]
    with pytest.raises(PartnerError, match="1-one has this API key"):
        add(conn, "Three", keys=(NEW, OLD))
    conn.rollback()
    # The old one is gone.
    with pytest.raises(PartnerError, match="1-one has this API key"):
        add(conn, "Three", keys=(NEW,))
    conn.rollback()
    assert used(conn, 1, NEW) == 1
    assert credential_encryption.reencrypt(conn, secret_box(NEW)).unchanged == 4
    assert credential_encryption.reencrypt(conn, secret_box(LATER, NEW)).sealed == 4
    assert used(conn, 1, LATER) == 1


def test_an_api_key_stored_twice_while_secret_keys_differed_becomes_one(conn: Connection) -> None:
    add(conn, "One", keys=(OLD,))
    add(conn, "Two", keys=(NEW,))
    call(conn, 1, OLD)
    call(conn, 2, NEW)
    call(conn, 2, NEW)
    assert len(set(numbers(conn))) == 2
    credential_encryption.reencrypt(conn, secret_box(NEW, OLD))
    assert len(set(numbers(conn))) == 1
    assert used(conn, 1, NEW) == used(conn, 2, NEW) == 3
    assert sql(conn, "SELECT count(*) FROM runsignup_api_keys") == [(1,)]


def test_calls_still_count_when_the_secret_key_was_lost_and_the_api_key_entered_again(conn: Connection) -> None:
    add(conn, "One")
    call(conn, 1, OLD)
    assert credential_encryption.reencrypt(conn, secret_box(NEW)).closed == [1]
    add(conn, "One", keys=(NEW,))
    assert used(conn, 1, NEW) == 1


def test_a_credential_that_no_secret_key_decrypts_does_not_stop_the_others(conn: Connection) -> None:
    add(conn, "One")
    sql(conn, "UPDATE partner_provider_credentials SET api_key_id = NULL")
    add(conn, "Two", "another", keys=(NEW,))
    assert credentials.open_credential(conn, secret_box(NEW), 2).principal == "another"
    assert numbers(conn)[0] is None


def test_api_keys_without_a_credential_are_forgotten_once_their_calls_no_longer_count(conn: Connection) -> None:
    add(conn, "One")
    call(conn, 1, OLD)
    assert api_keys.minutes_until_forgotten(conn) is None
    add(conn, "One", "another")
    minutes = api_keys.minutes_until_forgotten(conn)
    assert minutes is not None and 59 < minutes <= 60
    sql(conn, "UPDATE api_calls SET granted_at = granted_at - interval '1 hour'")
    assert api_keys.minutes_until_forgotten(conn) is None
    assert api_keys.delete_unused(conn) == 1
    assert api_keys.delete_unused(conn) == 0
