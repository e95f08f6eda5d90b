"""The browser that the tests drive: the machine's own Chromium, never a downloaded one."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

MISSING = "The tests of the web UI need the command chromium: `apt-get install chromium`, as root, gives it."


def find_chromium() -> str:
    """Return its path. Without it the tests that need it are skipped, or fail where CI=true."""
    if found := shutil.which("chromium"):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(MISSING, pytrace=False)
    pytest.skip(MISSING)


@contextmanager
def started(path: str, *options: str) -> Iterator[Browser]:
    """Provide a browser without a window that talks to this machine, not to a proxy that the environment names."""
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not work for root, and the pages are ours.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--no-proxy-server", *options])
        try:
            yield browser
        finally:
            browser.close()


def keep(page: Page, folder: Path) -> str:
    """Save what the page shows, and return a sentence with the place."""
    picture, text = folder / "page.png", folder / "page.txt"
    page.screenshot(path=picture)
    text.write_text(page.inner_text("body"))
    return f"{page.url} as it was: {picture} and {text}"
