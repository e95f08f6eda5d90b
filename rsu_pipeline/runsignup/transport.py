"""The HTTP layer below the client: no redirect is followed, no cookie kept, and every response is bounded.

`requests` bounds only the wait for the next bytes: a server that sends a byte a second, or headers without end, would block
a call indefinitely. Here each response is read through `Bounds`, from its first byte to its last.
"""

import email.utils
import http.client
import io
import logging
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from rsu_pipeline import cancellation
from rsu_pipeline.runsignup.api_errors import ApiError, Cause

# urllib3 writes whole addresses, secret included: at DEBUG every request line, at WARNING with headers it cannot parse.
# A filter, unlike a level, stays regardless of an installation's logging configuration.
for _name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.poolmanager", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(lambda record: False)

SEND_WITHIN_SECONDS = 20.0
"""Time limit for sending a call after its grant.

A process that was stopped for longer may have lost its concurrency slot to another.
"""
MAX_BODY_BYTES = 64 * 1024 * 1024
"""Bytes of one response, unpacked. 2,500 registrations are about 4 MB."""
SENSIBLE_DATES = range(1_262_304_000, 4_102_444_800)
"""Unix seconds from 2010, when RunSignup began, until 2100. A `Date` outside is not credible."""
MAX_CLOCK_SKEW_SECONDS = 10 * 365 * 86400
"""Seconds that a server's clock may be ahead of this machine's. A simulated RunSignup may be months ahead."""
MAX_AGE_DIGITS = 6
"""Digits of an `Age` header in seconds. A response cached for more than eleven days does not show a clock."""
_CHUNK = 256 * 1024


@dataclass(frozen=True)
class Response:
    """A complete response.

    `server_time` is its `Date` in Unix seconds, or this machine's clock without one. `retry_after` is the seconds it asks to
    wait. `date` is the `Date` alone, None if it is absent or not credible. `elapsed` is the estimated seconds since it was
    written, and `seconds` the duration of the call.
    """

    status: int
    body: bytes
    server_time: int
    retry_after: float | None
    date: int | None = None
    elapsed: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Bounds:
    """Limits of one response.

    It may take `seconds` until `deadline` (of the monotonic clock), and `most` bytes as they arrive over the network, headers
    included. Its request is sent before `send_by`.
    """

    seconds: float
    deadline: float
    most: int
    send_by: float = float("inf")

    @classmethod
    def from_now(cls, seconds: float, most: int) -> "Bounds":
        now = time.monotonic()
        return cls(seconds, now + seconds, most, now + min(seconds, SEND_WITHIN_SECONDS))

    def late(self) -> ApiError:
        return ApiError(Cause.TIMEOUT, f"answer not complete after {self.seconds:g} s")


_bounds: ContextVar[Bounds | None] = ContextVar("bounds", default=None)


@contextmanager
def within(bounds: Bounds) -> Iterator[None]:
    """Apply these bounds to responses that begin inside the block."""
    token = _bounds.set(bounds)
    try:
        yield
    finally:
        _bounds.reset(token)


class _Bounded(io.RawIOBase):
    """A socket that is read within bounds and raises ApiError beyond them."""

    def __init__(self, link: socket.socket, bounds: Bounds) -> None:
        self._link = link
        self._raw = link.makefile("rb", buffering=0)
        self._bounds = bounds
        self._left = bounds.most
        self._patience = link.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        seconds = self._bounds.deadline - time.monotonic()
        if seconds <= 0:
            raise self._bounds.late()
        if self._left <= 0:
            raise too_large(self._bounds.most)
        self._link.settimeout(seconds if self._patience is None else min(seconds, self._patience))
        try:
            got = self._raw.readinto(buffer)
        except TimeoutError:
            if time.monotonic() >= self._bounds.deadline:
                raise self._bounds.late() from None
            raise
        self._left -= got or 0
        return got

    def close(self) -> None:
        if not self.closed:
            # The connection may serve the next call.
            if self._link.fileno() >= 0:
                self._link.settimeout(self._patience)
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        if (bounds := _bounds.get()) is not None:
            self.fp.close()
            self.fp = io.BufferedReader(_Bounded(sock, bounds))


class _SendsInTime(HTTPConnection):
    """A connection that a cancellation closes, and that sends nothing after `send_by`, however long it took to connect."""

    response_class = _Response

    def connect(self) -> None:
        super().connect()
        cancellation.add_socket(self.sock)

    def send(self, data: Any) -> None:
        if self.sock is None and self.auto_open:
            self.connect()
        bounds = _bounds.get()
        if bounds is not None and time.monotonic() > bounds.send_by:
            raise ApiError(Cause.TIMEOUT, "not sent in time")
        super().send(data)


class _Connection(_SendsInTime):
    pass


class _SecureConnection(_SendsInTime, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


class Session(requests.Session):
    """A session for one credential."""

    def __init__(self) -> None:
        super().__init__()
        # Credentials of another service must not come from a .netrc, and no proxy may see these calls unless configured.
        self.trust_env = False
        # The API has no cookies. A server's own would be sent with every later call.
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        # urllib3 supports both without further packages, and decompresses a bomb piece by piece.
        self.headers["Accept-Encoding"] = "gzip, deflate"
        self.mount("https://", _Adapter())
        self.mount("http://", _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: even without following a redirect, requests would read its body and parse its address."""
        return None


def fetch(
    session: Session,
    url: str,
    params: Mapping[str, str],
    timeouts: tuple[float, float],
    total: float,
    form: Mapping[str, str] | None = None,
) -> Response:
    """Return the response to one GET, within `timeouts` for the connection and for each wait, and `total` seconds altogether.

    With a `form` it is a POST of its fields.

    Raises:
        ApiError: the call failed. The text has nothing of the address.
    """
    bounds = Bounds.from_now(total, MAX_BODY_BYTES)
    sent = time.monotonic()
    try:
        with (
            within(bounds),
            session.request(
                "GET" if form is None else "POST",
                url,
                params=params,
                data=form,
                timeout=timeouts,
                stream=True,
                allow_redirects=False,
            ) as response,
        ):
            headers_at = time.monotonic()
            body = bytearray()
            # Read what has arrived, not a full chunk, which would wait indefinitely for a response that trickles in.
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise too_large(MAX_BODY_BYTES)
                if time.monotonic() > bounds.deadline:
                    raise bounds.late()
            return Response(
                response.status_code,
                bytes(body),
                server_time(response.headers.get("Date")),
                retry_after(response.headers.get("Retry-After")),
                read_date(response.headers.get("Date")),
                # Written at some time before the headers arrived. A cache adds how long it kept the response.
                age(response.headers.get("Age")) + time.monotonic() - (sent + headers_at) / 2,
                time.monotonic() - sent,
            )
    # The texts of these exceptions contain the URL, and with it the secret: only their kind is passed on.
    except requests.exceptions.SSLError:
        raise ApiError(Cause.CONNECTION, "SSLError: no TLS, or a certificate that is not to be trusted") from None
    except requests.ConnectTimeout:
        raise ApiError(Cause.TIMEOUT, f"no connection within {timeouts[0]:g} s") from None
    except (requests.Timeout, urllib3.exceptions.ReadTimeoutError):
        raise ApiError(Cause.TIMEOUT, f"nothing received for {timeouts[1]:g} s") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as failure:
        # ValueErrors are about an address or a header that cannot be sent at all.
        cause = Cause.REFUSED if isinstance(failure, ValueError) else Cause.CONNECTION
        raise ApiError(cause, type(failure).__name__) from None


def too_large(most: int) -> ApiError:
    """Return the error for a response of more than `most` bytes."""
    return ApiError(Cause.UNKNOWN_SHAPE, f"answer larger than {most >> 20} MiB; RSU_PAGE_SIZE makes pages smaller")


def server_time(header: str | None) -> int:
    """Return the Unix seconds of a `Date` header.

    Every recorded response has one. If it is missing or not credible, this machine's clock is used, and the cursor's overlap
    covers the difference.
    """
    own = int(time.time())
    try:
        sent = int(email.utils.parsedate_to_datetime(header or "").timestamp())
    except (TypeError, ValueError, OverflowError):
        return own
    return sent if 0 <= sent <= own + MAX_CLOCK_SKEW_SECONDS else own


def read_date(header: str | None) -> int | None:
    """Return the Unix seconds of a `Date` header, or None if it is absent, unreadable or not credible."""
    try:
        found = int(email.utils.parsedate_to_datetime(header or "").timestamp())
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found in SENSIBLE_DATES else None


def age(header: str | None) -> float:
    """Return the seconds that a cache kept a response by its `Age` header, or 0 if it is absent or unreadable."""
    text = (header or "").strip()
    return float(text) if text.isascii() and text.isdecimal() and len(text) <= MAX_AGE_DIGITS else 0.0


def retry_after(header: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header, or None for a date or an unreadable value."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
