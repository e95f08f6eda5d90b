"""A hub that has been onboarded from the sandbox and synced, to be copied for each block of the documentation."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.alerts.notifier import Notifier, running_notifier
from rsu_pipeline_tests.cli.shell import SCRIPT, environment, rsu, warm
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.hub import SECRET_KEY, Hub
from rsu_pipeline_tests.servers import create_database, drop_database, execute
from rsu_pipeline_tests.warehouse import rehearsal
from runsignup_sandbox.process import SandboxProcess
from runsignup_sandbox.scales import build

NEW_FIELD = "wave_letter"
"""A field that registrations are read with and the program does not know."""


@dataclass(frozen=True)
class Worked:
    """A database to copy, and what an operator of it would put in place of ID, RACE, EVENT, REGISTRATION and FIELD."""

    database: str
    names: Mapping[str, str]


@pytest.fixture(scope="package")
def sandbox() -> Iterator[SandboxProcess]:
    """Provide a RunSignup in which nothing changes after the sync."""
    with SandboxProcess.start("small") as process:
        yield process


@pytest.fixture(scope="package")
def worked(
    server: str, template: str, sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worked]:
    """Provide the sandbox's partners, entered and synced by the command."""
    name = "rsu_docs_worked"
    create_database(server, name, template)
    hub = Hub(at(server, name), sandbox, tmp_path_factory.mktemp("worked"))
    # One of each event, as the hub does not know yet which are to come.
    for registration in {row["event_id"]: number for number, row in hub.truth(1, past_too=True).items()}.values():
        sandbox.admin.edit(registration, extra={NEW_FIELD: "B"})
    done = rsu("sync", "--quiet", settings=hub.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    # One without a bib, so that it can be given one here.
    (found,) = hub.rows(
        "SELECT timing_partner_id, race_id, event_id, min(registration_id) AS registration_id FROM start_list_entries"
        " WHERE bib IS NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT 1"
    )
    assert hub.value("SELECT string_agg(DISTINCT field, ', ') FROM schema_drift") == NEW_FIELD
    columns = {"ID": "timing_partner_id", "RACE": "race_id", "EVENT": "event_id", "REGISTRATION": "registration_id"}
    hub.wait_for_sessions_to_end()
    hub.close()
    yield Worked(name, {word: str(found[column]) for word, column in columns.items()} | {"FIELD": NEW_FIELD})
    execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="package")
def adopted(server: str, tmp_path_factory: pytest.TempPathFactory) -> Worked:
    """Provide an older program's database after `rsu db adopt`."""
    name = "rsu_docs_adopted"
    execute(server, f"CREATE DATABASE {name}")
    rehearsal.make(at(server, name), build("small", 7))
    home = tmp_path_factory.mktemp("adopted")
    settings = {"RSU_DATABASE_URL": at(server, name), "RSU_HOME": str(home), "RSU_SECRET_KEY": SECRET_KEY}
    done = rsu("db", "adopt", settings=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return Worked(name, {})


@pytest.fixture
def copy(server: str) -> Iterator[Callable[[Worked], str]]:
    """Copy a database, and return the libpq URL. Roles that were made meanwhile belong to the server and are dropped."""
    made: list[str] = []
    roles = _roles(server)

    def make(of: Worked) -> str:
        name = f"{of.database}_copy"
        create_database(server, name, of.database)
        made.append(name)
        return at(server, name)

    yield make
    for name in made:
        drop_database(server, name)
    if new := _roles(server) - roles:
        execute(server, f"DROP ROLE {', '.join(sorted(new))}")


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    with running_notifier() as running:
        yield running


@pytest.fixture
def terminal(
    tmp_path: Path, worked: Worked, copy: Callable[[Worked], str], sandbox: SandboxProcess, notifier: Notifier
) -> dict[str, str]:
    """Provide the environment of a shell in a checkout whose hub is a copy of the one that worked.

    Key and secret are those that the prompts would request.
    """
    access = sandbox.admin.partners()[2]
    url = copy(worked)
    # A partner that is entered brings a key of its own.
    with closing(psycopg2.connect(url)) as conn, conn, conn.cursor() as cur:
        cur.execute("DELETE FROM partner_provider_credentials WHERE timing_partner_id = %s", (access["partner"],))
        # Its calls count no more, so that its key is nobody's.
        cur.execute("UPDATE api_calls SET granted_at = granted_at - interval '1 day'")
    commands = _environment_with_copies(tmp_path / ".venv")
    # `python -m benchmarks...` finds it in the working directory, which is the checkout.
    (tmp_path / "benchmarks").symlink_to(project_root() / "benchmarks")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "secret.key").write_text(f"{SECRET_KEY}\n")
    (tmp_path / "home" / "secret.key").chmod(0o600)
    return environment(
        PATH=f"{commands}{os.pathsep}{os.environ['PATH']}",
        RSU_HOME=str(tmp_path / "home"),
        RSU_DATABASE_URL=url,
        RSU_API_BASE_URL=sandbox.api_url,
        RSU_CALL_BACKOFF="0.01",
        RSU_ALERT_URLS=notifier.url,
        RSU_PARTNER_KEY=access["key"],
        RSU_PARTNER_SECRET=access["secret"],
    )


def _environment_with_copies(folder: Path) -> Path:
    """Make a folder that is like this environment but for `rsu`, which runs as shell.rsu does. Returns its programs."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for entry in Path(sys.prefix).iterdir():
        if entry.name != "bin":
            (folder / entry.name).symlink_to(entry)
    copies = warm()
    for entry in (Path(sys.prefix) / "bin").iterdir():
        if entry.name != SCRIPT.name or copies is None:
            (programs / entry.name).symlink_to(entry)
        else:
            copies.write_script(programs / entry.name, entry)
    return programs


def _roles(server: str) -> set[str]:
    with closing(psycopg2.connect(server)) as conn, conn.cursor() as cur:
        cur.execute("SELECT rolname FROM pg_roles")
        return {name for (name,) in cur.fetchall()}
