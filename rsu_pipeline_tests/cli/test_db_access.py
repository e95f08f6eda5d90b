"""`rsu db url` and `grant-reader`: addresses that work, the embedded PostgreSQL's too, and no more rights than reading."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg2
import psycopg2.errors
import pytest
import sqlalchemy

from rsu_pipeline.local import client_programs, embedded
from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.login_urls import LoginAddress
from rsu_pipeline.warehouse.reader_logins import FOR_ANALYSTS, MAX_SESSIONS
from rsu_pipeline_tests.cli.shell import Done, refusal, rows, rsu
from rsu_pipeline_tests.hub import SECRET_KEY

Settings = dict[str, str]


@pytest.fixture(scope="module")
def embedded_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Provide an installation with the embedded PostgreSQL, which this process keeps running as `rsu up` does."""
    home = tmp_path_factory.mktemp("embedded")
    url = embedded.ensure_running(home / "postgres")
    with database.session(url, purpose="tests") as conn:
        database.migrate(conn)
    yield {"RSU_HOME": str(home), "RSU_SECRET_KEY": SECRET_KEY}
    embedded.release(home / "postgres")
    embedded.destroy(home / "postgres")


@pytest.fixture
def made(settings: Settings) -> Iterator[Callable[[str], str]]:
    """Provide a function that notes a role to be dropped, since roles belong to the server of all tests."""
    names: list[str] = []

    def note(name: str) -> str:
        names.append(name)
        return name

    yield note
    for name in names:
        rows(settings, f"DROP OWNED BY {name}")
        rows(settings, f"DROP ROLE {name}")


def url_of(done: Done) -> str:
    assert done.returncode == 0, done.stderr
    (url,) = done.stdout.split()
    return url


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as conn, conn.cursor() as cur:
        cur.execute(statement)
        return list(cur.fetchall())


def test_the_embedded_servers_url_works_for_psql_and_pandas(embedded_settings: Settings) -> None:
    done = rsu("db", "url", settings=embedded_settings)
    url = url_of(done)
    assert "only while `rsu up` is running" in done.stderr
    assert query(url, "SELECT count(*) FROM timing_partners") == [(0,)]
    psql = client_programs.find_programs("psql")[0].path
    told = subprocess.run([psql, url, "-Atc", "SELECT 6 * 7"], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "42\n"
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM entrants")).scalar() == 0
    engine.dispose()


def test_the_readers_url_reads_the_views_and_nothing_else(embedded_settings: Settings) -> None:
    url = url_of(rsu("db", "url", "--reader", settings=embedded_settings))
    for view in FOR_ANALYSTS:
        query(url, f"SELECT * FROM {view}")
    for statement in (
        "SELECT * FROM runsignup_participants",
        "SELECT * FROM unified_participants",
        "SELECT * FROM partner_provider_credentials",
        "SELECT * FROM dagster.runs",
        "SELECT pg_read_file('PG_VERSION')",
    ):
        with pytest.raises((psycopg2.errors.InsufficientPrivilege, psycopg2.errors.UndefinedTable)):
            query(url, statement)
    for statement in ("CREATE TABLE public.mine (n int)", "DELETE FROM start_lists RETURNING 1"):
        with pytest.raises(psycopg2.Error):
            query(url, statement)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            query(url, f"SET default_transaction_read_only = off; COMMIT; BEGIN; {statement}")
    assert query(url, "SHOW default_transaction_read_only") == [("on",)]
    assert query(url, "SHOW timezone") == [("UTC",)]


def test_the_readers_url_stays_the_same_and_is_stored_nowhere(embedded_settings: Settings) -> None:
    url = url_of(rsu("db", "url", "--reader", settings=embedded_settings))
    assert url_of(rsu("db", "url", "--reader", settings=embedded_settings)) == url
    password = urlsplit(url).password
    assert password
    home = Path(embedded_settings["RSU_HOME"])
    for path in home.rglob("*"):
        if path.is_file() and "data" not in path.relative_to(home).parts[:2]:
            assert password.encode() not in path.read_bytes(), path
    server = url_of(rsu("db", "url", settings=embedded_settings))
    ((stored,),) = query(server, "SELECT rolpassword FROM pg_authid WHERE rolname = 'rsu_analyst'")
    assert str(stored).startswith("SCRAM-SHA-256$")
    # After a rotation of the encryption key the login goes on, until the older key is dropped.
    newer = "Zm9yLXRlc3RzLW9ubHktZm9yLXRlc3RzLW9ubHktMzI="
    rotated = embedded_settings | {"RSU_SECRET_KEY": f"{newer},{SECRET_KEY}"}
    assert url_of(rsu("db", "url", "--reader", settings=rotated)) == url
    dropped = url_of(rsu("db", "url", "--reader", settings=rotated | {"RSU_SECRET_KEY": newer}))
    assert dropped != url and query(dropped, "SELECT 1") == [(1,)]
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        query(url, "SELECT 1")


def test_a_login_is_granted_once_and_gets_another_password_on_request(
    settings: Settings, made: Callable[[str], str]
) -> None:
    name = made("grace_of_tests")
    first = url_of(rsu("db", "grant-reader", name, settings=settings))
    assert query(first, "SELECT count(*) FROM entrants") == [(0,)]
    again = rsu("db", "grant-reader", name, settings=settings)
    assert again.stdout.startswith(f"{name} may read {len(FOR_ANALYSTS)} tables and views. Its password is unchanged")
    assert query(first, "SELECT 1") == [(1,)]
    second = url_of(rsu("db", "grant-reader", name, "--new-password", settings=settings))
    assert query(second, "SELECT 1") == [(1,)]
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        query(first, "SELECT 1")
    ((limit,),) = rows(settings, f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{name}'")
    assert limit == MAX_SESSIONS


def test_a_name_that_cannot_be_a_readers_is_refused(settings: Settings, made: Callable[[str], str]) -> None:
    for name in ("Grace", "pg_monitor", "x; DROP TABLE alerts", '"'):
        assert "small letters, digits and underscores" in refusal(rsu("db", "grant-reader", name, settings=settings))
    ((owner,),) = rows(settings, "SELECT current_user")
    assert "can do more than read" in refusal(rsu("db", "grant-reader", owner, settings=settings))
    login = made("login_of_tests")
    rows(settings, f"CREATE ROLE {login} LOGIN CREATEDB PASSWORD 'only-for-tests'")
    assert "can do more than read" in refusal(rsu("db", "grant-reader", login, "--new-password", settings=settings))


def test_a_role_that_may_create_no_logins_is_told_so(settings: Settings, made: Callable[[str], str]) -> None:
    name = made("plain_of_tests")
    rows(settings, f"CREATE ROLE {name} LOGIN PASSWORD 'only-for-tests'")
    rows(settings, f"GRANT SELECT ON schema_migrations TO {name}")
    address = urlsplit(settings["RSU_DATABASE_URL"])
    plain = address._replace(netloc=f"{name}:only-for-tests@{address.hostname}:{address.port}").geturl()
    done = rsu("db", "grant-reader", "nobody_of_tests", settings=settings | {"RSU_DATABASE_URL": plain})
    assert "Run this as a role that may create roles" in refusal(done)


def test_a_url_has_every_part_in_place() -> None:
    address = LoginAddress(
        (("db1.test", "5432"), ("::1", "5433")),
        "hub/1",
        "ada@x",
        "p:/ä",
        "tim ing",
        (("sslmode", "verify-full"), ("target_session_attrs", "read-write"), ("sslcert", "/c.pem")),
    )
    assert address.url() == (
        "postgresql://ada%40x:p%3A%2F%C3%A4@db1.test:5432,[::1]:5433/hub%2F1?sslmode=verify-full"
        "&target_session_attrs=read-write&sslcert=%2Fc.pem&options=-c%20search_path%3Dtim%20ing"
    )
    parsed = psycopg2.extensions.parse_dsn(address.url())
    assert (parsed["user"], parsed["password"], parsed["dbname"]) == ("ada@x", "p:/ä", "hub/1")
    assert (parsed["host"], parsed["port"]) == ("db1.test,::1", "5432,5433")
    reader = address.as_user("grace", "secret")
    assert "sslcert" not in reader.url() and "secret" not in repr(reader)
    jdbc = urlsplit(reader.jdbc_url().removeprefix("jdbc:"))
    assert (jdbc.scheme, jdbc.netloc, jdbc.path) == ("postgresql", "db1.test:5432,[::1]:5433", "/hub%2F1")
    assert parse_qs(jdbc.query) == {
        "user": ["grace"],
        "password": ["secret"],
        "sslmode": ["verify-full"],
        "targetServerType": ["primary"],
        "currentSchema": ["tim ing"],
    }
    socket = LoginAddress((("/run/postgresql", "5432"),), "hub", "ada", "", None)
    assert psycopg2.extensions.parse_dsn(socket.url())["host"] == "/run/postgresql"
