"""What several modules of this folder put into a database: a fleet by hand, and hubs with people in them."""

from collections.abc import Callable, Iterator

import pytest

from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.warehouse.fleet_rows import Fleet
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
