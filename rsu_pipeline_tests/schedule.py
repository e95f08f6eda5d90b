"""Which tests share a process, in which order they begin, and which a developer's run leaves to `.ci/run`."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = "rsu_pipeline_tests/"
TOGETHER = ("browser/", "webserver/")
"""Folders whose modules share one started installation, and so one process."""
APART = ("proof/",)
"""Tests that share little and take minutes: each is placed by itself."""
BY_PARAMETER = ("installation/test_real_servers",)
"""Modules whose tests share a server for each parameter."""
LONGEST = (
    "proof/test_season.py",
    "proof/test_converges",
    "proof/test_resumes",
    "deploy/test_celery",
    "browser/",
    "webserver/",
    "orchestration/test_recovery",
    "cli/test_run_config_canaries",
    "cli/test_canaries",
    "cli/test_health",
    "proof/",
    "docs/test_commands",
    "installation/test_real_servers",
    "deploy/",
    "cli/test_up",
    "orchestration/test_faults",
    "orchestration/test_fleet_health",
    "orchestration/test_standstills",
    "orchestration/test_start_lists",
    "orchestration/test_terminate",
    "local/test_embedded",
    "cli/test_sync",
    "benchmarks/",
)
"""What takes minutes begins first, so that no process is left with it at the end."""
WAITING = (
    "sync/test_small_races",
    "warehouse/test_reserve",
    "sync/test_watch",
    "warehouse/test_leases",
    "sync/test_outages",
    "sync/test_transactions",
    "sync/test_moved_starts",
    "sync/test_sharing",
    "sync/test_together",
    "webhooks/test_delivery",
    "benchmarks/test_watch",
    "benchmarks/test_refusing_race",
    "benchmarks/test_latency",
    "benchmarks/race_morning/test_simulate",
    "cli/test_first_output",
)
"""Modules that wait for most of their 10 to 40 seconds. Side by side they would leave both cores idle."""
WAITING_EVERY = 6
"""After as many groups that compute, one that waits follows."""
LEFT_TO_CI = {
    "proof": ("proof/",),
    "browser": ("browser/",),
    "installation": (
        "cli/test_canaries",
        "cli/test_health",
        "cli/test_run_config_canaries",
        "cli/test_up",
        "deploy/test_celery",
        "deploy/test_units_run",
        "installation/test_dagster_tools",
        "installation/test_real_servers",
        "orchestration/test_clock_steps.py::test_sensors_schedules_and_the_queue_go_on",
        "orchestration/test_recovery",
        "orchestration/test_side_by_side",
        "orchestration/test_terminate",
        "webserver/test_attacks",
        "webserver/test_webserver",
    ),
    "slow": (
        "adoption/test_adoption",
        "adoption/test_refusals",
        "adoption/test_undo",
        "benchmarks/",
        "docs/test_capacity",
        "docs/test_commands.py::test_the_commands_work[capacity.md",
        "hostile/test_many_events",
        "orchestration/test_outages",
        "sync/test_together",
    ),
}
"""Markers of the tests that `make test` leaves out, and where those are. pyproject.toml describes them."""
SLOW_TESTS = Path(__file__).with_name("slow_tests.txt")
"""Those that have the marker `slow` too, since they take seconds each, as tools/slow_tests.py has measured."""


def name_of(nodeid: str) -> str:
    """Return the path below the test package, with what comes after it."""
    return nodeid.removeprefix(ROOT)


def group(nodeid: str) -> str:
    """Return what a test shares its process with, by name."""
    name = name_of(nodeid)
    if name.startswith(APART):
        return nodeid
    path, _, test = name.partition("::")
    if name.startswith(BY_PARAMETER):
        return path + test.partition("[")[2]
    return next((folder for folder in TOGETHER if name.startswith(folder)), path)


def order(items: list[pytest.Item]) -> None:
    """Put the longest first, alternating between proofs, which compute, and others, which mostly wait for what they started."""
    place = {nodeid: number for number, nodeid in enumerate(ordered([item.nodeid for item in items]))}
    items.sort(key=lambda item: place[item.nodeid])


def ordered(nodeids: Sequence[str]) -> list[str]:
    """Return the tests of `order` by their names."""

    def rank(nodeid: str) -> int:
        name = name_of(nodeid)
        return next((place for place, long in enumerate(LONGEST) if name.startswith(long)), len(LONGEST))

    groups: dict[str, list[str]] = {}
    for nodeid in sorted(nodeids, key=rank):
        groups.setdefault(group(nodeid), []).append(nodeid)
    proofs = [tests for tests in groups.values() if name_of(tests[0]).startswith("proof/")]
    others = [tests for tests in groups.values() if not name_of(tests[0]).startswith("proof/")]
    pairs = itertools.chain.from_iterable(itertools.zip_longest(proofs, others, fillvalue=[]))
    return [nodeid for tests in _spread(list(pairs)) for nodeid in tests]


def _spread(groups: Sequence[list[str]]) -> list[list[str]]:
    """Return the groups with those that wait spread among the others."""
    waiting = [tests for tests in groups if tests and name_of(tests[0]).startswith(WAITING)]
    computing = [tests for tests in groups if tests and not name_of(tests[0]).startswith(WAITING)]
    spread: list[list[str]] = []
    for place, tests in enumerate(computing, 1):
        spread.append(tests)
        if waiting and place % WAITING_EVERY == 0:
            spread.append(waiting.pop(0))
    return spread + waiting


def mark(items: Iterable[pytest.Item]) -> None:
    """Give each test of LEFT_TO_CI and SLOW_TESTS its marker."""
    slow = set(SLOW_TESTS.read_text().split())
    for item in items:
        name = name_of(item.nodeid)
        markers = {marker for marker, names in LEFT_TO_CI.items() if name.startswith(names)}
        if name.partition("[")[0] in slow:
            markers.add("slow")
        for marker in markers:
            item.add_marker(marker)


class ByGroup(LoadScopeScheduling):
    """Gives each process the next group as soon as it is nearly done."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def count_by_marker(items: Iterable[pytest.Item]) -> Counter[str]:
    """Return how many of these tests have each marker of LEFT_TO_CI."""
    return Counter(name for item in items for name in LEFT_TO_CI if item.get_closest_marker(name))


def describe(left_out: Counter[str], meanings: Iterable[str]) -> list[str]:
    """Return what a run left out, and how to run it, in lines. `meanings` are pytest's lines about its markers."""
    if not left_out:
        return []
    lines = [f"{left_out[line.partition(':')[0]]:5} {line}" for line in meanings if line.partition(":")[0] in left_out]
    return [
        f"{left_out.total()} tests are left to .ci/run, which runs every test:",
        *lines,
        f"`make test-all` runs every test too, `.venv/bin/pytest -m {next(iter(left_out))}` those of one kind.",
    ]
