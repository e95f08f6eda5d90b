r"""Text that is no Unicode: bytes that are not UTF-8, and escaped halves of surrogate pairs (`"\ud83d"` alone); and NUL.

Neither a decoder nor PostgreSQL takes them. U+FFFD stands in, so that one such character costs neither a page its other
rows nor a runner the bib.
"""

import re

# One escape at a time, so that `\\ud83d`, a backslash and five letters, is not taken for half a pair.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)
_NUL = rb"\u0000"
_NUL_ESCAPE = re.compile(rb"\\(?:u0000|.)", re.DOTALL)
_ONE_LENGTH = len(_NUL)


def without_halves(json: bytes) -> bytes:
    """`json` with U+FFFD for each half of a surrogate pair that stands alone; the length stays the same."""
    if rb"\ud" not in json and rb"\uD" not in json:
        return json
    return _replaced(json, _ESCAPE)


def without_nul(json: bytes) -> bytes:
    """`json` with U+FFFD for each NUL character, which PostgreSQL's text cannot hold."""
    return _replaced(json, _NUL_ESCAPE) if _NUL in json else json


def _replaced(json: bytes, escape: re.Pattern[bytes]) -> bytes:
    """`json` with U+FFFD for each match that is one escape of six characters. In place: a list of the pieces, as `sub` makes
    it, would take many times the memory of a text that consists of escapes."""
    whole = bytearray(json)
    for match in escape.finditer(json):
        start, end = match.span()
        if end - start == _ONE_LENGTH:
            whole[start:end] = rb"\ufffd"
    return bytes(whole)


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
