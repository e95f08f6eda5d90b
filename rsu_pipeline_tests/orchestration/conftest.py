"""A hub whose installation the assets and sensors find by themselves, and a Dagster instance to run them on."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.cli.shell import environment
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import use_environment
from rsu_pipeline_tests.servers import create_database
from runsignup_sandbox.process import SandboxProcess


@pytest.fixture(scope="session")
def small_sandbox() -> Iterator[SandboxProcess]:
    """Provide three partners with one of each thing a pipeline can meet.

    Tests share it. One that leaves what no sync stores, or faults, has one of its own (`own_hub`).
    """
    with SandboxProcess.start("small", seed=7) as sandbox:
        yield sandbox


@pytest.fixture
def hub(
    small_sandbox: SandboxProcess,
    make_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Hub]:
    """Provide a hub with the sandbox's partners, as this process's installation."""
    hub = Hub(make_database(), small_sandbox, tmp_path / "home")
    use_environment(monkeypatch, hub.environment)
    yield hub
    small_sandbox.admin.clear_faults()
    installation.current.cache_clear()
    for number in hub.partners:
        for row in small_sandbox.admin.truth(number)["active"]:
            left = {name: row[name] for name in ("bib_num", "chip_num", "age") if isinstance(row[name], list | dict)}
            assert not left, (
                f"this test leaves what later tests cannot find stored: registration {row['registration_id']} {left}"
            )


@pytest.fixture
def own_hub(
    make_sandbox: Callable[..., SandboxProcess],
    make_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Hub]:
    """Provide the same with a sandbox of its own, and calls that are not repeated."""
    hub = Hub(make_database(), make_sandbox(scale="small", seed=7), tmp_path / "home", RSU_CALL_ATTEMPTS="1")
    use_environment(monkeypatch, hub.environment)
    yield hub
    installation.current.cache_clear()


@pytest.fixture(scope="session")
def made_instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide the folder of an instance whose tables are made, to be copied: making them takes 0.4 s of processor time."""
    folder = tmp_path_factory.mktemp("instance")
    with dg.instance_for_test(temp_dir=str(folder)) as instance:
        assert instance.get_runs_count() == 0
    return folder


@pytest.fixture
def instance(made_instance: Path, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    folder = shutil.copytree(made_instance, tmp_path / "instance")
    with dg.instance_for_test(temp_dir=str(folder)) as instance:
        yield instance


@pytest.fixture(scope="session")
def template(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a database with the schema and Dagster's tables in it, to be copied.

    Dagster's tables are made by a process of its own, which leaves no session. Tests of their making have empty databases.
    """
    name = f"{template}_with_dagster"
    create_database(server, name, template)
    settings = {"RSU_HOME": str(tmp_path_factory.mktemp("template")), "RSU_DATABASE_URL": at(server, name)}
    subprocess.run(
        [sys.executable, "-c", "import dagster as dg; dg.DagsterInstance.get().get_runs_count()"],
        env=environment(DAGSTER_HOME=str(project_root()), **settings),
        check=True,
        timeout=120,
    )
    return name


@pytest.fixture
def dagster_home(tmp_path: Path) -> Path:
    """Provide a copy of the folder that Dagster finds its instance in."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    shutil.copy(project_root() / "dagster.yaml", home)
    return home


@pytest.fixture
def hub_instance(hub: Hub, dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """Provide the instance that dagster.yaml describes, its storage in the hub's database."""
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        yield instance
