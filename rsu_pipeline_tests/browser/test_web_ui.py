"""The way of a person through the web UI of `rsu up`, each step by clicking."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from rsu_pipeline.orchestration.partner_runs import SLICES_PER_RUN
from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.browser.chromium import MISSING, find_chromium
from rsu_pipeline_tests.browser.conftest import PARTNERS, PAST_COUNT, PAST_DAYS, SPEC, Site
from rsu_pipeline_tests.browser.test_web_guard import ask
from rsu_pipeline_tests.browser.web_ui import SECOND, WebUi

ASSETS = ("partner_events", "future_events", "participants", "participant_history")
AUTOMATIONS = (
    "race_proximity",
    "nightly",
    "nightly_retention",
    "fleet_check",
    "new_credentials",
    "race_day",
    "bib_changes",
    "history",
)
DISABLED = PARTNERS - 1
PARTITIONS = "SELECT partition FROM dagster.dynamic_partitions ORDER BY id"
RUNS_OF_BACKFILL = """query($id: String!) {
    partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { runs { tags { key value } } } }
}"""
PICTURE_WANTED = os.environ.get("RSU_SCREENSHOTS") == "1"
"""Read here: when a test runs, the settings of this machine are put away."""
PICTURE = project_root() / "docs" / "images" / "backfill.png"
LARGEST_PICTURE = 200_000


def test_the_lineage_shows_the_assets_by_name(ui: WebUi) -> None:
    ui.open("Lineage")
    expect(ui.page.get_by_text("Global asset lineage")).to_be_visible()
    for name in ASSETS:
        expect(ui.page.get_by_text(name, exact=True).filter(visible=True).first).to_be_visible()


def test_one_partition_is_materialized_from_the_assets_page_and_turns_green(ui: WebUi, site: Site) -> None:
    hub = site.hub
    key = hub.partners[2]
    event_id = hub.value("SELECT min(event_id) FROM future_events WHERE timing_partner_id = 2")
    hub.sandbox.admin.register(event_id, count=3)
    ui.open_partitions("participants", key)
    ui.expect_light(key, "gray")
    dialog = ui.materialize()
    expect(dialog.get_by_text("1 partition", exact=True)).to_be_visible()
    ui.launch(dialog, "Launch 1 run", "Launched run")
    expect(ui.page.get_by_text("Success", exact=True).first).to_be_visible()
    ui.open_partitions("participants", key)
    ui.expect_light(key, "green")
    ui.expect_metadata(rows_read=3, rows_inserted=3, races_read=2, races_failed=0)
    hub.assert_equal(2)


def test_all_past_editions_are_read_by_a_backfill_of_all_partitions(ui: WebUi, site: Site, tmp_path: Path) -> None:
    """A few runs for several partners each. A disabled partner is skipped with a note, and fails nothing."""
    hub = site.hub
    hub.execute("UPDATE timing_partners SET disabled_at = now() WHERE timing_partner_id = %s", DISABLED)
    ui.open_partitions("participant_history")
    expect(ui.page.get_by_title(hub.partners[PARTNERS], exact=True)).to_be_visible()
    dialog = ui.materialize()
    dialog.get_by_role("button", name="All", exact=True).click()
    expect(dialog.get_by_text(f"{PARTNERS} partitions", exact=True)).to_be_visible()
    ui.launch(dialog, "Launch backfill", "Created backfill")
    # Dagster checks its backfills every 30 s: before the first run, and after the last.
    ui.expect_backfill_ended(within=400 * SECOND)
    ui.expect_text("Status Succeeded")
    ui.expect_text(f"participant_history 100% completed {PARTNERS} 0 {PARTNERS} 0")
    take_picture(ui.page, tmp_path / "backfill.png")
    assert partners_per_run(site, ui.page.url) == [SLICES_PER_RUN, PARTNERS - SLICES_PER_RUN]
    ui.open_partitions("participant_history", hub.partners[DISABLED])
    ui.expect_text(f"Partner {hub.partners[DISABLED]} is disabled. Nothing was read.")
    ui.open_partitions("participant_history", hub.partners[PARTNERS])
    ui.expect_text(f"Failed (0) Materialized ({PARTNERS}) Materializing (0) Missing (0)")
    past_events = len(PAST_DAYS) * SPEC["races_per_partner"]
    ui.expect_metadata(complete=1, races_failing=0, past_events=past_events, registrations=past_events * PAST_COUNT)

    requests = hub.rows("SELECT timing_partner_id FROM history_requests WHERE finished_at IS NOT NULL")
    assert sorted(row["timing_partner_id"] for row in requests) == sorted(set(hub.partners) - {DISABLED})
    hub.execute("UPDATE timing_partners SET disabled_at = NULL WHERE timing_partner_id = %s", DISABLED)
    # What has come to the future events meanwhile is for the next sync.
    for partner in hub.partners:
        hub.sync(partner)
        hub.assert_equal(partner, past_too=partner != DISABLED)
    states = hub.rows("SELECT state, count(*) FROM history_events GROUP BY state")
    assert states == [{"state": "loaded", "count": past_events * (PARTNERS - 1)}]


def partners_per_run(site: Site, backfill_page: str) -> list[int]:
    """Return the number of partitions of each run of a backfill, the largest first."""
    runs = ask(site, RUNS_OF_BACKFILL, id=backfill_page.rpartition("/b/")[2].partition("?")[0])[
        "partitionBackfillOrError"
    ]
    assert isinstance(runs, dict)
    order = [row["partition"] for row in site.hub.rows(PARTITIONS)]
    found = []
    for run in runs["runs"]:
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        begin, end = (tags[f"dagster/asset_partition_range_{side}"] for side in ("start", "end"))
        found.append(order.index(end) - order.index(begin) + 1)
    return sorted(found, reverse=True)


def take_picture(shown: Page, path: Path) -> None:
    """Save a picture of what a page shows, without what popped up, for the README if that is requested."""
    with shown.context.new_page() as page:
        page.set_viewport_size({"width": 1200, "height": 300})
        page.goto(shown.url)
        page.get_by_text("Hide navigation", exact=True).click()
        expect(page.get_by_text("100% completed")).to_be_visible()
        page.screenshot(path=path, animations="disabled")
    assert path.stat().st_size <= LARGEST_PICTURE
    if PICTURE_WANTED:
        shutil.copyfile(path, PICTURE)


def test_the_automation_page_shows_every_schedule_and_sensor_switched_on(ui: WebUi) -> None:
    ui.open("Automation")
    for name in AUTOMATIONS:
        expect(ui.switch(name)).to_be_checked()


def test_a_revoked_key_is_a_failed_run_with_a_sentence_that_says_what_to_do(ui: WebUi, site: Site) -> None:
    """The last one, since the partner's credential stays refused."""
    key = site.hub.partners[PARTNERS]
    site.hub.sandbox.admin.revoke(PARTNERS)
    ui.open_partitions("participants", key)
    ui.launch(ui.materialize(), "Launch 1 run", "Launched run")
    ui.expect_text(f"RunSignup rejects the credential of partner {key}")
    ui.expect_text("enter the right key and secret with `rsu partners add`.")
    expect(ui.page.get_by_text("Failure", exact=True).first).to_be_visible()
    ui.open_partitions("participants", key)
    ui.expect_light(key, "red")
    ui.expect_text("failed, and did not materialize this asset.")


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_chromium_the_tests_are_skipped_but_fail_in_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="apt-get install chromium") as caught:
        find_chromium()
    assert str(caught.value) == MISSING
