"""Save a world to a file, atomically, and load it again.

The file is two lines of JSON: a header with a version and a checksum, and then the world. Switches, faults and the log are not
saved. What the API was still hiding is visible after a restart.
"""

import asyncio
import hashlib
import os
import threading
import time
from pathlib import Path

import click
import msgspec

from runsignup_sandbox.people import Row
from runsignup_sandbox.races import Event, Race
from runsignup_sandbox.records import Record, Removal
from runsignup_sandbox.scales import Spec
from runsignup_sandbox.world import Partner, World

VERSION = 2
"""Increment it whenever the format changes, or the rows that are generated from its content."""

_COUNTERS = ("next_race_id", "next_event_id", "next_days_id", "next_registration_id", "next_person")

_Stored = tuple[int, int, int, int, int, int | None, bool, bool, Row | None, Row | None]
"""A record: id, event, person, registered, modified, bib, imported, via_bundle, row once edited, edited optional members."""
_StoredRemoval = tuple[_Stored, int, str, int | None]
"""A removal: the record, modified, reason, new id."""


class StateError(Exception):
    """A state file that cannot be used. Its text is one sentence."""


class Origin(msgspec.Struct, frozen=True):
    """What a world was built from."""

    scale: str
    seed: int
    spec: Spec | None = None

    def __str__(self) -> str:
        spec = f" of {msgspec.json.encode(self.spec).decode()}" if self.spec else ""
        return f"scale {self.scale}{spec} with seed {self.seed}"


class _Header(msgspec.Struct):
    sandbox_state: int
    sha256: str = ""


class _State(msgspec.Struct, kw_only=True):
    """The body. `simulated` and `real` are the two clocks at the moment of saving, Unix seconds."""

    origin: Origin
    simulated: float
    real: float
    random: tuple[int, tuple[int, ...], float | None]
    counters: dict[str, int]
    partners: list[Partner]
    races: list[Race]
    events: list[Event]
    checkins: dict[int, list[tuple[int, int]]]
    active: list[_Stored]
    removed: list[_StoredRemoval]


def encoded_state(world: World, origin: Origin) -> bytes:
    """Return the file's content for the current world."""
    state = _State(
        origin=origin,
        simulated=world.clock.now(),
        real=time.time(),
        random=world.rng.getstate(),
        counters={name: getattr(world, name) for name in _COUNTERS},
        partners=list(world.partners.values()),
        races=list(world.races.values()),
        events=list(world.events.values()),
        checkins=world.checkins,
        active=[_stored(record) for record in world.truth.active.items.values()],
        removed=[
            (_stored(one.record), one.modified, one.reason, one.new_id) for one in world.truth.removed.items.values()
        ],
    )
    body = msgspec.json.encode(state)
    header = msgspec.json.encode(_Header(VERSION, hashlib.sha256(body).hexdigest()))
    return header + b"\n" + body


def load(path: Path) -> tuple[World, Origin] | None:
    """Return the world stored in `path`, or None if there is no file. Its clock advances by the real time that passed."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error.strerror or "input/output error") from None
    head, _, body = content.partition(b"\n")
    try:
        header = msgspec.json.decode(head, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _unreadable(path, "it is no state of a sandbox") from None
    if header.sandbox_state != VERSION:
        raise StateError(
            f"The sandbox state in {path} was made by another version of this program "
            f"(format {header.sandbox_state}, not {VERSION}); deleting the file starts afresh."
        )
    if hashlib.sha256(body).hexdigest() != header.sha256:
        raise _unreadable(path, "its content is damaged")
    try:
        state = msgspec.json.decode(body, type=_State)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error).rstrip(".")) from None
    return _world(state), state.origin


def _unreadable(path: Path, reason: str) -> StateError:
    return StateError(f"The sandbox state in {path} can't be read ({reason}); deleting the file starts afresh.")


def _stored(record: Record) -> _Stored:
    return (
        record.id,
        record.event_id,
        record.person,
        record.registered,
        record.modified,
        record.bib,
        record.imported,
        record.via_bundle,
        record.row,
        record.included,
    )


def _record(stored: _Stored) -> Record:
    record = Record(*stored[:6])
    record.imported, record.via_bundle, record.row, record.included = stored[6:]
    return record


def _world(state: _State) -> World:
    # A real clock that was set back must not take the simulated one with it.
    world = World(state.origin.seed, state.simulated + max(time.time() - state.real, 0.0))
    world.rng.setstate(state.random)
    for name in _COUNTERS:
        setattr(world, name, state.counters[name])
    world.partners = {partner.number: partner for partner in state.partners}
    world.races = {race.id: race for race in state.races}
    world.events = {event.id: event for event in state.events}
    world.checkins = state.checkins
    world.checked_in = {id: stamp for found in state.checkins.values() for stamp, id in found}
    for stored in state.active:
        world.truth.active.put(_record(stored))
    for stored, modified, reason, new_id in state.removed:
        world.truth.removed.put(Removal(_record(stored), modified, reason, new_id))
    world.publish_all()
    return world


class Keeper:
    """Saves one world's state file. The file always has a whole state."""

    def __init__(self, world: World, origin: Origin, path: Path) -> None:
        self._world, self._origin = world, origin
        # A link stays a link, and its target is replaced.
        self._path = path.resolve()
        self._lock = threading.Lock()
        self._kept: int | None = None
        """The world's count of changes when it was last saved, or None before that."""
        self._order = 0
        self._newest = 0

    def save(self) -> None:
        """Save the world unless the file has it already. Raise StateError if that fails."""
        if self._kept != self._world.changes:
            self._write(*self._next())

    async def run(self, interval: float) -> None:
        """Save every `interval` seconds what has changed, in a thread, until cancelled."""
        while True:
            await asyncio.sleep(interval)
            if self._kept == self._world.changes:
                continue
            try:
                await asyncio.to_thread(self._write, *self._next())
            except StateError as error:
                click.echo(str(error), err=True)

    def _next(self) -> tuple[int, int, bytes]:
        self._order += 1
        return self._order, self._world.changes, encoded_state(self._world, self._origin)

    def _write(self, order: int, changes: int, content: bytes) -> None:
        with self._lock:
            if order < self._newest:
                return
            try:
                _replace(self._path, content)
            except OSError as error:
                raise StateError(f"The sandbox state can't be saved in {self._path} ({error.strerror}).") from None
            self._newest, self._kept = order, changes


def _replace(path: Path, content: bytes) -> None:
    """Replace the file with `content`, readable only by its owner. A crash leaves the old or the new one."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
