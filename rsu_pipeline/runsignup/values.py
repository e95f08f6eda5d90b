"""Single values of RunSignup's payloads, decoded: money, flags, wall times and dates.

Each function takes what the JSON held and returns the value, or raises ValueError with a few words; none of them
invents a value for one it cannot read.
"""

import datetime as dt
import re
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

EASTERN = ZoneInfo("America/New_York")
"""The zone of registration dates and of a race's `created` and `last_modified` (RunSignup's documentation)."""

LONGEST_AMOUNT = 40
"""Characters; PostgreSQL's numeric has an end."""

_MONEY = re.compile(r"(-?)\$?(-?)(\d{1,3}(?:,\d{3})+|\d+)?(\.\d+)?", re.ASCII)
_US_TIME = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})(?: (\d{1,2}):(\d{2})(?::(\d{2}))?)?", re.ASCII)
_ISO_TIME = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2}))?)?", re.ASCII)


def money(text: str) -> Decimal:
    """The amount in `"$1,234.50"`, `"-$5.00"`, `"55"`, exact to the digit."""
    text = text.strip()
    match = _MONEY.fullmatch(text)
    if match is None or not (match[3] or match[4]) or (match[1] and match[2]):
        raise ValueError("not an amount of money")
    amount = Decimal((match[3] or "0").replace(",", "") + (match[4] or ""))
    if amount >= 10**12 or len(text) > LONGEST_AMOUNT:
        raise ValueError("amount of money out of range")
    # Not `-amount`, which rounds to the context's precision.
    return amount.copy_negate() if match[1] or match[2] else amount


def flag(text: str) -> bool:
    """`"T"` or `"F"`."""
    if text == "T":
        return True
    if text == "F":
        return False
    raise ValueError("not T or F")


@lru_cache(maxsize=65536)
def wall_time(text: str) -> dt.datetime:
    """A wall time without zone, in any of the four forms RunSignup uses for dates; a date alone is midnight."""
    if match := _US_TIME.fullmatch(text):
        month, day, year, hour, minute, second = match.groups()
    elif match := _ISO_TIME.fullmatch(text):
        year, month, day, hour, minute, second = match.groups()
    else:
        raise ValueError("not a date or time in a known form")
    return dt.datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))


@lru_cache(maxsize=65536)
def eastern_time(text: str) -> dt.datetime:
    """The instant of an Eastern wall time, in UTC. In the hour that November repeats the first of the two is meant;
    where order matters use the epoch fields, which have no such hour."""
    return instant(wall_time(text), EASTERN)


def instant(wall: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """The instant of a wall time in a zone, in UTC; of an hour that comes twice the first. Those of the years 1 and 9999 are
    refused: a day before or after them cannot be told."""
    if not dt.MINYEAR < wall.year < dt.MAXYEAR:
        raise ValueError("time out of range")
    return wall.replace(tzinfo=zone).astimezone(dt.UTC)


def date(text: str) -> dt.date:
    """A calendar date in any of the four forms."""
    return wall_time(text).date()


def zone(name: str | None) -> ZoneInfo | None:
    """The named IANA zone, or None where RunSignup gives none or one that is not known here."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None
