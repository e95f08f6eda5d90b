"""The client in docs/notifications.md prints the bib changes of a hub as they are stored."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate
from tools.pages import PROJECT, blocks

PAGE = PROJECT / "docs" / "notifications.md"
SPEC = estate(registrations=5)


@pytest.fixture
def client(make_hub: Callable[..., Hub], tmp_path: Path) -> Iterator[tuple[Hub, subprocess.Popen[str]]]:
    """Provide a hub that was synced, and the page's client that listens to it."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sandbox.admin.clock(rate=0)
    hub.sync()
    hub.sandbox.admin.clock(advance=600)
    (block,) = (block for block in blocks(PAGE) if block.language == "python")
    (tmp_path / "client.py").write_text(block.text)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "client.py")], env={"HUB_URL": hub.url}, stdout=subprocess.PIPE, text=True
    )
    while not hub.rows("SELECT FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND datname = current_database()"):
        assert process.poll() is None
    yield hub, process
    process.kill()
    process.communicate(timeout=60)


def test_the_client_of_the_page_prints_bib_changes(client: tuple[Hub, subprocess.Popen[str]]) -> None:
    hub, process = client
    assert process.stdout is not None
    key, row = next((key, row) for key, row in sorted(hub.truth().items()) if row["bib_num"] is None)
    hub.sandbox.admin.bib(key, 118)
    hub.sync()
    assert process.stdout.readline() == f"{row['event_id']} {key} None -> 118\n"
    hub.sandbox.admin.clock(advance=600)
    hub.sandbox.admin.bib(key, None)
    hub.sync()
    assert process.stdout.readline() == f"{row['event_id']} {key} 118 -> None\n"
