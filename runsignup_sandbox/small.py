"""The `small` world: three partners and one of each thing that a pipeline can meet."""

from runsignup_sandbox.filling import add_partners, fill, hour_from_now, kind_event
from runsignup_sandbox.people import PLACES
from runsignup_sandbox.races import Event, Race
from runsignup_sandbox.records import Record
from runsignup_sandbox.times import DAY, HOUR
from runsignup_sandbox.world import World

# name, place, partners, hours to the next edition's start, its sizes, sizes of the edition a year earlier
_PLAIN: tuple[tuple[str, int, tuple[int, ...], float, tuple[int, ...], tuple[int, ...]], ...] = (
    ("Mill Pond Half & 5K", 0, (1,), 2.0, (60, 40), (35, 20)),
    ("Port Ellery Bridge Run", 1, (1, 2), 26.0, (45, 15), (20,)),
    ("Mesa Quemada Sunrise 10K", 4, (1,), 24.0 * 9, (30,), ()),
    ("Kestrel Cove Solstice Run", 5, (2,), 24.0 * 3, (25, 10), ()),
    ("Hale Moana Beach Mile", 6, (2,), 24.0 * 16, (20,), (15,)),
    ('  "Larkspur" Falls Classic', 9, (3,), 24.0 * 40, (25,), ()),
    ("Greenwich Meridian Dash", 10, (3,), 24.0 * 6, (15,), ()),
)


def build_small(world: World) -> None:
    add_partners(world, 3)
    for number, (name, place, partners, hours, sizes, earlier) in enumerate(_PLAIN):
        race = world.add_race(name, PLACES[place], partners, world.clock.now() - (900 - number) * DAY)
        person = 10_000 * (number + 1)
        start = hour_from_now(world, hours)
        if earlier:
            _edition(world, race, start - 364 * DAY, earlier, person)
        # Overlapping numbers: about half of last year's people come again.
        _edition(world, race, start, sizes, person + sum(earlier) // 2)
    _special_races(world)


def add_race_of_today(world: World) -> bool:
    """Add an edition of the first race that starts in two hours, unless an event of its partner is about as near already.

    A demo that continues from its file days later has a race morning by it. Return whether one was added.
    """
    name, _, _, hours, sizes, _ = _PLAIN[0]
    race = next((race for race in world.races.values() if race.name == name), None)
    if race is None:
        return False
    now = world.clock.now()
    starts = [event.start for one in world.races.values() if 1 in one.partners for event in world.events_of(one)]
    if any(start is not None and -HOUR < start - now < 4 * HOUR for start in starts):
        return False
    _edition(world, race, hour_from_now(world, hours), sizes, world.next_registration_id)
    race.modified = world.second
    world.changes += 1
    return True


def add_newcomer(world: World, name: str, key: str, secret: str) -> bool:
    """Add a partner with this key and one race, for somebody to enter. Return false if it is there already."""
    if any(partner.name == name for partner in world.partners.values()):
        return False
    partner = world.add_partner(name)
    partner.key, partner.secret = key, secret
    race = world.add_race("Thistle Hill 10K", PLACES[3], [partner.number], world.clock.now() - 100 * DAY)
    _edition(world, race, hour_from_now(world, 24.0 * 4), (40, 25), 160_000)
    world.changes += 1
    return True


def _special_races(world: World) -> None:
    now = world.clock.now()
    # A festival over three days, with a volunteers' event and one that has no start yet.
    festival = world.add_race("Cinder Gap Festival of Miles", PLACES[2], [1], now - 500 * DAY)
    days = world.new_edition()
    start = hour_from_now(world, 24 * 5)
    stage = world.add_event(festival, days, "Three Day Stage Race", start, start + 56 * 3600, distance="60 Miles")
    helpers = world.add_event(festival, days, "Volunteers", start, volunteer=True, distance=None, fee_cents=0)
    later = world.add_event(festival, days, "Night Relay (time to be announced)", None, distance="4 x 5K")
    fill(world, festival, [(stage, 30), (helpers, 15), (later, 10)], 110_000)

    # A virtual event of a month that began last week.
    virtual = world.add_race("Alder Bay Virtual Month", PLACES[3], [2], now - 60 * DAY)
    began = hour_from_now(world, -24 * 7)
    month = world.add_event(
        virtual, world.new_edition(), "100 Miles in a Month", began, began + 30 * DAY, event_type="virtual_race"
    )
    fill(world, virtual, [(month, 40)], 120_000)

    # A bundle: a person who takes it has a row in the bundle and one in each of its two events.
    double = world.add_race("Three Mills Double", PLACES[7], [3], now - 300 * DAY)
    days = world.new_edition()
    start = hour_from_now(world, 24 * 12)
    parts = [kind_event(world, double, days, kind, start + kind * 7200) for kind in (0, 1)]
    bundle = world.add_event(double, days, "Double Dare (5K + 10K)", start, distance=None, fee_cents=7000)
    bundle.sub_event_ids = [part.id for part in parts]
    fill(world, double, [(part, 12) for part in parts], 130_000)
    _fill_bundle(world, bundle, 10)

    private = world.add_race("Founders' Staff Run", PLACES[8], [1], now - 90 * DAY)
    private.private = True
    _edition(world, private, hour_from_now(world, 24 * 20), (12,), 140_000)

    world.add_race("Quarry Run (planned)", PLACES[11], [1], now - 3 * DAY)

    past = world.add_race("Old Sawyer Farewell 5K", PLACES[8], [3], now - 1200 * DAY)
    _edition(world, past, hour_from_now(world, -24 * 100), (25,), 150_000)


def _edition(world: World, race: Race, start: float, sizes: tuple[int, ...], person: int) -> None:
    days = world.new_edition()
    events = [kind_event(world, race, days, kind, start + kind * 1800) for kind in range(len(sizes))]
    fill(world, race, list(zip(events, sizes, strict=True)), person)


def _fill_bundle(world: World, bundle: Event, count: int) -> None:
    stamp = world.second - 2 * DAY
    for number in range(count):
        bib = 700 + number
        for event_id in (bundle.id, *bundle.sub_event_ids):
            record = Record(world.next_registration_id, event_id, 135_000 + number, stamp, stamp + number, bib)
            record.via_bundle = event_id != bundle.id
            world.next_registration_id += 1
            world.truth.active.put(record)
