"""A hub whose installation the assets and sensors find by themselves, and a Dagster instance to run them on."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.sandbox.process import SandboxProcess
from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import use_environment


@pytest.fixture(scope="session")
def small_sandbox() -> Iterator[SandboxProcess]:
    """Three partners with one of each thing a pipeline can meet; a test that changes it puts it back."""
    with SandboxProcess.start("small", seed=7) as sandbox:
        yield sandbox


@pytest.fixture
def hub(
    small_sandbox: SandboxProcess,
    make_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Hub]:
    """A hub with the sandbox's partners, as this process's installation."""
    hub = Hub(make_database(), small_sandbox, tmp_path / "home")
    use_environment(monkeypatch, hub.environment)
    yield hub
    small_sandbox.admin.clear_faults()
    installation.current.cache_clear()


@pytest.fixture
def own_hub(
    make_sandbox: Callable[..., SandboxProcess],
    make_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Hub]:
    """The same with a sandbox of its own, and calls that are not repeated."""
    hub = Hub(make_database(), make_sandbox(scale="small", seed=7), tmp_path / "home", RSU_CALL_ATTEMPTS="1")
    use_environment(monkeypatch, hub.environment)
    yield hub
    installation.current.cache_clear()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def dagster_home(tmp_path: Path) -> Path:
    """A copy of the folder that Dagster finds its instance in."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    shutil.copy(project_root() / "dagster.yaml", home)
    return home


@pytest.fixture
def hub_instance(hub: Hub, dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance that dagster.yaml describes, its storage in the hub's database."""
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        yield instance
