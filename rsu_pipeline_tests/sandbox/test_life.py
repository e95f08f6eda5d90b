"""The demo's life: often enough to be seen, seldom enough to be gentle, and without end."""

import itertools
from collections import Counter, defaultdict

import pytest

from rsu_pipeline_tests.sandbox.conftest import NOW
from runsignup_sandbox.life import Life
from runsignup_sandbox.races import Race
from runsignup_sandbox.records import Record, Removal
from runsignup_sandbox.scales import build
from runsignup_sandbox.small import add_newcomer, add_race_of_today
from runsignup_sandbox.state import Origin, encoded_state
from runsignup_sandbox.times import DAY, HOUR
from runsignup_sandbox.world import World

Rows = dict[tuple[str, int], Record | Removal]


def _world(scale: str = "small") -> World:
    world = build(scale, 7, NOW)
    world.clock.run_at(0)
    return world


def _rows(world: World) -> Rows:
    rows: Rows = {("active", id): item for id, item in world.feed.active.items.items()}
    return rows | {("removed", id): item for id, item in world.feed.removed.items.items()}


def _live(
    world: World, life: Life, seconds: int, first: int = 0
) -> tuple[dict[int, list[float]], Counter[int], Counter[str]]:
    """Run the life second by second.

    Return the moments of the rows each partner saw change, rows by event, and names of changes.
    """
    seen: dict[int, list[float]] = defaultdict(list)
    events: Counter[int] = Counter()
    done: Counter[str] = Counter()
    before = _rows(world)
    for second in range(first, first + seconds):
        world.clock.advance(1)
        names = life.step(float(second))
        done.update(names)
        if not names:
            continue
        after = _rows(world)
        for item in (item for key, item in after.items() if before.get(key) is not item):
            events[item.event_id] += 1
            race = world.races[world.events[item.event_id].race_id]
            for number in race.partners:
                seen[number].append(float(second))
        before = after
    return seen, events, done


def _assert_bibs_unique(world: World) -> None:
    for event in world.events:
        bibs = [record.bib for record in world.truth.active.of_event(event) if record.bib is not None]
        assert len(bibs) == len(set(bibs))
    for bundle in (event for event in world.events.values() if event.sub_event_ids):
        buyers = {record.person: record.bib for record in world.truth.active.of_event(bundle.id)}
        for sub in bundle.sub_event_ids:
            twins = {one.person: one.bib for one in world.truth.active.of_event(sub) if one.via_bundle}
            assert twins == buyers


def test_every_partner_sees_a_change_a_minute_and_no_more_than_one_in_five_seconds() -> None:
    world = _world()
    hours = 2
    seen, events, done = _live(world, Life(world, 7), hours * HOUR)
    assert sorted(seen) == [1, 2, 3]
    for moments in seen.values():
        whole = [0.0, *moments, hours * HOUR]
        assert max(later - earlier for earlier, later in itertools.pairwise(whole)) <= 60
        # No minute has more than its share, but for the rows that belong to one change.
        assert max(sum(start <= moment < start + 60 for moment in moments) for start in moments) <= 12 + 2
        assert len(moments) / (hours * HOUR) <= 0.2
    names = {"registered", "bib given", "bib changed", "bib cleared", "corrected", "transferred", "removed"}
    assert set(done) == names
    assert done["bib given"] + done["registered"] > 0.5 * done.total()
    for number in (1, 2, 3):
        own = [event for event in world.events.values() if number in world.races[event.race_id].partners]
        coming = [event for event in own if event.start and event.start > NOW and not event.volunteer]
        nearest = min(coming, key=lambda event: event.start or 0.0)
        assert events[nearest.id] > 0.4 * sum(events[event.id] for event in own)
    _assert_bibs_unique(world)


def test_life_goes_on_for_weeks_in_later_events_and_new_editions() -> None:
    world = _world()
    life = Life(world, 7)
    for week in range(12):
        world.clock.advance(7 * DAY)
        seen, events, _ = _live(world, life, 15 * 60, week * 7 * DAY)
        assert sorted(seen) == [1, 2, 3], week
        now = world.clock.now()
        for event_id in events:
            start = world.events[event_id].start
            assert start is not None
            assert start > now - 3 * HOUR
        for number in (1, 2, 3):
            races = [race for race in world.races.values() if number in race.partners]
            assert any((event.start or 0) > now for race in races for event in world.events_of(race))
    assert len(world.events) < 23 + 3 * 12
    _assert_bibs_unique(world)


def test_bundles_keep_their_twins_together() -> None:
    world = _world()
    double = next(race for race in world.races.values() if race.name == "Three Mills Double")
    for race in world.races.values():
        if race is not double:
            race.partners = {1}
    _live(world, Life(world, 7), 6 * HOUR)
    bundle = next(event for event in world.events_of(double) if event.sub_event_ids)
    assert len(world.truth.active.of_event(bundle.id)) > 3
    _assert_bibs_unique(world)


@pytest.mark.parametrize("scale", ["blank", "tiny", "medium"])
def test_other_scales_live_too(scale: str) -> None:
    world = _world(scale)
    seen, _, _ = _live(world, Life(world, 7), 5 * 60)
    assert sorted(seen) == ([] if scale == "blank" else sorted(world.partners))


def test_the_same_seed_lives_the_same_life() -> None:
    def lived(seed: int) -> str:
        world = _world()
        _live(world, Life(world, seed), HOUR)
        return encoded_state(world, Origin("small", 7)).decode().split('"counters"')[1]

    assert lived(7) == lived(7)
    assert lived(7) != lived(8)


def test_a_newcomer_has_its_key_and_one_race_and_changes_nothing_of_the_others() -> None:
    def of_others(world: World) -> str:
        rows = [record for record in world.truth.active.items.values() if 4 not in race_of(world, record).partners]
        partners = [(one.number, one.name, one.key, one.secret) for one in world.partners.values() if one.number != 4]
        return repr((partners, [(row.id, row.event_id, row.person, row.modified, row.bib) for row in rows]))

    def race_of(world: World, record: Record) -> Race:
        return world.races[world.events[record.event_id].race_id]

    world = _world()
    before = of_others(world)
    assert add_newcomer(world, "Acme Timing", "key", "secret")
    assert not add_newcomer(world, "Acme Timing", "other", "pair")
    partner = world.partner_of("key", "secret")
    assert partner is not None and partner.number == 4
    (race,) = [race for race in world.races.values() if partner.reaches(race)]
    assert race.partners == {4} and sum(len(world.truth.active.of_event(one)) for one in race.event_ids) == 65
    assert of_others(world) == before


def test_a_demo_that_goes_on_days_later_has_a_race_this_morning() -> None:
    world = build("small", 7, NOW)
    assert not add_race_of_today(world), "it has one when it is new"
    world.clock.advance(7 * DAY)
    before = world.changes
    assert add_race_of_today(world) and world.changes > before
    assert not add_race_of_today(world)
    now = world.clock.now()
    near = [event for event in world.events.values() if event.start and 0 < event.start - now < 3 * 3600]
    assert {event.name for event in near} == {"5K", "10K"}
    assert all(len(world.truth.active.of_event(event.id)) > 30 for event in near)
