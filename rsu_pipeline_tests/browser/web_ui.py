"""What a person does in Dagster's web UI, by what is written on its buttons."""

import re

from playwright.sync_api import Locator, Page, expect

SECOND = 1000
"""Playwright counts in milliseconds."""
PATIENCE = 60 * SECOND
"""For a page of a busy machine, and for one run."""


class WebUi:
    """A person at the web UI of an installation."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url

    def open(self, section: str) -> None:
        """Open a page that is named at the left of the first page."""
        self.page.goto(self._url)
        self.page.get_by_role("link").get_by_text(section, exact=True).click()

    def open_partitions(self, asset: str, partition: str = "") -> None:
        """Show the partitions of an asset, and choose one of them if it is named."""
        self.page.goto(f"{self._url}/assets/{asset}?view=partitions")
        if partition:
            self.page.get_by_title(partition, exact=True).click()
            expect(self.page).to_have_url(re.compile(f"partition={re.escape(partition)}$"))

    def materialize(self) -> Locator:
        """Press the button, and return the dialog for partitions."""
        self.page.get_by_role("button", name="Materialize…").click()
        dialog = self.page.get_by_role("dialog").filter(has_text="Launch runs to materialize")
        # Asked when an asset that this one is made from was never materialised by Dagster.
        confirm = self.page.get_by_role("button", name="Confirm")
        expect(confirm.or_(dialog).first).to_be_visible()
        if confirm.is_visible():
            confirm.click()
        expect(dialog).to_be_visible()
        return dialog

    def launch(self, dialog: Locator, button: str, answer: str) -> None:
        """Press the dialog's button, and at the answer go to what was launched."""
        dialog.get_by_role("button", name=button, exact=True).click()
        expect(self.page.get_by_text(answer)).to_be_visible()
        view = self.page.get_by_role("button", name="View", exact=True)
        view.or_(self.page.get_by_role("link", name="View", exact=True)).click()

    def light(self, partition: str) -> Locator:
        """Return the coloured dot beside a partition."""
        return self.page.get_by_title(partition, exact=True).locator("xpath=../following-sibling::*").first

    def expect_light(self, partition: str, colour: str) -> None:
        expect(self.light(partition)).to_have_attribute("style", re.compile(f"accent-{colour}"), timeout=PATIENCE)

    def expect_metadata(self, **values: int) -> None:
        """Expect metadata of the chosen partition."""
        for name, value in values.items():
            row = self.page.get_by_role("row").filter(has=self.page.get_by_text(name, exact=True))
            expect(row.first).to_have_text(re.compile(rf"^\s*{name}\s*{value}\s*$"))

    def expect_text(self, words: str, *, within: float = PATIENCE) -> None:
        """Expect these words one after the other, whatever white space is between."""
        pattern = re.compile(r"\s+".join(re.escape(word) for word in words.split()))
        expect(self.page.locator("body")).to_contain_text(pattern, use_inner_text=True, timeout=within)

    def expect_backfill_ended(self, *, within: float) -> None:
        """Wait until a backfill has ended, well or badly, on its page."""
        ended = re.compile(r"Status\s+(Succeeded|Failed|Canceled)")
        expect(self.page.locator("body")).to_contain_text(ended, use_inner_text=True, timeout=within)

    def switch(self, name: str) -> Locator:
        """Return the switch of a schedule or sensor on the page of automations."""
        row = self.page.locator("[data-index]").filter(has=self.page.get_by_text(name, exact=True))
        return row.get_by_role("checkbox").last
