"""Databases of the older program, filled from a small world, and the sandbox that serves the same world."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.servers import create_database, drop_database, execute
from rsu_pipeline_tests.warehouse import rehearsal
from runsignup_sandbox.scales import build
from runsignup_sandbox.world import World

SEED = 7
_names = itertools.count(1)


@dataclass(frozen=True)
class Old:
    """A database to copy: its name, what is in it, its world and the moment of that (Unix seconds)."""

    name: str
    copy: rehearsal.Copy
    world: World
    now: float


@pytest.fixture(scope="session")
def old_template(server: str) -> Old:
    """Provide the older program's database with the world `small` in it, to be copied."""
    name, now = "rsu_old_template", time.time()
    execute(server, f"CREATE DATABASE {name}")
    world = build("small", SEED, now)
    return Old(name, rehearsal.make(at(server, name), world), world, now)


@pytest.fixture
def make_old(server: str, old_template: Old) -> Iterator[Callable[..., str]]:
    """Make copies of it, each changed by the given statements, and return the libpq URL."""
    made: list[str] = []

    def make(*statements: str) -> str:
        name = f"rsu_old_{next(_names)}"
        create_database(server, name, old_template.name)
        made.append(name)
        for statement in statements:
            execute(at(server, name), statement)
        return at(server, name)

    yield make
    for name in made:
        drop_database(server, name)


@pytest.fixture
def old_database(make_old: Callable[..., str]) -> str:
    """Provide the libpq URL of a copy as the older program left it."""
    return make_old()
