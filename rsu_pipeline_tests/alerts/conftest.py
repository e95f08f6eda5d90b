"""A database to put faults into, and a notifier that hears of them."""

from collections.abc import Iterator

import pytest

from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.alerts.notifier import Notifier, running_notifier
from rsu_pipeline_tests.warehouse.fleet_rows import Fleet


@pytest.fixture
def put(database_url: str) -> Iterator[Fleet]:
    with database.session(database_url, purpose="tests") as conn:
        yield Fleet(conn)


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    with running_notifier() as running:
        yield running
