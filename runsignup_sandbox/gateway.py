"""The layer between a connection and the endpoints: the limit, latency, faults, the log.

A call is in flight from its first byte here until its whole answer has been handed to the network or its client has gone.
"""

import asyncio
import socket
import struct
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any

from runsignup_sandbox.api import Api
from runsignup_sandbox.calls import Answer, ApiError, Call, call_from, error_answer, spelled
from runsignup_sandbox.faults import ALTERING, FLOODING, HANGING, Fault, Faults, answer_of, flood, hang
from runsignup_sandbox.people import Row
from runsignup_sandbox.world import World

Scope = MutableMapping[str, Any]
Receive = Callable[[], Any]
Send = Callable[[MutableMapping[str, Any]], Any]

_CHUNK = 256 * 1024
_GZIP_FROM = 1024
_LOG_LENGTH = 5000


class Traffic:
    """Counts of API calls since the last reset, and the calls in flight."""

    def __init__(self) -> None:
        self.in_flight: Counter[str] = Counter()
        """Calls in flight by the caller's key ('' without one)."""
        self.reset()

    def reset(self) -> None:
        self.calls = 0
        self.violations = 0
        self.most = 0
        self.bytes = 0
        self.by_endpoint: Counter[str] = Counter()
        self.log: deque[Row] = deque(maxlen=_LOG_LENGTH)

    def as_json(self) -> Row:
        return {
            "calls": self.calls,
            "by_endpoint": dict(self.by_endpoint),
            "max_in_flight": self.most,
            "violations": self.violations,
            "in_flight": self.in_flight.total(),
            "bytes": self.bytes,
            "log": list(self.log),
        }


class _Slot:
    """A call's concurrency slot, which can be released more than once.

    `own` and `total` are how many calls were in flight when it arrived, this one included.
    """

    def __init__(self, traffic: Traffic, key: str) -> None:
        self._traffic, self._key = traffic, key
        self._held = True
        traffic.in_flight[key] += 1
        self.own, self.total = traffic.in_flight[key], traffic.in_flight.total()

    def release(self) -> None:
        if self._held:
            self._held = False
            self._traffic.in_flight[self._key] -= 1
            if not self._traffic.in_flight[self._key]:
                del self._traffic.in_flight[self._key]


class Gateway:
    """The ASGI application mounted at /Rest, /rest and /REST.

    `transports` are the open connections by client address, for faults below HTTP.
    """

    def __init__(self, world: World, transports: dict[tuple[str, int], asyncio.Transport]) -> None:
        self.world = world
        self.api = Api(world)
        self.faults = Faults()
        self.traffic = Traffic()
        self.transports = transports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = call_from(scope, b"")
        slot = _Slot(self.traffic, call.key)
        tasks: list[asyncio.Task[None]] = []
        try:
            body = await _body(receive)
            if body:
                call = call_from(scope, body)
            tasks.append(asyncio.create_task(self._serve(call, slot, send)))
            tasks.append(asyncio.create_task(_gone(receive)))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            slot.release()

    async def _serve(self, call: Call, slot: _Slot, send: Send) -> None:
        traffic, switches = self.traffic, self.world.switches
        partner = self.api.partner(call)
        busy = slot.own if switches.in_flight_per_key else slot.total
        too_many = busy > switches.max_in_flight
        traffic.calls += 1
        traffic.by_endpoint[call.endpoint] += 1
        traffic.most = max(traffic.most, busy)
        traffic.violations += too_many
        entry: Row = {
            "n": traffic.calls,
            "at": self.world.clock.now(),
            "endpoint": call.endpoint,
            "race_id": call.race_id,
            "key_tail": call.key[-4:],
            "query": call.safe_query(),
            "status": None,
            "error_code": None,
            "rows": 0,
            "in_flight": busy,
            "violation": too_many,
            "fault": None,
        }
        log, began = traffic.log, time.monotonic()
        try:
            number = partner.number if partner else None
            fault = None if too_many else self.faults.take(call, number, self.world.clock.now())
            entry["fault"] = fault.kind if fault else None
            answer = await self._answer(call, fault, too_many)
            if answer is not None:
                entry |= {"status": answer.status, "error_code": answer.error_code, "rows": answer.rows}
                await self._send(answer, call, fault, send)
        finally:
            # Inside the task that sent the last byte, so that the client's next call finds the slot free.
            slot.release()
            entry["seconds"] = round(time.monotonic() - began, 4)
            log.append(entry)

    async def _answer(self, call: Call, fault: Fault | None, too_many: bool) -> Answer | None:
        """Return the answer after its latency, or None when the connection is to end without one."""
        switches = self.world.switches
        if too_many:
            answer = error_answer(ApiError(14, "Request throttled.", switches.http_error_status))
            if answer.status == 429:
                answer.headers.append(("Retry-After", "1"))
            return spelled(answer, call, switches)
        if fault and fault.kind in HANGING:
            if fault.kind == "timeout":
                await hang(fault)
            self._cut(call, reset=fault.kind == "reset")
            return None
        if fault and fault.kind not in ALTERING:
            await asyncio.sleep(switches.latency_ms / 1000)
            return answer_of(fault)
        if fault and fault.kind == "few_rows":
            call.most_rows = fault.size
        # The state is read half-way: a change made in the second half is not in this answer.
        await asyncio.sleep(switches.latency_ms / 2000)
        answer = spelled(self.api.answer(call), call, switches)
        await asyncio.sleep(switches.latency_ms / 2000)
        return answer

    async def _send(self, answer: Answer, call: Call, fault: Fault | None, send: Send) -> None:
        body = answer.body
        encoding: list[tuple[str, str]] = []
        if len(body) >= _GZIP_FROM and not fault:
            encoding.append(("Vary", "Accept-Encoding"))
            if "gzip" in call.headers.get("accept-encoding", ""):
                encoding.append(("Content-Encoding", "gzip"))
                body = await _gzip(body)
        if fault and fault.kind in FLOODING:
            await self._flood(fault, send)
            return
        length = len(body)
        if fault and fault.kind == "truncated":
            body = body[: length // 2]
            length = len(body)
        elif fault and fault.kind == "short_body":
            body = body[: length // 2]
        date = fault.message if fault and fault.kind == "date" else self._date()
        headers = [
            ("Server", "nginx"),
            *([("Date", date)] if date else []),
            ("Content-Type", answer.content_type),
            ("Content-Length", str(length)),
            ("P3P", 'CP="CAO PSA OUR"'),
            ("X-Frame-Options", "SAMEORIGIN"),
            ("Access-Control-Allow-Origin", "*"),
            ("Strict-Transport-Security", "max-age=15768000"),
            *encoding,
            *answer.headers,
        ]
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        if fault and fault.kind == "slow_body":
            await self._dribble(body, 5.0 if fault.seconds is None else fault.seconds, send)
        else:
            for start in range(0, len(body), _CHUNK):
                await self._part(body[start : start + _CHUNK], send)
        if fault and fault.kind == "short_body":
            self._cut(call, reset=False)
            return
        # Sending waits until the network has taken what was sent before, so this ends the true transfer.
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _date(self) -> str:
        """Return the `Date` header that the switch selects, empty for none."""
        kind = self.world.switches.date_header
        return {"true": self.world.clock.header(), "absent": "", "senseless": "yesterday noon"}[kind]

    async def _flood(self, fault: Fault, send: Send) -> None:
        headers = [(b"Content-Type", b"application/json"), (b"Connection", b"close")]
        if fault.kind == "bomb":
            headers.append((b"Content-Encoding", b"gzip"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in flood(fault):
            await self._part(part, send)
            # Sending to a client that has gone does not wait, and would block all other calls.
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _part(self, part: bytes, send: Send) -> None:
        await send({"type": "http.response.body", "body": part, "more_body": True})
        self.traffic.bytes += len(part)

    async def _dribble(self, body: bytes, seconds: float, send: Send) -> None:
        pieces = min(max(len(body), 1), 20)
        step = -(-len(body) // pieces)
        for start in range(0, len(body), max(step, 1)):
            await self._part(body[start : start + step], send)
            await asyncio.sleep(seconds / pieces)

    def _cut(self, call: Call, reset: bool) -> None:
        """End the connection, either after what was already sent or with a TCP reset."""
        transport = self.transports.get(call.client) if call.client else None
        if transport is None:
            return
        if reset:
            link: socket.socket = transport.get_extra_info("socket")
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _gone(receive: Receive) -> None:
    """Return when the client has left or the answer is complete."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _gzip(body: bytes) -> bytes:
    """Compress the body. A large one is compressed in a thread, so that other calls are not blocked."""
    if len(body) < _CHUNK:
        return _packed(body)
    return await asyncio.to_thread(_packed, body)


def _packed(body: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()
