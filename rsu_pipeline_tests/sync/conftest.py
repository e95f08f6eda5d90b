"""A staging table for the tests of a module."""

import json
from collections.abc import Iterator
from decimal import Decimal

import psycopg2.extras
import pytest

from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.servers import create_database, drop_database
from rsu_pipeline_tests.sync.stage import Stage


@pytest.fixture(scope="module")
def stage(server: str, template: str) -> Iterator[Stage]:
    create_database(server, "rsu_rows", template)
    made = Stage(at(server, "rsu_rows"))
    for register in (psycopg2.extras.register_default_json, psycopg2.extras.register_default_jsonb):
        register(made.conn, loads=lambda text: json.loads(text, parse_float=Decimal, parse_int=int))
    yield made
    made.conn.close()
    drop_database(server, "rsu_rows")
