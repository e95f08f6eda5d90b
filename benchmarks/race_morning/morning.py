"""The script of a race morning: pure, and the same for the same seed.

People come to the check-in table in bursts, most of them in the two hours before their start, and are given a bib there.
Bibs are corrected, cleared and swapped, some people register late, move to the other event or leave. For some minutes
RunSignup throttles every call, and for a fifth of the morning it is dead while its own users go on working.
"""

import heapq
import random
from dataclasses import dataclass
from typing import Literal

from rsu_pipeline.sync import cadence

Kind = Literal["assign", "correct", "clear", "swap", "register", "transfer", "remove", "edit"]
Trouble = Literal["throttled", "dead"]

SHARES: dict[Kind, float] = {
    "correct": 0.03,
    "clear": 0.01,
    "swap": 0.01,
    "register": 0.03,
    "transfer": 0.015,
    "remove": 0.01,
    "edit": 0.02,
}
"""What happens beside the giving out of bibs, by the share of a race's entrants it happens to; each at least once."""
ARRIVING = 0.92
IN_BURSTS = 0.85
BURSTS = 6
BUSY_HOURS = 2.0
LAST_CHANGE = 45 * 60.0
"""Seconds after its start when nothing more happens to a race: well before its window closes, so that each change can be
seen while it is open."""
FIRST_BIB = 2001
"""Above the bibs of the sandbox's people; the two events of a race share their numbers."""
SETTLING = 300.0
"""Seconds after the last change until everything must be there: removals are requested at every sixth poll only."""


@dataclass(frozen=True)
class Race:
    """A race of two events. `partner` counts from 1, `start` is in seconds since the morning began."""

    partner: int
    start: float


@dataclass(frozen=True)
class Spell:
    """A time when RunSignup fails."""

    trouble: Trouble
    start: float
    end: float


@dataclass(frozen=True)
class Change:
    """Something that happens at RunSignup, `at` seconds after the morning began.

    `race` and `entrant` count from 0. Those who register late get the next numbers of their race. `other` is the second of a
    swap, `event` (0 or 1) where someone registers or moves to.
    """

    at: float
    race: int
    kind: Kind
    entrant: int
    bib: int | None = None
    other: int | None = None
    event: int | None = None


@dataclass(frozen=True)
class Morning:
    """What will happen. Each race begins with `entrants` people, the first half of them in its first event."""

    seconds: float
    entrants: int
    races: list[Race]
    spells: list[Spell]
    changes: list[Change]


def write_script(*, partners: int, races: int, hours: float, entrants: int, seed: int) -> Morning:
    """Return the morning of a number of partners with a number of races each.

    Starts are spread over its second part. The dead spell is over before the first window closes.
    """
    end = hours * 3600
    rng = random.Random(seed)
    first, last = 0.4 * end, max(0.45 * end, end - 1800)
    total = partners * races
    starts = [60.0 * round((first + (last - first) * place / max(1, total - 1)) / 60) for place in range(total)]
    rng.shuffle(starts)
    made = [Race(1 + place % partners, start) for place, start in enumerate(starts)]
    spells = [Spell("dead", 0.25 * end, 0.45 * end), Spell("throttled", 0.52 * end, 0.52 * end + end / 30)]
    changes = [
        change for number, race in enumerate(made) for change in _Script(number, race, entrants, end, seed).changes()
    ]
    return Morning(end, entrants, made, spells, sorted(changes, key=lambda change: (change.at, change.race)))


class _Script:
    """One race's part: intentions are drawn first, then each is given its people in the order of time."""

    def __init__(self, number: int, race: Race, entrants: int, end: float, seed: int) -> None:
        self._number = number
        self._race = race
        self._rng = random.Random(f"{seed}:{number}")
        self._first = max(60.0, race.start - cadence.WINDOW_BEFORE.total_seconds() + 60.0)
        self._last = min(end, race.start + LAST_CHANGE)
        self._event = {entrant: int(entrant >= entrants // 2) for entrant in range(entrants // 2 * 2)}
        """Of those who are entered: which event."""
        self._bibs: dict[int, int] = {}
        self._next_bib = FIRST_BIB
        self._next_entrant = len(self._event)
        self._waiting: list[tuple[float, int, Kind, int | None]] = []
        self._order = 0

    def changes(self) -> list[Change]:
        for number in list(self._event):
            if self._rng.random() < ARRIVING:
                self._intend(self._arrival(), "assign", number)
        for kind, share in SHARES.items():
            for _ in range(max(1, round(share * len(self._event)))):
                # Later than the first bibs, which most of these are about.
                self._intend(self._rng.uniform((self._first + self._last) / 2, self._last), kind)
        done = []
        while self._waiting:
            at, _, kind, entrant = heapq.heappop(self._waiting)
            change = self._change(at, kind, entrant)
            if change is not None:
                done.append(change)
        return done

    def _intend(self, at: float, kind: Kind, entrant: int | None = None) -> None:
        self._order += 1
        if at <= self._last:
            heapq.heappush(self._waiting, (max(at, self._first), self._order, kind, entrant))

    def _arrival(self) -> float:
        start, rng = self._race.start, self._rng
        if rng.random() > IN_BURSTS:
            return rng.uniform(self._first, min(self._last, start + 600))
        early = max(self._first, start - BUSY_HOURS * 3600)
        # Of equal bursts: each entrant comes with one of them, give or take some minutes.
        centre = early + (max(early + 60, start - 600) - early) * (rng.randrange(BURSTS) + 0.5) / BURSTS
        return min(max(rng.gauss(centre, 150.0), self._first), self._last)

    def _change(self, at: float, kind: Kind, entrant: int | None) -> Change | None:
        """Return what becomes of an intention, or None when there is nobody left for it."""
        rng = self._rng
        if kind == "register":
            entrant, event = self._next_entrant, rng.randrange(2)
            self._next_entrant += 1
            self._event[entrant] = event
            self._intend(at + rng.uniform(20, 90), "assign", entrant)
            return Change(at, self._number, kind, entrant, event=event)
        holders = sorted(self._bibs.keys() & self._event.keys())
        among = sorted(self._event) if kind in ("transfer", "remove", "edit") else holders
        if kind == "swap":
            if len(holders) < 2:
                return None
            first, second = rng.sample(holders, 2)
            self._bibs[first], self._bibs[second] = self._bibs[second], self._bibs[first]
            return Change(at, self._number, kind, first, self._bibs[first], second)
        if entrant is None:
            if not among:
                return None
            entrant = rng.choice(among)
        elif entrant not in self._event:
            return None
        if kind in ("assign", "correct"):
            self._bibs[entrant] = self._next_bib
            self._next_bib += 1
        elif kind == "clear":
            del self._bibs[entrant]
            self._intend(at + rng.uniform(60, 180), "assign", entrant)
        elif kind == "transfer":
            self._event[entrant] = 1 - self._event[entrant]
            return Change(at, self._number, kind, entrant, self._bibs.get(entrant), event=self._event[entrant])
        elif kind == "remove":
            del self._event[entrant]
        return Change(at, self._number, kind, entrant, self._bibs.get(entrant))
