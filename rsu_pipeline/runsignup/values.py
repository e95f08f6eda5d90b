"""Decode single values of RunSignup's payloads: money, flags, wall times and dates.

Each function takes a value from the JSON and returns the decoded value, or raises ValueError with a few words. None of them
invents a value for one it cannot read. Odd spellings with one possible meaning are read: white space, HTML entities, digits
of other scripts, AM and PM, seconds, offsets.
"""

import datetime as dt
import html
import re
import unicodedata
import zoneinfo
from decimal import Decimal
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

from rsu_pipeline.eastern import EASTERN

MAX_AMOUNT_CHARS = 40
"""Characters of an amount. PostgreSQL's numeric has a limit."""
MAX_VALUE_CHARS = 200
"""Characters of a text that is decoded to a value. A longer text is none."""
CENTURY = 2000
"""Century of a year with two digits, except in a birth date: RunSignup has no race from before it."""

_MONEY = re.compile(
    r"(\()?([-+]?) ?(?:US\$|USD|\$)? ?([-+]?)(\d{1,3}(?:,\d{3})+|\d+)?(\.\d+)?(?: ?(?:USD|\$))?(\))?", re.ASCII
)
_NUMBER = re.compile(r"[-+()\d.,' ]+", re.ASCII)
_DOLLARS = ("", "$", "US$", "USD")
_ZONES = {
    **dict.fromkeys(("Z", "UTC", "GMT"), 0),
    # The names of RFC 822, which mean an offset and not a place.
    "EDT": -4,
    "EST": -5,
    "CDT": -5,
    "CST": -6,
    "MDT": -6,
    "MST": -7,
    "PDT": -7,
    "PST": -8,
}
_DAY = r"(?:(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})|(\d{4})([-/])(\d{1,2})\5(\d{1,2}))"
_CLOCK = r"(\d{1,2})(?::(\d{2})(?::(\d{2})(?:[.,]\d{1,9})?)?)?(?: ?([AP])\.?M\.?)?"
_OFFSET = rf"({'|'.join(_ZONES)}|[-+]\d{{2}}(?::?\d{{2}})?)"
_TIME = re.compile(rf"{_DAY}(?:(?:,? |T){_CLOCK}(?: ?{_OFFSET})?)?", re.ASCII | re.IGNORECASE)
_NO_DATE = re.compile(r"(?:0000-00-00|00?/00?/0000)(?:[ T]00:00(?::00)?)?", re.ASCII)
_EPOCH = re.compile(r"\d{9,11}", re.ASCII)
_MIDNIGHT = (24, 0, 0)


class OtherCurrencyError(ValueError):
    """Raised for an amount of money in another currency than US dollars."""


def plain(text: str) -> str:
    """Return a text in normalized form: ASCII digits, no HTML entities, one space for any white space, none around it."""
    if text.isascii() and "&" not in text:
        return " ".join(text.split())
    if len(text) > MAX_VALUE_CHARS:
        return text
    text = unicodedata.normalize("NFKC", html.unescape(text)).replace("\u2212", "-").replace("\ufeff", " ")
    digits = (str(unicodedata.decimal(one)) if one.isdecimal() else one for one in text)
    return " ".join("".join(digits).split())


def money(text: str) -> Decimal:
    """Return the amount in `"$1,234.50"`, `"-$5.00"`, `"($5.00)"`, `"12.00 USD"`, `"55"`, exact to the digit.

    Raises:
        OtherCurrencyError: It is an amount in another currency, which is not converted.
        ValueError: It is no amount.
    """
    text = plain(text)
    match = _MONEY.fullmatch(text)
    negative = match is not None and [bool(match[1]), match[2] == "-", match[3] == "-"].count(True)
    if match is None or not (match[4] or match[5]) or bool(match[1]) != bool(match[6]) or negative > 1:
        if _is_other_currency(text):
            raise OtherCurrencyError("amount of money in another currency, kept as text")
        raise ValueError("not an amount of money")
    amount = Decimal((match[4] or "0").replace(",", "") + (match[5] or ""))
    if amount >= 10**12 or len(text) > MAX_AMOUNT_CHARS:
        raise ValueError("amount of money out of range")
    # Not `-amount`, which rounds to the context's precision.
    return amount.copy_negate() if negative else amount


def _is_other_currency(text: str) -> bool:
    """Return whether a text is one number beside the sign (€, CA$) or the letters (EUR, kr) of another currency."""
    mark = _NUMBER.sub("", text)
    if len(text) > MAX_AMOUNT_CHARS or mark in _DOLLARS or mark not in text or not any(one.isdigit() for one in text):
        return False
    return unicodedata.category(mark[-1]) == "Sc" or (mark.isalpha() and 2 <= len(mark) <= 3)


def flag(text: str) -> bool:
    """Return the bool in `"T"` or `"F"`, also as a word, a letter or a digit of the same meaning."""
    match plain(text).lower():
        case "t" | "true" | "y" | "yes" | "1":
            return True
        case "f" | "false" | "n" | "no" | "0":
            return False
    raise ValueError("not T or F")


def is_blank_date(text: str) -> bool:
    """Return whether a text means that there is no date: nothing, or a database's date of zeros."""
    text = plain(text)
    return not text or _NO_DATE.fullmatch(text) is not None


@lru_cache(maxsize=65536)
def wall_time(text: str, zone: dt.tzinfo | None = None) -> dt.datetime:
    """Return a wall time without zone. A date alone is midnight.

    Args:
        text: Any form that RunSignup uses for dates, or Unix seconds.
        zone: The zone of the returned wall time. A text with an offset is converted to it. Without a zone it is read as written.
    """
    time = _time(text)
    if time.tzinfo is None:
        return time
    if zone is None:
        return time.replace(tzinfo=None)
    return _in_range(time).astimezone(zone).replace(tzinfo=None)


@lru_cache(maxsize=65536)
def instant_in(text: str, zone: dt.tzinfo) -> dt.datetime:
    """Return the instant of a text, in UTC: by its own offset, else as wall time in the zone."""
    time = _time(text)
    return instant(time, zone) if time.tzinfo is None else _in_range(time).astimezone(dt.UTC)


def has_offset(text: str) -> bool:
    """Return whether a text names an instant by itself.

    Raises:
        ValueError: it is no time.
    """
    return _time(text).tzinfo is not None


def eastern_time(text: str) -> dt.datetime:
    """Return the instant of an Eastern wall time, in UTC.

    In the hour that November repeats, it is the first of the two. If order matters, use the epoch fields, which have no such
    hour.
    """
    return instant_in(text, EASTERN)


def instant(wall: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """Return the instant of a wall time in a zone, in UTC. Of an hour that occurs twice it is the first.

    The years 1 and 9999 are refused, because a day before or after them is out of range.
    """
    return _in_range(wall.replace(tzinfo=zone)).astimezone(dt.UTC)


def date(text: str) -> dt.date:
    """Return a calendar date. A year of two digits is refused: the century of a birth date would be a guess."""
    text = plain(text)
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("not a date or time in a known form")
    if match[3] and len(match[3]) == 2:
        raise ValueError("a year of two digits may be of either century")
    return _time(text).date()


@cache
def _zone_names() -> dict[str, str]:
    return {name.lower(): name for name in zoneinfo.available_timezones()}


def zone(name: str | None) -> ZoneInfo | None:
    """Return the named IANA zone, or None if RunSignup names none or an unknown one."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass
    known = _zone_names().get(plain(name[:MAX_VALUE_CHARS]).replace(" ", "_").lower())
    return ZoneInfo(known) if known else None


def race_zone(name: str | None) -> ZoneInfo:
    """Return the zone in which the times of a race are shown: the named one, else US Eastern."""
    return zone(name) or EASTERN


def _time(text: str) -> dt.datetime:
    """Return the time that a text names: with an offset if it has one, else without zone."""
    text = plain(text)
    if _EPOCH.fullmatch(text):
        return dt.datetime.fromtimestamp(int(text), dt.UTC)
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("not a date or time in a known form")
    us_month, us_day, us_year, iso_year, _, iso_month, iso_day, hour, minute, second, half, offset = match.groups()
    year = int(us_year or iso_year) + (CENTURY if us_year and len(us_year) == 2 else 0)
    day = dt.datetime(year, int(us_month or iso_month), int(us_day or iso_day))
    if hour is None:
        return day
    if minute is None and half is None:
        raise ValueError("not a date or time in a known form")
    clock = (_hour(int(hour), half), int(minute or 0), int(second or 0))
    try:
        time = (
            day + dt.timedelta(days=1)
            if clock == _MIDNIGHT
            else day.replace(hour=clock[0], minute=clock[1], second=clock[2])
        )
    except OverflowError:
        raise ValueError("time out of range") from None
    return time if offset is None else time.replace(tzinfo=_offset(offset.upper()))


def _hour(hour: int, half: str | None) -> int:
    """Return the hour of the day, 0 to 24, of one that may belong to a half of it."""
    if half is None:
        return hour
    is_afternoon = half in "Pp"
    if hour > 12 and is_afternoon:
        return hour
    if hour > 12 or (hour == 0 and is_afternoon):
        raise ValueError("hour and AM or PM contradict each other")
    return hour % 12 + (12 if is_afternoon else 0)


def _offset(text: str) -> dt.timezone:
    if text in _ZONES:
        return dt.timezone(dt.timedelta(hours=_ZONES[text]))
    digits = text[1:].replace(":", "").ljust(4, "0")
    span = dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return dt.timezone(-span if text[0] == "-" else span)


def _in_range(time: dt.datetime) -> dt.datetime:
    if not dt.MINYEAR < time.year < dt.MAXYEAR:
        raise ValueError("time out of range")
    return time
