"""Convert RunSignup's registrations to the warehouse's rows.

A field that does not fit its column becomes NULL and is named in the faults. The payload stored beside it still has what
was received.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import UNSET

from rsu_pipeline.runsignup import values
from rsu_pipeline.runsignup.payloads import Registration, User
from rsu_pipeline.runsignup.text_repair import without_nul
from rsu_pipeline.sync import included_rows
from rsu_pipeline.warehouse.staging import StagedLine

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

T = TypeVar("T")

NULL = r"\N"
NULL_BYTES = NULL.encode()
RULES = b"3"
"""Version of the rules, part of every digest.

It is changed whenever `stage_registration` makes something else of the same row, or the way from a line to the table changes,
so that rows read by other rules are staged again. Since 3 the session's client encoding is certain: earlier rows may have been
stored with each character as several others, under a digest that is right.
"""
MAX_INDEXED_BYTES = 1000
"""Bytes that a field with an index of its own may have. PostgreSQL refuses entries of about 2,700 bytes."""
MAX_REMEMBERED_BYTES = 4096
"""Bytes of a row whose parts are cached, so that equal parts of the next row are not computed again. Few rows have 3,000."""
MAX_EPOCH = 253_402_300_799
"""The end of the year 9999, in Unix seconds."""

TEAM = ("team_id", "team_name", "team_type_id", "team_type", "team_gender", "team_bib_num")
MONEY = (
    "race_fee",
    "offline_payment_amount",
    "processing_fee",
    "processing_fee_paid_by_user",
    "processing_fee_paid_by_race",
    "partner_fee",
    "affiliate_profit",
    "extra_fees",
    "amount_paid",
)
ADDITIONAL = (
    "usatf_discount_additional_field",
    "giveaway",
    "giveaway_option_id",
    "fundraiser_id",
    "fundraiser_charity_id",
    "fundraiser_charity_name",
    "team_fundraiser_id",
    "multi_race_bundle_id",
    "imported",
)

_CLOCK = re.compile(r"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?", re.ASCII)
"""The time of day of a wall time whose parts can be cached separately."""
_ESCAPES = (("\\", r"\\"), ("\t", r"\t"), ("\n", r"\n"), ("\r", r"\r"), ("\x00", "\ufffd"))
_SPACES = ((b"\t", rb"\t"), (b"\n", rb"\n"), (b"\r", rb"\r"))
_ACTIVE = rb"\N" + b"\t" + rb"\N" + b"\t" + rb"\N"
"""The removal's cells of an active registration."""
_NOT_INCLUDED = b"\t".join([NULL_BYTES] * len(included_rows.COLUMNS))
"""The cells of a registration without fields that are sent on request."""
_NOBODY = User()
_MEMBERS = {
    "team": TEAM,
    "payment": MONEY,
    "discount": ("usatf_discount_amount_in_cents",),
    "additional": ADDITIONAL,
}
_team_of, _money_of, _additional_of = attrgetter(*TEAM), attrgetter(*MONEY), attrgetter(*ADDITIONAL)
_encode = msgspec.json.Encoder().encode


def stage_registration(row: Registration, race_id: int) -> tuple[StagedLine, list[str]]:
    """Return a registration as a line for staging, and its field errors."""
    faults = list(row.faults)
    user = row.user or _NOBODY
    payload = without_nul(row.raw)
    if has_nul := payload is not row.raw:
        faults.append("a NUL character was replaced")
    is_removed = row.removed_reason is not None
    removed_epoch = _removed_epoch(row, faults) if is_removed else None
    cells = (
        race_id,
        _number("event_id", row.event_id, faults),
        row.registration_id,
        _number("user_id", user.user_id, faults),
        user.first_name,
        user.middle_name,
        user.last_name,
        _indexed("email", user.email, faults),
        _parsed("dob", user.dob, _iso_date, faults),
        user.gender,
        user.phone,
        user.profile_image_url,
        _indexed("bib_num", row.bib_num, faults),
        row.chip_num,
        _number("age", row.age, faults, low=0, limit=2**31),
        _parsed("registration_date", row.registration_date, _iso_time, faults),
        _epoch("last_modified", removed_epoch if is_removed else row.last_modified, faults),
    )
    json = _json(
        (
            b"{%b}" % _remembered(_texts, payload)("team", _team_of(row))[1:],
            b"{%b}" % _payment(row, payload, faults)[1:],
            b"{%b}" % _additional(row, payload, faults)[1:],
            payload,
        ),
        has_nul,
    )
    included = _included(row, has_nul)
    address = NULL_BYTES if user.address is None else _json((_encode(user.address),), has_nul)
    tail = _ACTIVE
    if is_removed or row.last_modified_ts is not None or row.new_registration_id is not None:
        pointer = _number("new_registration_id", row.new_registration_id, faults)
        tail = _joined((row.removed_reason, _epoch("last_modified_ts", removed_epoch, faults), pointer))
    return b"\t".join((_joined(cells), address, json, included, tail)), faults


def _included(row: Registration, has_nul: bool) -> bytes:
    """Return the cells of the fields that are sent on request."""
    found = included_rows.read_included(row)
    if found is included_rows.NOTHING:
        return _NOT_INCLUDED
    if found.unread:
        row.drift += tuple(("type" if name in included_rows.DOCUMENTED else "form", name) for name in found.unread)
    lists = (NULL_BYTES if cell is None else _json((cell,), has_nul) for cell in found.json)
    return b"\t".join((_joined(found.values), *lists))


def compute_digest(raw: bytes) -> int:
    """Return 64 bits that identify a row as received, and the rules by which it is read."""
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8, person=RULES).digest(), "big", signed=True)


def _joined(cells: tuple[object, ...]) -> bytes:
    """Return cells of a COPY line that are no JSON."""
    joined = "\t".join([NULL if cell is None else cell if type(cell) is str else str(cell) for cell in cells])
    # Checked as a whole: hardly any line has a character that COPY interprets.
    if (
        joined.count("\\") != cells.count(None)
        or joined.count("\t") != len(cells) - 1
        or "\n" in joined
        or "\r" in joined
        or "\x00" in joined
    ):
        joined = "\t".join([NULL if cell is None else _escaped(str(cell)) for cell in cells])
    return joined.encode()


def _escaped(text: str) -> str:
    for character, escape in _ESCAPES:
        if character in text:
            text = text.replace(character, escape)
    return text


def _json(texts: tuple[bytes, ...], has_nul: bool) -> bytes:
    """Return JSON texts as cells. A NUL character, which PostgreSQL's JSON cannot store, becomes U+FFFD."""
    if has_nul:
        texts = tuple(map(without_nul, texts))
    joined = b"\t".join(texts)
    # Checked as a whole, as above. Outside its strings JSON may have these, between one field and the next.
    if joined.count(b"\t") != len(texts) - 1 or b"\n" in joined or b"\r" in joined:
        return b"\t".join([_spaced(text.replace(b"\\", rb"\\")) for text in texts])
    return joined.replace(b"\\", rb"\\")


def _spaced(json: bytes) -> bytes:
    for character, escape in _SPACES:
        json = json.replace(character, escape)
    return json


def _number(name: str, value: int | None, faults: list[str], *, low: int = -(2**63), limit: int = 2**63) -> int | None:
    if value is None or low <= value < limit:
        return value
    faults.append(f"{name}: out of range")
    return None


def _indexed(name: str, value: object, faults: list[str]) -> object:
    """Return the text of a column with an index of its own. A blank one is none."""
    if value is None or value == "":
        return value if name == "email" else None
    text = _bib(str(value)) if name == "bib_num" else str(value)
    if len(text) * 4 > MAX_INDEXED_BYTES and len(text.encode()) > MAX_INDEXED_BYTES:
        faults.append(f"{name}: longer than {MAX_INDEXED_BYTES} bytes")
        return None
    return text or None


def _bib(text: str) -> str:
    """Return a bib that is a number as its digits, and any other as received, except a blank one.

    The number may be in any script, with white space around it or a fraction of zeros.
    """
    if text.isascii() and text.isdigit():
        return text
    number = values.plain(text).removesuffix(".0").removesuffix(".00")
    return number if number.isascii() and number.isdigit() else text if text.strip() else ""


def _epoch(name: str, value: int | str | None, faults: list[str]) -> int | None:
    if isinstance(value, str):
        value = _seconds(values.plain(value))
    if value is None or 0 <= value <= MAX_EPOCH:
        return value
    faults.append(f"{name}: not a time in Unix seconds")
    return None


def _seconds(text: str) -> int | None:
    """Return Unix seconds that arrived as text, digits or Eastern wall time. None for nothing, -1 for an invalid one."""
    if text.isdigit():
        return int(text) if len(text) <= len(str(MAX_EPOCH)) else -1
    if values.is_blank_date(text):
        return None
    try:
        return int(values.eastern_time(text).timestamp())
    except ValueError:
        return -1


def _parsed(name: str, value: str | int | None, parse: Callable[[str], str], faults: list[str]) -> str | None:
    if not value or values.is_blank_date(text := str(value)):
        return None
    try:
        return parse(text)
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return None


@lru_cache(maxsize=8192)
def _iso_date(text: str) -> str:
    return values.date(text).isoformat()


def _iso_time(text: str) -> str:
    """Return Eastern wall time. As for the instant that PostgreSQL computes from it, the years 1 and 9999 are refused."""
    day, _, clock = text.partition(" ")
    if "/" in day and _CLOCK.fullmatch(clock):
        # Hardly two registrations share a minute of all years. Days and minutes of a day are repeated often.
        return f"{_iso_wall(day)[:10]} {_iso_wall(f'1/1/2000 {clock}')[11:]}"
    return _iso_wall(text)


@lru_cache(maxsize=16384)
def _iso_wall(text: str) -> str:
    wall = values.wall_time(text, values.EASTERN)
    if not dt.MINYEAR < wall.year < dt.MAXYEAR:
        raise ValueError("time out of range")
    return wall.isoformat(" ")


def _removed_epoch(row: Registration, faults: list[str]) -> int | None:
    """Return when the registration was removed: the epoch field, else the Eastern text beside it."""
    if row.last_modified_ts is not None:
        return row.last_modified_ts
    if isinstance(row.last_modified, str):
        try:
            return int(values.eastern_time(row.last_modified).timestamp())
        except ValueError as error:
            faults.append(f"last_modified: {error}")
            return None
    return row.last_modified


def _payment(row: Registration, payload: bytes, faults: list[str]) -> bytes:
    """Return JSON fields with amounts as exact numbers. Null stays null and absent stays absent."""
    members, wrong = _remembered(_priced, payload)("payment", _money_of(row))
    if wrong:
        faults += wrong
    if row.rsu_transaction_id is not UNSET:
        members += b',"rsu_transaction_id":' + _encode(row.rsu_transaction_id)
    if row.transaction_id is not UNSET:
        members += b',"transaction_id":' + _encode(row.transaction_id)
    return members


def _additional(row: Registration, payload: bytes, faults: list[str]) -> bytes:
    # In dollars, in spite of its name.
    members, wrong = _remembered(_priced, payload)("discount", (row.usatf_discount_amount_in_cents,))
    if wrong:
        faults += wrong
    members += _remembered(_texts, payload)("additional", _additional_of(row))
    if row.multi_race_bundle is not UNSET:
        members += b',"multi_race_bundle":' + row.multi_race_bundle
    if row.signed_waiver_details is not UNSET:
        members += b',"signed_waiver_details":' + row.signed_waiver_details
    return members


def _remembered(work: "_lru_cache_wrapper[T]", payload: bytes) -> Callable[..., T]:
    """Return `work` with its cache, or without it for a row so large that thousands of its kind would fill the memory."""
    return work if len(payload) <= MAX_REMEMBERED_BYTES else work.__wrapped__


# Many rows have the same fees, teams and options.
@lru_cache(maxsize=8192)
def _priced(kind: str, amounts: tuple[Any, ...]) -> tuple[bytes, list[str]]:
    """Return JSON fields of amounts, a comma before each, and their field errors."""
    faults: list[str] = []
    members = [
        f',"{name}":{_amount(name, amount, faults)}'
        for name, amount in zip(_MEMBERS[kind], amounts, strict=True)
        if amount is not UNSET
    ]
    return "".join(members).encode(), faults


@lru_cache(maxsize=8192)
def _texts(kind: str, members: tuple[Any, ...]) -> bytes:
    """Return JSON fields, a comma before each. Absent ones are left out."""
    return b"".join(
        b',"%b":%b' % (name.encode(), _encode(value))
        for name, value in zip(_MEMBERS[kind], members, strict=True)
        if value is not UNSET
    )


def _amount(name: str, amount: str | int | float | None, faults: list[str]) -> str:
    if amount is None:
        return "null"
    try:
        return format(values.money(str(amount)), "f")
    except values.OtherCurrencyError as error:
        faults.append(f"{name}: {error}")
        return _encode(str(amount)).decode()
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return "null"
