"""From RunSignup's races and events to the warehouse's rows.

A member that does not fit its column becomes NULL and is named in the faults; the payload kept beside it still has
what was sent.
"""

import datetime as dt
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from rsu_pipeline.runsignup import values
from rsu_pipeline.runsignup.errors import words
from rsu_pipeline.runsignup.mending import without_nul
from rsu_pipeline.runsignup.payloads import Event, Race, members_of

T = TypeVar("T")

LONGEST_NAMED = 60
"""Characters of a text from outside that a fault repeats."""


def race_row(race: Race) -> tuple[dict[str, object], list[str]]:
    """A race as a row of `runsignup_races`, and what of it did not fit."""
    faults = list(race.faults)
    payload = _payload(race.raw, faults, without="events")
    if race.timezone and values.zone(race.timezone) is None:
        faults.append(f"timezone: {words(race.timezone, LONGEST_NAMED)!r} is not known; US Eastern is used")
    row: dict[str, object] = {
        "race_id": race.race_id,
        "address": race.address,
        "timezone": race.timezone,
        "payload": payload,
    }
    for name in "name description url external_race_url external_results_url logo_url fb_page_id fb_event_id".split():
        row[name] = _optional_text(getattr(race, name))
    for name in "last_date last_end_date next_date next_end_date created last_modified".split():
        row[name] = _optional(name, getattr(race, name), lambda text: values.wall_time(text).isoformat(), faults)
    for name in "is_draft_race is_private_race is_registration_open real_time_notifications_enabled".split():
        row[name] = _optional(name, getattr(race, name), values.flag, faults)
    return _without_nul(row), faults


def event_row(event: Event, race: Race) -> tuple[dict[str, object], list[str]]:
    """An event as a row of `runsignup_events`, its times also as instants, and what of it did not fit."""
    faults = list(event.faults)
    zone = values.zone(race.timezone) or values.EASTERN
    row: dict[str, object] = {
        "event_id": event.event_id,
        "race_id": race.race_id,
        "race_event_days_id": _fitting("race_event_days_id", event.race_event_days_id, faults),
        "is_bundle": bool(event.sub_event_ids),
        "sub_event_ids": [id for id in event.sub_event_ids or [] if _fitting("sub_event_ids", id, faults) is not None],
        "gone_at": None,
        "payload": _payload(event.raw, faults),
        "distance": _distance(event.distance),
        "distance_text": _optional_text(event.distance),
    }
    for name in "name details giveaway event_type".split():
        row[name] = _optional_text(getattr(event, name))
    for name in "volunteer require_dob require_phone".split():
        row[name] = _optional(name, getattr(event, name), values.flag, faults)
    for name, derived in (("start_time", "starts_at"), ("end_time", "ends_at"), ("registration_opens", None)):
        wall = _optional(name, getattr(event, name), values.wall_time, faults)
        row[name] = wall.isoformat() if wall else None
        if derived:
            row[derived] = _instant(name, wall, zone, faults)
    base = _optional("age_calc_base_date", event.age_calc_base_date, values.date, faults)
    row["age_calc_base_date"] = base.isoformat() if base else None
    return _without_nul(row), faults


def _optional(name: str, value: object, parse: Callable[[str], T], faults: list[str]) -> T | None:
    if value is None or value == "":
        return None
    try:
        return parse(str(value))
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return None


def _instant(name: str, wall: dt.datetime | None, zone: dt.tzinfo, faults: list[str]) -> str | None:
    try:
        return values.instant(wall, zone).isoformat() if wall else None
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return None


def _fitting(name: str, value: int | None, faults: list[str]) -> int | None:
    if value is not None and not -(2**63) <= value < 2**63:
        faults.append(f"{name}: out of range")
        return None
    return value


def _payload(raw: bytes, faults: list[str], *, without: str = "") -> dict[str, object]:
    """What was sent, but for one member and for numbers that no computer holds."""
    kept: dict[str, object] = {}
    for name, member in members_of(raw).items():
        if name == without:
            continue
        try:
            kept[name] = msgspec.json.decode(member)
        except msgspec.DecodeError:
            faults.append(f"{words(name, LONGEST_NAMED)}: cannot be kept in the payload")
    return kept


def _optional_text(value: object) -> str | None:
    return None if value is None else str(value)


def _distance(text: object) -> str | None:
    match = re.match(r"\s*([0-9]{1,7}(?:\.[0-9]+)?)", str(text)[:100]) if text is not None else None
    return match[1] if match else None


def _without_nul(row: dict[str, object]) -> dict[str, object]:
    """PostgreSQL's text has no NUL character; U+FFFD stands in."""
    encoded = msgspec.json.encode(row)
    if (whole := without_nul(encoded)) == encoded:
        return row
    cleaned: dict[str, object] = msgspec.json.decode(whole)
    return cleaned
