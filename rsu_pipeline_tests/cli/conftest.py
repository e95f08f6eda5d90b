"""A sandbox and databases for the commands."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsu_pipeline_tests.hub import SECRET_KEY, Hub
from rsu_pipeline_tests.servers import create_database, drop_database
from runsignup_sandbox.process import SandboxProcess

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def sandbox() -> Iterator[SandboxProcess]:
    """Provide a `small` sandbox for all commands' tests.

    Only those of `rsu sync` change partner 1 or 2.
    """
    with SandboxProcess.start("small") as process:
        yield process


def _settings(url: str, sandbox: SandboxProcess, home: Path) -> dict[str, str]:
    return {
        "RSU_HOME": str(home),
        "RSU_DATABASE_URL": url,
        "RSU_API_BASE_URL": sandbox.api_url,
        "RSU_SECRET_KEY": SECRET_KEY,
        "RSU_CALL_BACKOFF": "0.01",
        "RSU_READ_TIMEOUT": "5",
    }


@pytest.fixture
def settings(database_url: str, sandbox: SandboxProcess, tmp_path: Path) -> dict[str, str]:
    """Provide the RSU_ variables of an installation without a partner."""
    return _settings(database_url, sandbox, tmp_path / "home")


@pytest.fixture(scope="module")
def untouched(
    module_database: str, sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Provide the same for a whole module, whose tests write nothing."""
    return _settings(module_database, sandbox, tmp_path_factory.mktemp("untouched") / "home")


@pytest.fixture(scope="module")
def hub(module_database: str, sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """Provide the sandbox's three partners, onboarded in a database of the module's own."""
    return Hub(module_database, sandbox, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def module_database(server: str, template: str) -> Iterator[str]:
    """Provide the libpq URL of a database with the schema, for a whole module."""
    name = f"rsu_commands_{next(_numbers)}"
    create_database(server, name, template)
    yield f"{server.rsplit('/', 1)[0]}/{name}"
    drop_database(server, name)
