"""Promise 3: resumes.

A process killed by SIGKILL anywhere wastes at most the page that it stores and the one that it requests meanwhile. No
stored page is requested again, and nothing is lost or doubled.
"""

import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import Callable

import pytest

from rsu_pipeline_tests.cli.shell import run_module
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.proof.conftest import SEED, name_of, parts
from rsu_pipeline_tests.proof.victim import POINTS
from rsu_pipeline_tests.specs import estate

KILLS = int(os.environ.get("RSU_PROOF_KILLS", "24"))
SPEC = estate(races=3, events=2, registrations=9)


def victim(hub: Hub, point: str, times: int, *more: str) -> int:
    """Run a syncing process that dies at a point, and return its exit code."""
    return run_module("victim", "1", point, str(times), *more, environment={**os.environ, **hub.environment})


def cursor_versions(hub: Hub) -> dict[int, list[str]]:
    """Return the transactions that last wrote each race's cursors."""
    rows = hub.rows("SELECT race_id, array_agg(xmin::text ORDER BY event_id) AS versions FROM event_cursors GROUP BY 1")
    return {row["race_id"]: row["versions"] for row in rows}


def checkpoints(hub: Hub) -> dict[int, int]:
    """Return the registration id up to which each race's full read is stored, of those under way."""
    rows = hub.rows("SELECT race_id, after_registration_id FROM read_passes WHERE mode <> 'incremental' AND pages > 0")
    return {row["race_id"]: row["after_registration_id"] for row in rows}


def pages_asked(hub: Hub) -> Counter[tuple[int, int]]:
    """Return how often each page of a full read was requested, by race and registration id.

    An empty one that ends a feed behind a full page is requested twice to be believed, which counts as once.
    """
    asked: Counter[tuple[int, int]] = Counter()
    empty: Counter[tuple[int, int]] = Counter()
    for call in hub.sandbox.admin.stats()["log"]:
        query = call["query"]
        if (
            call["endpoint"] != "participants"
            or "modified_after_timestamp" in query
            or query.get("results_per_page") == "1"
        ):
            continue
        page = call["race_id"], int(query.get("after_registration_id", 0))
        (empty if call["status"] == 200 and not call["rows"] else asked)[page] += 1
    return asked + Counter({page: (times + 1) // 2 for page, times in empty.items()})


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", parts(KILLS, 25), ids=name_of)
def test_a_killed_sync_wastes_at_most_what_it_stores_and_requests_and_converges(
    make_hub: Callable[..., Hub], part: range
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "4"
    admin = hub.sandbox.admin
    seed = SEED + part.start
    print(f"RSU_PROOF_KILLS={len(part)} RSU_PROOF_SEED={seed}")
    chance = random.Random(seed)
    killed = 0
    reached: Counter[str] = Counter()
    points = itertools.islice(itertools.cycle(POINTS), part.start % len(POINTS), None)
    while killed < len(part):
        point = next(points)
        active = admin.truth(1)["active"]
        for row in chance.sample(active, 3):
            admin.bib(row["registration_id"], chance.randrange(1, 999))
        admin.remove(chance.choice(active)["registration_id"], "cleared")
        admin.register(active[0]["event_id"])
        admin.reset_stats()
        before = cursor_versions(hub)
        code = victim(hub, point, chance.randrange(1, 8), "full")
        assert code in (0, -signal.SIGKILL), f"the victim failed by itself at {point!r}"
        if code == 0:
            continue
        killed += 1
        reached[point] += 1
        hub.wait_for_sessions_to_end()
        # A race whose cursors the victim moved was finished; it is read again only because the next sync is asked to
        # read in full.
        finished = {race_id for race_id, version in cursor_versions(hub).items() if version != before.get(race_id)}
        stored, asked = checkpoints(hub), pages_asked(hub)
        outcome = hub.sync(full=True)
        assert not outcome.failures
        hub.assert_equal()
        hub.assert_removals()
        hub.assert_bib_log_replays()
        twice = sum(times - 1 for (race_id, _), times in pages_asked(hub).items() if race_id not in finished)
        assert twice <= 2, f"killed at {point!r}: {twice} pages asked twice"
        asked_now = pages_asked(hub) - asked
        assert not [after for race_id, after in asked_now if after < stored.get(race_id, 0)], (
            f"{point}: a stored page again"
        )
    assert sum(reached.values()) == len(part)


HISTORY_POINTS = {
    "before a call is sent": 6,
    "after an answer": 6,
    "before cursors move": 1,
    "before a page is merged": 6,
    "after a page is merged": 6,
    "after cursors moved": 1,
    "before a position is saved": 6,
    "after a page is committed": 6,
    "after a pass is dropped": 1,
    "before history is written": 1,
}
"""Points, and up to how many times each is passed before death."""


@pytest.mark.timeout(3600)
def test_twenty_kills_over_one_load_of_history_waste_at_most_forty_pages(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC | {"races_per_partner": 12}, seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "4"
    admin = hub.sandbox.admin
    for race in admin.truth(1)["races"]:
        for years in (1, 2, 3):
            event_id = admin.add_event(
                race["race_id"], f"{years} years ago", start_in_hours=-years * 8736, race_event_days_id=7000 + years
            )
            admin.register(event_id, {"bib_num": 5}, count=30)
    hub.sync()
    hub.history(seconds=0)  # requested, and listed
    admin.reset_stats()
    chance = random.Random(SEED)
    print(f"RSU_PROOF_SEED={SEED}")
    stored: dict[int, int] = {}
    asked: Counter[tuple[int, int]] = Counter()
    asked_after_stored = 0
    for killed in range(20):
        point = list(HISTORY_POINTS)[killed % len(HISTORY_POINTS)]
        code = victim(hub, point, chance.randint(1, HISTORY_POINTS[point]), "history")
        assert code == -signal.SIGKILL, f"the load ended, or failed, before kill {killed + 1}"
        hub.wait_for_sessions_to_end()
        asked_after_stored += sum(
            times for (race_id, after), times in (pages_asked(hub) - asked).items() if after < stored.get(race_id, 0)
        )
        stored, asked = checkpoints(hub), pages_asked(hub)
    assert hub.history(ask=False).finished
    hub.assert_equal(past_too=True)
    hub.assert_bib_log_replays()
    assert len(hub.stored()) == len(hub.truth(past_too=True)) == 12 * (2 * 9 + 3 * 30)
    assert asked_after_stored == 0, "a stored page was requested again"
    assert sum(times - 1 for times in pages_asked(hub).values()) <= 40
