"""The demo's life: people register, get bibs, move and leave in the events that are near."""

import asyncio
import random

from rsu_pipeline.sandbox.races import Event
from rsu_pipeline.sandbox.times import DAY
from rsu_pipeline.sandbox.world import World

_NEAR = 8 * DAY
_FIRST_LIVE_BIB = 5000


class Life:
    """Changes one thing after another; the same seed makes the same choices."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._rng = random.Random(seed ^ 0x51FE)
        self._next_bib = _FIRST_LIVE_BIB

    async def run(self, interval: float) -> None:
        """Takes a step every `interval` real seconds or so, until cancelled."""
        while True:
            await asyncio.sleep(interval * self._rng.uniform(0.5, 1.5))
            self.step()

    def step(self) -> str | None:
        """Does one thing in one near event and names it; None when no event is near."""
        events = self._near_events()
        if not events:
            return None
        rng, world = self._rng, self._world
        event = rng.choice(events)
        records = world.truth.active.of_event(event.id)
        bare = [record for record in records if record.bib is None]
        chance = rng.random()
        if chance < 0.55 and bare:
            for record in rng.sample(bare, min(len(bare), rng.randint(1, 4))):
                world.set_bib(record.id, self._bib())
            return "bibs"
        if chance < 0.75 or len(records) < 3:
            world.register(event.id, count=rng.randint(1, 2))
            return "registered"
        record = rng.choice(records)
        if chance < 0.85:
            world.set_bib(record.id, None if record.bib and rng.random() < 0.5 else self._bib())
            return "bib changed"
        others = [
            other
            for other in events
            if other.race_id == event.race_id and other.id != event.id and not other.sub_event_ids
        ]
        if chance < 0.93 and others and not event.sub_event_ids and not record.via_bundle:
            world.transfer(record.id, rng.choice(others).id)
            return "transferred"
        if chance < 0.97:
            world.remove(record.id, rng.choice(("removed", "cleared", "deferred")))
            return "removed"
        world.check_in(record.id)
        return "checked in"

    def _near_events(self) -> list[Event]:
        now = self._world.clock.now()
        return [
            event
            for event in self._world.events.values()
            if event.start is not None and not event.volunteer and -DAY / 2 < event.start - now < _NEAR
        ]

    def _bib(self) -> int:
        self._next_bib += 1
        return self._next_bib
