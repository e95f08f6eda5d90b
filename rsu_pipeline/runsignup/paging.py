"""Keyset paging over registrations, as pure functions on what a page brought."""

from collections.abc import Sequence
from dataclasses import dataclass

from rsu_pipeline.runsignup.errors import ApiError, Cause

TEMPLATE_REGISTRATION_ID = -1
"""The dummy row of `include_template_participant`; never asked for, always dropped."""


@dataclass(frozen=True)
class NextPage:
    """Where a pass stands after a page: `covered_to` is the last registration id up to which everything of the wanted
    events has been seen, None when that is everything."""

    covered_to: int | None

    @property
    def is_last(self) -> bool:
        return self.covered_to is None


def next_page(ids_by_element: Sequence[Sequence[int]], *, counts: Sequence[int], after: int, size: int) -> NextPage:
    """What follows a page asked for with `after_registration_id=after` and `results_per_page=size`.

    `ids_by_element` holds the readable registration ids of each element of the answer, in the order sent, `counts` how
    many rows each element brought. A page shorter than asked is the last. Which element carries the rows when several
    events are asked for is not settled; should each event be cut at `size` by itself, the pass goes on from the
    reached id that a cut element reached, so that none is jumped over.

    Raises ApiError when ids do not rise above `after` (a page sent again would loop for ever) or are not in order
    (keyset paging would lose rows).
    """
    for ids in ids_by_element:
        for previous, current in zip((after, *ids), ids, strict=False):
            if current <= after:
                raise ApiError(Cause.UNKNOWN_SHAPE, f"registration {current} again on the page after {after}")
            if current < previous:
                raise ApiError(Cause.UNKNOWN_SHAPE, f"registration {current} after {previous}: rows are not in order")
    full = [ids for ids, count in zip(ids_by_element, counts, strict=True) if count >= size]
    if full:
        reached = min((ids[-1] for ids in full if ids), default=None)
    elif sum(counts) >= size:
        reached = max((ids[-1] for ids in ids_by_element if ids), default=None)
    else:
        return NextPage(None)
    if reached is None:
        raise ApiError(Cause.UNKNOWN_SHAPE, "a full page without one readable registration_id")
    return NextPage(reached)
