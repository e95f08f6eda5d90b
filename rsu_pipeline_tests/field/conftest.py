"""One RunSignup as scripted for the session, empty for each test, and a hub that reads it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rsu_pipeline_tests.field.scripted import Field, RunSignup, runsignup_as_scripted


@pytest.fixture(scope="session")
def scripted() -> Iterator[RunSignup]:
    with runsignup_as_scripted() as runsignup:
        yield runsignup


@pytest.fixture
def field(database_url: str, tmp_path: Path, scripted: RunSignup) -> Field:
    scripted.reset()
    return Field(database_url, scripted, tmp_path)
