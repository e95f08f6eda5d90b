"""Every form of RSU_DATABASE_URL works for psycopg2, SQLAlchemy and PostgreSQL's programs, or is refused at once."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine, text

from rsu_pipeline import adoption, settings
from rsu_pipeline.orchestration.storage import sqlalchemy_url
from rsu_pipeline.warehouse import addresses, database
from rsu_pipeline.warehouse.database import DatabaseError
from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.warehouse.own_server import PASSWORD, USER, OwnServer, own_server
from rsu_pipeline_tests.warehouse.sessions import rows

FORMS = {
    "Unix socket in the authority": "postgresql://{user}@{socket}:{port}/hub",
    "Unix socket in the query": "postgresql:///hub?host={socket}&port={port}&user={user}",
    "short scheme": "postgres://{user}:{password}@localhost:{port}/hub",
    "password in the query": "postgresql://localhost:{port}/hub?user={user}&password={password}",
    "several hosts": "postgresql://{user}:{password}@127.0.0.1:1,localhost:{standby},localhost:{port}/hub"
    "?target_session_attrs=read-write",
    "verify-full": "postgresql://{user}:{password}@localhost:{port}/hub?sslmode=verify-full&sslrootcert={root}",
    "address and name": "postgresql://{user}:{password}@localhost:{port}/hub?hostaddr=127.0.0.1&sslmode=require",
    "IPv6": "postgresql://{user}:{password}@[::1]:{port}/hub",
    "password file": "postgresql://{user}@localhost:{port}/hub?passfile={passfile}",
    "service": "postgresql:///?service=hub",
    "service and database": "postgresql:///hub?service=elsewhere",
    "encoding": "postgresql://{user}@{socket}:{port}/hub?client_encoding=LATIN1",
    "search path": "postgresql://{user}@{socket}:{port}/hub?options=-c%20search_path%3Dapart",
}


@pytest.fixture(scope="module")
def place() -> Iterator[OwnServer]:
    folder = Path(tempfile.mkdtemp(prefix="rsu-own-"))
    folder.chmod(0o755)
    with own_server(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def words(place: OwnServer) -> dict[str, str]:
    """Provide what the forms are filled in with. The database exists, with a schema for Dagster and one apart."""
    url = f"postgresql://{USER}@{quote(str(place.folder), safe='')}:{place.port}/hub"
    rows(url, "CREATE SCHEMA dagster; CREATE SCHEMA apart")
    passfile, services = place.folder / "passfile", place.folder / "services"
    passfile.write_text(f"localhost:{place.port}:*:{USER}:{PASSWORD}\n")
    passfile.chmod(0o600)
    socket = f"host={place.folder}\nport={place.port}\nuser={USER}"
    services.write_text(
        f"[hub]\n{socket}\ndbname=hub\n[elsewhere]\n{socket}\ndbname=elsewhere\nclient_encoding=LATIN1\n"
    )
    return {
        "user": USER,
        "password": PASSWORD,
        "socket": quote(str(place.folder), safe=""),
        "port": str(place.port),
        "standby": str(place.standby_port),
        "root": quote(str(place.root_certificate), safe=""),
        "passfile": quote(str(passfile), safe=""),
        "services": str(services),
    }


@pytest.mark.parametrize("form", FORMS)
def test_a_form_of_address_works_everywhere(
    words: dict[str, str], form: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGSERVICEFILE", words["services"])
    url = settings.load_settings({"RSU_DATABASE_URL": FORMS[form].format(**words)}).database_url
    assert url is not None
    schema = "apart" if form == "search path" else "public"
    wanted = f"hub {schema} UTF8"
    query = "SELECT concat_ws(' ', current_database(), current_schema(), current_setting('client_encoding'))"
    assert rows(url, query) == [(wanted,)]
    assert PASSWORD not in database.describe_server(url)

    engine = create_engine(sqlalchemy_url(url))
    with engine.connect() as conn:
        assert conn.execute(text(query)).scalar() == "hub dagster UTF8"
    engine.dispose()

    conninfo, environment = addresses.parse(url).for_psql()
    assert PASSWORD not in conninfo
    done = subprocess.run(
        ["psql", "-XAt", "--dbname", conninfo, "-c", query],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == wanted

    conninfo, environment = addresses.parse(url).for_programs()
    subprocess.run(
        ["pg_dump", "--dbname", conninfo, "-f", str(tmp_path / "dump")], env=environment, check=True, timeout=120
    )
    assert "CREATE SCHEMA apart" in (tmp_path / "dump").read_text()


def sentence(url: str) -> str:
    with pytest.raises(DatabaseError) as caught:
        database.connect(url, purpose="tests")
    message = str(caught.value)
    assert "\n" not in message
    assert PASSWORD not in message
    return message


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("options=-c%20statement_timeout%3D5", "only `-c search_path=SCHEMA` in its options"),
        ("options=-c%20search_path%3Dapart%20-c%20role%3Dx", "only `-c search_path=SCHEMA` in its options"),
        ("sslpassword=tops3cret", "cannot have sslpassword: "),
        ("replication=database", "cannot have replication: "),
        ("connect_timeout=soon", "cannot be used: invalid integer value"),
    ],
)
def test_an_address_that_asks_for_what_the_hub_has_not_is_refused(
    words: dict[str, str], query: str, reason: str
) -> None:
    message = sentence(f"postgresql://{USER}@{words['socket']}:{words['port']}/hub?{query}")
    assert message.startswith("RSU_DATABASE_URL ")
    assert reason in message


def test_a_certificate_that_is_not_there_is_named(words: dict[str, str]) -> None:
    base = f"postgresql://{USER}:{PASSWORD}@localhost:{words['port']}/hub?sslmode=verify-full"
    assert 'root certificate file "/nowhere/root.crt" does not exist' in sentence(
        f"{base}&sslrootcert=/nowhere/root.crt"
    )
    assert "certificate" in sentence(base)


def test_a_server_that_is_not_who_it_says_is_refused_with_the_reason(words: dict[str, str]) -> None:
    base = (
        f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{words['port']}/hub?sslmode=verify-full&sslrootcert={words['root']}"
    )
    assert 'does not match host name "127.0.0.1"' in sentence(base)


def test_each_of_several_hosts_is_named_with_its_reason(words: dict[str, str]) -> None:
    hosts = f"127.0.0.1:1,localhost:{words['port']},localhost:{words['standby']}"
    message = sentence(f"postgresql://{USER}:not-it@{hosts}/hub?target_session_attrs=primary")
    assert f"127.0.0.1:1,localhost:{words['port']},localhost:{words['standby']}/hub" in message
    assert "port 1 failed: Connection refused" in message
    assert "password authentication failed" in message
    assert "not-it" not in message


def test_a_standby_is_refused(words: dict[str, str]) -> None:
    message = sentence(f"postgresql://{USER}@{words['socket']}:{words['standby']}/postgres")
    assert "is a standby, which only reads" in message
    assert "target_session_attrs=read-write" in message


def test_the_servers_time_zone_is_read_whatever_the_environment_says(words: dict[str, str]) -> None:
    url = f"postgresql://{USER}@{words['socket']}:{words['port']}/hub"
    rows(url, "ALTER DATABASE hub SET timezone = 'America/Chicago'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGTZ", "Asia/Tokyo")
        assert adoption.server_zone(url) == "America/Chicago"


def test_a_service_that_is_not_there_is_named(words: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICEFILE", words["services"])
    message = sentence("postgresql:///hub?service=nowhere")
    assert 'definition of service "nowhere" not found' in message


def test_a_pair_of_keys_and_values_is_no_address() -> None:
    message = refusal(rsu("status", settings={"RSU_DATABASE_URL": "host=localhost dbname=hub password=tops3cret"}))
    assert message.startswith("RSU_DATABASE_URL must start with postgresql://")
    assert PASSWORD not in message


def test_a_role_without_rights_gets_one_sentence(words: dict[str, str], tmp_path: Path) -> None:
    url = f"postgresql://{USER}@{words['socket']}:{words['port']}/hub"
    with database.session(url, purpose="tests") as conn:
        database.migrate(conn)
    rows(url, "CREATE ROLE guest LOGIN")
    guest = {"RSU_DATABASE_URL": url.replace(f"//{USER}@", "//guest@"), "RSU_HOME": str(tmp_path / "home")}
    for command in (["db", "migrate"], ["status"], ["sync"], ["partners", "list"], ["up"]):
        assert "permission denied" in refusal(rsu(*command, settings=guest)), command
