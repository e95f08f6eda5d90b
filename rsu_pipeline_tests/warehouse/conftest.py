"""What several modules of this folder put into a database: a fleet by hand, and hubs with people in them."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.warehouse.fleet_rows import Fleet
from rsu_pipeline_tests.warehouse.ledger_worker import Worker
from rsu_pipeline_tests.warehouse.personal import Person, hub_with_past, somebody


@pytest.fixture
def put(database_url: str) -> Iterator[Fleet]:
    with database.session(database_url, purpose="tests") as conn:
        yield Fleet(conn)


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    return hub_with_past(make_hub)


@pytest.fixture
def person(hub: Hub) -> Person:
    return somebody(hub)


@pytest.fixture
def start() -> Iterator[Callable[..., Worker]]:
    """Start ledger workers. The remaining ones are killed after the test."""
    started: list[Worker] = []

    def make(url: str, do: str, **order: Any) -> Worker:
        full = {"url": url, "do": do, "credential": 1, "lane": "race_day", "calls_per_hour": 1000, "max_in_flight": 2}
        full["api_key"] = order.get("credential", 1)
        command = [sys.executable, "-m", "rsu_pipeline_tests.warehouse.ledger_worker", json.dumps(full | order)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield make
    for worker in started:
        worker.kill()
        worker.communicate(timeout=60)
