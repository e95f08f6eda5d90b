"""One installation for all tests of the web UI, as `rsu up` starts it, and a browser before it."""

import signal
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from rsu_pipeline_tests.browser.chromium import find_chromium, keep, started
from rsu_pipeline_tests.browser.web_ui import PATIENCE, WebUi
from rsu_pipeline_tests.cli.started import Started, free_port, gone
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.servers import create_database, drop_database
from rsu_pipeline_tests.specs import estate
from runsignup_sandbox.process import SandboxProcess

PARTNERS = 13
SPEC = estate(partners=PARTNERS, races=2, registrations=12)
PAST_DAYS = (100, 500)
PAST_COUNT = 6
"""Registrations of a past edition."""


@dataclass(frozen=True)
class Site:
    """`rsu up` at work for a hub."""

    hub: Hub
    url: str


@pytest.fixture(scope="package")
def chromium() -> str:
    return find_chromium()


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    # A name that a stranger may have pointed at this machine.
    with started(chromium, "--host-resolver-rules=MAP evil.test 127.0.0.1") as browser:
        yield browser


@pytest.fixture(scope="package")
def site(chromium: str, server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Provide thirteen partners with two races each, whose past editions nobody has requested.

    What is ahead is synced, and Dagster has not heard of it: the hub of before.
    """
    url, folder, port = at(server, "rsu_browser"), tmp_path_factory.mktemp("site"), free_port()
    create_database(server, "rsu_browser", template)
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        hub = Hub(url, sandbox, folder / "home", RSU_UI_PORT=str(port))
        for partner in hub.partners:
            _add_past(sandbox, partner)
            hub.sync(partner)
        up = Started("up", hub.environment, folder)
        try:
            up.until("the web UI is ready", lambda: "Dagster UI: " in up.output)
            up.until("every partner has a partition", lambda: _partitions(hub) == PARTNERS)
            yield Site(hub, f"http://127.0.0.1:{port}")
        finally:
            if up.process.poll() is None:
                up.end(signal.SIGINT)
        assert gone(up, None) == []
    drop_database(server, "rsu_browser")


def _add_past(sandbox: SandboxProcess, partner: int) -> None:
    for race in sandbox.admin.truth(partner)["races"]:
        for days in PAST_DAYS:
            event_id = sandbox.admin.add_event(
                race["race_id"], f"{days} days ago", start_in_hours=-24 * days, race_event_days_id=7000 + days
            )
            sandbox.admin.register(event_id, {"bib_num": 9}, count=PAST_COUNT)


def _partitions(hub: Hub) -> int:
    return int(hub.value("SELECT count(*) FROM dagster.dynamic_partitions"))


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1600, "height": 1000}) as context:
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield context.new_page()


@pytest.fixture
def ui(site: Site, page: Page) -> WebUi:
    return WebUi(page, site.url)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: "pytest.CallInfo[None]"
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what its page showed when a test fails."""
    report = yield
    page, folder = item.funcargs.get("page"), item.funcargs.get("tmp_path")
    if call.when == "call" and report.failed and isinstance(page, Page) and isinstance(folder, Path):
        report.sections.append(("web UI", keep(page, folder)))
    return report
