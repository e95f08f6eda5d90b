"""Pages of RunSignup's feeds as the client returns them: rows, rows that cannot be used, and what shows where the feed goes on."""

from dataclasses import dataclass

from rsu_pipeline.runsignup.paging import NextPage
from rsu_pipeline.runsignup.payloads import Race, Registration


@dataclass(frozen=True)
class UnreadableRow:
    """A row that cannot be used, as received, and why."""

    raw: bytes
    reason: str
    registration_id: int | None = None


@dataclass(frozen=True)
class Page:
    """One page of registrations.

    `server_time` is the response's `Date` in Unix seconds. `is_longest` means that none of the latest pages of this feed had
    more rows in this client, so nothing shows that the server returns more than this at a time. `date`, `elapsed` and
    `seconds` are as in `transport.Response`.
    """

    rows: list[Registration]
    unreadable: list[UnreadableRow]
    next: NextPage
    server_time: int
    is_longest: bool = True
    date: int | None = None
    elapsed: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class RacePage:
    """One page of `/races`.

    `is_last` means that it shows the end of the listing. `is_short` means that it had fewer races than requested, which alone
    does not show the end.
    """

    races: list[Race]
    unreadable: list[UnreadableRow]
    is_last: bool
    server_time: int
    is_short: bool = False
