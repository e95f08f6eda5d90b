"""RunSignup's payloads as typed objects.

A payload is decoded leniently and honestly: numbers may arrive as text, keys may be missing, unknown keys stay in the raw
bytes that every object keeps (as received, except for invalid characters, see `mending`). A field that cannot be read
becomes None and is named in `faults`, so that one bad birth date does not cost a runner the bib. A row without readable
identity raises `RowUnreadable`. PHP's forms of arrays are read: a list as an object with numeric keys, nothing as an
empty list or text.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from rsu_pipeline.runsignup.paging import TEMPLATE_REGISTRATION_ID
from rsu_pipeline.runsignup.text_repair import repair_json
from rsu_pipeline.runsignup.values import plain

MAX_NESTING = 200
"""Levels of nesting that a row may have. Decoders, encoders and PostgreSQL each give up at depths of their own."""

DriftKind = Literal["unknown", "form", "type"]
"""As in `warehouse.schema_drift`."""
Text = str | int | float | bool | None
"""Text that some layouts send as a number."""
Time = str | int | None
"""A wall time. Some layouts send Unix seconds."""
Rows = list[Raw] | dict[int, Raw]
"""A list. PHP sends one whose numbers have gaps as an object with numeric keys."""
MaybeMoney = str | int | float | UnsetType | None
"""An amount such as `"$1,234.50"`. Null and absent are different."""

T = TypeVar("T", bound=msgspec.Struct)


class RowUnreadable(ValueError):
    """A row whose identity cannot be read. The text names the field and the reason.

    `identity` is the row's own id if another field fails.
    """

    def __init__(self, reason: str, identity: int | None = None) -> None:
        self.identity = identity
        super().__init__(reason)


class User(msgspec.Struct, kw_only=True, gc=False):
    """The person of a registration."""

    user_id: int | None = None
    first_name: Text = None
    middle_name: Text = None
    last_name: Text = None
    email: Text = None
    address: dict[str, Any] | None = None
    dob: str | None = None
    gender: Text = None
    phone: Text = None
    profile_image_url: Text = None


class Registration(msgspec.Struct, kw_only=True, gc=False):
    """One row of `participants` or of `removed-participants`.

    `event_id` is the row's own, else its envelope's. `last_modified` is Unix seconds. `registration_date` is Eastern
    wall time. `drift` has the fields that are unknown, or whose type is another than the known one.
    """

    registration_id: int
    event_id: int | None = None
    user: User | None = None
    rsu_transaction_id: int | UnsetType | None = UNSET
    transaction_id: Text | UnsetType = UNSET
    bib_num: int | str | None = None
    chip_num: Text = None
    age: int | None = None
    registration_date: Time = None
    team_id: int | UnsetType | None = UNSET
    team_name: Text | UnsetType = UNSET
    team_type_id: int | UnsetType | None = UNSET
    team_type: Text | UnsetType = UNSET
    team_gender: Text | UnsetType = UNSET
    team_bib_num: Text | UnsetType = UNSET
    last_modified: int | str | None = None
    last_modified_ts: int | None = None
    imported: Text | UnsetType = UNSET
    race_fee: MaybeMoney = UNSET
    offline_payment_amount: MaybeMoney = UNSET
    processing_fee: MaybeMoney = UNSET
    processing_fee_paid_by_user: MaybeMoney = UNSET
    processing_fee_paid_by_race: MaybeMoney = UNSET
    partner_fee: MaybeMoney = UNSET
    affiliate_profit: MaybeMoney = UNSET
    extra_fees: MaybeMoney = UNSET
    amount_paid: MaybeMoney = UNSET
    usatf_discount_amount_in_cents: MaybeMoney = UNSET
    usatf_discount_additional_field: Text | UnsetType = UNSET
    giveaway: Text | UnsetType = UNSET
    giveaway_option_id: int | UnsetType | None = UNSET
    fundraiser_id: Text | UnsetType = UNSET
    fundraiser_charity_id: Text | UnsetType = UNSET
    fundraiser_charity_name: Text | UnsetType = UNSET
    team_fundraiser_id: Text | UnsetType = UNSET
    multi_race_bundle_id: Text | UnsetType = UNSET
    multi_race_bundle: Raw | UnsetType = UNSET
    signed_waiver_details: Raw | UnsetType = UNSET
    question_responses: Raw | UnsetType = UNSET
    participant_addons: Raw | UnsetType = UNSET
    memberships: Raw | UnsetType = UNSET
    corral: Raw | UnsetType = UNSET
    corral_name: Raw | UnsetType = UNSET
    wave: Raw | UnsetType = UNSET
    wave_name: Raw | UnsetType = UNSET
    est_finish: Raw | UnsetType = UNSET
    est_finish_time: Raw | UnsetType = UNSET
    estimated_finish: Raw | UnsetType = UNSET
    estimated_finish_time: Raw | UnsetType = UNSET
    checkin: Raw | UnsetType = UNSET
    checkin_data: Raw | UnsetType = UNSET
    checkin_time: Raw | UnsetType = UNSET
    checkin_ts: Raw | UnsetType = UNSET
    coupon: Raw | UnsetType = UNSET
    coupon_code: Raw | UnsetType = UNSET
    coupon_details: Raw | UnsetType = UNSET
    coupon_discount: Raw | UnsetType = UNSET
    corp_team: Raw | UnsetType = UNSET
    corp_team_name: Raw | UnsetType = UNSET
    registration_notes: Raw | UnsetType = UNSET
    notes: Raw | UnsetType = UNSET
    removed_reason: str | None = None
    new_registration_id: int | None = None
    raw: bytes = b""
    faults: list[str] = msgspec.field(default_factory=list)
    drift: tuple[tuple[DriftKind, str], ...] = ()


class _StrictUser(User, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A person without unknown fields."""

    is_anonymous: Raw | UnsetType = UNSET


class _StrictRegistration(Registration, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A registration without unknown fields, with those that are known and not read."""

    user: _StrictUser | None = None
    corp_team_id: Raw | UnsetType = UNSET


class Event(msgspec.Struct, kw_only=True):
    """One event of a race. Its times are wall times in the race's zone."""

    event_id: int
    race_event_days_id: int | None = None
    name: Text = None
    details: Text = None
    start_time: Time = None
    end_time: Time = None
    age_calc_base_date: str | None = None
    registration_opens: Time = None
    event_type: Text = None
    distance: Text = None
    volunteer: Text = None
    require_dob: Text = None
    require_phone: Text = None
    giveaway: Text = None
    sub_event_ids: list[int] | dict[int, int] | str | int | None = None
    raw: bytes = b""
    faults: list[str] = msgspec.field(default_factory=list)


class Race(msgspec.Struct, kw_only=True):
    """One race.

    `last_date` … `next_end_date` are calendar dates of the race. `created` and `last_modified` are Eastern wall times to the
    minute, and refer to the race record, not to its participants.
    """

    race_id: int
    name: Text = None
    last_date: str | None = None
    last_end_date: str | None = None
    next_date: str | None = None
    next_end_date: str | None = None
    is_draft_race: Text = None
    is_private_race: Text = None
    is_registration_open: Text = None
    created: Time = None
    last_modified: Time = None
    description: Text = None
    url: Text = None
    external_race_url: Text = None
    external_results_url: Text = None
    fb_page_id: Text = None
    fb_event_id: Text = None
    address: dict[str, Any] | None = None
    timezone: str | None = None
    logo_url: Text = None
    real_time_notifications_enabled: Text = None
    events: Rows | None = None
    raw: bytes = b""
    faults: list[str] = msgspec.field(default_factory=list)

    def decoded_events(self) -> tuple[list[Event], list[str]]:
        """Return the race's events, and one sentence for each that cannot be read."""
        events, unreadable = [], []
        for raw in rows_of(self.events):
            try:
                events.append(decode_event(bytes(raw)))
            except RowUnreadable as error:
                unreadable.append(f"event of race {self.race_id}: {error}")
        return events, unreadable


def rows_of(rows: Rows | None) -> list[Raw]:
    """Return the members of a list, in any of its forms, in the order received."""
    return list(rows.values()) if isinstance(rows, dict) else rows or []


_LOCAL_FIELDS = frozenset({"raw", "faults", "drift"})
_registration = msgspec.json.Decoder(Registration, strict=False)
_strict_registration = msgspec.json.Decoder(_StrictRegistration, strict=False)
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


_KNOWN = frozenset(name for name, _ in _members(_StrictRegistration))
_KNOWN_OF_USER = frozenset(name for name, _ in _members(_StrictUser))
_CONTAINERS = frozenset({"user", "address"})
_ANY_TYPE = frozenset(name for name, type_ in _members(_StrictRegistration) if Raw in getattr(type_, "__args__", ()))
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
