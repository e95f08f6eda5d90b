"""The web UI in a real browser: a page of another site can do nothing with it, and its own page can do everything."""

import re
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import requests
from playwright.sync_api import Page, expect

from rsu_pipeline_tests.browser import foreign
from rsu_pipeline_tests.browser.conftest import Site
from rsu_pipeline_tests.browser.web_ui import PATIENCE, SECOND, WebUi
from rsu_pipeline_tests.webserver.attacks import LAUNCH

SELECTOR = {"repositoryLocationName": "rsu_pipeline", "repositoryName": "__repository__", "sensorName": "alerts"}
SENSOR = (
    "query($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor { id sensorState { status } } } }"
)
RUNS = '{ runsOrError(filter: {pipelineName: "check_fleet"}) { ... on Runs { results { runId } } } }'
SECTIONS = (
    "",
    "assets",
    "assets/participants?view=lineage",
    "asset-groups",
    "runs",
    "automation",
    "deployment",
    "locations",
)
POLICY = re.compile("Content Security Policy|Content-Security-Policy|Refused to")


def ask(site: Site, query: str, **variables: object) -> dict[str, object]:
    """Ask as a program of this machine."""
    answer = requests.post(f"{site.url}/graphql", json={"query": query, "variables": variables}, timeout=30)
    found: dict[str, object] = answer.json()["data"]
    return found


@pytest.fixture(params=["another site", "another port of the same name", "a name pointed at this machine"])
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    """Provide the address of a stranger's page."""
    with foreign.serving() as port:
        names = {"another site": "localhost", "another port of the same name": "127.0.0.1"}
        yield f"http://{names.get(request.param, 'evil.test')}:{port}"


def test_a_page_of_another_site_changes_and_reads_nothing(stranger: str, site: Site, page: Page) -> None:
    before = ask(site, SENSOR, s=SELECTOR), ask(site, RUNS)
    sensor = before[0]["sensorOrError"]
    assert isinstance(sensor, dict)
    assert sensor["sensorState"]["status"] == "RUNNING"
    stop = f'mutation {{ stopSensor(id: "{sensor["id"]}") {{ __typename }} }}'
    # Under the third name the browser takes the UI for the stranger's: DNS rebinding.
    ui = site.url.replace("127.0.0.1", "evil.test") if "evil.test" in stranger else site.url
    page.goto(stranger)
    seen = page.evaluate(foreign.ATTACK, [ui, stop, LAUNCH])
    if ui != site.url:
        answer = page.goto(ui)
        assert answer is not None
        assert answer.status == 421
    assert len(seen) > 25
    for name, outcome in seen.items():
        if name.startswith("read"):
            assert outcome in ("refused: TypeError", "refused", "closed", "silence"), name
        if name.endswith(("websocket", "image", ": GET", "JSON")):
            assert outcome in ("refused: TypeError", "refused"), name
    assert (ask(site, SENSOR, s=SELECTOR), ask(site, RUNS)) == before


def test_a_link_from_another_site_opens_the_page(page: Page, site: Site) -> None:
    """As those of alerts do."""
    with foreign.serving() as port:
        page.goto(f"http://localhost:{port}")
        page.evaluate(f"location.href = '{site.url}/runs'")
        expect(page).to_have_url(re.compile(f"^{re.escape(site.url)}/runs"))
        expect(page.get_by_text("Runs", exact=True).first).to_be_visible()
        page.goto(f"http://localhost:{port}")
        page.evaluate(f"location.href = '{site.url}/graphql?query={quote(LAUNCH)}'")
        expect(page.locator("body")).to_contain_text("Pages of other sites may not use the web UI.")


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """Provide the browser's complaints about a page: blocked by its content security policy, or refused by the web UI."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if POLICY.search(message.text) else None)
    page.on("response", lambda answer: found.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    return found


def test_every_page_loads_and_its_policy_blocks_nothing(ui: WebUi, site: Site, complaints: list[str]) -> None:
    frames: list[str] = []
    ui.page.on("websocket", lambda opened: opened.on("framereceived", lambda frame: frames.append(str(frame))))
    for section in SECTIONS:
        frames.clear()
        ui.page.goto(f"{site.url}/{section}")
        expect(ui.page.get_by_role("link").first).to_be_visible()
        deadline = time.monotonic() + PATIENCE / SECOND
        while not any("connection_ack" in frame for frame in frames):
            assert time.monotonic() < deadline, f"no websocket was opened by /{section}"
            ui.page.wait_for_timeout(100)
    ui.page.goto(f"{site.url}/graphql")
    expect(ui.page.get_by_role("button", name=re.compile("Execute query"))).to_be_visible()
    assert complaints == []


def test_search_works_in_its_own_thread(ui: WebUi, site: Site, complaints: list[str]) -> None:
    """A worker, to which its script's own policy applies."""
    ui.page.goto(site.url)
    ui.page.get_by_text("Search", exact=True).click()
    dialog = ui.page.get_by_placeholder(re.compile("^Search"))
    dialog.last.fill("participant_history")
    expect(ui.page.get_by_text("participant_history", exact=True).first).to_be_visible()
    assert ui.page.workers
    assert complaints == []


def test_a_run_is_launched_from_the_launchpad_and_what_it_printed_is_shown(
    ui: WebUi, site: Site, complaints: list[str]
) -> None:
    ui.page.goto(f"{site.url}/locations/rsu_pipeline/jobs/check_fleet/playground")
    ui.page.get_by_role("button", name="Launch Run").click()
    expect(ui.page).to_have_url(re.compile("/runs/"))
    expect(ui.page.get_by_text("Success", exact=True).first).to_be_visible()
    run = ui.page.url.rpartition("/runs/")[2].partition("?")[0]
    ui.page.goto(f"{site.url}/runs/{run}?logType=stderr")
    # A step that is chosen before the page has the run's events names no file.
    expect(ui.page.get_by_text(re.compile(r"^Succeeded \([1-9]")).first).to_be_visible()
    ui.page.get_by_placeholder(re.compile("Select a step")).click()
    ui.page.keyboard.press("Enter")
    ui.expect_text("Finished execution of step")
    assert complaints == []


def test_a_sensor_is_switched_off_and_on(ui: WebUi, site: Site, complaints: list[str]) -> None:
    ui.open("Automation")
    switch = ui.switch("alerts")
    expect(switch).to_be_checked()
    switch.dispatch_event("click")
    expect(switch).not_to_be_checked()
    switch.dispatch_event("click")
    expect(switch).to_be_checked()
    assert complaints == []


def test_no_site_can_show_the_ui_in_a_frame(site: Site) -> None:
    answer = requests.get(site.url, timeout=30)
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    for path in ("/server_info", "/no/such/page", "/favicon.svg", "/graphql"):
        headers = requests.get(f"{site.url}{path}", timeout=30).headers
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], path
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin", path
        assert not [name for name in headers if name.lower().startswith("access-control-")], path
