"""Declare fields of settings, each with its environment variable, and parse their values.

A function that parses raises SettingsError, which names the variable.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rsu_pipeline import included_fields
from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.errors import SettingsError

DEFAULT_API_BASE_URL = "https://api.runsignup.com/rest"
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
USUAL_PORTS = {"http": "80", "https": "443"}
InFlightScope = Literal["all", "credential"]
BibPoll = Literal["watch", "sensor"]
LIST_FORMATS = ("csv", "raceresult")
"""Formats of start lists. start_lists/list_formats.py has their columns."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
SETTING = "setting"
"""The key in a field's metadata under which its Setting is."""
T = TypeVar("T")


def _shown(text: str) -> str:
    return sanitize_for_display(text, MAX_NAME_CHARS)


@dataclass(frozen=True)
class Setting:
    """A variable of the environment that a field of the settings is read from.

    `allowed` are its values in words, and `default` is the default in words where that is no value that can be written.
    """

    variable: str
    parse: Callable[[str], object]
    meaning: str
    allowed: str
    default: str | None


def setting(
    variable: str,
    default: T,
    parse: Callable[[str], T],
    meaning: str,
    *,
    allowed: str = "",
    default_words: str | None = None,
    is_secret: bool = False,
) -> T:
    """Declare a field of a dataclass that is read from a variable of the environment. A secret one has no place in its repr."""
    declared = Setting(variable, parse, meaning, allowed, default_words)
    return field(default=default, repr=not is_secret, metadata={SETTING: declared})


def number(variable: str, default: float, *, low: float, high: float, meaning: str) -> float:
    """Declare a field that is a number within bounds."""
    return setting(
        variable,
        default,
        partial(parse_number, variable, low=low, high=high),
        meaning,
        allowed=f"{low:g} to {high:,.16g}",
    )


def integer(variable: str, default: int, *, low: int, high: int, meaning: str, default_words: str | None = None) -> int:
    """Declare a field that is a whole number within bounds."""
    return setting(
        variable,
        default,
        partial(parse_integer, variable, low=low, high=high),
        meaning,
        allowed=f"{low} to {high:,}",
        default_words=default_words,
    )


def declared_settings(group: type) -> dict[str, Setting]:
    """Return the settings that a dataclass declares, by the names of its fields."""
    return {item.name: item.metadata[SETTING] for item in fields(group) if SETTING in item.metadata}


def read_fields(group: type, env: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a dataclass that are set in the environment. An empty variable counts as not set.

    Raises:
        SettingsError: a value cannot be used.
    """
    texts = {name: env.get(declared.variable, "").strip() for name, declared in declared_settings(group).items()}
    return {name: declared_settings(group)[name].parse(text) for name, text in texts.items() if text}


def parse_number(name: str, text: str, *, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name} is {_shown(text)!r}, but must be a number from {low:g} to {high:g}.") from None
    if not low <= value <= high:
        raise SettingsError(f"{name} is {_shown(text)}, but must be from {low:g} to {high:g}.")
    return value


def parse_integer(name: str, text: str, *, low: int, high: int) -> int:
    value = parse_number(name, text, low=low, high=high)
    if value != int(value):
        raise SettingsError(f"{name} is {value:g}, but must be a whole number from {low} to {high}.")
    return int(value)


def parse_zone(name: str, text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError(f"{name} is {_shown(text)!r}, but must be a time zone such as America/New_York.") from None


def parse_path(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:
        raise SettingsError(f"{name} is {_shown(text)!r}, which cannot be used as a folder ({error}).") from None


def parse_folder(name: str, text: str) -> Path:
    if not (path := Path(text)).is_absolute():
        raise SettingsError(
            f"{name} is {_shown(text)!r}, but must be the whole path of a folder, such as /srv/start-lists."
        )
    return path


def parse_list_format(text: str) -> str:
    if text not in LIST_FORMATS:
        raise SettingsError(f"RSU_START_LIST_FORMAT is {_shown(text)!r}, but must be one of {', '.join(LIST_FORMATS)}.")
    return text


def parse_base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, plain = parts.hostname, parts.port is None or parts.port > 0
    except ValueError:
        host, plain = None, False
    # The text itself may contain a password or a key, and is not repeated.
    if not (host and plain and parts.scheme in ("http", "https")) or set(text) & set("@?# ") or not text.isprintable():
        raise SettingsError(
            f"RSU_API_BASE_URL must be a plain https:// address such as {DEFAULT_API_BASE_URL}, without user or query."
        )
    if parts.scheme == "http" and host not in LOOPBACK_HOSTS:
        raise SettingsError("RSU_API_BASE_URL uses http://, which would send secrets in clear text: use https://.")
    return text.rstrip("/")


def parse_alert_urls(text: str) -> tuple[str, ...]:
    """Return addresses separated by commas or blanks. A comma may also be part of an address, if no new one begins after it."""
    found = tuple(
        url for part in re.split(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)", text) if (url := part.strip(", \t\r\n"))
    )
    # The addresses are secrets, and are not repeated.
    if not all(re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", url) and url.isprintable() for url in found):
        raise SettingsError(
            "RSU_ALERT_URLS must be a list of addresses in apprise's form, such as mailto://user:password@example.com, separated"
            " by commas or blanks."
        )
    return found


def parse_alert_link(text: str) -> str:
    try:
        parts = urlsplit(text)
        plain = bool(parts.hostname) and (parts.port is None or parts.port > 0) and parts.scheme in ("http", "https")
    except ValueError:
        plain = False
    if not plain or set(text) & set("@?# ") or not text.isprintable():
        raise SettingsError(
            "RSU_ALERT_LINK must be a plain address of the web UI such as https://hub.example.com, without user or query."
        )
    return text.rstrip("/")


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches an address. A name may lead anywhere."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def parse_ip_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise SettingsError("RSU_UI_ADDRESS must be an IP address of this machine such as 127.0.0.1.") from None


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return networks such as 10.0.0.0/8, separated by commas or blanks. An address is a network of itself."""
    found = []
    for part in re.split(r"[\s,]+", text):
        try:
            found += [ipaddress.ip_network(part)] if part else []
        except ValueError:
            raise SettingsError(
                f"RSU_WEBHOOK_NETWORKS has {_shown(part)!r}, but must be a list of networks such as 10.20.0.0/16, separated by"
                " commas."
            ) from None
    return tuple(found)


def parse_ui_origins(text: str) -> tuple[str, ...]:
    """Return the origins of the names. A name is reached by https unless it is written with http://."""
    found = []
    for part in re.split(r"[\s,]+", text.lower()):
        if not part:
            continue
        match = re.fullmatch(
            r"(?:(https?)://)?([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", part
        )
        if match is None:
            raise SettingsError(
                "RSU_UI_HOSTS must be a list of names of the web UI such as hub.example.com or hub.example.com:8443, separated by"
                " commas, with http:// before a name that is reached without TLS."
            )
        scheme, name, port = match[1] or "https", match[2], match[3]
        # A browser leaves the usual port out of Host and Origin.
        found.append(f"{scheme}://{name}" + (f":{port}" if port and port != USUAL_PORTS[scheme] else ""))
    return tuple(dict.fromkeys(found))


def parse_secret_keys(text: str) -> tuple[str, ...]:
    return tuple(key.strip() for key in text.split(",") if key.strip())


def parse_yes_or_no(name: str, text: str) -> bool:
    if text not in ("yes", "no"):
        raise SettingsError(f"{name} is {_shown(text)!r}, but must be 'yes' or 'no'.")
    return text == "yes"


def parse_database_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise SettingsError("RSU_DATABASE_URL must start with postgresql://, as in postgresql://user@host:5432/hub.")
    # SQLAlchemy, below dagster-postgres, knows only the long scheme name.
    return "postgresql://" + text.split("://", 1)[1]


def parse_bib_poll(text: str) -> BibPoll:
    if text == "watch":
        return "watch"
    if text == "sensor":
        return "sensor"
    raise SettingsError(f"RSU_BIB_POLL is {_shown(text)!r}, but must be 'watch' or 'sensor'.")


def parse_scope(text: str) -> InFlightScope:
    if text == "all":
        return "all"
    if text == "credential":
        return "credential"
    raise SettingsError(f"RSU_IN_FLIGHT_SCOPE is {_shown(text)!r}, but must be 'all' or 'credential'.")


def parse_include(text: str) -> tuple[str, ...]:
    try:
        return included_fields.parse_include(text)
    except ValueError as error:
        raise SettingsError(
            f"RSU_INCLUDE names {_shown(str(error))!r}, but must be all, none or a list of: {', '.join(included_fields.FLAGS)}."
        ) from None
