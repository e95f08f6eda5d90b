"""Races and their events, as PostgreSQL then holds them."""

import datetime as dt
import json
import math
from decimal import Decimal
from typing import Any

import psycopg2.extras
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsu_pipeline.runsignup.payload_decoding import decode_event, decode_events, decode_race
from rsu_pipeline.sync.race_rows import event_row, race_row
from rsu_pipeline.warehouse import events
from rsu_pipeline_tests.sync.stage import RACE, VALUES, Row, Stage, without_nul


def store(stage: Stage, race: Row, *, key: str = "1-test") -> tuple[Row, list[Row], list[str]]:
    """Return the race and its events as the warehouse stores them, and what did not fit."""
    decoded = decode_race(json.dumps(race).encode())
    row, faults = race_row(decoded)
    found, unreadable = decode_events(decoded)
    pairs = [event_row(event, decoded, assumed_hours=6) for event in found]
    faults += unreadable + [fault for _, wrong in pairs for fault in wrong]
    try:
        with stage.conn.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cur:
            cur.execute("INSERT INTO timing_partners (company_name) VALUES ('Test Timing') RETURNING timing_partner_id")
            partner = cur.fetchone()["timing_partner_id"]
            events.store_races(stage.conn, partner, key, [row])
            events.store_events(stage.conn, partner, key, [event for event, _ in pairs])
            cur.execute("SELECT * FROM runsignup_races")
            (stored,) = cur.fetchall()
            cur.execute("SELECT * FROM runsignup_events ORDER BY event_id")
            stored_events = [dict(event) for event in cur.fetchall()]
    finally:
        stage.conn.rollback()
    return dict(stored), stored_events, faults


EVENT: Row = {
    "event_id": 880101,
    "race_event_days_id": 300501,
    "name": "Half\tMarathon",
    "start_time": "10/4/2026 07:30",
    "end_time": None,
    "age_calc_base_date": "12/31/2026",
    "registration_opens": "1/15/2026 00:00",
    "event_type": "running_race",
    "distance": "13.1 Miles",
    "volunteer": "F",
    "require_dob": "T",
    "sub_event_ids": [],
    "new": {"x": 1},
}
RACE_ROW: Row = {
    "race_id": RACE,
    "name": '  "Larkspur" Falls \\ Classic',
    "next_date": "10/04/2026",
    "last_date": None,
    "created": "1/9/2019 14:22",
    "last_modified": "9/30/2026 08:05",
    "is_draft_race": "F",
    "is_registration_open": "T",
    "timezone": "America/Chicago",
    "address": {"city": "Harwick"},
    "fb_page_id": 12,
    "events": [EVENT],
}


def test_a_race_and_its_event_come_out_as_they_went_in(stage: Stage) -> None:
    race, (event,), faults = store(stage, RACE_ROW)
    assert faults == []
    assert (race["name"], race["fb_page_id"], race["address"]) == (RACE_ROW["name"], "12", {"city": "Harwick"})
    assert [str(race[name]) for name in ("next_date", "last_date", "created", "last_modified")] == [
        "2026-10-04 00:00:00",
        "None",
        "2019-01-09 14:22:00",
        "2026-09-30 08:05:00",
    ]
    assert (race["is_draft_race"], race["is_registration_open"], race["is_private_race"]) == (False, True, None)
    assert race["payload"] == {name: value for name, value in RACE_ROW.items() if name != "events"}
    assert event["payload"] == EVENT
    assert str(event["start_time"]) == "2026-10-04 07:30:00"
    assert event["starts_at"].timestamp() == 1791117000
    assert (event["end_time"], event["ends_at"]) == (None, event["starts_at"] + dt.timedelta(hours=6))
    assert (event["distance"], event["distance_text"]) == (Decimal("13.10"), "13.1 Miles")
    assert (event["volunteer"], event["require_dob"], event["require_phone"]) == (False, True, None)
    assert (str(event["age_calc_base_date"]), event["is_bundle"], event["sub_event_ids"]) == ("2026-12-31", False, [])


@pytest.mark.parametrize(
    ("zone", "wall", "epoch"),
    [
        ("America/New_York", "11/1/2026 01:30", 1793511000),
        ("America/New_York", "3/8/2026 02:30", 1772955000),
        ("Pacific/Honolulu", "11/1/2026 01:30", 1793532600),
        ("UTC", "11/1/2026 01:30", 1793496600),
        (None, "10/4/2026 07:30", 1791113400),
        ("Mars/Olympus", "10/4/2026 07:30", 1791113400),
    ],
)
def test_an_events_start_is_an_instant_in_its_races_zone(stage: Stage, zone: str | None, wall: str, epoch: int) -> None:
    _, (event,), faults = store(stage, RACE_ROW | {"timezone": zone, "events": [EVENT | {"start_time": wall}]})
    assert event["starts_at"].timestamp() == epoch
    assert bool(faults) == (zone in (None, "Mars/Olympus"))


@pytest.mark.parametrize(
    ("members", "column", "value", "fault"),
    [
        ({"start_time": "12/31/9999 23:30"}, "starts_at", None, "start_time"),
        ({"start_time": "2/30/2026 07:30"}, "start_time", None, "start_time"),
        ({"start_time": "soon"}, "starts_at", None, "start_time"),
        ({"race_event_days_id": 2**63}, "race_event_days_id", None, "race_event_days_id"),
        ({"sub_event_ids": [2**63, 5]}, "sub_event_ids", [5], "sub_event_ids"),
        ({"sub_event_ids": "5,x"}, "sub_event_ids", [], "sub_event_ids"),
        ({"volunteer": "maybe"}, "volunteer", None, "volunteer"),
        ({"age_calc_base_date": "2026-02-30"}, "age_calc_base_date", None, "age_calc_base_date"),
        ({"distance": "٣ Miles"}, "distance", None, None),
        ({"distance": "99999999999 Miles"}, "distance", Decimal("9999999.00"), None),
        ({"distance": "1." + "1" * 20_000}, "distance", Decimal("1.11"), None),
        ({"distance": "5K"}, "distance", Decimal("5.00"), None),
        ({"distance": None}, "distance", None, None),
        ({"name": "a\x00b\\u0000"}, "name", "a\ufffdb\\u0000", None),
    ],
)
def test_a_member_of_an_event_that_does_not_fit_costs_itself_only(
    stage: Stage, members: Row, column: str, value: Any, fault: str | None
) -> None:
    _, (event,), faults = store(stage, RACE_ROW | {"events": [EVENT | members]})
    assert event[column] == value
    assert [text.split(":")[0] for text in faults] == ([fault] if fault else [])
    assert event["require_dob"] is True


def test_a_number_no_computer_holds_costs_a_race_that_member_only(stage: Stage) -> None:
    raw = json.dumps(RACE_ROW | {"odd": "X"}).encode().replace(b'"X"', b"1e400")
    row, faults = race_row(decode_race(raw))
    assert row["name"] == RACE_ROW["name"]
    assert "odd" not in json.loads(json.dumps(row["payload"]))
    assert [text.split(":")[0] for text in faults] == ["odd"]
    event = json.dumps(EVENT | {"odd": "X"}).encode().replace(b'"X"', b"9" * 5000)
    row, faults = event_row(decode_event(event), decode_race(raw), assumed_hours=6)
    assert [text.split(":")[0] for text in faults] == ["odd"]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from([name for name in RACE_ROW if name not in ("race_id", "events")]), VALUES, max_size=5
    ),
    st.dictionaries(st.sampled_from([name for name in EVENT if name != "event_id"]), VALUES, max_size=5),
)
def test_postgresql_takes_whatever_a_race_and_its_event_are_like(stage: Stage, race: Row, event: Row) -> None:
    stored, (stored_event,), _ = store(stage, RACE_ROW | race | {"events": [EVENT | event]})
    assert (stored["race_id"], stored_event["event_id"]) == (RACE, EVENT["event_id"])
    for name, value in (race | {"race_id": RACE}).items():
        assert equal(stored["payload"][name], without_nul(value))


def equal(stored: Any, sent: Any) -> bool:
    """Return equality up to what a float is once it was a decimal."""
    if isinstance(sent, float):
        return math.isclose(float(stored), sent, rel_tol=1e-12)
    if isinstance(sent, list):
        return len(stored) == len(sent) and all(map(equal, stored, sent))
    if isinstance(sent, dict):
        return set(stored) == set(sent) and all(equal(stored[name], sent[name]) for name in sent)
    return bool(stored == sent)
