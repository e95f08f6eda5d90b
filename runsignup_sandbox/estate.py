"""Worlds of exact size: many races, few of them large, most of them small."""

from runsignup_sandbox.filling import RACE_WORDS, add_partners, fill, hour_from_now, kind_event
from runsignup_sandbox.people import PLACES
from runsignup_sandbox.races import Event, Race
from runsignup_sandbox.times import DAY
from runsignup_sandbox.world import World

_YEAR = 364 * DAY
"""Editions are a whole number of weeks apart, so that weekends stay weekends."""


def build_sized(world: World, partners: int, past: int, future: int, active: int, forced: tuple[int, ...]) -> None:
    """Build exactly `past` + `future` events with exactly `active` registrations.

    `forced` are the sizes of the largest events, alternately past and future.
    """
    add_partners(world, partners)
    editions = _calendar(world, partners, past, future)
    events = [event for _, added in editions for event in added]
    sizes = _sizes(world, events, active, forced)
    seen: dict[int, int] = {}
    for race, added in editions:
        count = sum(sizes[event.id] for event in added)
        # Each edition repeats about a third of the people of the one before.
        first_person = seen.get(race.id, race.id % 100_000 * 37_000)
        fill(world, race, [(event, sizes[event.id]) for event in added], first_person)
        seen[race.id] = first_person + count * 2 // 3


def _calendar(world: World, partners: int, past: int, future: int) -> list[tuple[Race, list[Event]]]:
    """Return races with their events, the editions in the order of their registration ids."""
    rng = world.rng
    editions: list[tuple[Race, list[Event]]] = []
    number = 0
    while past or future:
        place = PLACES[number % len(PLACES)]
        name = f"{RACE_WORDS[number % len(RACE_WORDS)]} {place.city} {('Run', 'Classic', 'Trot', 'Fest')[number & 3]}"
        # Every partner has a race; after that the first ones have more than the last.
        owner = 1 + (number if number < partners else int(partners * rng.random() ** 1.7))
        race = world.add_race(name, place, [owner], world.clock.now() - rng.randint(1500, 3500) * DAY)
        if number % 19 == 3:
            race.partners.add(1 + owner % partners)
        per_edition = rng.choice((1, 2, 2, 3, 3, 4, 5))
        hours = 2.0 if number == 0 else 24 * rng.random() ** 2 * 300 + 3
        next_start = hour_from_now(world, hours)
        own: list[tuple[Race, list[Event]]] = []
        coming = min(per_edition, future)
        future -= coming
        if coming:
            own.append((race, _edition(world, race, next_start, coming)))
        for years in range(1, rng.randint(2, 7)):
            over = min(per_edition, past)
            past -= over
            if over:
                own.append((race, _edition(world, race, next_start - years * _YEAR, over)))
        editions += reversed(own)
        number += 1
    return editions


def _edition(world: World, race: Race, start: float, count: int) -> list[Event]:
    days_id = world.new_edition()
    return [kind_event(world, race, days_id, kind, start + kind * 1800) for kind in range(count)]


def _sizes(world: World, events: list[Event], active: int, forced: tuple[int, ...]) -> dict[int, int]:
    """Return the size of each event, by event id: log-normal, with the forced ones and the exact sum."""
    rng = world.rng
    now = world.clock.now()
    coming = [event for event in events if event.start is not None and event.start > now]
    over = [event for event in events if event.start is not None and event.start <= now]
    sizes: dict[int, int] = {}
    for position, size in enumerate(forced):
        pool = coming if position % 2 == 0 else over
        # Spread through the list, so that large events belong to several races and partners.
        sizes[pool[(position * 23) % len(pool)].id] = size
    rest = [event for event in events if event.id not in sizes]
    weights = [rng.lognormvariate(0, 0.9) for _ in rest]
    left = active - sum(sizes.values())
    scale = left / sum(weights)
    for event, weight in zip(rest, weights, strict=True):
        sizes[event.id] = int(weight * scale)
    short = left - sum(sizes[event.id] for event in rest)
    for event in rest[:short]:
        sizes[event.id] += 1
    return sizes
