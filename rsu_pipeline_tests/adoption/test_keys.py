"""No partner's key or secret stays in clear where the program owns the table, and what stays is named."""

from collections.abc import Callable
from importlib import resources

import pytest

from rsu_pipeline.warehouse import credential_encryption, database
from rsu_pipeline.warehouse.secret_box import SecretBox
from rsu_pipeline_tests.adoption.conftest import Old
from rsu_pipeline_tests.adoption.looking import adopt
from rsu_pipeline_tests.hub import SECRET_KEY
from rsu_pipeline_tests.warehouse.dumps import dump
from rsu_pipeline_tests.warehouse.sessions import rows

SPREAD = """
UPDATE sync_history h SET error_details = jsonb_build_object('url', 'https://api/?api_key=' || c.principal || '&x=1'),
    reason = 'refused ' || c.secret FROM partner_provider_credentials c WHERE c.timing_partner_id = h.timing_partner_id;
UPDATE sync_queue q SET payload = jsonb_build_object('secret', c.secret)
    FROM partner_provider_credentials c WHERE c.timing_partner_id = q.timing_partner_id;
INSERT INTO sync_history (timing_partner_id, reason) SELECT 99, principal FROM partner_provider_credentials LIMIT 1
"""
NO_KEY = "ALTER TABLE sync_history DROP CONSTRAINT sync_history_timing_partner_id_fkey"


def secrets_of(old: Old) -> dict[str, str]:
    found = {}
    for partner in old.world.partners.values():
        found |= {f"key of {partner.name}": partner.key, f"secret of {partner.name}": partner.secret}
    return found


def test_no_key_is_found_in_a_dump_of_an_adopted_database(make_old: Callable[..., str], old_template: Old) -> None:
    url = make_old(NO_KEY, SPREAD)
    needles = secrets_of(old_template)
    before = dump(url)
    assert [what for what, needle in needles.items() if needle not in before] == []
    report = adopt(url)
    assert min(report.facts.keys_used.values()) > 0
    assert report.facts.keys_elsewhere == {"sync_history": 4, "sync_queue": 3}
    assert any("contained an API key in clear" in line for line in report.lines())
    assert rows(url, "SELECT count(*) FROM adopted_rows WHERE row ? 'credentials_used'") != [(0,)]
    with database.session(url, purpose="tests") as conn:
        assert credential_encryption.encrypt_all(conn, SecretBox([SECRET_KEY], source="tests")) == 3
        conn.commit()
    after = dump(url)
    assert [what for what, needle in needles.items() if needle in after] == []
    assert rows(url, "SELECT DISTINCT reason FROM sync_history") == [("refused [key]",)]
    assert rows(url, "SELECT DISTINCT payload ->> 'secret' FROM sync_queue") == [("[key]",)]


def test_credentials_that_are_not_taken_over_are_named(make_old: Callable[..., str]) -> None:
    url = make_old(
        "UPDATE partner_provider_credentials SET provider_id = 1 WHERE timing_partner_id = 2;"
        "INSERT INTO partner_provider_credentials (provider_id, timing_partner_id, principal, secret)"
        " VALUES (1, 3, 'haku-user', NULL), (1, 1, ' ', '')"
    )
    for dry_run in (True, False):
        report = adopt(url, dry_run=dry_run)
        (line,) = [line for line in report.lines() if "of other providers" in line]
        assert "2 credentials of other providers stay in clear: number 2 of partner 2 (Haku, provider 1) and" in line
        assert "of partner 3 (Haku, provider 1); one that is RunSignup's is taken over once its provider_id" in line
        named = report.as_json()["other_credentials_in_clear"]
        assert isinstance(named, list)
        assert [(item["partner_id"], item["provider"]) for item in named] == [(2, "Haku"), (3, "Haku")]
    rows(url, "UPDATE partner_provider_credentials SET provider_id = 2 WHERE timing_partner_id = 2")
    with database.session(url, purpose="tests") as conn:
        assert credential_encryption.encrypt_all(conn, SecretBox([SECRET_KEY], source="tests")) == 3


def test_keys_in_tables_of_others_are_named_and_stay(make_old: Callable[..., str], old_template: Old) -> None:
    key = old_template.world.partners[1].key
    url = make_old(
        f"CREATE TABLE haku_log (line text, n integer); INSERT INTO haku_log VALUES ('called with {key}'), ('idle')"
    )
    report = adopt(url)
    assert report.facts.keys_elsewhere == {"haku_log": 1}
    assert "  holds partners' keys in clear in 1 row, which stay: it is another program's" in report.lines()
    assert rows(url, "SELECT line FROM haku_log ORDER BY 1") == [(f"called with {key}",), ("idle",)]


@pytest.mark.parametrize("table", ["runsignup_races", "runsignup_events", "runsignup_participants"])
def test_a_database_adopted_earlier_loses_its_keys_with_the_next_migration(
    old_database: str, old_template: Old, table: str
) -> None:
    adopt(old_database)
    key = old_template.world.partners[1].key
    rows(
        old_database,
        f"UPDATE timing_partners SET partition_key = '1-acme' WHERE timing_partner_id = 1;"
        f"UPDATE {table} SET credentials_used = CASE WHEN timing_partner_id = 1 THEN '{key}' ELSE '1-acme' END;"
        f"UPDATE adopted_rows SET row = row || jsonb_build_object('credentials_used', '{key}')",
    )
    folder = resources.files("rsu_pipeline.warehouse") / "migrations"
    (name,) = [entry.name for entry in folder.iterdir() if entry.name.endswith("_adopted_keys.sql")]
    rows(old_database, (folder / name).read_text())
    found = dict(rows(old_database, f"SELECT credentials_used, count(*) FROM {table} GROUP BY 1"))
    assert found.keys() == {None, "1-acme"}
    assert rows(old_database, "SELECT count(*) FROM adopted_rows WHERE row ->> 'credentials_used' IS NOT NULL") == [
        (0,)
    ]
