"""Migrations, and the schema they make."""

import re
import subprocess
import sys
from importlib import resources

import psycopg2
import psycopg2.errors
import pytest

from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.database import DatabaseError
from rsu_pipeline_tests.warehouse.sessions import line_of, rows, started

NAMES = [name for _, name, _ in database.list_migrations()]
PARTNER = "INSERT INTO timing_partners (company_name) VALUES ('Juniper Timing'), ('Larch Timing')"
RACE = """
INSERT INTO runsignup_races (race_id) VALUES (1);
INSERT INTO partner_races (timing_partner_id, race_id) VALUES (1, 1), (2, 1);
INSERT INTO runsignup_events (event_id, race_id) VALUES (11, 1);
"""
MIGRATOR = """
import sys
from rsu_pipeline.warehouse import database
with database.session(sys.argv[1], purpose="twin") as conn:
    print("ready", flush=True)
    sys.stdin.readline()
    print(len(database.migrate(conn)))
"""


def migrate(url: str) -> list[str]:
    with database.session(url, purpose="tests") as conn:
        return database.migrate(conn)


def tables(url: str) -> set[object]:
    return {name for (name,) in rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


@pytest.fixture
def schema(server: str, template: str) -> str:
    """Provide a database with the schema, for reading only."""
    return f"{server.rsplit('/', 1)[0]}/{template}"


# Migrations


def test_migrations_make_a_new_database_once(empty_database: str) -> None:
    assert migrate(empty_database) == NAMES
    assert {"timing_partners", "runsignup_participants", "api_calls", "schema_migrations"} <= tables(empty_database)
    assert migrate(empty_database) == []
    assert [name for (name,) in rows(empty_database, "SELECT name FROM schema_migrations ORDER BY version")] == NAMES


def test_two_processes_that_migrate_at_once_apply_each_migration_once(empty_database: str) -> None:
    twins = [started(MIGRATOR, empty_database) for _ in range(3)]
    assert [line_of(twin) for twin in twins] == ["ready"] * 3
    for twin in twins:
        assert twin.stdin is not None
        twin.stdin.write("go\n")
        twin.stdin.flush()
    assert sorted(twin.communicate(timeout=60)[0].strip() for twin in twins) == ["0", "0", str(len(NAMES))]


def test_a_newer_database_is_refused_with_both_versions(database_url: str) -> None:
    rows(database_url, "INSERT INTO schema_migrations VALUES (9000, '9000_future.sql', 'x')")
    with pytest.raises(
        DatabaseError, match=rf"schema is at version 9000, this program knows {len(NAMES)}: install the newer program"
    ):
        migrate(database_url)


def test_a_migration_changed_after_it_was_applied_is_refused(database_url: str) -> None:
    rows(database_url, "UPDATE schema_migrations SET digest = 'another' WHERE version = 2")
    with pytest.raises(DatabaseError, match=rf"^Migration {NAMES[1]} differs from the one applied to this database\.$"):
        migrate(database_url)


def test_another_programs_database_is_refused_and_left_alone(empty_database: str) -> None:
    rows(
        empty_database,
        "CREATE TABLE runsignup_participants (id int, bib text); INSERT INTO runsignup_participants VALUES (1, '12')",
    )
    with pytest.raises(DatabaseError, match=r"another program made it\. Adopt it with `rsu db adopt`"):
        migrate(empty_database)
    assert tables(empty_database) == {"runsignup_participants"}
    assert rows(empty_database, "SELECT * FROM runsignup_participants") == [(1, "12")]


def test_a_database_with_a_table_in_the_way_is_refused_and_left_alone(empty_database: str) -> None:
    rows(empty_database, "CREATE TABLE sync_history (id int)")
    with pytest.raises(DatabaseError, match='nothing was changed: relation "sync_history" already exists'):
        migrate(empty_database)
    assert tables(empty_database) == {"sync_history"}


def test_a_role_without_the_right_to_make_tables_is_told_so(server: str, empty_database: str) -> None:
    rows(server, "CREATE ROLE rsu_test_weak")
    try:
        rows(empty_database, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        with database.session(empty_database, purpose="tests") as conn:
            with conn.cursor() as cur:
                cur.execute("SET ROLE rsu_test_weak")
            conn.commit()
            with pytest.raises(DatabaseError, match="permission denied for schema public"):
                database.migrate(conn)
    finally:
        rows(server, "DROP ROLE rsu_test_weak")


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    assert [number for number, _, _ in database.list_migrations()] == list(range(1, len(NAMES) + 1))


def test_migrations_read_the_same_in_every_locale() -> None:
    code = (
        "import warnings; from rsu_pipeline.warehouse import database;"
        "warnings.simplefilter('error', EncodingWarning); print(len(database.list_migrations()))"
    )
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.strip() == str(len(NAMES)), done.stderr


NEWER_THAN_13 = (
    r"MERGE\s+INTO|NULLS\s+(NOT\s+)?DISTINCT|security_invoker|CREATE\s+OR\s+REPLACE\s+TRIGGER|BEGIN\s+ATOMIC|date_bin\("
    r"|trim_array\(|bit_count\(|regexp_(like|count|instr|substr)\(|pg_input_is_valid\(|any_value\(|JSON_TABLE\(|IS\s+JSON"
    r"|JSON_(SCALAR|SERIALIZE|VALUE|QUERY|EXISTS)\(|JSON_(ARRAY|OBJECT)AGG\(|range_agg\(|multirange|\)\s+VIRTUAL\b|uuidv[47]\("
    r"|GROUP\s+BY\s+DISTINCT|SET\s+(NULL|DEFAULT)\s*\(|array_(sample|shuffle|sort|reverse)\(|string_to_table\("
    r"|RETURNING\s+(WITH|OLD\.|NEW\.)|COMPRESSION\s+lz4|WITHOUT\s+OVERLAPS"
)
"""What later versions brought: 14 to 18."""


def test_the_sql_keeps_to_postgresql_13() -> None:
    package = resources.files("rsu_pipeline")
    texts = {name: sql for _, name, sql in database.list_migrations()}
    for folder in ("warehouse", "local", "start_lists", "adoption", "alerts", "sync", "orchestration"):
        for entry in package.joinpath(folder).iterdir():
            if entry.name.endswith(".py"):
                texts[entry.name] = entry.read_text(encoding="utf-8")
    assert len(texts) > len(NAMES) + 10
    newer = re.compile(NEWER_THAN_13, re.IGNORECASE)
    assert {name: found[0] for name, text in texts.items() if (found := newer.search(text))} == {}


# What they make

OLDER_INSTALLATION = {
    "timing_partners": "timing_partner_id company_name access_password created_at updated_at",
    "providers": "provider_id name provider_type api_base_url rate_limit_per_hour created_at",
    "partner_provider_credentials": "partner_provider_credential_id provider_id timing_partner_id principal secret"
    " credential_type additional_config created_at updated_at",
    "runsignup_races": "race_id name description last_date last_end_date next_date next_end_date created last_modified"
    " is_draft_race is_private_race is_registration_open real_time_notifications_enabled url external_race_url"
    " external_results_url logo_url credentials_used fb_page_id fb_event_id timezone address fetched_date created_at"
    " timing_partner_id",
    "runsignup_events": "event_id race_id name details giveaway start_time end_time registration_opens"
    " age_calc_base_date event_type distance volunteer require_dob require_phone credentials_used fetched_date"
    " created_at timing_partner_id",
    "runsignup_participants": "id race_id event_id timing_partner_id registration_id user_id age first_name middle_name"
    " last_name email profile_image_url credentials_used dob gender phone bib_num chip_num registration_date address"
    " team_info payment_info additional_data fetched_date created_at last_modified",
    "sync_history": "sync_history_id timing_partner_id provider_id event_id operation_type sync_direction sync_time"
    " status num_of_synced_records entries_success entries_failed error_details data_snapshot duration_seconds"
    " callback_url reason",
}
VIEWS = {
    "unified_participants": "source_provider timing_partner_id event_id first_name last_name email gender bib_number city"
    " state age registration_date fetched_date",
    "unified_events": "source_provider timing_partner_id event_id event_name event_date fetched_date",
}
FOREIGN_KEYS = """
partner_provider_credentials (provider_id) providers
partner_provider_credentials (timing_partner_id) timing_partners
runsignup_races (timing_partner_id) timing_partners
partner_races (timing_partner_id) timing_partners
partner_races (race_id) runsignup_races
runsignup_events (race_id) runsignup_races
runsignup_events (timing_partner_id) timing_partners
pass_counts (event_id) runsignup_events
read_passes (timing_partner_id, race_id) partner_races
future_events (timing_partner_id) timing_partners
future_events (event_id) runsignup_events
event_cursors (timing_partner_id) timing_partners
event_cursors (event_id) runsignup_events
read_passes (timing_partner_id) timing_partners
pass_registrations (timing_partner_id, race_id, mode) read_passes
quarantined_rows (timing_partner_id) timing_partners
runsignup_bib_changes (timing_partner_id) timing_partners
sync_history (timing_partner_id) timing_partners
sync_history (provider_id) providers
"""


def columns(url: str, table: str) -> list[tuple[str, str]]:
    found = rows(
        url,
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
        f" AND table_name = '{table}' ORDER BY ordinal_position",
    )
    return [(str(name), str(kind)) for name, kind in found]


def test_the_older_installations_columns_are_there_under_their_names(schema: str) -> None:
    missing = {
        table: set(names.split()) - {name for name, _ in columns(schema, table)}
        for table, names in OLDER_INSTALLATION.items()
    }
    assert missing == {table: set() for table in OLDER_INSTALLATION}


def test_the_views_have_exactly_the_columns_that_displays_read(schema: str) -> None:
    for view, names in VIEWS.items():
        found = columns(schema, view)
        assert [name for name, _ in found] == names.split()
        assert dict(found)["event_id"] == "character varying"


def test_the_views_show_active_rows_under_runsignups_name(database_url: str) -> None:
    rows(database_url, PARTNER)
    rows(database_url, RACE)
    rows(
        database_url,
        "INSERT INTO runsignup_participants (race_id, event_id, timing_partner_id, registration_id, last_name, bib_num,"
        ' address, removed_at) VALUES (1, 11, 1, 101, \'Quill\', \'7\', \'{"city": "Elm", "state": "VT"}\', NULL),'
        " (1, 11, 1, 102, 'Sedge', '8', NULL, now());"
        "INSERT INTO runsignup_events (event_id, race_id, name, gone_at) VALUES (12, 1, 'Gone', now());"
        "UPDATE runsignup_events SET name = 'Mile' WHERE event_id = 11",
    )
    shown = "SELECT source_provider, timing_partner_id, event_id, last_name, bib_number, city, state FROM unified_participants"
    assert rows(database_url, shown) == [("runsignup", 1, "11", "Quill", "7", "Elm", "VT")]
    assert rows(database_url, "SELECT source_provider, event_id, event_name FROM unified_events") == [
        ("runsignup", "11", "Mile")
    ]


def test_every_table_view_and_column_says_what_it_is(schema: str) -> None:
    silent = rows(
        schema,
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped"
        " AND (obj_description(c.oid, 'pg_class') IS NULL"
        " OR (c.relkind <> 'v' AND coalesce(col_description(c.oid, a.attnum), '') = ''))",
    )
    assert silent == []


def test_the_foreign_keys_are_there(schema: str) -> None:
    found = rows(
        schema,
        "SELECT conrelid::regclass::text || ' (' || (SELECT string_agg(attname, ', ' ORDER BY k.place)"
        " FROM unnest(conkey) WITH ORDINALITY k(num, place) JOIN pg_attribute ON attrelid = conrelid AND attnum = k.num)"
        " || ') ' || confrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND convalidated",
    )
    assert set(FOREIGN_KEYS.split("\n")) - {""} <= {key for (key,) in found}


def test_no_table_names_a_partner_without_a_foreign_key_but_that_of_the_registrations(schema: str) -> None:
    loose = rows(
        schema,
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'timing_partner_id'"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'timing_partners'"
        " AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.attnum = ANY (k.conkey))",
    )
    # Of them the key is checked once a pass, which stamps its partner on every row.
    assert loose == [("runsignup_participants",)]


def test_a_partner_has_a_registration_once_and_two_partners_may_share_it(database_url: str) -> None:
    rows(database_url, PARTNER)
    rows(database_url, RACE)
    insert = "INSERT INTO runsignup_participants (race_id, event_id, timing_partner_id, registration_id) VALUES (1, 11, {}, 101)"
    rows(database_url, insert.format(1))
    rows(database_url, insert.format(2))
    with pytest.raises(psycopg2.errors.UniqueViolation):
        rows(database_url, insert.format(1))


def test_the_bib_log_only_grows(database_url: str) -> None:
    rows(database_url, PARTNER)
    rows(
        database_url,
        "INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, new_bib,"
        " first_seen_new) VALUES (1, 1, 11, 101, 'assigned', '12', now())",
    )
    for statement in (
        "UPDATE runsignup_bib_changes SET new_bib = '13'",
        "UPDATE runsignup_bib_changes SET new_bib = '13' WHERE false",
        "DELETE FROM runsignup_bib_changes",
        "TRUNCATE runsignup_bib_changes",
        "TRUNCATE timing_partners CASCADE",
    ):
        with pytest.raises(psycopg2.errors.RestrictViolation, match="runsignup_bib_changes is append-only"):
            rows(database_url, statement)
        assert rows(database_url, "SELECT old_bib, new_bib FROM runsignup_bib_changes") == [(None, "12")], statement
