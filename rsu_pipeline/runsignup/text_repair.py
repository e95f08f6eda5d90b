r"""Repair text that is no Unicode: bytes that are not UTF-8, lone halves of surrogate pairs (`"\ud83d"`), and NUL.

Neither a decoder nor PostgreSQL accepts them. They are replaced by U+FFFD, so that one such character costs neither a page
its other rows nor a runner the bib.
"""

import re

# A whole pair matches as one, so that its halves do not.
_PAIR_OR_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_NUL = re.compile(rb"\\u0000")
_ONE_LENGTH = len(rb"\u0000")
_BACKSLASH = ord("\\")


def replace_lone_surrogates(json: bytes) -> bytes:
    """Return `json` with U+FFFD for each lone half of a surrogate pair. The length stays the same."""
    if rb"\ud" not in json and rb"\uD" not in json:
        return json
    return _replaced(json, _PAIR_OR_HALF)


def without_nul(json: bytes) -> bytes:
    """Return `json` with U+FFFD for each NUL character, which PostgreSQL's text cannot store."""
    return _replaced(json, _NUL) if rb"\u0000" in json else json


def _replaced(json: bytes, sought: re.Pattern[bytes]) -> bytes:
    """Return `json` with U+FFFD for each match that is one escape, or `json` itself if there is none.

    It works in place: a list of the pieces, as `sub` builds it, would take many times the memory of a text that consists of
    escapes.
    """
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
    """Return whether the backslash at a place is the second of two, as in `\\\\ud83d`: a backslash and five letters."""
    first = place
    while first > 0 and json[first - 1] == _BACKSLASH:
        first -= 1
    return (place - first) % 2 == 1


def repair_json(json: bytes) -> tuple[bytes, list[str]]:
    """Return `json` as valid text, and what had to be replaced."""
    faults = []
    try:
        json.decode()
    except UnicodeDecodeError:
        json = json.decode("utf-8", "replace").encode()
        faults.append("bytes that are not UTF-8 were replaced")
    whole = replace_lone_surrogates(json)
    if whole != json:
        faults.append("half of a surrogate pair was replaced")
    return whole, faults
