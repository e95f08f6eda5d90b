"""Convert RunSignup's registrations to the warehouse's rows, as `registration_columns` declares them.

The declaration is compiled to getters when the module is loaded, so that a row costs as much as if each column were written out.
A field that does not fit its column becomes NULL and is named in the faults. The payload stored beside it still has what
was received.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from msgspec import UNSET

from rsu_pipeline.eastern import EASTERN
from rsu_pipeline.runsignup import values
from rsu_pipeline.runsignup.payloads import Registration, User
from rsu_pipeline.runsignup.text_repair import without_nul
from rsu_pipeline.sync import included_rows
from rsu_pipeline.warehouse.registration_columns import CONTENT, REMOVAL, Column, Kind, Parser, field_name, members_of
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

_CLOCK = re.compile(r"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?", re.ASCII)
"""The time of day of a wall time whose parts can be cached separately."""
_ESCAPES = (("\\", r"\\"), ("\t", r"\t"), ("\n", r"\n"), ("\r", r"\r"), ("\x00", "\ufffd"))
_SPACES = ((b"\t", rb"\t"), (b"\n", rb"\n"), (b"\r", rb"\r"))
_ACTIVE = b"\t".join([NULL_BYTES] * len(REMOVAL))
"""The removal's cells of an active registration."""
_NOT_INCLUDED = b"\t".join([NULL_BYTES] * len(included_rows.COLUMNS))
"""The cells of a registration without fields that are sent on request."""
_NO_VALUES = b"\t".join([NULL_BYTES] * len(included_rows.NOTHING.values))
_NOBODY = User()
_encode = msgspec.json.Encoder().encode


def stage_registration(row: Registration, race_id: int) -> tuple[StagedLine, list[str]]:
    """Return a registration as a line for staging, and its field errors."""
    faults = list(row.faults)
    payload = without_nul(row.raw)
    if has_nul := payload is not row.raw:
        faults.append("a NUL character was replaced")
    sent = row
    if row.removed_reason is not None:
        # What the removed feed calls the last change is the removal.
        removed_epoch = _removed_epoch(row, faults)
        row = msgspec.structs.replace(row, last_modified=removed_epoch, last_modified_ts=removed_epoch)
    elif row.last_modified_ts is not None:
        row = msgspec.structs.replace(row, last_modified_ts=None)
    line = _build_line(row, race_id, payload, has_nul, faults)
    sent.drift = row.drift
    return line, faults


def _included(row: Registration, has_nul: bool) -> bytes:
    """Return the cells of the fields that are sent on request."""
    found = included_rows.read_included(row)
    if found is included_rows.NOTHING:
        return _NOT_INCLUDED
    if found.unread:
        row.drift += tuple(("type" if name in included_rows.DOCUMENTED else "form", name) for name in found.unread)
    single = _NO_VALUES if found.values is included_rows.NOTHING.values else _joined(found.values)
    return b"\t".join([single, *[NULL_BYTES if cell is None else _json((cell,), has_nul) for cell in found.json]])


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


def _number(low: int, limit: int, name: str, value: int, faults: list[str]) -> int | None:
    if low <= value < limit:
        return value
    faults.append(f"{name}: out of range")
    return None


def _indexed(name: str, value: object, faults: list[str]) -> str | None:
    """Return the text of a column with an index of its own."""
    text = str(value)
    if len(text) * 4 > MAX_INDEXED_BYTES and len(text.encode()) > MAX_INDEXED_BYTES:
        faults.append(f"{name}: longer than {MAX_INDEXED_BYTES} bytes")
        return None
    return text


def _indexed_bib(name: str, value: object, faults: list[str]) -> str | None:
    return _indexed(name, _bib(str(value)), faults) or None


def _bib(text: str) -> str:
    """Return a bib that is a number as its digits, and any other as received, except a blank one.

    The number may be in any script, with white space around it or a fraction of zeros.
    """
    if text.isascii() and text.isdigit():
        return text
    number = values.plain(text).removesuffix(".0").removesuffix(".00")
    return number if number.isascii() and number.isdigit() else text if text.strip() else ""


def _epoch(name: str, value: int | str, faults: list[str]) -> int | None:
    seconds = _seconds(values.plain(value)) if isinstance(value, str) else value
    if seconds is None or 0 <= seconds <= MAX_EPOCH:
        return seconds
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


def _parsed(parse: Callable[[str], str], name: str, value: str | int, faults: list[str]) -> str | None:
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
    wall = values.wall_time(text, EASTERN)
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


def _remembered(work: "_lru_cache_wrapper[T]", payload: bytes) -> Callable[..., T]:
    """Return `work` with its cache, or without it for a row so large that thousands of its kind would fill the memory."""
    return work if len(payload) <= MAX_REMEMBERED_BYTES else work.__wrapped__


# Many rows have the same fees, teams and options.
@lru_cache(maxsize=8192)
def _priced(column: str, amounts: tuple[Any, ...]) -> tuple[bytes, list[str]]:
    """Return JSON fields of amounts, a comma before each, and their field errors."""
    faults: list[str] = []
    members = [
        f',"{name}":{_amount(name, amount, faults)}'
        for name, amount in zip(_AMOUNTS[column], amounts, strict=True)
        if amount is not UNSET
    ]
    return "".join(members).encode(), faults


@lru_cache(maxsize=8192)
def _texts(column: str, members: tuple[Any, ...]) -> bytes:
    """Return JSON fields, a comma before each. Absent ones are left out."""
    return b"".join(
        b',"%b":%b' % (name.encode(), _encode(value))
        for name, value in zip(_TEXTS[column], members, strict=True)
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


def _compile_builder() -> Callable[[Registration, int, bytes, bool, list[str]], bytes]:
    """Return the function that returns the line of a row of a race, as it would be written by hand for the declared columns.

    It is compiled when the module is loaded, as dataclasses compile their methods. Loops over the declaration took a quarter
    of a row's time more. Its source is made of this program's own declaration, never of input.
    """
    of = {parser: [column for column in CONTENT if column.parser is parser] for parser in Parser}
    cells = [column for column in CONTENT if column.parser in (Parser.RACE, Parser.TEXT, *_PARSERS)]
    json = "".join(f"b'{{%b}}' % {column.name}[1:], " for column in of[Parser.MEMBERS])
    lines = [
        "user = row.user or _NOBODY",
        f"cells = _joined(({', '.join(map(_cell, cells))}))",
        *(f"{column.name} = {_object(column)}" for column in of[Parser.OBJECT]),
        *(line for column in of[Parser.MEMBERS] for line in _member_lines(column.name)),
        f"json = _json(({json}payload), has_nul)",
        "included = _included(row, has_nul)",
        "if row.removed_reason is None and row.new_registration_id is None: removal = _ACTIVE",
        f"else: removal = _joined(({', '.join(map(_cell, REMOVAL))}))",
        f"return b'\\t'.join((cells, {''.join(f'{column.name}, ' for column in of[Parser.OBJECT])}json, included, removal))",
    ]
    source = "\n    ".join(("def build_line(row, race_id, payload, has_nul, faults):", *lines))
    names = globals() | {parser.name: function for parser, function in _PARSERS.items()}
    exec(compile(source, "<registration_columns>", "exec"), names)  # noqa: S102
    return cast(Callable[[Registration, int, bytes, bool, list[str]], bytes], names["build_line"])


def _cell(column: Column) -> str:
    """Return the expression for a column's cell: its field, parsed unless it is None."""
    if column.parser is Parser.RACE:
        return "race_id"
    field = column.source if "." in column.source else f"row.{column.source}"
    if column.parser not in _PARSERS:
        return field
    return f"None if (sent := {field}) is None else {column.parser.name}({field_name(column)!r}, sent, faults)"


def _object(column: Column) -> str:
    """Return the expression for the cell of a JSON object that may be NULL."""
    return f"NULL_BYTES if (sent := {column.source}) is None else _json((_encode(sent),), has_nul)"


def _member_lines(column: str) -> list[str]:
    """Return the statements that collect the members of a JSON column, each after a comma. Absent ones are left out."""
    lines = [f"{column} = b''"]
    if _AMOUNTS[column]:
        lines += [
            f"{column}, wrong = _remembered(_priced, payload)({column!r}, {_values(_AMOUNTS[column])})",
            "if wrong: faults += wrong",
        ]
    if _TEXTS[column]:
        lines.append(f"{column} += _remembered(_texts, payload)({column!r}, {_values(_TEXTS[column])})")
    for kind, value in ((Kind.UNIQUE, "_encode(sent)"), (Kind.JSON, "sent")):
        lines += [
            f"""if (sent := row.{name}) is not UNSET: {column} += b',"{name}":' + {value}"""
            for name in members_of(column, kind)
        ]
    return lines


def _values(names: Sequence[str]) -> str:
    """Return the expression for a tuple of a row's fields."""
    return f"({' '.join(f'row.{name},' for name in names)})"


_AMOUNTS = {column.name: members_of(column.name, Kind.AMOUNT) for column in CONTENT}
_TEXTS = {column.name: members_of(column.name, Kind.TEXT) for column in CONTENT}
_PARSERS: dict[Parser, Callable[[str, Any, list[str]], object]] = {
    Parser.BIGINT: partial(_number, -(2**63), 2**63),
    Parser.AGE: partial(_number, 0, 2**31),
    Parser.EMAIL: _indexed,
    Parser.BIB: _indexed_bib,
    Parser.DATE: partial(_parsed, _iso_date),
    Parser.WALL_TIME: partial(_parsed, _iso_time),
    Parser.EPOCH: _epoch,
}
_build_line = _compile_builder()
