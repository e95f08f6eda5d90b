r"""Text that is no Unicode: bytes that are not UTF-8, and escaped halves of surrogate pairs (`"\ud83d"` alone); and NUL.

Neither a decoder nor PostgreSQL takes them. U+FFFD stands in, so that one such character costs neither a page its other
rows nor a runner the bib.
"""

import re

# A whole pair is found as one, so that its halves are not.
_PAIR_OR_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_NUL = re.compile(rb"\\u0000")
_ONE_LENGTH = len(rb"\u0000")
_BACKSLASH = ord("\\")


def without_halves(json: bytes) -> bytes:
    """`json` with U+FFFD for each half of a surrogate pair that stands alone; the length stays the same."""
    if rb"\ud" not in json and rb"\uD" not in json:
        return json
    return _replaced(json, _PAIR_OR_HALF)


def without_nul(json: bytes) -> bytes:
    """`json` with U+FFFD for each NUL character, which PostgreSQL's text cannot hold."""
    return _replaced(json, _NUL) if rb"\u0000" in json else json


def _replaced(json: bytes, sought: re.Pattern[bytes]) -> bytes:
    """`json` with U+FFFD for each match that is one escape; itself if there is none. In place: a list of the pieces, as `sub`
    makes it, would take many times the memory of a text that consists of escapes."""
    whole: bytearray | None = None
    place = 0
    while match := sought.search(json, place):
        start, end = match.span()
        if _is_escaped(json, start):
            place = start + 1
            continue
        place = end
        if end - start == _ONE_LENGTH:
            whole = whole or bytearray(json)
            whole[start:end] = rb"\ufffd"
    return json if whole is None else bytes(whole)


def _is_escaped(json: bytes, place: int) -> bool:
    """Whether the backslash at a place is the second of two, as in `\\\\ud83d`: a backslash and five letters."""
    first = place
    while first > 0 and json[first - 1] == _BACKSLASH:
        first -= 1
    return (place - first) % 2 == 1


def mended(json: bytes) -> tuple[bytes, list[str]]:
    """`json` as valid text, and what had to be replaced."""
    faults = []
    try:
        json.decode()
    except UnicodeDecodeError:
        json = json.decode("utf-8", "replace").encode()
        faults.append("bytes that are not UTF-8 were replaced")
    whole = without_halves(json)
    if whole != json:
        faults.append("half of a surrogate pair was replaced")
    return whole, faults
