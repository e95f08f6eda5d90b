"""The life of the demo: people register, get bibs, are corrected, move and leave in upcoming events.

Each partner sees a change every few seconds, whatever the number of its races. Most of them happen in the event that starts
next.
"""

import asyncio
import random
import time
from collections.abc import Sequence

from runsignup_sandbox.filling import hour_from_now, kind_event
from runsignup_sandbox.races import Event, Race
from runsignup_sandbox.records import Record
from runsignup_sandbox.times import HOUR
from runsignup_sandbox.world import Partner, World

INTERVAL = 15.0
"""Mean seconds between two changes that a partner sees. The shortest time is a third of it."""

_ENOUGH = 400
"""An event with this number of people gains no more by itself."""
_FIRST_BIB = 5001
_AFTER_START = 2 * HOUR
"""Until then after its start an event still counts as the next one, because bibs are corrected on the spot."""
_REASONS = ("removed", "cleared", "deferred")


class Life:
    """Makes one change after another. The same seed and the same moments give the same changes.

    Moments are seconds of any steady clock. The age of an event is measured by the world's own clock.
    """

    def __init__(self, world: World, seed: int, interval: float = INTERVAL) -> None:
        self._world = world
        self._shortest = interval / 3
        # A world that continues from a file must not repeat what happened in it.
        self._rng = random.Random(seed ^ 0x51FE ^ world.next_registration_id)
        self._rested: dict[int, float] = {}
        """From when on a partner may see another change, by its number."""
        self._due: dict[int, float] = {}
        """When a partner shall see another change."""

    async def run(self) -> None:
        """Make changes in real time until cancelled."""
        while True:
            await asyncio.sleep(min(self._shortest / 4, 0.5))
            self.step(time.monotonic())

    def step(self, now: float) -> list[str]:
        """Make a change for each partner that is due for one, and name what happened."""
        done = []
        for number in sorted(self._world.partners, key=lambda number: self._due.get(number, now)):
            partner = self._world.partners[number]
            if number not in self._due:
                self._due[number] = now + self._rng.uniform(0.2, 1.5) * self._shortest
            if now >= self._due[number] and now >= self._rested.get(number, now):
                event = self._event_for(partner, now)
                if event is not None:
                    before = self._world.changes
                    done.append(self._change(event))
                    self._seen(event, now, self._world.changes - before)
        return done

    def _seen(self, event: Event, now: float, rows: int) -> None:
        """Set the time of rest of all partners who saw `rows` rows change."""
        race = self._world.races[event.race_id]
        for number in race.partners:
            rest = max(rows, 1) * self._shortest
            self._rested[number] = now + rest
            self._due[number] = now + rest + self._rng.uniform(0, 4) * self._shortest

    # Where something happens.

    def _event_for(self, partner: Partner, now: float) -> Event | None:
        """Return an event of the partner that only rested partners see, usually the one that starts next."""
        races = [race for race in self._world.races.values() if partner.reaches(race) and not race.draft]
        if races and not any(self._starts_in(event) > 0 for race in races for event in self._people_events(race)):
            self._new_edition(races)
        events = [
            event
            for race in races
            if all(now >= self._rested.get(number, now) for number in race.partners)
            for event in self._people_events(race)
            if self._starts_in(event) > -_AFTER_START
        ]
        if not events:
            return None
        events.sort(key=lambda event: (self._starts_in(event), event.id))
        return events[0] if self._rng.random() < 0.7 else self._rng.choice(events)

    def _people_events(self, race: Race) -> list[Event]:
        return [event for event in self._world.events_of(race) if event.start is not None and not event.volunteer]

    def _starts_in(self, event: Event) -> float:
        return (event.start or 0.0) - self._world.clock.now()

    def _new_edition(self, races: Sequence[Race]) -> None:
        """Announce the next edition of the race that took place last, so that there is always an upcoming event."""
        world = self._world
        race = max(races, key=lambda race: max((event.start or 0.0 for event in self._people_events(race)), default=0))
        start = hour_from_now(world, 24 * self._rng.randint(5, 12))
        kind_event(world, race, world.new_edition(), self._rng.randrange(4), start)
        race.modified = world.second

    # What happens.

    def _change(self, event: Event) -> str:
        """Make one change in the event and name it."""
        rng = self._rng
        records = self._world.truth.active.of_event(event.id)
        bare = [record for record in records if record.bib is None]
        chance = rng.random()
        if len(records) < 5 or (chance < (0.25 if bare else 0.45) and len(records) < _ENOUGH):
            self._world.register(event.id)
            return "registered"
        if chance < 0.72 and bare:
            return self._give_bib(rng.choice(bare), "bib given")
        record = rng.choice(records)
        if chance < 0.80:
            return self._correct(record)
        if chance < 0.86:
            return self._give_bib(record, "bib changed")
        if chance < 0.90 and record.bib is not None:
            for one in self._twins(record):
                self._world.set_bib(one.id, None)
            return "bib cleared"
        if chance < 0.95:
            return self._transfer(record)
        reason = rng.choice(_REASONS)
        for one in self._twins(record):
            self._world.remove(one.id, reason)
        return "removed"

    def _give_bib(self, record: Record, what: str) -> str:
        twins = self._twins(record)
        bib = self._free_bib(record)
        for one in twins:
            self._world.set_bib(one.id, bib)
        if self._rng.random() < 0.1:
            self._world.check_in(record.id)
        return what

    def _correct(self, record: Record) -> str:
        rng = self._rng
        phone = f"312-555-01{rng.randrange(100):02}"
        fields = rng.choice(({"phone": phone}, {"street": f"{rng.randint(1, 990)} Weir St"}, {"middle_name": "Q."}))
        for one in self._twins(record):
            self._world.edit(one.id, fields)
        return "corrected"

    def _transfer(self, record: Record) -> str:
        """Move a person to another event of the edition. A person with a bundle only gets a new bib."""
        world = self._world
        event = world.events[record.event_id]
        others = [
            other
            for other in self._people_events(world.races[event.race_id])
            if other.days_id == event.days_id and other.id != event.id and not other.sub_event_ids
        ]
        if not others or event.sub_event_ids or record.via_bundle:
            return self._give_bib(record, "bib changed")
        other = self._rng.choice(others)
        taken = {one.bib for one in world.truth.active.of_event(other.id)}
        world.transfer(record.id, other.id, transfer_bib=record.bib not in taken)
        return "transferred"

    def _twins(self, record: Record) -> list[Record]:
        """Return the record with the others of the same bundle bought by the same person."""
        world = self._world
        event = world.events[record.event_id]
        if not (record.via_bundle or event.sub_event_ids):
            return [record]
        edition = [one for one in world.events_of(world.races[event.race_id]) if one.days_id == event.days_id]
        family = {id for one in edition if one.sub_event_ids for id in (one.id, *one.sub_event_ids)}
        return [
            one
            for event_id in sorted(family)
            for one in world.truth.active.of_event(event_id)
            if one.person == record.person and (one.via_bundle or world.events[event_id].sub_event_ids)
        ]

    def _free_bib(self, record: Record) -> int:
        """Return a number that nobody has in the edition."""
        world = self._world
        event = world.events[record.event_id]
        edition = [one.id for one in world.events_of(world.races[event.race_id]) if one.days_id == event.days_id]
        bibs = (one.bib or 0 for event_id in edition for one in world.truth.active.of_event(event_id))
        return max(max(bibs, default=0) + 1, _FIRST_BIB)
