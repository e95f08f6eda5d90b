"""The pictures of the Dagster UI in README.md and docs/, taken of a running `make demo` with Chromium.

`.venv/bin/python -m rsu_pipeline_tests.browser.pictures`, ten minutes after `make demo-fresh`. backfill.png is taken by the test of
backfills, with RSU_SCREENSHOTS=1.
"""

import os
import sys
from pathlib import Path

from playwright.sync_api import Page, expect

from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.browser.chromium import find_chromium, started

PARTNER = "1-kestrel-timing"
"""The partner of the demo that has a race this morning."""
PICTURES = {
    "lineage": ("/asset-groups", "Global asset lineage", 620),
    "participants": (f"/assets/participants?view=partitions&partition={PARTNER}", "Metadata", 720),
    "fleet-health": ("/assets/fleet_health", "Automation details", 1120),
    "registration-report": (f"/assets/registration_report?view=partitions&partition={PARTNER}", "Metadata", 760),
    "bib-changes": ("/locations/rsu_pipeline/sensors/bib_changes", "Latest tick", 720),
    "runs": ("/runs", "Launched by", 620),
}
"""Path, a text that is there once the page is, and the height in pixels."""
WIDTH = 1280
LARGEST_BYTES = 200_000
DRAWN_MILLISECONDS = 4000
"""For the lineage, which moves into its place."""


def take(page: Page, url: str, name: str, folder: Path) -> Path:
    """Save one picture, and return its file."""
    path, text, height = PICTURES[name]
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.goto(f"{url}{path}")
    hide = page.get_by_text("Hide navigation", exact=True)
    if hide.is_visible():
        hide.click()
    expect(page.get_by_text(text, exact=True).first).to_be_visible(timeout=60_000)
    page.wait_for_timeout(DRAWN_MILLISECONDS)
    made = folder / f"{name}.png"
    page.screenshot(path=made, animations="disabled")
    if made.stat().st_size > LARGEST_BYTES:
        sys.exit(
            f"{made} has {made.stat().st_size:,} bytes, more than {LARGEST_BYTES:,}. Make its picture smaller in PICTURES."
        )
    return made


def main() -> None:
    url = f"http://127.0.0.1:{os.environ.get('RSU_UI_PORT', '3000')}"
    folder = project_root() / "docs" / "images"
    with started(find_chromium()) as browser, browser.new_context(timezone_id="America/New_York") as context:
        page = context.new_page()
        for name in PICTURES:
            print(take(page, url, name, folder))


if __name__ == "__main__":
    main()
