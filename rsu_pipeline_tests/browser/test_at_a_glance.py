"""What the Dagster UI shows at a glance: what is current, what a run did, what a sensor reported, and the fleet's health."""

import json
import re

import pytest
from playwright.sync_api import Locator, expect

from rsu_pipeline.orchestration.figures import FIGURES
from rsu_pipeline_tests.browser.conftest import PARTNERS, Site
from rsu_pipeline_tests.browser.web_ui import SECOND, WebUi
from rsu_pipeline_tests.cli.shell import rsu

PARTNER = 4
CHAIN = ("partner_events", "future_events", "participants", "start_lists")
SENSOR_PATIENCE = 150 * SECOND
"""For a sensor that ticks once a minute, and its run."""


@pytest.fixture(scope="module")
def synced(site: Site) -> str:
    """Provide the partition key of a partner that `rsu sync` has synced in full, with the next one."""
    done = rsu(
        "sync",
        "--partner",
        str(PARTNER),
        "--partner",
        str(PARTNER + 1),
        "--full",
        "--json",
        settings=site.hub.environment,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["partners"][0]["full_reads"] == 2
    return site.hub.partners[PARTNER]


def row_of(ui: WebUi, name: str) -> Locator:
    """Return the row of a metadata figure."""
    return ui.page.get_by_role("row").filter(has=ui.page.get_by_text(name, exact=True)).first


def expect_current(ui: WebUi, asset: str, key: str) -> None:
    """Expect a partition that is materialized, and an asset without a badge that calls it unsynced."""
    ui.open_partitions(asset, key)
    ui.expect_light(key, "green")
    expect(ui.page.get_by_text("Materialized", exact=True).first).to_be_visible()
    expect(ui.page.get_by_text(re.compile("^Unsynced"))).to_have_count(0)


def test_the_plan_shows_the_reads_that_the_run_made(ui: WebUi, synced: str) -> None:
    ui.open_partitions("future_events", synced)
    ui.expect_metadata(future_events=2, full_reads=2, incremental_reads=0)
    ui.open_partitions("participants", synced)
    ui.expect_metadata(full_reads=2, incremental_reads=0, races_read=2)


def test_the_metadata_of_a_sync_says_what_each_read_changed_and_why(ui: WebUi, synced: str) -> None:
    ui.open_partitions("participants", synced)
    reads = row_of(ui, "reads")
    for head in ("race", "read", "reason", "seconds", "changed"):
        expect(reads.get_by_text(head, exact=True).first).to_be_visible()
    expect(reads.get_by_text("nothing", exact=True).first).to_be_visible()


def test_a_tick_of_bib_changes_shows_what_it_reported_and_everything_stays_in_sync(
    ui: WebUi, site: Site, synced: str
) -> None:
    """The chain is current before and after, and both a run and a sensor report it."""
    for asset in CHAIN:
        expect_current(ui, asset, synced)
    hub = site.hub
    registration = hub.value(
        "SELECT min(registration_id) FROM runsignup_participants p JOIN future_events USING (timing_partner_id, event_id)"
        " WHERE timing_partner_id = %s AND removed_at IS NULL",
        PARTNER,
    )
    hub.sandbox.admin.bib(registration, 4711)
    hub.sync(PARTNER)
    ui.page.goto(f"{site.url}/locations/rsu_pipeline/sensors/bib_changes")
    reported = re.compile(rf"\d bib changes?.* reported: .*{re.escape(synced)} \d")
    expect(ui.page.get_by_text(reported).first).to_be_visible(timeout=SENSOR_PATIENCE)
    ui.open_partitions("participants", synced)
    ui.expect_metadata(bib_changes=1)
    for asset in ("participants", "start_lists"):
        expect_current(ui, asset, synced)


def test_a_run_carries_few_tags_and_names_who_launched_it(ui: WebUi, site: Site, synced: str) -> None:
    ui.page.goto(f"{site.url}/runs")
    holders = ui.page.locator("xpath=//*[.//button[contains(., 'View all tags')]]")
    # The innermost that has all of it.
    row = holders.filter(has_text="rsu sync").filter(has_text=synced).last
    expect(row).to_contain_text(f"partner: {synced}")
    expect(row).to_contain_text("user: ")
    shown = re.search(r"View all tags \((\d+)\)", row.inner_text())
    assert shown and int(shown[1]) <= 6, row.inner_text()


def test_the_lineage_begins_at_runsignup_and_ends_at_the_health_of_the_fleet(ui: WebUi, site: Site) -> None:
    for asset, upstream in {
        "partner_events": ("runsignup",),
        "fleet_health": ("participants", "participant_history"),
    }.items():
        ui.page.goto(f"{site.url}/assets/{asset}?view=lineage&lineageScope=upstream")
        for name in (asset, *upstream):
            expect(ui.page.get_by_text(name, exact=True).filter(visible=True).last).to_be_visible()


def test_the_health_of_the_fleet_is_filled_by_itself_with_plots_and_checks(ui: WebUi, site: Site) -> None:
    ui.page.goto(f"{site.url}/assets/fleet_health")
    expect(row_of(ui, "partners")).to_contain_text(re.compile(rf"\D{PARTNERS}$"), timeout=SENSOR_PATIENCE)
    expect(row_of(ui, "freshness")).to_contain_text(f"stalest first: 0 of {PARTNERS} partners are late")
    expect(row_of(ui, "bib_latency")).to_contain_text(re.compile("by hour until now|No bib in the last"))
    row_of(ui, "Wait of each partner's stalest event").get_by_text("[Show Markdown]").click()
    picture = ui.page.get_by_role("dialog").get_by_role("img").last
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 300
    ui.page.goto(f"{site.url}/assets/fleet_health?view=checks")
    for check in ("no_partner_lost_access", "nothing_stands_still"):
        row = ui.page.get_by_text(check, exact=True).filter(visible=True).first
        expect(row).to_be_visible()


def test_each_figure_is_explained_in_the_description_of_its_asset(ui: WebUi, site: Site) -> None:
    ui.page.goto(f"{site.url}/assets/participants")
    ui.page.get_by_role("button", name="Show more").first.click()
    for name, meaning in FIGURES["participants"].items():
        item = ui.page.get_by_role("listitem").filter(has=ui.page.get_by_text(name, exact=True)).first
        expect(item).to_have_text(re.compile(re.escape(meaning)))
