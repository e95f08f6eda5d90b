"""The wrappers around RunSignup's rows: error objects, the participants array, the races object.

A response with none of the known shapes is an error (`Cause.UNKNOWN_SHAPE`), never "no rows". A list may arrive as an object
with numeric keys, which is how PHP sends a list whose numbers have gaps.
"""

import re
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from msgspec import Raw

from rsu_pipeline.runsignup.api_errors import ApiError, Cause, cause_of_code
from rsu_pipeline.runsignup.payloads import Rows
from rsu_pipeline.runsignup.text_repair import repair_json, replace_lone_surrogates

T = TypeVar("T")

MAX_MEMBERS = 2_000_000
"""Members of all objects and arrays of a response together. A page of 2,500 registrations has about 150,000.

Each is an object in memory, many times its size in the response.
"""


class _Wrapper(msgspec.Struct):
    event_id: int | None = None
    participants: Rows | None = None


class _Element(msgspec.Struct):
    event: _Wrapper
    participants: Rows | None = None


class _Error(msgspec.Struct):
    error_code: int | None = None
    error_msg: object = None


class _RaceRow(msgspec.Struct):
    race: Raw


_elements = msgspec.json.Decoder(list[_Element] | dict[int, _Element], strict=False)
_race_rows = msgspec.json.Decoder(list[_RaceRow] | dict[int, _RaceRow] | None, strict=False)
_object = msgspec.json.Decoder(dict[str, Raw])
_error = msgspec.json.Decoder(_Error, strict=False)
_MARK = re.compile(rb"\A\s*(?:\xef\xbb\xbf\s*)+")
_NO_ERROR = (b"null", b"false", b"[]", b'""')
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


@dataclass
class EventRows:
    """The raw rows of one element of the array, in the order received. `event_id` is the wrapper's."""

    event_id: int | None
    rows: list[bytes] = field(default_factory=list)


def participants(body: bytes) -> list[EventRows]:
    """Return the rows of `participants` and of `removed-participants`.

    The first puts them beside `event`, the second inside it (documented). Both places are read on both. No `participants`,
    null, `[]` and an empty array all mean no rows.

    Raises:
        ApiError: the body is an error object, not JSON, or has an unknown shape.
    """
    start = body.lstrip()[:1]
    if start == b"{":
        if not _has_numeric_keys(read_members(body)):
            # The documentation prints a single element as a bare object.
            body = b"[" + body + b"]"
    elif start != b"[":
        raise _not_json(body)
    whole = replace_lone_surrogates(body)
    found = []
    for element in _listed(_decoded(_elements, whole)):
        outer, inner = _listed(element.participants), _listed(element.event.participants)
        rows = [bytes(row) for row in outer]
        if inner:
            seen = {_compact(row) for row in rows}
            rows += [row for row in map(bytes, inner) if not seen or _compact(row) not in seen]
        found.append(EventRows(element.event.event_id, [_as_sent(row, whole, body) for row in rows]))
    return found


def races(body: bytes) -> list[bytes]:
    """Return the raw races of a `/races` page, unwrapped."""
    members = read_members(body)
    if "races" not in members:
        if members:
            raise ApiError(Cause.UNKNOWN_SHAPE, "no member 'races'")
        return []
    whole = replace_lone_surrogates(body)
    rows = _listed(_decoded(_race_rows, bytes(members["races"])))
    return [_as_sent(bytes(row.race), whole, body) for row in rows]


def race(body: bytes) -> bytes:
    """Return the raw race of a `/race/:id` response, unwrapped."""
    members = read_members(body)
    if "race" not in members:
        raise ApiError(Cause.UNKNOWN_SHAPE, "no member 'race'")
    return _as_sent(bytes(members["race"]), replace_lone_surrogates(body), body)


def _listed(items: list[T] | dict[int, T] | None) -> list[T]:
    """Return the members of a list in any of its forms.

    Raises:
        ApiError: it is an object without members. PHP sends an empty list as a list, so this one has no known meaning.
    """
    if items == {}:
        raise ApiError(Cause.UNKNOWN_SHAPE, "an empty object where a list belongs")
    return list(items.values()) if isinstance(items, dict) else items or []


def _has_numeric_keys(members: dict[str, Raw]) -> bool:
    return bool(members) and all(name.isascii() and name.isdigit() for name in members)


def strip_byte_order_mark(body: bytes) -> bytes:
    """Return a body without the byte order marks before it. PHP sends one for each file that has one."""
    return _MARK.sub(b"", body, count=1)


def refuse_too_many_members(body: bytes) -> None:
    """Refuse a body that would need too much memory once it is decoded.

    Raises:
        ApiError: it has too many members.
    """
    commas = body.count(b",")
    if commas <= MAX_MEMBERS:
        return
    # Commas separate members, except those in strings, which are searched only if it matters.
    commas -= sum(body.count(b",", match.start(), match.end()) for match in _STRING.finditer(body))
    if commas > MAX_MEMBERS:
        raise ApiError(Cause.UNKNOWN_SHAPE, f"more than {MAX_MEMBERS:,} members in one answer")


def find_error(body: bytes) -> ApiError | None:
    """Return the ApiError of an error object, or None if the body is anything else."""
    if body.lstrip()[:1] != b"{":
        return None
    try:
        read_members(body)
    except ApiError as error:
        return error if error.cause not in (Cause.NOT_JSON, Cause.UNKNOWN_SHAPE) else None
    return None


def _not_json(body: bytes) -> ApiError:
    """Return the error for a body that is neither array nor object, with what it seems to be."""
    start = body.lstrip()[:200].lower()
    if not start:
        what = "empty body"
    elif start.startswith(b"<?xml"):
        what = "XML, as when format=json is lost"
    elif start.startswith(b"<"):
        what = "HTML"
    else:
        what = f"{len(body)} bytes of something else"
    return ApiError(Cause.NOT_JSON, what)


def read_members(body: bytes) -> dict[str, Raw]:
    """Return the members of a JSON object, undecoded.

    Raises:
        ApiError: the body is an error object, or no object at all.
    """
    start = body.lstrip()[:1]
    if start == b"[":
        raise ApiError(Cause.UNKNOWN_SHAPE, "an array where an object belongs")
    if start != b"{":
        raise _not_json(body)
    members = _decoded(_object, replace_lone_surrogates(body))
    if "error" not in members or (len(members) > 1 and bytes(members["error"]) in _NO_ERROR):
        return members
    try:
        text, _ = repair_json(bytes(members["error"]))
        error = _error.decode(text)
        message = " ".join(str(error.error_msg or "no message").split())
    except (msgspec.DecodeError, RecursionError):
        raise ApiError(Cause.UNKNOWN_SHAPE, "an error object without code") from None
    raise ApiError(cause_of_code(error.error_code), f"code {error.error_code}: {message}", code=error.error_code)


def _decoded(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ApiError(Cause.UNKNOWN_SHAPE, str(error)) from None
    except msgspec.DecodeError as error:
        raise ApiError(Cause.NOT_JSON, f"cut or malformed JSON of {len(body)} bytes: {error}") from None
    except UnicodeDecodeError:
        raise ApiError(Cause.UNKNOWN_SHAPE, "a member whose name is not UTF-8") from None
    except RecursionError:
        raise ApiError(Cause.UNKNOWN_SHAPE, "nested too deeply") from None


def _compact(row: bytes) -> bytes:
    """Return the row without insignificant white space, which differs with the place in indented JSON."""
    return msgspec.json.format(row, indent=-1)


def _as_sent(row: bytes, whole: bytes, body: bytes) -> bytes:
    """Return the row of `whole` as it is in `body`: with the halves of surrogate pairs that `whole` lacks."""
    if whole is body or rb"\ufffd" not in row:
        return row
    start = whole.find(row)
    return body[start : start + len(row)]
