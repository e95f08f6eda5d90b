"""Partners and their credentials, however they were entered."""

import os
import re
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from rsu_pipeline.local import pg_binaries
from rsu_pipeline.warehouse import credential_encryption, credentials, database, sync_log
from rsu_pipeline.warehouse.credentials import PartnerError
from rsu_pipeline.warehouse.secret_box import PREFIX, SecretBox, SecretKeyError

CLEAR_KEY, CLEAR_SECRET = "clearKEY4711", "clearSECRET0815"
BY_SQL = f"""
INSERT INTO timing_partners (company_name) VALUES ('Juniper Timing');
INSERT INTO partner_provider_credentials (timing_partner_id, provider_id, principal, secret)
SELECT t.timing_partner_id, p.provider_id, '{CLEAR_KEY}', '{CLEAR_SECRET}'
FROM timing_partners t, providers p WHERE t.company_name = 'Juniper Timing' AND p.name = 'RunSignup'
"""
SECRET_BOX = SecretBox([Fernet.generate_key().decode()], source="RSU_SECRET_KEY")
OTHER_SEALER = SecretBox([Fernet.generate_key().decode()], source="RSU_SECRET_KEY")


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


def added(conn: Connection, name: str = "Juniper Timing", secret: str = CLEAR_SECRET, key: str = CLEAR_KEY) -> int:
    partner_id = credentials.add(conn, SECRET_BOX, name=name, principal=key, secret=secret)
    conn.commit()
    return partner_id


def stored(conn: Connection) -> tuple[str, str]:
    ((principal, secret),) = sql(conn, "SELECT principal, secret FROM partner_provider_credentials")
    return str(principal), str(secret)


# Names and partition keys


@settings(max_examples=60)
@given(st.text(max_size=80))
def test_a_slug_is_readable_and_short(name: str) -> None:
    made = credentials.slug(name)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", made)
    assert len(made) <= 40
    assert credentials.slug(made) == made


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Acme Timing, Inc.", "acme-timing-inc"),
        ("  Été & Niño  ", "ete-nino"),
        ("計時", "partner"),
        ("", "partner"),
        ("a" * 39 + " b", "a" * 39),
    ],
)
def test_a_slug_keeps_letters_and_digits(name: str, slug: str) -> None:
    assert credentials.slug(name) == slug


def test_a_partition_key_outlives_a_renaming(conn: Connection) -> None:
    partner_id = added(conn)
    assert credentials.ensure_key(conn, partner_id) == f"{partner_id}-juniper-timing"
    sql(conn, "UPDATE timing_partners SET company_name = 'Larch Timing'")
    assert credentials.ensure_key(conn, partner_id) == f"{partner_id}-juniper-timing"
    assert credentials.find_partner(conn, str(partner_id)).name == "Larch Timing"


def test_partners_of_one_name_have_keys_of_their_own(conn: Connection) -> None:
    sql(conn, "INSERT INTO timing_partners (company_name) VALUES ('Twin'), ('Twin')")
    assert [credentials.ensure_key(conn, number) for number in (1, 2)] == ["1-twin", "2-twin"]
    with pytest.raises(PartnerError, match="There are 2 partners named 'Twin': change the credential by SQL"):
        added(conn, "Twin")


def test_a_partner_is_found_by_number_and_by_key(conn: Connection) -> None:
    partner_id = added(conn)
    by_number, by_key = (
        credentials.find_partner(conn, f" {partner_id} "),
        credentials.find_partner(conn, "1-juniper-timing"),
    )
    assert by_number == by_key
    assert (by_key.partner_id, by_key.name) == (partner_id, "Juniper Timing")


@pytest.mark.parametrize("name", ["2", "Juniper Timing", "1-juniper", "", "1 OR true", "%"])
def test_an_unknown_partner_is_one_sentence(conn: Connection, name: str) -> None:
    added(conn)
    with pytest.raises(PartnerError, match=r"^There is no partner .*: `rsu partners list` shows them\.$"):
        credentials.find_partner(conn, name)


def test_a_key_for_no_partner_is_refused(conn: Connection) -> None:
    with pytest.raises(PartnerError, match=r"^There is no partner 99"):
        credentials.ensure_key(conn, 99)


def test_a_name_too_long_for_its_column_is_refused(conn: Connection) -> None:
    with pytest.raises(PartnerError, match="at most 255 characters, this one has 256"):
        added(conn, "x" * 256)
    assert added(conn, "x" * 255) == 1


# Entering


def test_a_new_secret_of_a_known_name_replaces_the_old_one(conn: Connection) -> None:
    first = added(conn, secret="old")
    partner = credentials.find_partner(conn, str(first))
    credentials.mark_rejected(conn, partner.credential_id or 0, "no access")
    credentials.set_disabled(conn, first, True)
    assert added(conn, secret="new") == first
    again = credentials.find_partner(conn, str(first))
    assert (again.rejected_at, again.rejected_reason, again.verified_at, again.disabled_at) == (None, None, None, None)
    assert again.credential_id == partner.credential_id
    assert again.entered_at is not None and partner.entered_at is not None and again.entered_at > partner.entered_at
    assert credentials.open_credential(conn, SECRET_BOX, first).secret == "new"


def test_the_provider_is_found_by_name_whatever_its_case_and_number(conn: Connection) -> None:
    sql(conn, "UPDATE providers SET provider_id = 2, name = 'RUNSIGNUP'")
    sql(conn, "INSERT INTO providers (provider_id, name) VALUES (1, 'Haku')")
    partner_id = added(conn)
    assert sql(conn, "SELECT provider_id FROM partner_provider_credentials") == [(2,)]
    assert credentials.find_partner(conn, str(partner_id)).is_active
    assert credentials.open_credential(conn, SECRET_BOX, partner_id).principal == CLEAR_KEY


def test_another_providers_credential_does_not_make_a_partner_active(conn: Connection) -> None:
    sql(conn, "INSERT INTO providers (provider_id, name) VALUES (77, 'Haku')")
    sql(conn, "INSERT INTO timing_partners (company_name) VALUES ('Juniper Timing')")
    sql(
        conn,
        "INSERT INTO partner_provider_credentials (timing_partner_id, provider_id, principal, secret) VALUES (1, 77, 'a', 'b')",
    )
    assert not credentials.find_partner(conn, "1").is_active
    with pytest.raises(PartnerError, match="has no RunSignup credential"):
        credentials.open_credential(conn, SECRET_BOX, 1)


def test_without_a_provider_nothing_is_entered(conn: Connection) -> None:
    sql(conn, "DELETE FROM providers")
    with pytest.raises(PartnerError, match="Table providers has 0 rows named RunSignup"):
        added(conn)
    conn.rollback()
    assert credentials.list_partners(conn) == []


@pytest.mark.parametrize(("principal", "secret"), [(None, "s"), ("k", None), ("", "s"), ("k", " \n")])
def test_a_partner_without_key_or_secret_is_inactive(
    conn: Connection, principal: str | None, secret: str | None
) -> None:
    added(conn)
    sql(conn, "UPDATE partner_provider_credentials SET principal = %s, secret = %s", principal, secret)
    credential_encryption.encrypt_all(conn, SECRET_BOX)
    assert credential_encryption.encrypt_all(conn, SECRET_BOX) == 0
    partner = credentials.find_partner(conn, "1")
    assert (partner.is_active, partner.credential_id) == (False, None)
    assert credentials.list_partners_awaiting_first_sync(conn) == []
    with pytest.raises(PartnerError, match="has no RunSignup credential: add one with `rsu partners add`"):
        credentials.open_credential(conn, SECRET_BOX, 1)


def test_switching_off_and_on_keeps_the_first_moment(conn: Connection) -> None:
    added(conn)
    credentials.set_disabled(conn, 1, True)
    off = credentials.find_partner(conn, "1")
    credentials.set_disabled(conn, 1, True)
    assert off.disabled_at is not None and not off.is_active
    assert credentials.find_partner(conn, "1").disabled_at == off.disabled_at
    credentials.set_disabled(conn, 1, False)
    assert credentials.find_partner(conn, "1").is_active


def test_a_scheme_nobody_knows_is_refused(conn: Connection) -> None:
    added(conn)
    sql(conn, "UPDATE partner_provider_credentials SET credential_type = 'oauth'")
    with pytest.raises(PartnerError, match="has credential_type 'oauth': use api_key, rsu_api_key or sp_api_key"):
        credentials.open_credential(conn, SECRET_BOX, 1)


@pytest.mark.parametrize(("entered", "scheme"), [(None, "api_key"), ("", "api_key"), ("RSU_API_KEY", "rsu_api_key")])
def test_a_scheme_left_out_is_the_timers(conn: Connection, entered: str | None, scheme: str) -> None:
    added(conn)
    sql(conn, "UPDATE partner_provider_credentials SET credential_type = %s", entered)
    assert credentials.open_credential(conn, SECRET_BOX, 1).scheme == scheme


# Sealing


def test_what_was_inserted_in_clear_is_sealed_at_the_next_look_and_nowhere_left(
    conn: Connection, database_url: str
) -> None:
    sql(conn, BY_SQL)
    assert clear_places(conn) == ["partner_provider_credentials"]
    assert CLEAR_SECRET in dump(database_url)
    opened = credentials.open_credential(conn, SECRET_BOX, 1)
    assert (opened.principal, opened.secret) == (CLEAR_KEY, CLEAR_SECRET)
    assert all(text.startswith(PREFIX) for text in stored(conn))
    assert clear_places(conn) == []
    text = dump(database_url)
    assert CLEAR_KEY not in text
    assert CLEAR_SECRET not in text
    assert "Juniper Timing" in text


def clear_places(conn: Connection) -> list[str]:
    """Return the tables that have the clear key or secret in any column."""
    tables = sql(conn, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
    assert len(tables) > 10
    found = []
    for (table,) in tables:
        ((count,),) = sql(conn, f"SELECT count(*) FROM {table} t WHERE t::text ~ '{CLEAR_KEY}|{CLEAR_SECRET}'")
        if count:
            found.append(str(table))
    return found


def dump(url: str) -> str:
    folder = pg_binaries.machine_binaries() or pg_binaries.wheel_binaries()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        [Path(folder) / "pg_dump", "--dbname", url],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def test_spaces_around_a_key_entered_by_sql_are_not_part_of_it(conn: Connection) -> None:
    sql(conn, BY_SQL)
    sql(conn, "UPDATE partner_provider_credentials SET principal = E' k\\n', secret = E'\\ts '")
    opened = credentials.open_credential(conn, SECRET_BOX, 1)
    assert (opened.principal, opened.secret) == ("k", "s")


def test_sealing_is_done_once(conn: Connection) -> None:
    added(conn, "Larch Timing", key="another")
    sql(conn, BY_SQL)
    assert credential_encryption.encrypt_all(conn, SECRET_BOX) == 1
    conn.commit()
    before = sql(conn, "SELECT * FROM partner_provider_credentials ORDER BY 1")
    assert credential_encryption.encrypt_all(conn, SECRET_BOX) == 0
    conn.commit()
    assert sql(conn, "SELECT * FROM partner_provider_credentials ORDER BY 1") == before


def test_half_a_credential_in_clear_is_sealed_and_the_other_half_kept(conn: Connection) -> None:
    added(conn)
    principal, _ = stored(conn)
    sql(conn, "UPDATE partner_provider_credentials SET secret = 'renewed'")
    assert credential_encryption.encrypt_all(conn, SECRET_BOX) == 1
    conn.commit()
    assert stored(conn)[0] == principal
    assert credentials.open_credential(conn, SECRET_BOX, 1).secret == "renewed"


@pytest.mark.parametrize("column", ["principal", "secret"])
def test_a_new_key_by_sql_forgets_what_was_known_of_the_old_one(conn: Connection, column: str) -> None:
    added(conn)
    number = credentials.find_partner(conn, "1").credential_id or 0
    credentials.mark_verified(conn, number)
    credentials.mark_rejected(conn, number, "no access")
    before = credentials.find_partner(conn, "1")
    assert before.verified_at is not None and before.rejected_at is not None and before.entered_at is not None
    sql(conn, f"UPDATE partner_provider_credentials SET {column} = 'renewed'")
    after = credentials.find_partner(conn, "1")
    assert (after.verified_at, after.rejected_at, after.rejected_reason) == (None, None, None)
    assert after.entered_at is not None and after.entered_at > before.entered_at
    credentials.mark_verified(conn, number)
    credentials.open_credential(conn, SECRET_BOX, 1)
    sealed = credentials.find_partner(conn, "1")
    assert sealed.verified_at is not None, "sealing is not a new key"
    assert sealed.entered_at == after.entered_at


def test_a_secret_sealed_with_a_lost_key_is_one_sentence_without_it(conn: Connection) -> None:
    added(conn)
    with pytest.raises(SecretKeyError, match=r"^A stored secret opens with no key of RSU_SECRET_KEY: ") as caught:
        credentials.open_credential(conn, OTHER_SEALER, 1)
    text = "".join(traceback.format_exception(caught.value))
    assert all(part not in text for part in (*stored(conn), CLEAR_KEY, CLEAR_SECRET))


def test_an_opened_credential_does_not_print_its_secret(conn: Connection) -> None:
    added(conn)
    opened = credentials.open_credential(conn, SECRET_BOX, 1)
    assert opened.secret == CLEAR_SECRET
    assert CLEAR_SECRET not in f"{opened!r} {opened}"
    assert CLEAR_KEY not in f"{opened!r} {opened}"


# What is known of a credential, and the first sync


def test_a_proof_clears_a_refusal(conn: Connection) -> None:
    added(conn)
    number = credentials.find_partner(conn, "1").credential_id or 0
    credentials.mark_rejected(conn, number, "r" * 900)
    refused = credentials.find_partner(conn, "1")
    assert refused.rejected_at is not None and refused.rejected_reason == "r" * 500
    credentials.mark_verified(conn, number)
    works = credentials.find_partner(conn, "1")
    assert (works.rejected_at, works.rejected_reason) == (None, None)
    assert works.verified_at is not None


def test_a_partner_awaits_its_first_sync_until_a_run_has_tried_and_again_after_a_new_key(conn: Connection) -> None:
    added(conn)
    off = added(conn, "Larch Timing", key="another")
    credentials.set_disabled(conn, off, True)
    sql(conn, "INSERT INTO timing_partners (company_name) VALUES ('No Credential')")

    def waiting() -> list[int]:
        return [partner.partner_id for partner in credentials.list_partners_awaiting_first_sync(conn)]

    assert waiting() == [1]
    sync_log.record(
        conn,
        partner_id=1,
        race_id=None,
        event_ids=[],
        operation="events",
        status="failed",
        reason="tried",
        run_id="test",
        seconds=0.0,
        counts={},
    )
    conn.commit()
    assert waiting() == []
    sql(conn, "UPDATE partner_provider_credentials SET secret = 'renewed' WHERE timing_partner_id = 1")
    assert waiting() == [1]
