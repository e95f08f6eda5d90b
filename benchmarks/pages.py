"""Pages of registrations as everybody but the pipeline requests them: one call with requests, one rule of paging."""

import json
from collections.abc import Iterator
from typing import Any

import requests

from benchmarks.measure import Job, Partner, Read

Row = dict[str, Any]


def page(session: requests.Session, work: Job, partner: Partner, read: Read, after: int) -> bytes:
    """Return the body of one page, with the registrations that follow the number `after`."""
    params = {
        "format": "json",
        "api_key": partner.key,
        "api_secret": partner.secret,
        "supports_nb": "T",
        "sort": "registration_id ASC",
        "event_id": ",".join(map(str, read.event_ids)),
        "results_per_page": str(work.page_size),
        "after_registration_id": str(after),
    }
    response = session.get(f"{work.api_url}/race/{read.race_id}/participants", params=params, timeout=60)
    response.raise_for_status()
    return response.content


def following(work: Job, rows: int, last: int) -> int | None:
    """Return the number that the next page begins after, or None if only a short page shows the end.

    Of the page before it are how many rows it had, and the highest number.
    """
    return last if rows == work.page_size else None


def pages(session: requests.Session, work: Job, partner: Partner, read: Read) -> Iterator[list[Row]]:
    """Yield each page's rows, decoded by Python's own JSON, one after the other, as a simple script reads them."""
    after: int | None = 0
    while after is not None:
        elements = json.loads(page(session, work, partner, read, after))
        rows = [row for element in elements for row in element.get("participants", [])]
        yield rows
        after = following(work, len(rows), max((row["registration_id"] for row in rows), default=0))
