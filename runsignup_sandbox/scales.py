"""Build a world from a scale's name, a seed and a moment."""

import msgspec

from runsignup_sandbox.estate import build_sized
from runsignup_sandbox.filling import RACE_WORDS, add_partners, fill, hour_from_now, kind_event
from runsignup_sandbox.people import PLACES
from runsignup_sandbox.small import build_small
from runsignup_sandbox.times import DAY
from runsignup_sandbox.world import World

SCALES = ("blank", "tiny", "small", "medium", "estate", "custom")


class Spec(msgspec.Struct, forbid_unknown_fields=True):
    """Exact sizes of a `custom` world. The events of a race start together."""

    partners: int = 1
    races_per_partner: int = 1
    events_per_race: int = 1
    registrations_per_event: int = 10
    start_in_hours: float = 48.0


def build(scale: str, seed: int, now: float | None = None, spec: Spec | None = None) -> World:
    """Build the world of a scale. The same scale, seed and `now` (Unix seconds) give the same world."""
    world = World(seed, now)
    if scale == "blank":
        add_partners(world, 1)
    elif scale == "tiny":
        _tiny(world)
    elif scale == "small":
        build_small(world)
    elif scale == "medium":
        build_sized(world, partners=5, past=70, future=30, active=20_000, forced=(6_400, 2_600))
    elif scale == "estate":
        forced = (12_400, 5_900, 4_800, 4_100, 3_600, 3_300, 3_000, 2_800, 2_700)
        build_sized(world, partners=13, past=1_385, future=231, active=407_053, forced=forced)
    elif scale == "custom":
        _custom(world, spec or Spec())
    else:
        raise ValueError(f"There is no scale {scale!r}; choose one of {', '.join(SCALES)}.")
    world.publish_all()
    return world


def _tiny(world: World) -> None:
    add_partners(world, 1)
    for number, (events, hours) in enumerate(((2, 3.0), (1, 50.0))):
        race = world.add_race(f"{RACE_WORDS[number]} Run", PLACES[number], [1], world.second - 400 * DAY)
        days_id = world.new_edition()
        added = [kind_event(world, race, days_id, kind, hour_from_now(world, hours)) for kind in range(events)]
        fill(world, race, [(event, 20) for event in added], 1000 * (number + 1))


def _custom(world: World, spec: Spec) -> None:
    add_partners(world, spec.partners)
    for number in range(spec.partners * spec.races_per_partner):
        place = PLACES[number % len(PLACES)]
        name = f"{RACE_WORDS[number % len(RACE_WORDS)]} {place.city} {number + 1}"
        race = world.add_race(name, place, [1 + number % spec.partners], world.second - 400 * DAY)
        days_id = world.new_edition()
        start = hour_from_now(world, spec.start_in_hours)
        added = [kind_event(world, race, days_id, kind, start) for kind in range(spec.events_per_race)]
        fill(world, race, [(event, spec.registrations_per_event) for event in added], 100_000 * (number + 1))
