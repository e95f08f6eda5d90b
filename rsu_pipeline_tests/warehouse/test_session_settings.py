"""What a session relies on holds, whatever environment, role, database and address set.

Else the session is refused.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from rsu_pipeline.warehouse import database, session_settings
from rsu_pipeline.warehouse.database import DatabaseError
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.servers import execute
from rsu_pipeline_tests.warehouse.sessions import rows

ADVERSE = {
    "client_encoding": "LATIN1",
    "timezone": "America/Denver",
    "datestyle": "German",
    "intervalstyle": "iso_8601",
    "extra_float_digits": "-3",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "5s",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "50ms",
    "row_security": "on",
    "work_mem": "64kB",
    "jit": "on",
}
_names = itertools.count(1)


def name_of(url: str) -> str:
    return url.rsplit("/", 1)[1]


def refusal(url: str) -> str:
    with pytest.raises(DatabaseError) as caught:
        database.connect(url, purpose="tests")
    text = str(caught.value)
    assert "\n" not in text
    return text


def current(url: str) -> dict[str, str]:
    names = [*session_settings.SETTINGS, "client_encoding"]
    ((*values,),) = rows(url, f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("whose", ["DATABASE {}", "ROLE CURRENT_USER IN DATABASE {}"])
def test_settings_of_a_role_or_database_change_nothing(empty_database: str, whose: str) -> None:
    for name, value in ADVERSE.items():
        execute(empty_database, f"ALTER {whose.format(name_of(empty_database))} SET {name} = '{value}'")
    with closing(psycopg2.connect(empty_database)) as conn, conn.cursor() as cur:
        cur.execute("SHOW client_encoding")
        assert cur.fetchone() == ("LATIN1",), "they have their effect on other sessions"
    assert current(empty_database) == session_settings.SETTINGS | {"client_encoding": "UTF8"}


def test_the_environment_changes_nothing(empty_database: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGCLIENTENCODING", "LATIN1")
        patch.setenv("PGTZ", "America/Denver")
        patch.setenv("PGDATESTYLE", "German")
        patch.setenv("PGGEQO", "off")
        patch.setenv("PGHOSTADDR", "192.0.2.1")
        patch.setenv("PGOPTIONS", "-c statement_timeout=1 -c search_path=information_schema")
        assert current(empty_database) == session_settings.SETTINGS | {"client_encoding": "UTF8"}
        assert rows(empty_database, "SELECT current_schema()::text") == [("public",)]


def test_the_address_changes_no_setting(empty_database: str) -> None:
    assert current(f"{empty_database}?client_encoding=LATIN1")["client_encoding"] == "UTF8"


def test_settings_outlive_a_rollback(empty_database: str) -> None:
    with database.session(empty_database, purpose="tests") as conn, conn.cursor() as cur:
        conn.rollback()
        cur.execute(
            "SELECT current_setting('timezone'), current_setting('work_mem'), current_setting('application_name')"
        )
        zone, memory, name = cur.fetchone() or ("", "", "")
        assert (zone, memory) == ("UTC", "64MB")
        assert name.startswith("rsu tests ")


def test_a_setting_that_is_not_to_be_had_refuses_the_session(empty_database: str) -> None:
    execute(empty_database, f"ALTER DATABASE {name_of(empty_database)} SET session_replication_role = 'replica'")
    text = refusal(empty_database)
    assert "session_replication_role 'replica' and needs 'origin'" in text
    assert "RESET session_replication_role" in text


def test_a_database_that_only_reads_is_refused(empty_database: str) -> None:
    execute(empty_database, f"ALTER DATABASE {name_of(empty_database)} SET default_transaction_read_only = on")
    assert "only reads: default_transaction_read_only is on" in refusal(empty_database)


# Encodings


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_in_another_encoding_is_refused_with_the_statement_that_helps(server: str, encoding: str) -> None:
    name = f"rsu_encoded_{next(_names)}"
    execute(server, f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    made = f"{name}_utf8"
    try:
        text = refusal(at(server, name))
        assert f"is in {encoding}, " in text
        statement = text[text.index("CREATE DATABASE") : text.index(";")]
        assert statement.startswith(f"CREATE DATABASE {made} ENCODING 'UTF8' TEMPLATE template0")
        execute(server, statement)
        assert rows(at(server, made), "SHOW server_encoding") == [("UTF8",)]
    finally:
        execute(server, f"DROP DATABASE IF EXISTS {made}")
        execute(server, f"DROP DATABASE {name}")


# Schemas


def tables(url: str) -> set[str]:
    """Return the schemas that have tables."""
    with closing(psycopg2.connect(url)) as conn, conn.cursor() as cur:
        cur.execute(
            "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        return {name for (name,) in cur.fetchall()}


def migrate(url: str) -> None:
    with database.session(url, purpose="tests") as conn:
        database.migrate(conn)


@pytest.fixture
def with_schema(empty_database: str) -> str:
    execute(empty_database, "CREATE SCHEMA hub")
    return empty_database


def test_tables_are_in_the_schema_that_the_address_names(with_schema: str) -> None:
    url = f"{with_schema}?options=-csearch_path%3Dhub"
    migrate(url)
    assert tables(with_schema) == {"hub"}
    migrate(url)
    assert tables(with_schema) == {"hub"}


def test_a_schema_that_the_address_names_and_is_not_there_is_refused(empty_database: str) -> None:
    text = refusal(f"{empty_database}?options=-c%20search_path%3Dhub,public")
    assert "has no schema hub to use" in text
    assert "CREATE SCHEMA hub AUTHORIZATION " in text
    assert tables(empty_database) == set()


def test_tables_are_in_the_schema_that_the_role_is_given(with_schema: str) -> None:
    execute(with_schema, f"ALTER ROLE CURRENT_USER IN DATABASE {name_of(with_schema)} SET search_path = hub")
    migrate(with_schema)
    assert tables(with_schema) == {"hub"}


def test_a_hub_is_found_whatever_search_path_a_role_has(with_schema: str) -> None:
    migrate(with_schema)
    execute(with_schema, f"ALTER DATABASE {name_of(with_schema)} SET search_path = hub")
    migrate(with_schema)
    assert tables(with_schema) == {"public"}
    assert rows(with_schema, "SELECT current_schema()::text") == [("public",)]


def test_a_hub_that_is_in_another_schema_than_the_address_says_is_refused(with_schema: str) -> None:
    migrate(with_schema)
    text = refusal(f"{with_schema}?options=-csearch_path%3Dhub")
    assert "tables at " in text and "are in schema public" in text and "leads to schema hub" in text
    assert tables(with_schema) == {"public"}


def test_a_copy_of_the_hub_in_another_schema_is_not_taken_for_it(with_schema: str) -> None:
    migrate(with_schema)
    migrated = f"{with_schema}?options=-csearch_path%3Dhub"
    for table in ("runsignup_participants", "event_cursors"):
        execute(with_schema, f"CREATE TABLE hub.{table} (LIKE public.{table})")
    assert rows(with_schema, "SELECT current_schema()::text") == [("public",)]
    assert rows(migrated, "SELECT current_schema()::text") == [("hub",)]


# Rights


@pytest.fixture
def stranger(empty_database: str) -> Iterator[str]:
    """Provide a login without rights at a database with the schema in it."""
    migrate(empty_database)
    name = f"stranger_{next(_names)}_{os.getpid()}"
    execute(empty_database, f"CREATE ROLE {name} LOGIN PASSWORD 'only-for-tests'")
    yield f"postgresql://{name}:only-for-tests@{empty_database.split('@', 1)[1]}"
    execute(empty_database, f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_table_that_a_role_may_not_read_is_one_sentence(stranger: str) -> None:
    with pytest.raises(
        DatabaseError, match=r"^PostgreSQL at \S+ refuses role stranger_\w+: permission denied for table"
    ):
        rows(stranger, "SELECT * FROM timing_partners")


def test_a_policy_never_hides_rows_unnoticed(empty_database: str, stranger: str) -> None:
    role = stranger.split("//")[1].split(":")[0]
    execute(empty_database, "ALTER TABLE timing_partners ENABLE ROW LEVEL SECURITY")
    execute(empty_database, f"GRANT SELECT ON timing_partners TO {role}")
    with pytest.raises(DatabaseError, match="row-level security"):
        rows(stranger, "SELECT * FROM timing_partners")
