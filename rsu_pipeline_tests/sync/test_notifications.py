"""Programs that listen are notified of bib changes and changed registrations, by the transaction that stores them."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(events=2, registrations=15)
Received = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    hub = make_hub(spec=SPEC, seed=7)
    hub.sandbox.admin.clock(rate=0)
    return hub


@pytest.fixture
def received(hub: Hub) -> Iterator[Callable[[], Received]]:
    """Provide what was notified since the last call: channel and payload."""
    conn = psycopg2.connect(hub.url)
    conn.autocommit = True
    with conn.cursor() as cur:
        cur.execute("LISTEN rsu_bib_changes; LISTEN rsu_participants")

        def read() -> Received:
            cur.execute("SELECT 1")  # its answer comes after the notifications of what was committed before
            found = [(item.channel, json.loads(item.payload)) for item in conn.notifies]
            conn.notifies.clear()
            return found

        yield read
    conn.close()


def events(hub: Hub) -> list[dict[str, int]]:
    found = hub.rows("SELECT DISTINCT race_id, event_id FROM runsignup_participants ORDER BY 1, 2")
    return [{"partner": 1, "race": row["race_id"], "event": row["event_id"]} for row in found]


def synced(hub: Hub) -> None:
    hub.sync()
    hub.sandbox.admin.clock(advance=600)


def without_bib(hub: Hub) -> int:
    return next(key for key, row in sorted(hub.truth().items()) if row["bib_num"] is None)


def test_a_first_load_notifies_once_for_each_event_and_page(hub: Hub, received: Callable[[], Received]) -> None:
    hub.environment["RSU_PAGE_SIZE"] = "10"
    synced(hub)
    notified = received()
    assert {channel for channel, _ in notified} == {"rsu_participants"}
    assert [event for event in events(hub) if ("rsu_participants", event) not in notified] == []
    pages = 4  # 30 registrations, and the empty page that shows the end
    assert len(notified) <= pages * len(events(hub))


def test_a_bib_change_is_notified_with_what_it_changed(hub: Hub, received: Callable[[], Received]) -> None:
    synced(hub)
    key = without_bib(hub)
    received()
    for bib in (118, 119, None):
        hub.sandbox.admin.bib(key, bib)
        hub.sync()
        hub.sandbox.admin.clock(advance=600)
    log = hub.rows("SELECT * FROM runsignup_bib_changes ORDER BY bib_change_id")
    notified = received()
    assert [payload for channel, payload in notified if channel == "rsu_bib_changes"] == [
        {
            "change": row["bib_change_id"],
            "partner": 1,
            "race": row["race_id"],
            "event": row["event_id"],
            "registration": key,
            "old": row["old_bib"],
            "new": row["new_bib"],
        }
        for row in log
    ]
    assert [(row["old_bib"], row["new_bib"]) for row in log] == [(None, "118"), ("118", "119"), ("119", None)]
    its_event = {"partner": 1, "race": log[0]["race_id"], "event": log[0]["event_id"]}
    assert [payload for channel, payload in notified if channel == "rsu_participants"] == [its_event] * 3


def test_an_unchanged_sync_notifies_nobody(hub: Hub, received: Callable[[], Received]) -> None:
    synced(hub)
    received()
    hub.sync(full=True)
    hub.sync()
    assert received() == []


def test_many_removals_of_an_event_are_one_notification(hub: Hub, received: Callable[[], Received]) -> None:
    synced(hub)
    first, second = events(hub)
    keys = [key for key, row in hub.truth().items() if row["event_id"] == first["event"]]
    for key in keys[:3]:
        hub.sandbox.admin.remove(key)
    received()
    hub.sync()
    assert received() == [("rsu_participants", first)]
    hub.execute("UPDATE runsignup_participants SET removed_at = now(), removed_reason = 'missing_upstream'")
    assert sorted(payload["event"] for _, payload in received()) == [first["event"], second["event"]]


@pytest.mark.parametrize(
    "change",
    [
        "local_bib = '7'",
        "new_registration_id = 5, removed_reason = 'transferred', removed_at = now()",
        # As an erasure or a purge writes.
        "first_name = NULL, seal = NULL, changed_at = now()",
    ],
)
def test_what_changes_registrations_otherwise_is_notified(
    hub: Hub, received: Callable[[], Received], change: str
) -> None:
    synced(hub)
    first, *_ = events(hub)
    received()
    hub.execute(f"UPDATE runsignup_participants SET {change} WHERE event_id = %s", first["event"])
    assert received() == [("rsu_participants", first)]


def test_an_entrant_who_changes_events_is_notified_for_both(hub: Hub, received: Callable[[], Received]) -> None:
    synced(hub)
    first, second = events(hub)
    received()
    hub.execute(
        "UPDATE runsignup_participants SET event_id = %s WHERE id = (SELECT min(id) FROM runsignup_participants"
        " WHERE event_id = %s)",
        second["event"],
        first["event"],
    )
    assert sorted(payload["event"] for _, payload in received()) == [first["event"], second["event"]]


def test_what_is_rolled_back_is_not_notified(hub: Hub, received: Callable[[], Received]) -> None:
    synced(hub)
    received()
    with database.session(hub.url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute("UPDATE runsignup_participants SET local_bib = '7'")
        conn.rollback()
    assert received() == []


def test_a_bib_of_any_length_is_stored_and_notified(hub: Hub, received: Callable[[], Received]) -> None:
    synced(hub)
    key = without_bib(hub)
    long = "\u0001\U0001f3c3" * 5000
    stored = long.replace("\u0001", "\\")
    received()
    hub.execute(
        "INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, new_bib, first_seen_new)"
        " VALUES (1, 1, 1, %s, 'assigned', %s, now())",
        key,
        stored,
    )
    ((_, payload),) = received()
    assert payload["new"] == stored[:100]
    assert hub.value("SELECT new_bib FROM runsignup_bib_changes") == stored
