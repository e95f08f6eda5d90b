"""Keyset paging over registrations, as pure functions of the rows of a page."""

from collections import deque
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

from rsu_pipeline.runsignup.api_errors import ApiError, Cause

TEMPLATE_REGISTRATION_ID = -1
"""The dummy row of `include_template_participant`, which is never requested and always dropped."""
REMEMBERED_PAGES = 50
"""Pages of a feed by which the server's limit is estimated. A server may lower it at any time, and a watch runs for hours."""


@dataclass(frozen=True)
class NextPage:
    """How far a pass has come after a page.

    `covered_to` is the last registration id up to which everything of the wanted events has been seen, None if that is
    everything. `is_short` means that the page had fewer rows than requested. RunSignup may return fewer than it has,
    so a short page alone does not end a feed.
    """

    covered_to: int | None
    is_short: bool = False

    @property
    def is_last(self) -> bool:
        return self.covered_to is None

    @property
    def is_repetition(self) -> bool:
        """Whether the page repeated what was seen before, and had nothing else."""
        return self.is_last and self.is_short


def next_page(ids_by_event: Collection[Sequence[int]], *, unread: int, after: int, size: int) -> NextPage:
    """Return what follows a page that was requested with `after_registration_id=after` and `results_per_page=size`.

    Only an empty page is the last. After a short page the pass continues from its highest id. Whether RunSignup cuts at
    `size` all rows together or those of each event is not known: an event that filled the page by itself may have been cut, so
    the pass continues from the lowest id that such an event reached, so that the others' rows are not skipped.

    Args:
        ids_by_event: the registration ids of each event on the page, in the order received.
        unread: the number of rows besides, whose ids could not be read.
        after: the registration id after which the page was requested.
        size: the rows requested.

    Raises:
        ApiError: ids do not rise above `after` (a repeated page would loop endlessly), are not in order (keyset paging would
            lose rows), or unreadable rows alone fill a page (they hide where it was cut).
    """
    is_short = sum(map(len, ids_by_event)) + unread < size
    if is_short and ids_by_event and max(ids[-1] for ids in ids_by_event) == after and not unread:
        # Everything again, up to the last id seen: such a server ignores the keyset and had sent all it has.
        return NextPage(None, is_short=True)
    for ids in ids_by_event:
        for previous, current in zip((after, *ids), ids, strict=False):
            if current <= after:
                raise ApiError(Cause.UNKNOWN_SHAPE, f"registration {current} again on the page after {after}")
            if current < previous:
                raise ApiError(Cause.UNKNOWN_SHAPE, f"registration {current} after {previous}: rows are not in order")
    if unread >= size:
        raise ApiError(Cause.UNKNOWN_SHAPE, f"{unread} rows without a readable registration_id fill the page")
    if not ids_by_event:
        return NextPage(None)
    if is_short:
        return NextPage(max(ids[-1] for ids in ids_by_event), is_short=True)
    # An unread row may belong to any event.
    filled = [ids[-1] for ids in ids_by_event if len(ids) + unread >= size]
    return NextPage(min(filled) if filled else max(ids[-1] for ids in ids_by_event))


class PageLengths:
    """The lengths of a feed's latest pages, which show how many rows the server returns at a time.

    A short page that turns out to be followed by more shows that the server now returns no more than that, regardless of earlier
    pages.
    """

    def __init__(self) -> None:
        self._lengths: deque[int] = deque(maxlen=REMEMBERED_PAGES)
        self._short: tuple[Hashable, int | None, int] | None = None

    def note(self, feed_part: Hashable, after: int, sent: int, following: NextPage) -> bool:
        """Note a page, and return whether none of the latest had more rows.

        Args:
            feed_part: what the pass reads: race, events and cursor.
            after: the registration id after which the page was requested.
            sent: the rows that it had.
            following: how far the pass has come after it.
        """
        if self._short is not None and self._short[:2] == (feed_part, after) and following.covered_to is not None:
            self._lengths.clear()
            self._lengths.append(self._short[2])
        is_longest = sent >= max(self._lengths, default=0)
        self._lengths.append(sent)
        self._short = (feed_part, following.covered_to, sent) if following.is_short else None
        return is_longest
