"""Apply the rules of request_rules.py to an ASGI application, and add the headers that keep its answers to its page."""

import logging
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rsu_pipeline.orchestration import request_rules
from rsu_pipeline.orchestration.request_rules import Refusal, Request

MAX_BODY_BYTES = 8 * 1024 * 1024
"""A backfill of ten thousand partitions has 400 KB."""
POLICY_VIOLATION = 1008
"""The close code of a websocket (RFC 6455)."""
HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SCRIPTS = "/_next/"
SCRIPT_POLICY = "default-src 'self'; frame-ancestors 'none'"
"""For the UI's scripts: one that runs as a worker loads others."""
DEFAULT_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""Content security policy of a response that has none, and is therefore no page."""

log = logging.getLogger("dagster-webserver.guard")


class RequestGuard:
    """ASGI middleware that refuses foreign requests. `origins` are the page's beside loopback, `path_prefix` is the UI's path."""

    def __init__(self, app: ASGIApp, *, origins: Collection[str] = (), path_prefix: str = "") -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._prefix = path_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = self._request(scope, scope["method"])
            policy = SCRIPT_POLICY if request.path.startswith(SCRIPTS) else DEFAULT_POLICY
            await self._answer(request, scope, receive, _with_headers(send, policy))
        elif scope["type"] == "websocket":
            await self._connect(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = request_rules.refuse(request, self._origins)
        if refusal is None and request.method == "POST":
            body = await _body(receive)
            if body is None:
                refusal = Refusal(413, f"The body is longer than {MAX_BODY_BYTES} bytes.")
            else:
                refusal = request_rules.refuse_body(body)
                receive = _again(body, receive)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        log.warning("Refused a request: %s", refusal.sentence)
        await PlainTextResponse(refusal.sentence + "\n", status_code=refusal.status)(scope, receive, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = request_rules.refuse(self._request(scope, "WEBSOCKET"), self._origins)
        if refusal is not None:
            log.warning("Refused a websocket: %s", refusal.sentence)
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return

        async def checked() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                broken = request_rules.refuse_message(message.get("text"))
                if broken is not None:
                    log.warning("Closed a websocket: %s", broken.sentence)
                    await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": broken.sentence})
                    return {"type": "websocket.disconnect", "code": POLICY_VIOLATION}
            return message

        await self._app(scope, checked, send)

    def _request(self, scope: Scope, method: str) -> Request:
        path: str = scope["path"]
        if self._prefix and (path == self._prefix or path.startswith(f"{self._prefix}/")):
            path = path.removeprefix(self._prefix)
        return Request(method, path, Headers(scope=scope).items(), QueryParams(scope["query_string"]).getlist("query"))


def _with_headers(send: Send, policy: str) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name in [name for name in headers if name.startswith("access-control-")]:
                del headers[name]
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Content-Security-Policy", policy)
        await send(message)

    return with_headers


async def _body(receive: Receive) -> bytes | None:
    """Read a request's body, or return None if it is too long. A client that disconnected has sent none."""
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        if sum(map(len, parts)) > MAX_BODY_BYTES:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that first yields a body that was read, and then the messages that follow."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
