"""Registrations, removed registrations, and the sorted shelves that contain them."""

import copy
from bisect import bisect_left, bisect_right, insort
from typing import Generic, Protocol, TypeVar

from runsignup_sandbox.people import Row


class Record:
    """One version of an active registration. A change makes a new one.

    `modified` and `registered` are Unix seconds. `row` is None while the row is still to be generated from `person`. Once edited,
    it is the row as served. `included` has the optional members that were edited.
    """

    __slots__ = (
        "bib",
        "encoded",
        "event_id",
        "id",
        "imported",
        "included",
        "modified",
        "nonbinary",
        "person",
        "registered",
        "row",
        "via_bundle",
    )

    def __init__(self, id: int, event_id: int, person: int, registered: int, modified: int, bib: int | None) -> None:
        self.id = id
        self.event_id = event_id
        self.person = person
        self.registered = registered
        self.modified = modified
        self.bib = bib
        self.imported = False
        self.via_bundle = False
        self.row: Row | None = None
        self.included: Row | None = None
        self.encoded: bytes | None = None
        self.nonbinary = False

    def changed(self) -> "Record":
        """Copy the record for a change, without its encoded form."""
        new = copy.copy(self)
        new.row = copy.deepcopy(self.row)
        new.encoded = None
        return new


class Removal:
    """One version of a removed registration. `record` is what it was while active."""

    __slots__ = ("encoded", "event_id", "id", "modified", "new_id", "reason", "record", "row")

    def __init__(self, record: Record, modified: int, reason: str, new_id: int | None = None) -> None:
        self.id = record.id
        self.event_id = record.event_id
        self.record = record
        self.modified = modified
        self.reason = reason
        self.new_id = new_id
        self.row: Row | None = None
        self.encoded: bytes | None = None


class Shelved(Protocol):
    """An item of a shelf: it has an id, an event and a time of change."""

    id: int
    event_id: int
    modified: int


T = TypeVar("T", bound=Shelved)


class _EventIndex:
    """The ids of one event in order, and its changes as sorted (modified, id) once requested."""

    __slots__ = ("changes", "ids")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.changes: list[tuple[int, int]] | None = None


class Shelf(Generic[T]):
    """Items by id, with per-event indexes so that a page is found by bisection."""

    def __init__(self) -> None:
        self.items: dict[int, T] = {}
        self._events: dict[int, _EventIndex] = {}

    def put(self, item: T) -> None:
        """Add `item`, or replace the one with its id."""
        old = self.items.get(item.id)
        if old is not None and old.event_id != item.event_id:
            self.drop(old.id)
            old = None
        index = self._events.setdefault(item.event_id, _EventIndex())
        if old is None:
            if index.ids and index.ids[-1] > item.id:
                insort(index.ids, item.id)
            else:
                index.ids.append(item.id)
        if index.changes is not None:
            insort(index.changes, (item.modified, item.id))
        self.items[item.id] = item

    def drop(self, id: int) -> None:
        """Remove the item. Nothing happens if it is not there."""
        item = self.items.pop(id, None)
        if item is not None:
            ids = self._events[item.event_id].ids
            del ids[bisect_left(ids, id)]

    def count(self, event_id: int) -> int:
        index = self._events.get(event_id)
        return len(index.ids) if index else 0

    def of_event(self, event_id: int) -> list[T]:
        """Return all items of one event by ascending id."""
        index = self._events.get(event_id)
        return [self.items[id] for id in index.ids] if index else []

    def ids(
        self, event_id: int, after: int | None = None, before: int | None = None, since: int | None = None
    ) -> list[int]:
        """Return ascending ids of one event: greater than `after`, less than `before`, changed at or after `since`."""
        index = self._events.get(event_id)
        if index is None:
            return []
        ids = index.ids if since is None else self._changed(index, since)
        low = 0 if after is None else bisect_right(ids, after)
        high = len(ids) if before is None else bisect_left(ids, before)
        return ids[low:high]

    def _changed(self, index: _EventIndex, since: int) -> list[int]:
        if index.changes is None:
            index.changes = sorted((self.items[id].modified, id) for id in index.ids)
        # Entries of superseded versions stay in the list, so each is checked against its item.
        recent = index.changes[bisect_left(index.changes, (since, -1)) :]
        found = {id for modified, id in recent if (item := self.items.get(id)) and item.modified == modified}
        return sorted(found)

    def copy(self) -> "Shelf[T]":
        new: Shelf[T] = Shelf()
        new.items = self.items.copy()
        for event_id, index in self._events.items():
            new._events[event_id] = twin = _EventIndex()
            twin.ids = index.ids.copy()
        return new
