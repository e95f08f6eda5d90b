"""The wrappers around RunSignup's rows: error objects, the participants array, the races object.

An answer that is none of the known shapes is an error (`Cause.UNKNOWN_SHAPE`), never "no rows".
"""

from dataclasses import dataclass, field

import msgspec
from msgspec import Raw

from rsu_pipeline.runsignup.errors import ApiError, Cause, cause_of_code


class _Wrapper(msgspec.Struct):
    event_id: int | None = None
    participants: list[Raw] | None = None


class _Element(msgspec.Struct):
    event: _Wrapper
    participants: list[Raw] | None = None


class _Error(msgspec.Struct):
    error_code: int | None = None
    error_msg: str | None = None


class _Races(msgspec.Struct):
    races: list[Raw] | None = None


class _RaceRow(msgspec.Struct):
    race: Raw


_elements = msgspec.json.Decoder(list[_Element], strict=False)
_races = msgspec.json.Decoder(_Races, strict=False)
_race_row = msgspec.json.Decoder(_RaceRow)
_object = msgspec.json.Decoder(dict[str, Raw])
_error = msgspec.json.Decoder(_Error, strict=False)


@dataclass
class EventRows:
    """The rows one element of the array brought, raw, in the order sent; `event_id` is the wrapper's."""

    event_id: int | None
    rows: list[bytes] = field(default_factory=list)


def participants(body: bytes) -> list[EventRows]:
    """Rows of `participants` and of `removed-participants`. The first puts them beside `event`, the second inside it
    (documented); both places are read on both. An absent key, null, `[]` and an empty array all mean no rows.

    Raises ApiError for an error object, for a body that is not JSON and for an unknown shape.
    """
    start = body.lstrip()[:1]
    if start == b"{":
        _raise_error_object(body)
        # The documentation prints a single element as a bare object.
        body = b"[" + body + b"]"
    elif start != b"[":
        raise not_json(body)
    try:
        elements = _elements.decode(body)
    except msgspec.ValidationError as error:
        raise ApiError(Cause.UNKNOWN_SHAPE, str(error)) from None
    except msgspec.DecodeError as error:
        raise ApiError(Cause.NOT_JSON, f"cut or malformed JSON of {len(body)} bytes: {error}") from None
    found = []
    for element in elements:
        outer, inner = element.participants or [], element.event.participants or []
        rows = [bytes(row) for row in outer]
        if inner:
            seen = set(rows)
            rows += [row for row in map(bytes, inner) if row not in seen]
        found.append(EventRows(element.event.event_id, rows))
    return found


def races(body: bytes) -> list[bytes]:
    """The raw races of a `/races` page, unwrapped."""
    _raise_error_object(body)
    try:
        listing = _races.decode(body)
        if listing.races is None and body.strip() not in (b"{}", b'{"races":null}'):
            raise ApiError(Cause.UNKNOWN_SHAPE, "no member 'races'")
        return [bytes(_race_row.decode(row).race) for row in listing.races or []]
    except msgspec.ValidationError as error:
        raise ApiError(Cause.UNKNOWN_SHAPE, str(error)) from None


def race(body: bytes) -> bytes:
    """The raw race of a `/race/:id` answer, unwrapped."""
    _raise_error_object(body)
    try:
        return bytes(_race_row.decode(body).race)
    except msgspec.ValidationError as error:
        raise ApiError(Cause.UNKNOWN_SHAPE, str(error)) from None


def error_in(body: bytes) -> ApiError | None:
    """The ApiError an error object stands for; None when the body is anything else."""
    if body.lstrip()[:1] != b"{":
        return None
    try:
        _raise_error_object(body)
    except ApiError as error:
        return error if error.cause not in (Cause.NOT_JSON, Cause.UNKNOWN_SHAPE) else None
    return None


def not_json(body: bytes) -> ApiError:
    """The error for a body that is not JSON, with what it seems to be."""
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


def _raise_error_object(body: bytes) -> None:
    """Raises ApiError when the body is an error object, or not a JSON object at all."""
    start = body.lstrip()[:1]
    if start == b"[":
        raise ApiError(Cause.UNKNOWN_SHAPE, "an array where an object belongs")
    if start != b"{":
        raise not_json(body)
    try:
        members = _object.decode(body)
        if "error" not in members:
            return
        error = _error.decode(members["error"])
    except msgspec.ValidationError:
        raise ApiError(Cause.UNKNOWN_SHAPE, "an error object without code") from None
    except msgspec.DecodeError as fault:
        raise ApiError(Cause.NOT_JSON, f"cut or malformed JSON of {len(body)} bytes: {fault}") from None
    message = (error.error_msg or "no message")[:200]
    raise ApiError(cause_of_code(error.error_code), f"code {error.error_code}: {message}", code=error.error_code)
