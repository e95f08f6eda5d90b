"""The next page is requested while a page is stored: one call at a time, and settled whatever becomes of the pass."""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rsu_pipeline.runsignup.client import Client
from rsu_pipeline.runsignup.pages import Page
from rsu_pipeline.sync import page_requests, race_pass
from rsu_pipeline.warehouse import participants
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(events=2, registrations=15)
SIGNALLED = """
import signal, sys, time
from rsu_pipeline import cancellation
from rsu_pipeline_tests.proof import victim

def handle(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, handle)
victim.arm("before a page is merged", 1, signal.SIGTERM)
merge = victim.participants.stage_and

def late(*args, **more):
    time.sleep(0.5)  # the next page is under way by then
    return merge(*args, **more)

victim.participants.stage_and = late
sys.argv[1:] = ["1", "after history is written", "99", "full"]
try:
    with cancellation.scope():
        victim.main()
except BaseException as error:
    print(type(error).__name__)
"""


@contextmanager
def noted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, spans: list[tuple[float, float]]) -> Iterator[None]:
    """Have each call of a function noted, from when to when."""
    original = getattr(owner, name)

    def timed(*args: Any, **more: Any) -> Any:
        began = time.monotonic()
        try:
            return original(*args, **more)
        finally:
            spans.append((began, time.monotonic()))

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, timed)
        yield


def test_the_next_page_is_requested_while_a_page_is_stored(
    make_hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "10"
    hub.sandbox.admin.switch(latency_ms=300)
    stage_and = participants.stage_and

    def slowly(*args: Any, **more: Any) -> Any:
        time.sleep(0.3)
        return stage_and(*args, **more)

    monkeypatch.setattr(participants, "stage_and", slowly)
    calls: list[tuple[float, float]] = []
    stores: list[tuple[float, float]] = []
    with (
        noted(monkeypatch, Client, "participants_page", calls),
        noted(monkeypatch, participants, "merge_active", stores),
    ):
        outcome = hub.sync()
    assert outcome.counts.inserted == 30 and not outcome.failures
    # The empty page behind three full ones is requested twice.
    pages, stored = calls[-5:-1], stores
    assert len(stored) == 3
    for (began, ended), following in zip(stored, pages[1:], strict=True):
        assert began - 0.1 < following[0] < ended, "the page after is requested while this one is stored"
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(calls)), "one call at a time"
    hub.assert_equal()


def test_the_lines_of_a_first_load_are_built_while_the_page_before_is_stored(
    make_hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "10"
    stage, staged_by = race_pass.stage_page, list[bool]()

    def noting(page: Page, *args: Any, **more: Any) -> Any:
        if page.rows:
            staged_by.append(threading.current_thread().name.startswith(page_requests.THREAD_NAME))
        return stage(page, *args, **more)

    monkeypatch.setattr(race_pass, "stage_page", noting)
    hub.sync()
    assert staged_by == [False, True, True]
    staged_by.clear()
    # Most rows of a later read are stored unchanged. PostgreSQL shows which, and they need no lines.
    hub.sync(full=True)
    assert staged_by == [False, False, False]
    hub.assert_equal()


def test_a_pass_that_cannot_store_a_page_settles_the_call_under_way(
    make_hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "10"
    hub.sandbox.admin.switch(latency_ms=300)

    def broken(*args: Any, **more: Any) -> Any:
        raise RuntimeError("a fault of the program")

    with monkeypatch.context() as patch:
        patch.setattr(participants, "stage_and", broken)
        with pytest.raises(RuntimeError, match="a fault of the program"):
            hub.sync()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(page_requests.THREAD_NAME)] == []
    ended = "SELECT count(*) AS calls, count(settled_at) AS settled, count(error) AS failed FROM api_calls"
    (calls,) = hub.rows(f"{ended} WHERE endpoint = 'participants'")
    assert calls["calls"] == calls["settled"] and calls["failed"] == 0
    assert not hub.sync().failures
    hub.assert_equal()


def test_a_page_requested_ahead_that_fails_costs_none_that_was_stored(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment |= {"RSU_PAGE_SIZE": "10", "RSU_CALL_ATTEMPTS": "1"}
    hub.sandbox.admin.fault("http_500", 1, endpoint="participants", after_page=True)
    assert hub.sync().failures
    assert hub.value("SELECT count(*) FROM runsignup_participants") == 10
    assert hub.value("SELECT pages FROM read_passes") == 1
    outcome = hub.sync()
    assert outcome.reads[0].is_resumed and outcome.counts.inserted == 20
    hub.assert_equal()


def test_a_signal_ends_a_page_requested_ahead_and_its_call_is_settled(
    make_hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment |= {"RSU_PAGE_SIZE": "10", "RSU_READ_TIMEOUT": "300", "RSU_TOTAL_TIMEOUT": "300"}
    for name, value in hub.environment.items():
        monkeypatch.setenv(name, value)
    hub.sandbox.admin.fault("timeout", 1, endpoint="participants", seconds=300, after_page=True)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SIGNALLED], stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.stdout == "KeyboardInterrupt\n"
    assert time.monotonic() - began < 20
    hub.wait_for_sessions_to_end()
    calls = hub.rows("SELECT settled_at IS NOT NULL AS is_settled, error FROM api_calls ORDER BY api_call_id")
    assert all(call["is_settled"] for call in calls) and calls[-1]["error"] == "interrupted"
    assert hub.value("SELECT count(*) FROM runsignup_participants") == 0
