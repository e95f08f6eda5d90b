"""A race with 10,000 events: more than one address holds."""

import base64
import json

import pytest

from rsu_pipeline.runsignup.client import LONGEST_EVENT_LIST, _in_one_address
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.runsignup.tools import CountingLedger, client, http, raw_server

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
    queries = [entry["query"]["event_id"] for entry in admin.stats()["log"] if entry["endpoint"] == "participants"]
    longest = max(len(query) + 2 * query.count(",") for query in queries)
    assert 100 < longest <= LONGEST_EVENT_LIST < LONGEST_ADDRESS - 1000
    # What changes is found, wherever it is, and what goes away.
    admin.register(some[2])
    admin.remove(max(key for key, row in hub.stored().items() if row["event_id"] == some[4]), "cleared")
    admin.bib(min(key for key, row in hub.stored().items() if row["event_id"] == some[3]), 4711)
    assert not hub.sync().failures
    hub.assert_equal()
    hub.assert_removals()
    assert hub.value("SELECT count(*) FROM event_cursors WHERE race_id = %s", race_id) == EVENTS


@pytest.mark.parametrize("digits", [1, 7, 19])
def test_every_event_is_in_one_address_and_each_address_is_short(digits: int) -> None:
    event_ids = list(range(10**digits - 1, 10**digits - 1 - min(EVENTS, 9 * 10 ** (digits - 1)), -1))
    parts = _in_one_address(event_ids)
    assert [int(one) for part in parts for one in part.split(",")] == event_ids
    assert all(len(part) + 2 * part.count(",") <= LONGEST_EVENT_LIST for part in parts)
    assert len(parts) == 1 or len(parts[0]) > LONGEST_EVENT_LIST // 2


def test_of_parts_that_end_at_different_places_the_pass_goes_on_from_the_first() -> None:
    """Two parts: of the first the page is full and may have been cut, of the second it is not."""
    event_ids = list(range(100_000, 101_000))

    def answer(head: str) -> list[bytes]:
        first = "event_id=100000" in head
        rows = [
            {"registration_id": number, "event_id": event_ids[0] if first else event_ids[-1]}
            for number in ((5, 6) if first else (9,))
        ]
        return [http(json.dumps([{"event": {"event_id": 1}, "participants": rows}]).encode())]

    with raw_server(answer) as server:
        page = client(server.url, CountingLedger()).participants_page(7, event_ids, after=0, size=2)
    assert len(server.heads) == 2
    assert [row.registration_id for row in page.rows] == [5, 6, 9]
    assert page.next.covered_to == 6


def test_an_address_that_is_refused_fails_its_race_alone(hub: Hub) -> None:
    race_id = hub.value("SELECT min(race_id) FROM future_events")
    hub.sandbox.admin.fault("raw", 0, endpoint="participants", race_id=race_id, status=414, body=_encoded(b"<html>"))
    (sentence,) = hub.sync(full=True).failures
    assert sentence == f"race {race_id}: participants of race {race_id}: request refused (HTTP 414)"


def _encoded(body: bytes) -> str:
    return base64.b64encode(body).decode()
