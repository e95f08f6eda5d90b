"""Send messages to people through apprise. Nothing here raises, and nothing of an address is shown but its kind.

An address of a notifier is a secret as a whole, because many carry their token in the path. So the loggers below that
would write addresses are silent while a message is sent, and errors name only the kind of service. Every service has
its own thread, which is abandoned when it takes too long.
"""

import functools
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

TIMEOUT = 15.0
"""Seconds in which all services must have accepted a message."""
UNKNOWN = "unknown"

_THREADS = "rsu-alert"
_LOGGERS = ("apprise", "urllib3.connectionpool", "urllib3.util.retry", "requests", "asyncio", "paramiko", "slixmpp")


@dataclass(frozen=True)
class Delivery:
    """Whether a service accepted a message. `scheme` is its kind, as in its address before `://`."""

    scheme: str
    is_accepted: bool


def send(urls: Sequence[str], title: str, body: str, *, timeout: float = TIMEOUT) -> list[Delivery]:
    """Send a message to every address at once, and return which services accepted it, in the order of the addresses."""
    _be_silent()
    deadline = time.monotonic() + timeout
    results: list[Delivery | None] = [None] * len(urls)

    def deliver(index: int) -> None:
        results[index] = _deliver(urls[index], title, body)

    threads = [
        threading.Thread(target=deliver, args=(index,), name=f"{_THREADS}-{index}", daemon=True)
        for index in range(len(urls))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [result or Delivery(scheme_of(url), False) for result, url in zip(list(results), urls, strict=True)]


def scheme_of(url: str) -> str:
    """Return the kind of service of an address: a word that apprise knows, never another text."""
    scheme = url.split("://", 1)[0].lower()
    try:
        return scheme if scheme in _list_schemes() else UNKNOWN
    except Exception:
        return UNKNOWN


@functools.cache
def _list_schemes() -> frozenset[str]:
    """Return every kind of service that apprise knows. To describe them takes 45 ms, the first time a quarter of a second."""
    from apprise import Apprise

    return frozenset(
        scheme
        for plugin in Apprise().details()["schemas"]
        for scheme in (*(plugin.get("protocols") or ()), *(plugin.get("secure_protocols") or ()))
    )


def _deliver(url: str, title: str, body: str) -> Delivery:
    scheme = UNKNOWN
    try:
        from apprise import Apprise, NotifyFormat

        scheme = scheme_of(url)
        # The service itself: Apprise.notify would use threads that the end of the process waits for.
        service = Apprise.instantiate(url, suppress_exceptions=True)
        taken = service is not None and service.notify(body=body, title=title, body_format=NotifyFormat.TEXT)
        return Delivery(scheme, bool(taken))
    except Exception:  # whatever a notifier does, its text may contain the address
        return Delivery(scheme, False)


class _Silence(logging.Filter):
    """Drop what apprise writes, and what the libraries below it write in the threads that deliver."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.name != "apprise" and not str(record.threadName).startswith(_THREADS)


_SILENCE = _Silence()


def _be_silent() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_SILENCE)
