"""The simulated service's state and the rules by which it changes, without HTTP.

The world keeps its registrations twice: `truth` is the true state, `feed` is what the API shows. They are the same unless a
switch or a transfer delays the visibility of a change. Every change sets the registration's `modified` to the whole second of
the simulated clock.
"""

import heapq
import itertools
import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from runsignup_sandbox.included import MEMBERS
from runsignup_sandbox.people import Place, Row
from runsignup_sandbox.races import Edition, Event, Race, editions_of
from runsignup_sandbox.records import Record, Removal, Shelf
from runsignup_sandbox.rows import ADDRESS_KEYS, USER_KEYS, active_row
from runsignup_sandbox.switches import Switches
from runsignup_sandbox.times import DAY, Clock, minute_text

Kind = Literal["active", "removed"]
V = TypeVar("V")
_KEY_LETTERS = string.ascii_letters + string.digits


class WorldError(ValueError):
    """A change that the world cannot make. Its text is one sentence."""


@dataclass(slots=True)
class Partner:
    """A timing company with one key. `lost` are the races its key no longer reaches."""

    number: int
    name: str
    key: str
    secret: str
    revoked: bool = False
    lost: set[int] = field(default_factory=set)

    def reaches(self, race: Race) -> bool:
        return self.number in race.partners and race.id not in self.lost and not self.revoked


@dataclass(slots=True)
class Book:
    """All registrations as one side sees them."""

    active: Shelf[Record] = field(default_factory=lambda: Shelf[Record]())
    removed: Shelf[Removal] = field(default_factory=lambda: Shelf[Removal]())


class World:
    """Partners, races, events, registrations and the clock."""

    def __init__(self, seed: int, now: float | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clock = Clock(now)
        self.switches = Switches()
        self.partners: dict[int, Partner] = {}
        self.races: dict[int, Race] = {}
        self.events: dict[int, Event] = {}
        self.truth = Book()
        self.feed = Book()
        self.checkins: dict[int, list[tuple[int, int]]] = {}
        """By race id: (Unix second, registration id) of each check-in, ascending."""
        self.checked_in: dict[int, int] = {}
        """Unix second of the last check-in, by registration id."""
        self.changes = 0
        """The number of changes, so that a saved file can be recognised as outdated."""
        self.next_race_id = 190_001
        self.next_event_id = 880_101
        self.next_days_id = 300_501
        self.next_registration_id = 91_000_001
        self.next_person = 900_001
        self._unseen: list[tuple[float, int, Kind, int, Record | Removal | None]] = []
        self._seen_at: dict[tuple[Kind, int], float] = {}
        self._order = itertools.count()

    @property
    def second(self) -> int:
        return int(self.clock.now())

    # Partners and their keys.

    def add_partner(self, name: str) -> Partner:
        number = len(self.partners) + 1
        partner = Partner(number, name, self._letters(), self._letters())
        self.partners[number] = partner
        return partner

    def new_key(self, number: int) -> Partner:
        """Replace the partner's key and secret. The old ones no longer work."""
        partner = self.partner(number)
        partner.key, partner.secret, partner.revoked = self._letters(), self._letters(), False
        return partner

    def partner(self, number: int) -> Partner:
        return _found(self.partners, number, "partner")

    def partner_of(self, key: str, secret: str) -> Partner | None:
        """Return the partner of these credentials, or None for wrong or revoked ones."""
        for partner in self.partners.values():
            if partner.key == key and partner.secret == secret and not partner.revoked:
                return partner
        return None

    def _letters(self) -> str:
        return "".join(self.rng.choices(_KEY_LETTERS, k=32))

    # Races and events.

    def race(self, race_id: int) -> Race:
        return _found(self.races, race_id, "race")

    def event(self, event_id: int) -> Event:
        return _found(self.events, event_id, "event")

    def events_of(self, race: Race) -> list[Event]:
        return [self.events[event_id] for event_id in race.event_ids]

    def editions_of(self, race: Race) -> list[Edition]:
        return editions_of(race, self.events_of(race))

    def add_race(self, name: str, place: Place, partners: Sequence[int], created: float | None = None) -> Race:
        stamp = self.second if created is None else int(created)
        race = Race(self.next_race_id, name, place, set(partners), stamp, stamp)
        self.next_race_id += 7
        self.races[race.id] = race
        return race

    def new_edition(self) -> int:
        """Return a new race_event_days_id."""
        self.next_days_id += 1
        return self.next_days_id - 1

    def add_event(
        self, race: Race, days_id: int, name: str, start: float | None, end: float | None = None, **more: Any
    ) -> Event:
        """Add an event to an edition. `more` are further attributes of Event."""
        event = Event(self.next_event_id, race.id, days_id, name, start, end, **more)
        if start is not None and event.opens is None:
            event.opens = start - 200 * DAY
        event.age_base = start
        self.next_event_id += 1
        self.events[event.id] = event
        race.event_ids.append(event.id)
        return event

    def delete_event(self, event_id: int) -> None:
        """Delete an event and all its registrations without a trace in any feed."""
        event = self.event(event_id)
        race = self.races[event.race_id]
        race.event_ids.remove(event_id)
        del self.events[event_id]
        for book in (self.truth, self.feed):
            for id in book.active.ids(event_id):
                book.active.drop(id)
            for id in book.removed.ids(event_id):
                book.removed.drop(id)
        race.modified = self.second

    def move_to_race(self, event_id: int, race_id: int) -> None:
        """Make an event with all its registrations part of another race."""
        event, to = self.event(event_id), self.race(race_id)
        old = self.races[event.race_id]
        if old is to:
            raise WorldError(f"Event {event_id} is of race {race_id} already.")
        old.event_ids.remove(event_id)
        to.event_ids.append(event_id)
        event.race_id = race_id
        old.modified = to.modified = self.second

    def delete_race(self, race_id: int) -> None:
        """Delete a race with its events and registrations without a trace in any feed."""
        race = self.race(race_id)
        for event_id in list(race.event_ids):
            self.delete_event(event_id)
        del self.races[race_id]

    # Registrations.

    def record(self, registration_id: int) -> Record:
        return _found(self.truth.active.items, registration_id, "active registration")

    def row_of(self, record: Record) -> Row:
        event = self.events[record.event_id]
        return active_row(record, event, self.races[event.race_id], self.seed)

    def register(self, event_id: int, fields: Mapping[str, Any] | None = None, count: int = 1) -> list[int]:
        """Add people to an event. People of a bundle get a twin row (same bib) in each sub-event.

        The ids of the event itself come first, then the twins' ids.
        """
        event = self.event(event_id)
        own, twins = [], []
        for _ in range(count):
            person = self.next_person
            self.next_person += 1
            own.append(self._new_record(event_id, person, fields, via_bundle=False))
            twins += [self._new_record(sub, person, fields, via_bundle=True) for sub in event.sub_event_ids]
        return own + twins

    def _new_record(self, event_id: int, person: int, fields: Mapping[str, Any] | None, via_bundle: bool) -> int:
        self.event(event_id)
        now = self.second
        record = Record(self.next_registration_id, event_id, person, now, now, None)
        self.next_registration_id += 1
        record.via_bundle = via_bundle
        if fields:
            self._write(record, fields)
        self._show("active", record.id, record)
        return record.id

    def edit(
        self,
        registration_id: int,
        fields: Mapping[str, Any],
        drop: Sequence[str] = (),
        extra: Mapping[str, Any] | None = None,
        modified: int | None = None,
    ) -> None:
        """Set members of a row (of its user, address or itself, or optional ones), drop some, add unknown ones."""
        record = self._changed(registration_id, modified)
        optional = {name: value for name, value in fields.items() if name in MEMBERS}
        if optional:
            record.included = (record.included or {}) | optional
        self._write(record, {name: fields[name] for name in fields.keys() - optional} | dict(extra or {}))
        row = record.row or {}
        for key in drop:
            row.pop(key, None)
            if isinstance(user := row.get("user"), dict):
                user.pop(key, None)
        self._show("active", record.id, record)

    def set_bib(self, registration_id: int, bib: int | None) -> None:
        record = self._changed(registration_id)
        record.bib = bib
        if record.row is not None:
            record.row["bib_num"] = bib
        self._show("active", record.id, record)

    def swap_bibs(self, first_id: int, second_id: int) -> None:
        first, second = self.record(first_id).bib, self.record(second_id).bib
        self.set_bib(first_id, second)
        self.set_bib(second_id, first)

    def transfer(
        self,
        registration_id: int,
        new_event_id: int,
        transfer_bib: bool = True,
        hide: Literal["new", "removed"] | None = None,
        hide_seconds: float = 0.0,
    ) -> int:
        """Move a person to another event: a new registration, and the old one removed as `transferred`.

        `hide` names the half of the change that stays invisible for `hide_seconds`.
        """
        old = self.record(registration_id)
        self.event(new_event_id)
        new = old.changed()
        new.row = self.row_of(old)
        new.id, new.event_id, new.modified = self.next_registration_id, new_event_id, self.second
        self.next_registration_id += 1
        new.bib = old.bib if transfer_bib else None
        new.row |= {"registration_id": new.id, "event_id": new_event_id, "bib_num": new.bib}
        new.row["last_modified"] = new.modified
        self._show("active", new.id, new, hide_seconds if hide == "new" else 0.0)
        removal = Removal(old, self.second, "transferred", new.id)
        # The old row leaves the active feed at once. Only its removed row can lag behind.
        self._show("active", old.id, None)
        self._show("removed", old.id, removal, hide_seconds if hide == "removed" else 0.0)
        return new.id

    def remove(self, registration_id: int, reason: str = "removed", silent: bool = False) -> None:
        """End a registration. A `silent` one leaves no row among the removed."""
        record = self.record(registration_id)
        self._show("active", record.id, None)
        if not silent:
            self._show("removed", record.id, Removal(record, self.second, reason))

    def forget_removed(self, race_id: int) -> None:
        """Empty the removed feed of a race for good."""
        for event_id in self.race(race_id).event_ids:
            for book in (self.truth, self.feed):
                for id in book.removed.ids(event_id):
                    book.removed.drop(id)

    def reactivate(self, registration_id: int, modified: int | None = None) -> None:
        """Make a removed registration active again under its id.

        It leaves the removed feed. `modified` is its timestamp.
        """
        removal = _found(self.truth.removed.items, registration_id, "removed registration")
        record = removal.record.changed()
        self._stamp(record, modified)
        self._show("removed", record.id, None)
        self._show("active", record.id, record)

    def check_in(self, registration_id: int) -> None:
        """Note a check-in. By itself it changes no row."""
        event = self.events[self.record(registration_id).event_id]
        self.checkins.setdefault(event.race_id, []).append((self.second, registration_id))
        self.checkins[event.race_id].sort()
        self.checked_in[registration_id] = self.second
        self.changes += 1

    def _changed(self, registration_id: int, modified: int | None = None) -> Record:
        record = self.record(registration_id).changed()
        self._stamp(record, modified)
        return record

    def _stamp(self, record: Record, modified: int | None) -> None:
        record.modified = self.second if modified is None else modified
        if record.row is not None:
            record.row["last_modified"] = record.modified

    def _write(self, record: Record, fields: Mapping[str, Any]) -> None:
        row = record.row = self.row_of(record)
        for key, value in fields.items():
            user = row.get("user")
            if key in USER_KEYS and isinstance(user, dict):
                user[key] = value
            elif key in ADDRESS_KEYS and isinstance(user, dict) and isinstance(user.get("address"), dict):
                user["address"][key] = value
            else:
                row[key] = value
        if isinstance(row.get("bib_num"), int):
            record.bib = row["bib_num"]
        elif "bib_num" in fields:
            record.bib = None
        if "registration_date" not in fields:
            row["registration_date"] = minute_text(record.registered)

    # What the API shows, and when.

    def _show(self, kind: Kind, id: int, item: Record | Removal | None, hide: float = 0.0) -> None:
        """Put an item into the truth now, or remove it if it is None, and into the feed when it becomes visible."""
        self.changes += 1
        # What has become visible meanwhile is applied first, so that it does not overwrite this later change.
        self.settle()
        _apply(self.truth, kind, id, item)
        now = self.clock.now()
        # A later change of the same item cannot become visible before an earlier one.
        visible = max(now + self.switches.visibility_delay + hide, self._seen_at.get((kind, id), 0.0))
        if visible <= now:
            _apply(self.feed, kind, id, item)
        else:
            self._seen_at[kind, id] = visible
            heapq.heappush(self._unseen, (visible, next(self._order), kind, id, item))

    def settle(self) -> None:
        """Bring into the feed what has become visible. Call it before reading the feed."""
        while self._unseen and self._unseen[0][0] <= self.clock.now():
            _, _, kind, id, item = heapq.heappop(self._unseen)
            _apply(self.feed, kind, id, item)

    def publish_all(self) -> None:
        """Make the feed a copy of the truth, at the end of building a world."""
        self.feed = Book(self.truth.active.copy(), self.truth.removed.copy())


def _apply(book: Book, kind: Kind, id: int, item: Record | Removal | None) -> None:
    if isinstance(item, Record):
        book.active.put(item)
    elif isinstance(item, Removal):
        book.removed.put(item)
    elif kind == "active":
        book.active.drop(id)
    else:
        book.removed.drop(id)


def _found(items: Mapping[int, V], key: int, what: str) -> V:
    if key not in items:
        raise WorldError(f"There is no {what} {key}.")
    return items[key]
