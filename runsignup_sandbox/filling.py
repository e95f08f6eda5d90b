"""The parts of worlds of all scales: names, kinds of events, and registrations to fill them."""

import math

from runsignup_sandbox.races import Event, Race
from runsignup_sandbox.records import Record, Removal
from runsignup_sandbox.times import DAY, HOUR
from runsignup_sandbox.world import World

PARTNER_NAMES = (
    "Kestrel Timing", "Split Second Harwick", "Mill Pond Race Services", "Blue Cone Timing", "Finish Chute Co.",
    "Tenth & Main Timing", "Larkspur Results", "Gun to Mat", "Northfold Chronometry", "Second Lap Events",
    "Old Sawyer Timers", "Alder Bay Timing", "Transponder & Sons",
)  # fmt: skip
RACE_WORDS = (
    "Mill Pond", "Turkey Trot of", "Frostbite", "Harvest Moon", "Sawyer's", "Lantern", "Quarry", "Founders'",
    "Salt Flat", "Jingle", "Bridge-to-Bridge", "Blossom", "Rail Trail", "Lighthouse", "Copper Ridge", "Midnight",
)  # fmt: skip
EVENT_KINDS = (
    ("5K", "5K", "running_race", 3500),
    ("10K", "10K", "running_race", 4500),
    ("Half Marathon", "13.1 Miles", "running_race", 7500),
    ("Marathon", "26.2 Miles", "running_race", 12000),
    ("1 Mile Kids' Run", "1 Mile", "running_only", 1000),
    ("Trail 25K", "25K", "trail_race", 6500),
    ("50 Miler", "50 Miles", "ultra", 125000),
)


def add_partners(world: World, count: int) -> None:
    for number in range(count):
        name = PARTNER_NAMES[number % len(PARTNER_NAMES)]
        world.add_partner(name if number < len(PARTNER_NAMES) else f"{name} {number}")


def hour_from_now(world: World, hours: float) -> float:
    """Return Unix seconds `hours` from now, cut to the whole minute, because starts have no seconds."""
    return math.floor((world.clock.now() + hours * HOUR) / 60) * 60


def fill(
    world: World, race: Race, sizes: list[tuple[Event, int]], first_person: int, removed_share: float = 0.04
) -> None:
    """Give the events of one edition their registrations, with ids interleaved between the events.

    `sizes` are exact counts of active registrations. People are numbered from `first_person` up. Some removed registrations are
    added besides.
    """
    rng = world.rng
    now = world.second
    entries: list[tuple[Event, bool]] = []
    for event, size in sizes:
        entries += [(event, True)] * size
        entries += [(event, False)] * math.ceil(size * removed_share)
    rng.shuffle(entries)
    starts = [event.start for event, _ in sizes if event.start is not None]
    closes = min(min(starts, default=now + 30 * DAY), now) - 600
    opens = closes - 120 * DAY
    span = closes - opens
    bibs_out = 0.95 if closes < now - DAY else 0.6 if starts and min(starts) < now + 3 * DAY else 0.05
    random, truth, total = rng.random, world.truth, max(len(entries), 1)
    bib = 100
    for position, (event, active) in enumerate(entries):
        registered = int(opens + span * position / total)
        chance = random()
        modified = registered
        number = None
        if chance < bibs_out and active:
            bib += 1
            number = bib
            modified = int(max(registered, closes - 2 * DAY * chance))
        elif chance > 0.9:
            modified = min(int(registered + random() * 20 * DAY), int(closes))
        record = Record(world.next_registration_id, event.id, first_person + position, registered, modified, number)
        world.next_registration_id += 1
        record.imported = position % 17 == 5
        if active:
            truth.active.put(record)
        else:
            reason = ("removed", "cleared", "cleared", "deferred")[position & 3]
            truth.removed.put(Removal(record, min(modified + 3600, now - 60), reason))


def kind_event(world: World, race: Race, days_id: int, kind: int, start: float) -> Event:
    name, distance, event_type, fee = EVENT_KINDS[kind % len(EVENT_KINDS)]
    if kind >= len(EVENT_KINDS):
        name = f"{name} wave {kind // len(EVENT_KINDS) + 1}"
    return world.add_event(race, days_id, name, start, distance=distance, event_type=event_type, fee_cents=fee)
