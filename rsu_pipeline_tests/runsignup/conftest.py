"""The session's sandbox with one race of two events, at rest before and after each test."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from rsu_pipeline.runsignup.client import Credential
from rsu_pipeline_tests.sandbox.conftest import RESTING
from runsignup_sandbox.process import AdminClient, SandboxProcess

ROWS = 23
"""Registrations of the race, in both events together."""


@dataclass(frozen=True)
class Api:
    """A sandbox, a credential that may read one race there, and what that race has."""

    url: str
    admin: AdminClient
    credential: Credential
    race_id: int
    event_ids: tuple[int, int]
    ids: tuple[int, ...]
    removed: tuple[int, ...]


@pytest.fixture(scope="module")
def race(session_sandbox: SandboxProcess) -> Api:
    admin = session_sandbox.admin
    race_id, events = admin.add_race(1, [{"name": "One", "start_in_hours": 30}, {"name": "Two", "start_in_hours": 31}])
    ids: list[int] = []
    for turn in range(5):
        ids += admin.register(events[turn % 2], count=5)
    removed = (ids.pop(3), ids.pop(11))
    for id in removed:
        admin.remove(id, "cleared")
    partner = admin.partners()[0]
    credential = Credential(partner["key"], partner["secret"])
    return Api(session_sandbox.api_url, admin, credential, race_id, (events[0], events[1]), tuple(sorted(ids)), removed)


@pytest.fixture
def api(race: Api) -> Iterator[Api]:
    race.admin.clear_faults()
    # After a time-out the sandbox may learn a moment late that its client has gone.
    race.admin.switch(**RESTING | {"max_in_flight": 50})
    race.admin.reset_stats()
    yield race
    race.admin.clear_faults()
    race.admin.switch(**RESTING)
