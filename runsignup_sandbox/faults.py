"""Faults that a test can inject: which calls they hit and what they send instead."""

import asyncio
import binascii
import itertools
import zlib
from collections.abc import Iterator
from typing import Literal

import msgspec

from runsignup_sandbox.calls import Answer, ApiError, Call, error_answer

Kind = Literal[
    "http_500",
    "http_503",
    "html_522",
    "throttle_200",
    "throttle_429",
    "error_code",
    "caller_400",
    "timeout",
    "slow_body",
    "truncated",
    "short_body",
    "few_rows",
    "html_200",
    "empty_200",
    "xml_200",
    "unknown_shape",
    "reset",
    "closed",
    "wrong_type",
    "redirect",
    "raw",
    "date",
    "bomb",
    "endless",
]

HANGING = frozenset(("timeout", "reset", "closed"))
"""Kinds that send no answer at all."""
ALTERING = frozenset(("slow_body", "truncated", "short_body", "few_rows", "date"))
"""Kinds that change how the true answer is sent."""
FLOODING = frozenset(("bomb", "endless"))
"""Kinds whose answer is larger than any client should accept."""

_HTML = b"<!DOCTYPE html><html><head><title>Connection timed out</title></head><body><h1>522</h1></body></html>"
_XML = b'<?xml version="1.0" encoding="utf-8"?>\n<response><note>not what was requested</note></response>'


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """A fault for the next `times` matching calls, or for all until cleared if `times` is 0.

    Every filter that is not None must match. `after_page` True hits only calls with after_registration_id, so only pages after the
    first. `event_id` hits calls that request it. `seconds` is how long a hanging or dribbling fault lasts, in real time. `until`
    ends the fault at a time of the sandbox's clock, in Unix seconds.

    `raw` answers with `body` (base64), `status` and `headers`. `date` sends the true answer with `message` as its Date header, or
    without one if that is empty. `few_rows` sends the true answer with at most `size` of its rows. `redirect` leads to `message` if
    that is an address. `bomb` sends `size` bytes of white space, compressed. `endless` sends the same uncompressed, without a
    length, and never ends if `size` is 0.
    """

    kind: Kind
    times: int = 1
    endpoint: Literal["races", "race", "participants", "removed", "edit"] | None = None
    race_id: int | None = None
    event_id: int | None = None
    partner: int | None = None
    after_page: bool = False
    seconds: float | None = None
    code: int = 4
    message: str = "Unspecified failure."
    body: str = ""
    status: int = 200
    headers: list[tuple[str, str]] = []
    size: int = 0
    until: float | None = None


class Faults:
    """The current faults, oldest first."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._left: dict[int, int] = {}
        self._ids = itertools.count(1)

    def add(self, fault: Fault) -> int:
        id = next(self._ids)
        self._faults[id] = fault
        self._left[id] = fault.times
        return id

    def clear(self) -> None:
        self._faults.clear()
        self._left.clear()

    def take(self, call: Call, partner: int | None, now: float) -> Fault | None:
        """Return the oldest fault that hits this call, counted as used. `now` is the sandbox's time."""
        for id, fault in self._faults.items():
            if (fault.until is None or now < fault.until) and _strikes(fault, call, partner):
                if fault.times:
                    self._left[id] -= 1
                    if self._left[id] == 0:
                        del self._faults[id], self._left[id]
                return fault
        return None


def _strikes(fault: Fault, call: Call, partner: int | None) -> bool:
    return (
        fault.endpoint in (None, call.endpoint)
        and fault.race_id in (None, call.race_id)
        and (fault.event_id is None or str(fault.event_id) in call.query.get("event_id", "").split(","))
        and fault.partner in (None, partner)
        and (not fault.after_page or "after_registration_id" in call.query)
    )


def answer_of(fault: Fault) -> Answer:
    """Return the answer of a fault that is neither hanging nor altering."""
    kind = fault.kind
    if kind in ("http_500", "http_503"):
        status = int(kind[-3:])
        return Answer(b"<html><body><h1>%d</h1></body></html>" % status, status, "text/html")
    if kind in ("html_522", "html_200"):
        return Answer(_HTML, int(kind[-3:]), "text/html; charset=UTF-8")
    if kind == "throttle_200":
        return error_answer(ApiError(14, "Request throttled."))
    if kind == "throttle_429":
        answer = error_answer(ApiError(14, "Request throttled.", 429))
        answer.headers.append(("Retry-After", "1"))
        return answer
    if kind == "error_code":
        return error_answer(ApiError(fault.code, fault.message))
    if kind == "caller_400":
        text = "API caller identification is invalid."
        return error_answer(ApiError(17, "Invalid API caller credentials.", 400, text))
    if kind == "xml_200":
        return Answer(_XML, content_type="text/xml; charset=utf-8")
    if kind == "unknown_shape":
        return Answer(b'{"hello":1}')
    if kind == "wrong_type":
        return Answer(b"[1,2]")
    if kind == "redirect":
        location = fault.message if "://" in fault.message else "http://127.0.0.1:9/"
        return Answer(b"", 302, "text/html", headers=[("Location", location)])
    if kind == "raw":
        return Answer(binascii.a2b_base64(fault.body), fault.status, headers=list(fault.headers))
    return Answer(b"")


def flood(fault: Fault) -> Iterator[bytes]:
    """Yield the pieces of a flooding fault's body, generated as they are sent."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31) if fault.kind == "bomb" else None
    piece, left = b" " * 65536, fault.size
    while left > 0 or (packer is None and not fault.size):
        part = piece if not fault.size else piece[:left]
        left -= len(part)
        if out := part if packer is None else packer.compress(part):
            yield out
    if packer is not None:
        yield packer.flush()


async def hang(fault: Fault) -> None:
    """Wait as a `timeout` does: for the fault's seconds or an hour, or until the client leaves."""
    await asyncio.sleep(3600.0 if fault.seconds is None else fault.seconds)
