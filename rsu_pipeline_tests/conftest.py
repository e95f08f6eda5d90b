"""Real servers for the tests: one PostgreSQL and one sandbox of RunSignup for the session, a database for each test.

Nothing is skipped for want of a server: the machine's PostgreSQL is used where there is one, the wheel's elsewhere. Only the
browser tests need what cannot be brought along (see browser/).
"""

import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.workermanage import WorkerController

from rsu_pipeline import default_signals, installation
from rsu_pipeline.local import cluster, embedded, pg_binaries
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests import schedule, scratch
from rsu_pipeline_tests.cli.shell import launch_sandbox
from rsu_pipeline_tests.hub import Hub, close_sessions
from rsu_pipeline_tests.installation import real_servers
from rsu_pipeline_tests.servers import create_database, drop_database, execute, relax
from runsignup_sandbox.process import SandboxProcess

_names = itertools.count(1)

# The tests start hundreds of processes: a machine that keeps no bytecode would have each compile everything again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The speed of examples shows how busy the machine is, not whether a rule holds.
hypothesis.settings.register_profile(
    "no_timing", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("no_timing")

CHOSEN = os.environ.get("RSU_TEST_SERVER")
"""The major of the server that all tests run on, 13 to 18; unless set, the machine's or the wheel's."""

# A process started by a shell that ignores a signal would have every command that the tests start ignore it too.
default_signals.restore_if_ignored()
# SIGQUIT as well: it ends PostgreSQL as a power cut would. A handler is not inherited, so that children have the default of
# SIGHUP and this process lives on under nohup.
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)
signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())

SandboxProcess.launch = staticmethod(launch_sandbox)

IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
FOLDER = pytest.StashKey[Path]()
LEFT_OUT = pytest.StashKey[Counter[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = Counter()
    if not IS_WORKER:
        config.stash[FOLDER] = folder = scratch.make_folder()
        config.option.basetemp = config.option.basetemp or str(folder / "t")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Keep the files of a run that failed, until the next run."""
    folder = config.stash.get(FOLDER, None)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if folder and not (reporter and {"failed", "error"} & reporter.stats.keys()):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    schedule.mark(items)
    schedule.order(items)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    if items:
        items[0].config.stash[LEFT_OUT] += schedule.count_by_marker(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if IS_WORKER:
        session.config.workeroutput["left_out"] = dict(session.config.stash[LEFT_OUT])  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in schedule.describe(config.stash[LEFT_OUT], config.getini("markers")):
        terminalreporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> schedule.ByGroup | None:
    return schedule.ByGroup(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController, error: object | None) -> None:
    """Count what a process left out. Each leaves out the same tests."""
    node.config.stash[LEFT_OUT] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Provide the libpq URL of a PostgreSQL server's maintenance database."""
    folder = Path(tempfile.mkdtemp(prefix="rsu-tests-"))
    folder.chmod(0o711)  # under root the server runs as another account
    programs = real_servers.reachable_programs(int(CHOSEN), folder) if CHOSEN else pg_binaries.machine_binaries()
    with pytest.MonkeyPatch.context() as patch:
        # The files are in memory. A server that is to survive a power cut is a test's own.
        patch.setitem(cluster.SETTINGS, "fsync", "off")
        url = embedded.ensure_running(folder / "postgres", programs)
    relax(url, folder / "postgres")
    yield url
    embedded.release(folder / "postgres")
    embedded.destroy(folder / "postgres")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """Name of a database with the schema in it, to be copied."""
    execute(server, "CREATE DATABASE rsu_template")
    with database.session(at(server, "rsu_template"), purpose="tests") as conn:
        database.migrate(conn)
    return "rsu_template"


@contextmanager
def databases(server: str, prefix: str, template: str) -> Iterator[Callable[[], str]]:
    """Make databases from a template, and drop them at the end."""
    made: list[str] = []

    def make() -> str:
        name = f"{prefix}_{next(_names)}"
        create_database(server, name, template)
        made.append(name)
        return at(server, name)

    yield make
    for name in made:
        close_sessions(at(server, name))
        drop_database(server, name)


@pytest.fixture
def make_empty_database(server: str) -> Iterator[Callable[[], str]]:
    """Make empty databases, and return the libpq URL of each."""
    with databases(server, "rsu_empty", "template1") as make:
        yield make


@pytest.fixture
def empty_database(make_empty_database: Callable[[], str]) -> str:
    """Provide the libpq URL of a new, empty database."""
    return make_empty_database()


@pytest.fixture
def make_database(server: str, template: str) -> Iterator[Callable[[], str]]:
    """Make databases with the schema, and return the libpq URL of each."""
    with databases(server, "rsu_test", template) as make:
        yield make


@pytest.fixture
def database_url(make_database: Callable[[], str]) -> str:
    """Provide the libpq URL of a new database with the schema."""
    return make_database()


@pytest.fixture(scope="session")
def session_sandbox() -> Iterator[SandboxProcess]:
    """Provide one sandbox with room for many small invented partners. Tests add races of their own."""
    with SandboxProcess.start(scale="blank", seed=7) as sandbox:
        yield sandbox


@pytest.fixture
def make_sandbox() -> Iterator[Callable[..., SandboxProcess]]:
    """Start sandboxes of a test's own, with SandboxProcess.start's arguments."""
    started: list[SandboxProcess] = []

    def make(**options: object) -> SandboxProcess:
        sandbox = SandboxProcess.start(**options)  # type: ignore[arg-type]
        started.append(sandbox)
        return sandbox

    yield make
    for sandbox in started:
        sandbox.stop()


@pytest.fixture
def make_hub(
    make_database: Callable[[], str], make_sandbox: Callable[..., SandboxProcess], tmp_path: Path
) -> Callable[..., Hub]:
    """Make a hub: a database, a sandbox (SandboxProcess.start's arguments), its partners onboarded."""

    def make(**options: object) -> Hub:
        return Hub(make_database(), make_sandbox(**options), tmp_path)

    return make


@pytest.fixture
def own_server() -> Iterator[tuple[Path, str]]:
    """Provide a PostgreSQL that a test may stop: its folder and a database with the schema."""
    folder = Path(tempfile.mkdtemp(prefix="rsu-outage-")) / "postgres"
    url = embedded.ensure_running(folder)
    with database.session(url, purpose="tests") as conn:
        database.migrate(conn)
    yield folder, url
    embedded.release(folder)
    embedded.destroy(folder)
    shutil.rmtree(folder.parent, ignore_errors=True)


UMASK = os.umask(0o022)
"""Of the process that runs the tests."""
os.umask(UMASK)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide this machine's settings, other tests' installations and the umask that a command has set."""
    os.umask(UMASK)
    for name in list(os.environ):
        if name.startswith(("RSU_", "DAGSTER_")):
            monkeypatch.delenv(name)
    installation.current.cache_clear()
    yield
    os.umask(UMASK)
    installation.current.cache_clear()


def at(server: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return f"{server.rsplit('/', 1)[0]}/{name}"
