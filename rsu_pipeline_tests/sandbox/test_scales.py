"""The worlds: exact sizes, the same for the same seed, and quick at the largest scale."""

import json
import time
from datetime import date

import pytest

from rsu_pipeline_tests.sandbox.conftest import NOW, Caller
from runsignup_sandbox.encoding import encode
from runsignup_sandbox.process import SandboxProcess
from runsignup_sandbox.rows import active_row, encoded_active
from runsignup_sandbox.scales import Spec, build
from runsignup_sandbox.times import day_of, minute_text
from runsignup_sandbox.world import World


def _future(world: World) -> int:
    now = world.clock.now()
    return sum(event.start is not None and event.start > now for event in world.events.values())


@pytest.mark.parametrize(
    ("scale", "partners", "races", "events", "future", "active"),
    [
        ("blank", 1, 0, 0, 0, 0),
        ("tiny", 1, 2, 3, 3, 60),
        ("small", 3, 13, 23, 16, 561),
        ("medium", 5, None, 100, 30, 20_000),
        ("estate", 13, None, 1_616, 231, 407_053),
    ],
)
def test_sizes(scale: str, partners: int, races: int | None, events: int, future: int, active: int) -> None:
    world = build(scale, 11, NOW)
    assert len(world.partners) == partners
    assert races in (None, len(world.races))
    assert (len(world.events), _future(world)) == (events, future)
    assert len(world.truth.active.items) == len(world.feed.active.items) == active
    newest = max((record.modified for record in world.truth.active.items.values()), default=0)
    assert newest < NOW
    largest = max((world.truth.active.count(event) for event in world.events), default=0)
    if scale == "medium":
        assert largest > 6_000
    if scale == "estate":
        assert largest > 10_000
        assert len(world.truth.removed.items) > 10_000


def test_a_custom_world_has_the_sizes_asked_for() -> None:
    spec = Spec(partners=2, races_per_partner=3, events_per_race=4, registrations_per_event=5, start_in_hours=6)
    world = build("custom", 1, NOW, spec)
    assert (len(world.partners), len(world.races), len(world.events)) == (2, 6, 24)
    assert {world.truth.active.count(event) for event in world.events} == {5}
    assert {event.start for event in world.events.values()} == {(NOW + 6 * 3600) // 60 * 60}


def test_the_seed_decides_everything() -> None:
    def content(seed: int) -> list[object]:
        world = build("small", seed, NOW)
        rows = [
            active_row(record, (event := world.events[record.event_id]), world.races[event.race_id], seed)
            for record in world.truth.active.items.values()
        ]
        return [[(one.key, one.secret) for one in world.partners.values()], rows, sorted(world.truth.removed.items)]

    assert content(7) == content(7)
    assert content(7) != content(8)


def test_small_has_one_of_each_thing() -> None:
    world = build("small", 7, NOW)
    events, races = list(world.events.values()), list(world.races.values())
    zones = {race.timezone for race in races}
    assert {"UTC", "Pacific/Honolulu", "America/Anchorage", "America/Phoenix", "America/Denver"} <= zones
    assert any(event.volunteer for event in events)
    assert any(event.start is None for event in events)
    assert any(event.sub_event_ids for event in events)
    assert any(event.end and event.start and event.start < NOW < event.end for event in events)
    assert any(len(race.partners) == 2 for race in races)
    assert any(race.private for race in races)
    assert any(not race.event_ids for race in races)
    soon = [event.start - NOW for event in events if event.start and event.start > NOW]
    assert min(soon) == pytest.approx(7200, abs=60)
    names = " ".join(str(world.row_of(record)["user"]) for record in world.truth.active.items.values())
    assert "🏃" in names
    assert "חדד" in names
    assert "'  Pat '" in names


def test_generated_rows_are_spelled_like_all_others() -> None:
    world = build("small", 7, NOW)
    ages = set()
    for record in world.truth.active.items.values():
        event = world.events[record.event_id]
        race = world.races[event.race_id]
        row = active_row(record, event, race, 7)
        assert encoded_active(record, event, race, 7) == encode(row)
        assert record.nonbinary == (row["user"]["gender"] == "X")
        assert row["registration_date"] == minute_text(record.registered)
        dob = row["user"]["dob"]
        if dob is not None and event.start is not None:
            born, day = date.fromisoformat(dob), day_of(event.start)
            assert row["age"] == day.year - born.year - ((day.month, day.day) < (born.month, born.day))
            ages.add(row["age"])
    assert len(ages) > 50


@pytest.mark.parametrize("text", ["plain", "a/b", 'é"\\\t', "渡辺 x ليلى", "🏃‍♀️", "\u2028\uffff"])
def test_text_is_spelled_in_ascii_with_slashes_escaped(text: str) -> None:
    assert encode([text]) == json.dumps([text]).replace("/", "\\/").encode()


def test_the_estate_starts_and_serves_quickly() -> None:
    began = time.monotonic()
    with SandboxProcess.start("estate") as process:
        assert time.monotonic() - began < 20
        partners = process.admin.partners()
        assert len(partners) == 13
        first = Caller(process.api_url, partners[0]["key"], partners[0]["secret"])
        races = first.json("/races", start_date="2000-01-01", results_per_page=1000)["races"]
        largest = 0
        for race in (row["race"]["race_id"] for row in races[:12]):
            ids = [str(event["event_id"]) for event in first.json(f"/race/{race}")["race"]["events"]]
            if not ids:
                continue
            after, seen = 0, 0
            while rows := first.rows(race, ",".join(ids), results_per_page=2500, after_registration_id=after):
                assert rows[0]["registration_id"] > after
                after, seen = rows[-1]["registration_id"], seen + len(rows)
            largest = max(largest, seen)
        assert largest > 2500
