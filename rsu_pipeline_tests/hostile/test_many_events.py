"""A race with 10,000 events: more than one address holds."""

import base64

import pytest

from rsu_pipeline.runsignup.event_ids import MAX_EVENT_LIST_CHARS, split_by_address
from rsu_pipeline_tests.hub import Hub

EVENTS = 10_000
LONGEST_ADDRESS = 8000
"""What common servers take, in characters."""


def test_a_race_of_ten_thousand_events_is_read_in_addresses_that_servers_take(hub: Hub) -> None:
    admin = hub.sandbox.admin
    race_id, event_ids = admin.add_race(1, [{"name": "Run", "start_in_hours": 300}] * EVENTS)
    some = [event_ids[place] for place in (0, 1, 4_999, 9_998, 9_999)]
    for place, event_id in enumerate(some):
        admin.register(event_id, count=3 + place)
    hub.environment["RSU_PAGE_SIZE"] = "10"
    admin.reset_stats()
    assert not hub.sync().failures
    hub.assert_equal()
    # Passes of 16 parts, each closed by an empty page, and at most one page more for each event with registrations. A part
    # that brings no row at its first read is requested once more.
    assert admin.stats()["by_endpoint"]["participants"] <= 2 * 16 + 2 * len(some) + 4
    queries = [entry["query"]["event_id"] for entry in admin.stats()["log"] if entry["endpoint"] == "participants"]
    longest = max(len(query) + 2 * query.count(",") for query in queries)
    assert 100 < longest <= MAX_EVENT_LIST_CHARS < LONGEST_ADDRESS - 1000
    # What changes is found, wherever it is, and what goes away.
    admin.register(some[2])
    admin.remove(max(key for key, row in hub.stored().items() if row["event_id"] == some[4]), "cleared")
    admin.bib(min(key for key, row in hub.stored().items() if row["event_id"] == some[3]), 4711)
    assert not hub.sync().failures
    hub.assert_equal()
    hub.assert_removals()
    assert hub.value("SELECT count(*) FROM event_cursors WHERE race_id = %s", race_id) == EVENTS


@pytest.mark.parametrize("digits", [1, 7, 19])
def test_every_event_is_in_one_part_and_each_part_fits_an_address(digits: int) -> None:
    event_ids = list(range(10**digits - 1, 10**digits - 1 - min(EVENTS, 9 * 10 ** (digits - 1)), -1))
    parts = split_by_address(event_ids)
    assert [event_id for part in parts for event_id in part] == event_ids
    lengths = [sum(len(str(event_id)) + 3 for event_id in part) for part in parts]
    assert max(lengths) <= MAX_EVENT_LIST_CHARS
    assert len(parts) == 1 or lengths[0] > MAX_EVENT_LIST_CHARS // 2


def test_an_address_that_is_refused_fails_its_race_alone(hub: Hub) -> None:
    race_id = hub.value("SELECT min(race_id) FROM future_events")
    hub.sandbox.admin.fault("raw", 0, endpoint="participants", race_id=race_id, status=414, body=_encoded(b"<html>"))
    (sentence,) = hub.sync(full=True).failures
    assert sentence == f"race {race_id}: participants of race {race_id}: request refused (HTTP 414)"


def _encoded(body: bytes) -> str:
    return base64.b64encode(body).decode()
