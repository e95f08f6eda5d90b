"""Decode RunSignup's payloads, leniently and honestly.

Numbers may arrive as text, and keys may be missing. A field that cannot be read becomes None and is named in `faults`, so that
one bad birth date does not cost a runner the bib. A row without readable identity raises `RowUnreadable`.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Raw

from rsu_pipeline.runsignup.paging import TEMPLATE_REGISTRATION_ID
from rsu_pipeline.runsignup.payloads import (
    DriftKind,
    Event,
    Race,
    Registration,
    RowUnreadable,
    StrictRegistration,
    StrictUser,
    User,
    rows_of,
)
from rsu_pipeline.runsignup.text_repair import repair_json
from rsu_pipeline.runsignup.values import plain

MAX_NESTING = 200
"""Levels of nesting that a row may have. Decoders, encoders and PostgreSQL each give up at depths of their own."""

T = TypeVar("T", bound=msgspec.Struct)

_LOCAL_FIELDS = frozenset({"raw", "faults", "drift"})
_registration = msgspec.json.Decoder(Registration, strict=False)
_strict_registration = msgspec.json.Decoder(StrictRegistration, strict=False)
_race = msgspec.json.Decoder(Race, strict=False)
_event = msgspec.json.Decoder(Event, strict=False)
_object = msgspec.json.Decoder(dict[str, Raw])
_NOBODY = (b"null", b"[]", b'""')
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


def decode_registration(raw: bytes, *, event_id: int | None = None) -> Registration:
    """Decode one participants row.

    Raises:
        RowUnreadable: it has no identity, or its event_id is present but unreadable. The envelope's may be another event's.
    """
    row = _decode_known(raw) or _decode(
        _registration, Registration, raw, identity="registration_id", essential="event_id"
    )
    if row.event_id is None:
        row.event_id = event_id
    if row.event_id is None:
        raise RowUnreadable(f"event_id of registration {row.registration_id} is missing", row.registration_id)
    if row.user is None:
        row.faults.append("user: missing")
    return row


def _decode_known(raw: bytes) -> Registration | None:
    """Return a registration whose fields are all known and readable, else None.

    The decoder itself notices an unknown field, so a row without one costs nothing more.
    """
    if _depth(raw) > MAX_NESTING:
        return None
    try:
        raw.decode()
        row = _strict_registration.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not 0 < row.registration_id < 2**63:
        return None
    row.raw, row.faults, row.drift = raw, [], ()
    return row


def _find_drift(raw: bytes) -> tuple[tuple[DriftKind, str], ...]:
    """Return the fields of a registration that are unknown, or a list or an object instead of a value, or the other way round."""
    try:
        members = members_of(raw)
    except RowUnreadable:
        return ()
    found = _find_unknown(members, _KNOWN, "")
    user = members.get("user", b"null").strip()
    if user[:1] == b"{":
        found += _find_unknown(members_of(user), _KNOWN_OF_USER, "user.")
    return tuple(found)


def _find_unknown(members: dict[str, bytes], known: frozenset[str], path: str) -> list[tuple[DriftKind, str]]:
    found: list[tuple[DriftKind, str]] = []
    for name, member in members.items():
        if name not in known:
            found.append(("unknown", path + name))
        elif name not in _ANY_TYPE and member not in _BLANK:
            is_container = member[:1] in (b"{", b"[")
            if is_container != (name in _CONTAINERS):
                found.append(("type", path + name))
    return found


def decode_race(raw: bytes) -> Race:
    """Decode one race.

    Raises:
        RowUnreadable: it has no identity, or its events are present but no list, which is not the same as none.
    """
    race = _decode(_race, Race, raw, identity="race_id", essential="events")
    if race.events == {}:
        raise RowUnreadable("race: events cannot be read (an empty object is no list)", race.race_id)
    return race


def decode_event(raw: bytes) -> Event:
    """Decode one event.

    Raises:
        RowUnreadable: it has no identity.
    """
    event = _decode(_event, Event, raw, identity="event_id")
    try:
        event.sub_event_ids = _ids(event.sub_event_ids)
    except ValueError:
        event.sub_event_ids = None
        event.faults.append("sub_event_ids: not a list of numbers")
    return event


def decode_events(race: Race) -> tuple[list[Event], list[str]]:
    """Return a race's events, and one sentence for each that cannot be read."""
    events, unreadable = [], []
    for raw in rows_of(race.events):
        try:
            events.append(decode_event(bytes(raw)))
        except RowUnreadable as error:
            unreadable.append(f"event of race {race.race_id}: {error}")
    return events, unreadable


def _ids(sent: list[int] | dict[int, int] | str | int | None) -> list[int] | None:
    """Return ids that arrived as a list, as an object with numeric keys or as text with commas."""
    if isinstance(sent, dict):
        return list(sent.values())
    if isinstance(sent, str):
        return [int(part) for part in plain(sent).split(",") if part.strip()]
    return [sent] if isinstance(sent, int) else sent


def members_of(raw: bytes) -> dict[str, bytes]:
    """Return the members of a JSON object, each undecoded.

    Raises:
        RowUnreadable: it is no object, or malformed.
    """
    try:
        return {name: bytes(member) for name, member in _object.decode(raw).items()}
    except msgspec.ValidationError:
        raise RowUnreadable("not an object") from None
    except msgspec.DecodeError as error:
        raise RowUnreadable(f"malformed ({_brief(error)})") from None


def _decode(decoder: "msgspec.json.Decoder[T]", kind: type[T], raw: bytes, *, identity: str, essential: str = "") -> T:
    what = kind.__name__.lower()
    if _depth(raw) > MAX_NESTING:
        raise RowUnreadable(f"{what} is nested deeper than {MAX_NESTING} levels")
    faults: list[str] = []
    try:
        # msgspec checks only the text that it keeps, PostgreSQL checks all of it.
        raw.decode()
        decoded = decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # The fast path reports only the first fault. The slow one reads field by field and keeps the rest.
        raw, faults = repair_json(raw)
        try:
            decoded = cast(T, _salvage(kind, raw, faults, identity=identity, essential=essential))
        except RowUnreadable as error:
            raise RowUnreadable(f"{what}: {error}", error.identity) from None
    number = getattr(decoded, identity)
    if not 0 < number < 2**63 and not (kind is Registration and number == TEMPLATE_REGISTRATION_ID):
        raise RowUnreadable(f"{what}: {identity} {str(number)[:30]} is out of range")
    object_ = cast(Any, decoded)
    object_.raw = raw
    object_.faults = faults
    if kind is Registration:
        object_.drift = _find_drift(raw)
    return decoded


def _salvage(
    kind: type[Any], raw: bytes, faults: list[str], *, identity: str = "", essential: str = "", path: str = ""
) -> Any:
    """Decode `raw` as a `kind`, each field separately. Fields that cannot be read are left out and named in `faults`."""
    sent = members_of(raw)
    members: dict[str, Any] = {}
    for name, type_ in _members(kind):
        if name not in sent:
            continue
        try:
            if name == "user" and sent[name] not in _NOBODY:
                members[name] = _salvage(User, sent[name], faults, path="user.")
            else:
                blanks: Sequence[object] = (
                    () if name in (identity, essential) else ("", []) if name == "address" else ("",)
                )
                members[name] = _member(sent[name], type_, blanks)
        except (msgspec.DecodeError, RowUnreadable) as error:
            if name in (identity, essential):
                raise RowUnreadable(f"{name} cannot be read ({_brief(error)})", members.get(identity)) from None
            faults.append(f"{path}{name}: {_brief(error)}")
    if identity and identity not in members:
        raise RowUnreadable(f"{identity} is missing")
    return kind(**members)


def _member(raw: bytes, type_: Any, blanks: Sequence[object]) -> Any:
    """Return one field, read as its type if that needs no guess, or None for one of `blanks`, which is how PHP sends nothing.

    Raises:
        DecodeError: it cannot be read.
    """
    try:
        return msgspec.json.decode(raw, type=type_, strict=False)
    except msgspec.ValidationError:
        value = msgspec.json.decode(raw)
        if isinstance(value, str):
            value = plain(value)
        return None if value in blanks else msgspec.convert(value, type_, strict=False)


def _members(kind: type[Any]) -> Sequence[tuple[str, Any]]:
    return [(member.name, member.type) for member in msgspec.structs.fields(kind) if member.name not in _LOCAL_FIELDS]


_KNOWN = frozenset(name for name, _ in _members(StrictRegistration))
_KNOWN_OF_USER = frozenset(name for name, _ in _members(StrictUser))
_CONTAINERS = frozenset({"user", "address"})
_ANY_TYPE = frozenset(name for name, type_ in _members(StrictRegistration) if Raw in getattr(type_, "__args__", ()))
_BLANK = frozenset({b"null", b'""', b"[]", b"{}"})


def _depth(raw: bytes) -> int:
    """Return the levels of nesting, exact only where it matters: a row cannot be deeper than it has opening brackets."""
    opened = raw.count(b"[") + raw.count(b"{")
    if opened <= MAX_NESTING:
        return opened
    depth = deepest = 0
    for match in _BRACKET.finditer(raw):
        if match[0] in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in (b"]", b"}"):
            depth -= 1
    return deepest


def _brief(error: Exception) -> str:
    return str(error).split(" - at ")[0][:200]
