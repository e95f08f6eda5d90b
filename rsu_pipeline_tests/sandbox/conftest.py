"""A sandbox for the tests of a module, back in its resting state before each test."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from runsignup_sandbox.process import SandboxProcess

NOW = 1_790_000_000.0
"""2026-09-21 09:33:20 in US Eastern time."""


@dataclass
class Caller:
    """Calls the API with one partner's key. `get` returns the response, `json` its body."""

    base: str
    key: str
    secret: str

    def get(self, path: str, params: dict[str, Any] | None = None, **options: Any) -> requests.Response:
        query = {"format": "json", "api_key": self.key, "api_secret": self.secret} | (params or {})
        timeout = options.pop("timeout", 10)
        return requests.get(f"{self.base}{path}", params=query, timeout=timeout, **options)

    def json(self, path: str, **params: Any) -> Any:
        return self.get(path, params).json()

    def participants(self, race_id: int, event_id: int | str, **params: Any) -> Any:
        return self.json(f"/race/{race_id}/participants", event_id=event_id, **params)

    def rows(self, race_id: int, event_id: int | str, **params: Any) -> list[dict[str, Any]]:
        answer = self.participants(race_id, event_id, **params)
        return [row for element in answer for row in element.get("participants", [])]

    def removed(self, race_id: int, event_id: int | str, **params: Any) -> list[dict[str, Any]]:
        answer = self.json(f"/race/{race_id}/removed-participants", event_id=event_id, **params)
        return [row for element in answer for row in element["event"]["participants"]]


def code(answer: Any) -> int:
    return int(answer["error"]["error_code"])


def caller(sandbox: SandboxProcess, partner: int = 1) -> Caller:
    entry = sandbox.admin.partners()[partner - 1]
    return Caller(sandbox.api_url, entry["key"], entry["secret"])


@pytest.fixture(scope="module")
def shared() -> Iterator[SandboxProcess]:
    with SandboxProcess.start("small", seed=7, now=NOW) as process:
        yield process


@pytest.fixture
def sandbox(shared: SandboxProcess) -> SandboxProcess:
    """Provide the module's `small` sandbox without faults, switches or counts from earlier tests."""
    shared.admin.clear_faults()
    shared.admin.switch(**RESTING)
    shared.admin.reset_stats()
    return shared


RESTING: dict[str, Any] = {
    "layout": "last",
    "visibility_delay": 0,
    "latency_ms": 0,
    "max_in_flight": 2,
    "in_flight_per_key": False,
    "registration_required": False,
    "unknown_sort": "error",
    "duplicate_row": False,
    "template_row": False,
    "repeat_page": False,
    "unsorted": False,
    "wrong_key_code": 7,
    "mangle_removed_shape": False,
    "ints_as_strings": False,
    "pretty": False,
    "http_error_status": 200,
}


@pytest.fixture
def api(sandbox: SandboxProcess) -> Caller:
    return caller(sandbox)


@pytest.fixture
def fresh(sandbox: SandboxProcess) -> tuple[int, list[int]]:
    """Provide a new race of partner 1 with two empty events: race id, event ids."""
    events = [{"name": "One", "start_in_hours": 30}, {"name": "Two", "start_in_hours": 31}]
    return sandbox.admin.add_race(1, events)
