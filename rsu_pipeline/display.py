"""Text from outside the program, made safe to repeat in messages, and counts and times as people read them."""

import datetime as dt
import re

MAX_NAME_CHARS = 60
"""Characters of a name, key or setting that a message repeats."""

_UTC_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d)(?::\d\d)? UTC")
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
    return "".join(one if one.isprintable() else " " if one.isspace() else "\ufffd" for one in text)


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 row`, `1,203 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def show_times_in(zone: dt.tzinfo, text: str) -> str:
    """Return text with each time in UTC that it names as wall time in a zone. Stored sentences have times in UTC."""
    return _UTC_TIME.sub(lambda found: format_time(dt.datetime.fromisoformat(f"{found[1]}+00:00"), zone), text)


def format_time(moment: dt.datetime, zone: dt.tzinfo) -> str:
    """Return an instant as wall time in a zone, with the zone's name."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"
