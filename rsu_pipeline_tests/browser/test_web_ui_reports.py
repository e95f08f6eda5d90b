"""Registration reports in the Dagster UI, which nobody launched. The last module: their sensor ticks every two minutes."""

import re

from playwright.sync_api import expect

from rsu_pipeline_tests.browser.conftest import Site
from rsu_pipeline_tests.browser.test_at_a_glance import PARTNER
from rsu_pipeline_tests.browser.web_ui import SECOND, WebUi

SEVERAL_TICKS = 300 * SECOND


def test_a_report_is_made_by_itself_and_shows_its_lines_without_a_click(ui: WebUi, site: Site) -> None:
    key, other = site.hub.partners[PARTNER], site.hub.partners[PARTNER + 1]
    ui.page.goto(f"{site.url}/assets/registration_report?view=partitions&partition={key}")
    expect(ui.light(key)).to_have_attribute("style", re.compile("accent-green"), timeout=SEVERAL_TICKS)
    # Those of several partners are a backfill, which Dagster makes of what the sensor requests.
    ui.expect_light(other, "green")
    ui.open_partitions("registration_report", key)
    ui.expect_metadata(events=2)
    for line in ("registrations_by_day", "bib_coverage", "amount_by_event"):
        row = ui.page.get_by_role("row").filter(has=ui.page.get_by_text(line, exact=True)).first
        expect(row).to_contain_text(re.compile("[▁▂▃▄▅▆▇█]"))
