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
from functools import partial
from types import TracebackType

from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline.runsignup.pages import Page
from rsu_pipeline.runsignup.paging import NextPage
from rsu_pipeline.sync.page_ingest import StagedPage
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse.cursors import Position

THREAD_NAME = "next page"
NONE = 0
"""The highest registration id where RunSignup answers with no registration."""


class PageRequests:
    """The pages of one feed, one after the other. Use as a context manager.

    An empty page is no evidence of the end: it may be a transient empty response. So the highest registration of the
    feed is requested in place of a page that would be empty. Where the pass has come to it, nothing follows.
    """

    def __init__(
        self,
        request: Callable[[int], Page],
        stage: Callable[[Page], StagedPage] | None = None,
        request_last: Callable[[], Page] | None = None,
    ) -> None:
        """Read pages with `request`, which returns the page after a registration id, and stage those requested ahead.

        `request_last` returns a page with the highest registration. All may be called in another thread, but never by two at a
        time.
        """
        self._request = request
        self._stage = stage
        self._request_last = request_last
        self._last: Page | None = None
        self._highest = NONE
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=THREAD_NAME)
        self._next: Future[tuple[Page, float, StagedPage | None]] | None = None
        self.is_end_shown = False
        """Whether the highest registration showed that nothing follows."""
        self.is_end_contradicted = False
        """Whether an empty page ended the feed though RunSignup has a higher registration, or suddenly none at all."""

    def __enter__(self) -> "PageRequests":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def request_ahead(self, after: int, *, is_short: bool) -> None:
        """Request the page after a registration id, without waiting for it. It is the next one that is taken.

        `is_short` means that the page before had fewer rows than requested, so that this one is likely to be empty.
        """
        self._next = self._executor.submit(self._read_and_stage, after, is_short)

    def take(self, after: int, *, is_short: bool, again_if_empty: bool) -> tuple[Page, StagedPage | None]:
        """Return the page after a registration id: the one requested ahead, else a new one.

        One that was requested ahead comes with its lines if pages are staged ahead. `again_if_empty` requests a page once more if
        it has no rows, unless the highest registration shows that it is the end. `is_short` is as for `request_ahead`.

        Raises:
            ApiError: A call failed.
        """
        page, staged = self._take(after, is_short)
        if again_if_empty and not (_has_rows(page) or self.is_end_shown or self.is_end_contradicted):
            page, staged = self._request(after), None
        return page, staged

    def _take(self, after: int, is_short: bool) -> tuple[Page, StagedPage | None]:
        if self._next is None:
            return self._read(after, is_short), None
        ahead, self._next = self._next, None
        page, arrived, staged = ahead.result()
        waited = time.monotonic() - arrived
        return replace(page, elapsed=page.elapsed + waited, seconds=page.seconds + waited), staged

    def _read(self, after: int, is_short: bool) -> Page:
        """Return the page after a registration id, which is an empty one where nothing follows."""
        was_read = is_short and self._read_last(after)
        if end := self._end_at(after):
            return end
        page = self._request(after)
        if _has_rows(page):
            return page
        if not was_read and self._read_last(after) and (end := self._end_at(after)):
            return end
        if self._last is not None and (self._highest == NONE or self._highest > after):
            page = self._request(after)
            self.is_end_contradicted = not _has_rows(page)
        return page

    def _read_last(self, after: int) -> bool:
        """Request the highest registration of a pass that has come to one, if it is not known, and return whether it was."""
        if not after or self._request_last is None or (self._last is not None and self._highest != NONE):
            return False
        try:
            self._last = self._request_last()
        except ApiError as error:
            if error.cause is not Cause.UNKNOWN_SHAPE:
                raise
            # As where the highest registration is a row without a readable id.
            self._request_last = None
            return False
        self._highest = max((row.registration_id for row in self._last.rows), default=NONE)
        return True

    def _end_at(self, after: int) -> Page | None:
        """Return an empty last page if the highest registration is the one that the pass has come to.

        One with a lower id shows nothing: a server may ignore the order that was requested.
        """
        if self._last is None or self._highest != after or not after:
            return None
        self.is_end_shown = True
        return replace(self._last, rows=[], unreadable=[], next=NextPage(None))

    def _read_and_stage(self, after: int, is_short: bool) -> tuple[Page, float, StagedPage | None]:
        page, arrived = self._read(after, is_short), time.monotonic()
        return page, arrived, self._stage(page) if self._stage else None


def _has_rows(page: Page) -> bool:
    return bool(page.rows or page.unreadable)


def request_pages(
    session: PartnerSession, position: Position, stage: Callable[[Page], StagedPage] | None
) -> PageRequests:
    """Return the requests of a pass over active registrations. One that reads all shows its end by the highest registration."""
    ask = partial(session.client.participants_page, position.race_id, position.event_ids)

    def request(after: int) -> Page:
        return ask(
            after=after,
            size=session.settings.page_size,
            modified_after=position.modified_after,
            include=session.settings.include,
        )

    return PageRequests(request, stage, partial(ask, after=0, size=1, order="DESC") if position.reads_all else None)
