"""Send a message to a webhook's address: TLS only, to no private address, following no redirect, by no proxy.

A name is resolved, its addresses are checked, and the connection is opened to an address that was checked, so that a name cannot
lead elsewhere between check and connection. Errors name the host and never the rest of the address, which may be secret.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from rsu_pipeline.setting_values import Network
from rsu_pipeline.warehouse.webhook_store import WebhookError

TIMEOUT_SECONDS = 15.0
"""How long a receiver has for its answer, from the connection on. Standard Webhooks recommends 15 to 30 s."""
MAX_ADDRESSES = 3
"""How many addresses of a name are tried, 5 s each."""
MAX_SECONDS = 20.0
"""How long a message may take with its connection, before it is cut."""
IDLE_SECONDS = 20.0
"""How long a connection is kept for the next message. Many servers close theirs after 60 s or more."""
MAX_RETRY_AFTER = 3600.0
"""A receiver may want a longer pause. It is not granted."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_HEADERS = {"content-type": "application/json", "user-agent": "rsu-pipeline"}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class SendOutcome:
    """The outcome of sending a message.

    `error` is None if the receiver accepted it. `retry_after` is how many seconds it wants to be left alone. `is_gone` means that
    it wants no more messages.
    """

    error: str | None = None
    retry_after: float | None = None
    is_gone: bool = False


@dataclass(frozen=True)
class Target:
    """The parts of a webhook's address."""

    host: str
    port: int
    path: str

    @property
    def shown(self) -> str:
        """Host and port, for people."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == 443 else f"{name}:{self.port}"


def parse_url(url: str) -> Target:
    """Return the parts of an address.

    Raises:
        WebhookError: it is not https://, or has a user or a fragment. The text does not repeat it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
        (host or "").encode("idna")
    except (ValueError, UnicodeError):
        host, port = None, 443
    if not host or parts.scheme != "https" or "@" in parts.netloc or parts.fragment or not url.isascii() or " " in url:
        raise WebhookError(
            "The address of a webhook must be a plain https:// address such as https://scoring.example.com/rsu, in ASCII and"
            " without user, password and fragment."
        )
    return Target(host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def find_refusal(address: Address, allowed: Sequence[Network]) -> str | None:
    """Return why nothing is sent to an IP address, or None if it is public or in a network that is allowed."""
    inner = _unwrap(address)
    for one in {address, inner}:
        if any(one.version == network.version and one in network for network in allowed):
            return None
    if inner.is_global and not inner.is_multicast and not inner.is_reserved:
        return None
    return f"{address} is no public address (RSU_WEBHOOK_NETWORKS can allow its network)"


def _unwrap(address: Address) -> Address:
    """Return the IPv4 address to which an IPv6 address of a transition mechanism leads."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1] or address


def refuse_unreachable(target: Target, allowed: Sequence[Network]) -> None:
    """Refuse an address to which no message would ever be sent, however it is written.

    A name that cannot be resolved now is accepted, because it may become known later. Sending checks all again.

    Raises:
        WebhookError: every address of the host is refused.
    """
    try:
        _resolve(target, allowed)
    except _Refused as refused:
        raise WebhookError(f"No message can be sent to {target.shown}: {refused}.") from None
    except OSError:
        return


class _Refused(Exception):
    """Nothing is sent to this host. The text is the reason."""


def _resolve(target: Target, allowed: Sequence[Network]) -> list[Address]:
    """Return the addresses of a host to which may be sent."""
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found))
    refusals = {address: find_refusal(address, allowed) for address in addresses}
    if not (usable := [address for address, refusal in refusals.items() if refusal is None]):
        raise _Refused(next(filter(None, refusals.values()), "it has no address"))
    return usable


class _Connection(http.client.HTTPSConnection):
    """A connection to an address that was checked, with a deadline for everything."""

    def __init__(self, target: Target, allowed: Sequence[Network]) -> None:
        super().__init__(target.host, target.port, timeout=TIMEOUT_SECONDS, context=_context())
        self._target = target
        self._allowed = allowed
        self.used_at = time.monotonic()

    def connect(self) -> None:
        error: OSError | None = None
        for address in _resolve(self._target, self._allowed)[:MAX_ADDRESSES]:
            try:
                plain = socket.create_connection((str(address), self._target.port), timeout=5.0)
            except OSError as failed:
                error = failed
                continue
            plain.settimeout(TIMEOUT_SECONDS)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self.sock = plain  # so that a handshake can be cut
                self.sock = _context().wrap_socket(plain, server_hostname=self._target.host)
            except BaseException:
                plain.close()
                raise
            return
        raise error or OSError("no address")

    def cut(self) -> None:
        """End an answer that takes too long. The thread that waits for it gets an error."""
        if self.sock is not None:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


class Endpoint:
    """One webhook's address, with the connections that are kept open to it. Threads may send side by side."""

    def __init__(self, url: str, allowed: Sequence[Network]) -> None:
        self._target = parse_url(url)
        self._allowed = allowed
        self._idle: list[_Connection] = []
        self._busy: dict[_Connection, float] = {}
        self._lock = threading.Lock()

    def send(self, headers: dict[str, str], body: bytes) -> SendOutcome:
        """Send a message once, and return what became of it. Nothing is raised."""
        kept = self._take()
        if kept is not None:
            try:
                return self._exchange(kept, headers, body)
            except (ConnectionError, ssl.SSLEOFError):
                pass  # the receiver closed it while nothing was sent: a new connection decides
            except (OSError, http.client.HTTPException) as error:
                return SendOutcome(f"{self._target.shown}: {_describe(error)}")
        try:
            return self._exchange(_Connection(self._target, self._allowed), headers, body)
        except (OSError, http.client.HTTPException, _Refused) as error:
            return SendOutcome(f"{self._target.shown}: {_describe(error)}")

    def cut_overdue(self) -> None:
        """End the exchanges that take too long, for example an answer that comes byte by byte."""
        with self._lock:
            overdue = [conn for conn, ends in self._busy.items() if time.monotonic() > ends]
        for conn in overdue:
            conn.cut()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            for conn in self._idle:
                conn.close()
            self._idle.clear()

    def _take(self) -> _Connection | None:
        with self._lock:
            while self._idle:
                conn = self._idle.pop()
                if time.monotonic() - conn.used_at < IDLE_SECONDS:
                    return conn
                conn.close()
        return None

    def _exchange(self, conn: _Connection, headers: dict[str, str], body: bytes) -> SendOutcome:
        with self._lock:
            self._busy[conn] = time.monotonic() + MAX_SECONDS
        try:
            conn.request("POST", self._target.path, body, headers | _HEADERS)
            answer = conn.getresponse()
            # What a receiver answers does not matter, and must not fill the memory.
            answer.read(65536)
            is_whole = answer.isclosed()
        except BaseException:
            conn.close()
            raise
        finally:
            with self._lock:
                del self._busy[conn]
        if is_whole and not answer.will_close:
            conn.used_at = time.monotonic()
            with self._lock:
                self._idle.append(conn)
        else:
            conn.close()
        return judge(answer.status, answer.headers.get("retry-after"), self._target.shown)


def judge(status: int, retry_after: str | None, host: str) -> SendOutcome:
    """Return what a status means: 2xx is accepted, a redirect is refused, 410 ends the webhook, all else is tried again."""
    if 200 <= status < 300:
        return SendOutcome()
    seconds = min(float(retry_after), MAX_RETRY_AFTER) if retry_after and retry_after.strip().isdecimal() else None
    what = ", a redirect, which is not followed" if 300 <= status < 400 else ""
    return SendOutcome(f"{host}: HTTP {status}{what}", seconds, is_gone=status == 410)


def _describe(error: Exception) -> str:
    """Return an error in words that hold nothing of the address."""
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or type(error).__name__})"
    if isinstance(error, socket.gaierror):
        return "the name cannot be resolved"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(error, http.client.HTTPException):
        return f"the answer is not HTTP ({type(error).__name__})"
    return f"no connection ({getattr(error, 'strerror', None) or type(error).__name__})"


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()
