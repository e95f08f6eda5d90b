"""Text from outside the program, made safe to repeat in messages, and counts and times as people read them."""

import datetime as dt
import re

MAX_NAME_CHARS = 60
"""Characters of a name, key or setting that a message repeats."""

_UTC_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d)(?::\d\d)? UTC")
_JOINERS = "\u200c\u200d"
"""They join or part the letters beside them: part of the spelling in Persian, Malayalam and Sinhala, and of many emoji."""
_BREAKS = re.compile(r"[\t-\r\x1c-\x1f\x85\u2028\u2029]")
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKUP = str.maketrans("<>[]`", "‹›()'")


def sanitize_for_display(text: str, max_chars: int) -> str:
    """Return text from outside as part of a sentence: short, printable and on one line.

    A sentence goes to terminals, logs, messages and the web UI alike. So characters that HTML or Markdown reads as markup
    are replaced, and control characters too.
    """
    cut = text if len(text) <= max_chars else text[: max_chars - 1] + "…"
    return make_printable(cut).translate(_MARKUP)


def make_printable(text: str) -> str:
    """Return text from outside on one line, of characters that print.

    Control characters, escape sequences and marks that change the direction of writing can steer a terminal or disguise
    what is next to them.
    """
    return "".join(one if one.isprintable() or one in _JOINERS else " " if one.isspace() else "\ufffd" for one in text)


def put_on_one_line(text: str) -> str:
    """Return text for a cell of a file: as it is, without control characters and marks that turn the direction of writing.

    A program that scores or prints has a font and a Unicode of its own. What this one does not know is not for it to replace.
    """
    return _STEERING.sub("\ufffd", _BREAKS.sub(" ", text))


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 row`, `1,203 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def show_times_in(zone: dt.tzinfo, text: str) -> str:
    """Return text with each time in UTC that it names as wall time in a zone. Stored sentences have times in UTC."""
    return _UTC_TIME.sub(lambda found: format_time(dt.datetime.fromisoformat(f"{found[1]}+00:00"), zone), text)


def format_utc(moment: dt.datetime) -> str:
    """Return an instant as stored sentences have it, so that `show_times_in` finds it."""
    return format_time(moment, dt.UTC)


def format_time(moment: dt.datetime, zone: dt.tzinfo) -> str:
    """Return an instant as wall time in a zone, with the zone's name."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"
