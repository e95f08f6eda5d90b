"""Convert the optional fields of a registration to cells of its staged row.

RunSignup documents the flags that request them, and no shape of what they bring. Questions and add-ons are known from public
clients. Everything else is read in each form that seems likely, and what has no known form is left in the payload and reported
as schema drift.
"""

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw

from rsu_pipeline.runsignup import values
from rsu_pipeline.runsignup.payloads import Registration, Text
from rsu_pipeline.runsignup.text_repair import repair_json
from rsu_pipeline.warehouse.registration_columns import INCLUDED

COLUMNS = [column.name for column in INCLUDED]
"""Columns in the order of a staged line. The last three are JSON."""
MAX_EPOCH = 253_402_300_799

_CLOCK = re.compile(r"(\d{1,3}):([0-5]\d):([0-5]\d)(?:\.\d+)?", re.ASCII)
_SECONDS = re.compile(r"\d{1,6}(?:\.\d+)?", re.ASCII)
_BLANK: tuple[Any, ...] = (None, "", [], {})

T = TypeVar("T")
_Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None
"""A number that a view can show as bigint."""


class _Answer(msgspec.Struct, gc=False):
    question_id: _Id = None
    question_text: Text = None
    response: Any = None
    responses: Any = None


class _Addon(msgspec.Struct, gc=False):
    addon_id: _Id = None
    addon_name: Text = None
    quantity: int | float | str | None = None
    amount: int | float | str | None = None


class _Membership(msgspec.Struct, gc=False):
    membership_id: _Id = None
    membership_setting_id: _Id = None
    membership_name: Text = None
    name: Text = None
    member_number: Text = None
    membership_number: Text = None
    member_id: Text = None
    expiration_date: Text = None
    expires: Text = None
    price_adjustment: int | float | str | None = None


class _AnswerRow(msgspec.Struct, gc=False):
    """An answer as it is stored. The view participant_answers names its columns so."""

    question_id: int | None
    question: Text
    answer: str | None


@dataclass(frozen=True)
class _Value:
    """A column of one value: the members that may have it, the first that is not blank, and the keys if that is an object.

    A member in `objects` has it only if it is an object. Its text is another column's.
    """

    members: tuple[str, ...]
    keys: tuple[str, ...]
    parse: Callable[[Any], str]
    objects: tuple[str, ...] = ()


def _text(value: Any) -> str:
    if isinstance(value, bool | int | float | str):
        return str(value)
    raise ValueError("neither text nor number")


def _interval(value: Any) -> str:
    """Return a time such as 3:45:00, or seconds. Of 45:00 it is not known whether it has hours or minutes."""
    text = values.plain(_text(value))
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = map(int, match.groups())
        return f"{hours * 3600 + minutes * 60 + seconds} seconds"
    if _SECONDS.fullmatch(text):
        return f"{int(float(text))} seconds"
    raise ValueError("not a time such as 3:45:00")


def _instant(value: Any) -> str:
    """Return Unix seconds, or Eastern wall time, as an instant."""
    text = values.plain(_text(value))
    if text.isascii() and text.isdigit() and 0 < int(text[:13]) <= MAX_EPOCH:
        moment = dt.datetime.fromtimestamp(int(text), dt.UTC)
    else:
        moment = values.eastern_time(text)
    return moment.isoformat(" ")


def _money(value: Any) -> str:
    return format(values.money(_text(value)), "f")


_VALUES = {
    "corral": _Value(("corral", "corral_name"), ("corral_name", "name"), _text),
    "wave": _Value(("wave", "wave_name", "corral"), ("wave_name", "wave"), _text, ("corral",)),
    "estimated_finish": _Value(
        ("est_finish", "est_finish_time", "estimated_finish", "estimated_finish_time"),
        ("est_finish_time", "est_finish", "time"),
        _interval,
    ),
    "checked_in_at": _Value(
        ("checkin_ts", "checkin_data", "checkin", "checkin_time"), ("checkin_ts", "checkin_time"), _instant
    ),
    "coupon_code": _Value(("coupon_code", "coupon_details", "coupon"), ("coupon_code", "code"), _text),
    "coupon_discount": _Value(
        ("coupon_discount", "coupon_details", "coupon"),
        ("coupon_discount", "discount", "amount"),
        _money,
        ("coupon_details", "coupon"),
    ),
    "corporate_team": _Value(("corp_team_name", "corp_team"), ("corp_team_name", "name"), _text),
    "registration_notes": _Value(("registration_notes", "notes"), ("registration_notes", "notes", "note"), _text),
}
_ONE_MEMBER = frozenset(name for value in _VALUES.values() for name in value.members)
DOCUMENTED = frozenset({"question_responses", "participant_addons"})
"""Members whose form is known from public clients."""
_LISTS = ("question_responses", "participant_addons", "memberships")
_MEMBERS = (*sorted(_ONE_MEMBER), *_LISTS)
_members_of = attrgetter(*_MEMBERS)
_answers = msgspec.json.Decoder(list[_Answer] | dict[int, _Answer], strict=False)
_addons = msgspec.json.Decoder(list[_Addon] | dict[int, _Addon], strict=False)
_memberships = msgspec.json.Decoder(list[_Membership] | dict[int, _Membership], strict=False)
_encode = msgspec.json.Encoder().encode


class IncludedCells(NamedTuple):
    """The cells of a row's optional fields, None for NULL: values, then JSON. `unread` names members without a known form."""

    values: tuple[str | None, ...] = (None,) * len(_VALUES)
    json: tuple[bytes | None, ...] = (None,) * len(_LISTS)
    unread: tuple[str, ...] = ()


NOTHING = IncludedCells()


def read_included(row: Registration) -> IncludedCells:
    """Return the cells of a registration's optional fields."""
    sent = _members_of(row)
    if sent.count(UNSET) == len(sent):
        return NOTHING
    members: dict[str, Raw] = {name: member for name, member in zip(_MEMBERS, sent, strict=True) if member is not UNSET}
    unread: list[str] = []
    cells = NOTHING.values
    if not _ONE_MEMBER.isdisjoint(members):
        cells = tuple([_value_of(column, members, unread) for column in _VALUES])
    lists = (
        _list_of("question_responses", members, _read_answers, unread),
        _list_of("participant_addons", members, _read_addons, unread),
        _list_of("memberships", members, _read_memberships, unread),
    )
    return IncludedCells(cells, lists, tuple(dict.fromkeys(unread)))


def _value_of(column: str, members: dict[str, Raw], unread: list[str]) -> str | None:
    for name in _VALUES[column].members:
        if name not in members:
            continue
        try:
            cell = _cell(column, name, bytes(members[name]))
        except (ValueError, msgspec.DecodeError):
            unread.append(name)
            continue
        if cell is not None:
            return cell
    return None


@lru_cache(maxsize=8192)
def _cell(column: str, name: str, raw: bytes) -> str | None:
    """Return the cell of a column's member, or None if that is blank or an object without the column's keys."""
    how, value = _VALUES[column], msgspec.json.decode(_valid(raw))
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, dict):
        value = next((value[key] for key in how.keys if value.get(key) not in _BLANK), None)
    elif name in how.objects:
        return None
    return None if value in _BLANK else how.parse(value)


def _list_of(name: str, members: dict[str, Raw], read: Callable[[bytes], list[Any]], unread: list[str]) -> bytes | None:
    if name not in members:
        return None
    raw = bytes(members[name])
    if raw in (b"null", b'""', b"[]"):
        return None
    try:
        return _encode(read(_valid(raw)))
    except (ValueError, msgspec.DecodeError):
        unread.append(name)
        return None


def _valid(raw: bytes) -> bytes:
    """Return JSON that a decoder accepts. Few texts have what must be repaired, and those have an escape or are not ASCII."""
    return raw if raw.isascii() and rb"\u" not in raw else repair_json(raw)[0]


def _items(found: "list[T] | dict[int, T]") -> list[T]:
    return list(found.values()) if isinstance(found, dict) else found


def _read_answers(raw: bytes) -> list[_AnswerRow]:
    rows: list[_AnswerRow] = []
    for one in _items(_answers.decode(raw)):
        number, question, answer = one.question_id, one.question_text, one.response
        if answer is None and one.responses:
            several = list(one.responses.values()) if isinstance(one.responses, dict) else one.responses
            answers = several if isinstance(several, list) else [several]
            rows += [_AnswerRow(number, question, _as_text(one_of_them)) for one_of_them in answers]
        else:
            rows.append(_AnswerRow(number, question, answer if type(answer) is str else _as_text(answer)))
    return rows


def _as_text(value: Any) -> str | None:
    """Return an answer as text. One that is a list or an object is returned as JSON."""
    if value is None or isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else _encode(value).decode()


@lru_cache(maxsize=4096)
def _amount(value: int | float | str | None) -> Raw | None:
    """Return an exact number. A blank one is none."""
    return None if value in _BLANK else Raw(_money(value).encode())


def _read_addons(raw: bytes) -> list[dict[str, Any]]:
    return [
        {
            "addon_id": one.addon_id,
            "addon": one.addon_name,
            "quantity": _amount(one.quantity),
            "amount": _amount(one.amount),
        }
        for one in _items(_addons.decode(raw))
    ]


def _read_memberships(raw: bytes) -> list[dict[str, Any]]:
    return [
        {
            "membership_id": one.membership_id if one.membership_id is not None else one.membership_setting_id,
            "membership": _first(one.membership_name, one.name),
            "member_number": _first(one.member_number, one.membership_number, one.member_id),
            "expires_on": _day(_first(one.expiration_date, one.expires)),
            "price_adjustment": _amount(one.price_adjustment),
        }
        for one in _items(_memberships.decode(raw))
    ]


def _first(*found: Text) -> Text:
    return next((value for value in found if value not in _BLANK), None)


@lru_cache(maxsize=4096)
def _day(value: Text) -> str | None:
    text = "" if value is None else str(value)
    return None if values.is_blank_date(text) else values.date(text).isoformat()
