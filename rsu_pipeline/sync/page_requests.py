"""Requests of a feed's pages: the next page is requested, and its lines built, while the one before it is stored.

What comes next is known as soon as a page is decoded. So RunSignup is waited for and PostgreSQL is written to at the same time. The
lines of a page that is all new are built in that time too: it took a seventh of the clock of a large race's first load.
A pass makes one call at a time all the same: each takes its concurrency slot from the call ledger when it is sent and gives it
back when it is answered, and the next page is requested only after the page before it was taken.

A page that was requested ahead is lost with its pass, and requested again by the next one. A pass that ends early, by a failure or
a signal, first waits for the call under way, so that its slot is given back.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType

from rsu_pipeline.runsignup.pages import Page
from rsu_pipeline.sync.page_ingest import StagedPage

THREAD_NAME = "next page"


class PageRequests:
    """The pages of one feed, one after the other. Use as a context manager."""

    def __init__(self, request: Callable[[int], Page], stage: Callable[[Page], StagedPage] | None = None) -> None:
        """Read pages with `request`, which returns the page after a registration id, and stage those requested ahead.

        Both may be called in another thread, but never by two at a time.
        """
        self._request = request
        self._stage = stage
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=THREAD_NAME)
        self._next: Future[tuple[Page, float, StagedPage | None]] | None = None

    def __enter__(self) -> "PageRequests":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def request_ahead(self, after: int) -> None:
        """Request the page after a registration id, without waiting for it. It is the next one that is taken."""
        self._next = self._executor.submit(self._request_and_stage, after)

    def take(self, after: int, *, again_if_empty: bool) -> tuple[Page, StagedPage | None]:
        """Return the page after a registration id: the one requested ahead, else a new one.

        One that was requested ahead comes with its lines if pages are staged ahead. `again_if_empty` requests a page once more if
        it has no rows.

        Raises:
            ApiError: A call failed.
        """
        page, staged = self._take(after)
        if again_if_empty and not (page.rows or page.unreadable):
            page, staged = self._take(after)
        return page, staged

    def _take(self, after: int) -> tuple[Page, StagedPage | None]:
        if self._next is None:
            return self._request(after), None
        ahead, self._next = self._next, None
        page, arrived, staged = ahead.result()
        waited = time.monotonic() - arrived
        return replace(page, elapsed=page.elapsed + waited, seconds=page.seconds + waited), staged

    def _request_and_stage(self, after: int) -> tuple[Page, float, StagedPage | None]:
        page, arrived = self._request(after), time.monotonic()
        return page, arrived, self._stage(page) if self._stage else None
