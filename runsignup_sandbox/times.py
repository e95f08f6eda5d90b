"""The simulated clock and the date formats of the API.

Every instant in the sandbox is Unix seconds (UTC). Zones only matter for text.
"""

import time
from datetime import UTC, date, datetime, timedelta
from email.utils import formatdate
from functools import lru_cache
from zoneinfo import ZoneInfo

EASTERN = ZoneInfo("America/New_York")
HOUR = 3600
DAY = 86400
TWO_DIGITS = tuple(f"{number:02}" for number in range(100))


class Clock:
    """Simulated Unix time that runs at `rate` simulated seconds per real second."""

    def __init__(self, start: float | None = None) -> None:
        self._base = time.time() if start is None else float(start)
        self._mark = time.monotonic()
        self._rate = 1.0
        self.skew = 0.0
        """Seconds the `Date` header is ahead of the simulated clock."""

    def now(self) -> float:
        return self._base + (time.monotonic() - self._mark) * self._rate

    def set(self, epoch: float) -> None:
        self._base = float(epoch)
        self._mark = time.monotonic()

    def advance(self, seconds: float) -> None:
        self.set(self.now() + seconds)

    def run_at(self, rate: float) -> None:
        self.set(self.now())
        self._rate = rate

    def header(self) -> str:
        """Return the value of the `Date` response header (RFC 1123, GMT, whole seconds)."""
        return formatdate(int(self.now() + self.skew), usegmt=True)


def minute_text(epoch: float, zone: ZoneInfo = EASTERN) -> str:
    """Format a moment as `M/D/YYYY HH:MM` in `zone`: month and day unpadded, hour padded."""
    moment = datetime.fromtimestamp(epoch, zone)
    return f"{moment.month}/{moment.day}/{moment.year} {moment.hour:02}:{moment.minute:02}"


@lru_cache(maxsize=1 << 17)
def _eastern_hour(hour: int) -> str:
    """Format an hour counted from 1970 as `M/D/YYYY HH:` in US Eastern time."""
    moment = datetime.fromtimestamp(hour * HOUR, EASTERN)
    return f"{moment.month}/{moment.day}/{moment.year} {moment.hour:02}:"


def eastern_minute_text(epoch: int) -> str:
    """Format a moment as `minute_text` does, in US Eastern time (always whole hours from UTC), but faster."""
    return _eastern_hour(epoch // HOUR) + TWO_DIGITS[epoch % HOUR // 60]


def second_text(epoch: float) -> str:
    """Format a moment as `YYYY-MM-DD HH:MM:SS` in US Eastern time (the removed-participants form)."""
    return datetime.fromtimestamp(int(epoch), EASTERN).isoformat(" ")[:19]


def day_text(day: date | None) -> str | None:
    """Format a day as zero-padded `MM/DD/YYYY`, or None."""
    return None if day is None else day.strftime("%m/%d/%Y")


def day_of(epoch: float, zone: ZoneInfo = EASTERN) -> date:
    return datetime.fromtimestamp(epoch, zone).date()


def parse_minute_text(text: str, zone: ZoneInfo) -> float:
    """Parse `M/D/YYYY HH:MM` wall time in `zone` to Unix seconds, the first of two in a fold."""
    return datetime.strptime(text, "%m/%d/%Y %H:%M").replace(tzinfo=zone).timestamp()


def parse_request_day(text: str, now: float) -> date:
    """Parse a request's date parameter to an Eastern calendar day. Raise ValueError if it is none."""
    if text == "today":
        return day_of(now)
    if text == "tomorrow":
        return day_of(now) + timedelta(days=1)
    if text.lstrip("-").isdigit():
        return day_of(int(text))
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()


def parse_request_moment(text: str, now: float) -> float:
    """Parse a request's date parameter to Unix seconds: a timestamp itself, or a day's Eastern midnight."""
    if text.lstrip("-").isdigit():
        return float(text)
    day = parse_request_day(text, now)
    return datetime(day.year, day.month, day.day, tzinfo=EASTERN).timestamp()
