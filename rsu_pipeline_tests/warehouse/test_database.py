"""Connections."""

from contextlib import closing

import psycopg2
import psycopg2.errors
import pytest

from rsu_pipeline.warehouse import database, session_settings, waiting
from rsu_pipeline.warehouse.database import DatabaseError
from rsu_pipeline.warehouse.statement_errors import StatementError
from rsu_pipeline_tests.warehouse.sessions import rows

PARTNER = "INSERT INTO timing_partners (company_name) VALUES ('Juniper Timing'), ('Larch Timing')"

# Connections


def test_a_session_says_what_it_is_for_and_never_waits_for_ever(server: str) -> None:
    ((name, lock, idle, zone),) = rows(
        server,
        "SELECT current_setting('application_name'), current_setting('lock_timeout'),"
        " current_setting('idle_in_transaction_session_timeout'), current_setting('timezone')",
    )
    assert str(name).startswith("rsu tests ")
    assert (lock, idle, zone) == ("30s", "10min", "UTC")


def test_a_session_sees_what_others_commit_whatever_the_database_is_set_to(database_url: str) -> None:
    rows(
        database_url,
        "ALTER DATABASE " + database_url.rsplit("/", 1)[1] + " SET default_transaction_isolation = 'serializable'",
    )
    assert rows(database_url, "SHOW transaction_isolation") == [("read committed",)]


def test_what_a_session_did_not_commit_is_undone(database_url: str) -> None:
    with database.session(database_url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute(PARTNER)
    assert rows(database_url, "SELECT count(*) FROM timing_partners") == [(0,)]


def test_a_connection_lost_in_a_session_is_one_sentence(server: str) -> None:
    with (
        pytest.raises(DatabaseError, match=r"^The connection to PostgreSQL at \S+ was lost: [^\n]*$"),
        database.session(server, purpose="victim") as conn,
        conn.cursor() as cur,
    ):
        rows(server, f"SELECT pg_terminate_backend({conn.info.backend_pid})")
        cur.execute("SELECT 1")


def test_an_error_of_ours_in_a_session_stays_what_it_is(server: str) -> None:
    with (
        pytest.raises(psycopg2.errors.UndefinedTable),
        database.session(server, purpose="tests") as conn,
        conn.cursor() as cur,
    ):
        cur.execute("SELECT FROM nowhere")


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (
            "SET statement_timeout = 10; SELECT pg_sleep(5)",
            "canceling statement due to statement timeout. An administrator",
        ),
        (
            "DO $$ BEGIN RAISE 'no space left' USING ERRCODE = 'disk_full'; END $$",
            "no space left. Make room on the disk",
        ),
        (
            "DO $$ BEGIN RAISE 'bad page' USING ERRCODE = 'data_corrupted'; END $$",
            "bad page. PostgreSQL's own log has more",
        ),
        (
            "DO $$ BEGIN RAISE 'too many' USING ERRCODE = 'configuration_limit_exceeded'; END $$",
            "too many. What it was for",
        ),
    ],
)
def test_a_statement_that_cannot_be_executed_now_is_one_sentence(server: str, statement: str, sentence: str) -> None:
    with (
        pytest.raises(StatementError, match=rf"^PostgreSQL at \S+ could not execute a statement: {sentence}[^\n]*\.$"),
        database.session(server, purpose="tests") as conn,
        conn.cursor() as cur,
    ):
        cur.execute(statement)


def test_who_has_locked_a_table_is_named_without_being_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(session_settings.SETTINGS, "lock_timeout", "100ms")
    monkeypatch.setattr(waiting, "BLOCKED_SECONDS", 0.0)
    reader, writer = (
        psycopg2.connect(database_url, application_name=name) for name in ("a \x1b[31mreport", "a vacuum")
    )
    with closing(reader), closing(writer), reader.cursor() as first, writer.cursor() as second:
        first.execute("SELECT FROM timing_partners")
        second.execute("SAVEPOINT a; LOCK TABLE runsignup_participants IN ACCESS EXCLUSIVE MODE")
        with (
            pytest.raises(
                StatementError, match=r"session \d+ \(a vacuum, role \w+, .*\) has locked rows of runsignup_part"
            ),
            database.session(database_url, purpose="tests") as conn,
            conn.cursor() as cur,
        ):
            cur.execute("SELECT FROM runsignup_participants")


def test_a_session_whose_statement_could_not_be_executed_records_that(server: str) -> None:
    with database.session(server, purpose="tests") as conn, conn.cursor() as cur:
        with pytest.raises(psycopg2.errors.QueryCanceled) as caught:
            cur.execute("SET LOCAL statement_timeout = '10ms'; SELECT pg_sleep(30)")
        assert database.find_statement_error(conn, caught.value)
        cur.execute("SELECT 1")
        assert cur.fetchall() == [(1,)]


def sentence(url: str) -> str:
    with pytest.raises(DatabaseError) as caught:
        database.connect(url, purpose="tests")
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_server_that_is_away_is_named_with_the_reason() -> None:
    text = sentence("postgresql://someone:tops3cret@127.0.0.1:1/hub")
    assert text.startswith("Cannot use PostgreSQL at 127.0.0.1:1/hub: ")
    assert "refused" in text
    assert "tops3cret" not in text


def test_a_wrong_password_is_not_repeated(server: str) -> None:
    address = server.split("@", 1)[1]
    text = sentence(f"postgresql://stranger:tops3cret@{address}")
    assert "authentication failed" in text
    assert "tops3cret" not in text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:tops3cret@@h/db",
        "postgresql://u:top@s3cret@127.0.0.1/db",
        "postgresql://u:top/s3cret@127.0.0.1/db",
        "postgresql://u:top%s3cret@127.0.0.1/db",
        "postgresql://u:p@h:1/db?nonsense=s3cret",
        "postgresql://u@[::1/db-s3cret",
    ],
)
def test_an_address_that_cannot_be_read_is_not_repeated(url: str) -> None:
    text = sentence(url)
    assert text.startswith("RSU_DATABASE_URL cannot be read as a PostgreSQL address")
    assert "s3cret" not in text
    assert database.describe_server(url) == "the address in RSU_DATABASE_URL"
