"""JSON as the service writes it."""

import codecs

import msgspec

_ENCODER = msgspec.json.Encoder()
_ESCAPES = "sandbox-json-escapes"


def _escapes(error: UnicodeError) -> tuple[str, int]:
    """Encode non-ASCII text as JSON does: `\\uXXXX`, two of them for characters beyond 16 bits."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].encode("utf-16-be").hex()
    return "".join(f"\\u{text[place : place + 4]}" for place in range(0, len(text), 4)), error.end


codecs.register_error(_ESCAPES, _escapes)


def encode(value: object) -> bytes:
    """Encode compact JSON in the service's style: `\\/` for slashes, `\\uXXXX` for non-ASCII."""
    body = _ENCODER.encode(value)
    if not body.isascii():
        body = body.decode().encode("ascii", _ESCAPES)
    # A slash can only occur inside a string, so replacing bytes is safe.
    return body.replace(b"/", b"\\/")
