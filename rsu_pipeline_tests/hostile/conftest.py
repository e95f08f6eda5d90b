"""One hostile server for the session, and a hub of one race for the tests of a module."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.hostile.server import HostileServer, hostile_server
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.servers import create_database, drop_database
from rsu_pipeline_tests.specs import estate
from runsignup_sandbox.process import SandboxProcess

SPEC = estate(races=2, registrations=12)
_names = itertools.count(1)


@pytest.fixture(scope="session")
def hostile() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> Iterator[Hub]:
    """Provide a partner with two races of an event each, synced."""
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        made = Hub(database_url, sandbox, tmp_path)
        assert not made.sync().failures
        yield made


@pytest.fixture(scope="module")
def shared(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Provide the same for all tests of a module, which leave it as equal to RunSignup as they found it."""
    name = f"rsu_hostile_{next(_names)}"
    create_database(server, name, template)
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        made = Hub(at(server, name), sandbox, tmp_path_factory.mktemp("home"))
        assert not made.sync().failures
        yield made
    drop_database(server, name)
