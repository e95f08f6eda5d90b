"""Split event ids so that each part fits one address."""

from collections.abc import Sequence

MAX_EVENT_LIST_CHARS = 6000
"""Characters of `event_id` in one call's address. Servers refuse addresses of about 8,000."""


def split_by_address(event_ids: Sequence[int]) -> list[tuple[int, ...]]:
    """Split event ids into the fewest parts that each fit one address, usually one. Each part is read separately."""
    parts: list[list[int]] = []
    length = 0
    for event_id in event_ids:
        # In the address a comma is three characters.
        added = len(str(event_id)) + 3
        if parts and length + added <= MAX_EVENT_LIST_CHARS:
            parts[-1].append(event_id)
        else:
            parts.append([event_id])
            length = 0
        length += added
    return [tuple(part) for part in parts]
