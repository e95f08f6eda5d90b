"""Pages of registrations as a simple script reads them: requests, decoded by its own JSON, one after the other."""

from collections.abc import Iterator
from typing import Any

import requests

from benchmarks.measure import Job, Partner, Read

Row = dict[str, Any]


def pages(session: requests.Session, work: Job, partner: Partner, read: Read) -> Iterator[list[Row]]:
    """Each page's rows; only a short page is known to be the last."""
    after: int | None = 0
    while after is not None:
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
        url = f"{work.api_url}/race/{read.race_id}/participants"
        response = session.get(url, params=params, timeout=60)
        response.raise_for_status()
        rows = [row for element in response.json() for row in element.get("participants", [])]
        yield rows
        after = max(row["registration_id"] for row in rows) if len(rows) == work.page_size else None
