"""Convert RunSignup's races and events to the warehouse's rows.

A field that does not fit its column becomes NULL and is named in the faults. The payload stored beside it still has what
was received.
"""

import datetime as dt
import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec

from rsu_pipeline.display import sanitize_for_display
from rsu_pipeline.eastern import EASTERN
from rsu_pipeline.runsignup import values
from rsu_pipeline.runsignup.payload_decoding import decode_events, members_of
from rsu_pipeline.runsignup.payloads import Event, Race
from rsu_pipeline.runsignup.text_repair import without_nul

T = TypeVar("T")

MAX_NAMED_CHARS = 60
"""Characters of a text from outside that a fault repeats."""


def race_row(race: Race) -> tuple[dict[str, object], list[str]]:
    """Return a race as a row of `runsignup_races`, and its field errors."""
    faults = list(race.faults)
    payload = _payload(race.raw, faults, without="events")
    if race.timezone and values.zone(race.timezone) is None:
        faults.append(
            f"timezone: {sanitize_for_display(race.timezone, MAX_NAMED_CHARS)!r} is not known; US Eastern is used"
        )
    elif not race.timezone and any(_needs_zone(event) for event in decode_events(race)[0]):
        faults.append("timezone: missing; US Eastern is used for the times of its events")
    row: dict[str, object] = {
        "race_id": race.race_id,
        "address": race.address,
        "timezone": race.timezone,
        "payload": payload,
    }
    for name in "name description url external_race_url external_results_url logo_url fb_page_id fb_event_id".split():
        row[name] = _optional_text(getattr(race, name))
    for name in "last_date last_end_date next_date next_end_date created last_modified".split():
        zone = EASTERN if name in ("created", "last_modified") else None
        row[name] = _time(name, getattr(race, name), partial(values.wall_time, zone=zone), faults)
    for name in "is_draft_race is_private_race is_registration_open real_time_notifications_enabled".split():
        row[name] = _optional(name, getattr(race, name), values.flag, faults)
    return _without_nul(row), faults


def event_row(event: Event, race: Race, *, assumed_hours: float) -> tuple[dict[str, object], list[str]]:
    """Return an event as a row of `runsignup_events`, with its times also as instants, and its field errors.

    `ends_at` is RunSignup's end. If there is none, as nearly always, or if it is before the start, it is assumed:
    `assumed_hours` after the start, and a day after a start at 00:00, which names the day and not the hour.
    """
    faults = list(event.faults)
    zone = values.zone(race.timezone)
    row: dict[str, object] = {
        "event_id": event.event_id,
        "race_id": race.race_id,
        "race_event_days_id": _fitting("race_event_days_id", event.race_event_days_id, faults),
        "is_bundle": bool(parts := _sub_events(event, faults)),
        "sub_event_ids": parts,
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
        sent = getattr(event, name)
        # If the zone is not known, a time with an offset stays as written: its instant is known all the same.
        row[name] = _time(name, sent, partial(values.wall_time, zone=zone), faults)
        if derived:
            instant = partial(values.instant_in, zone=zone or EASTERN)
            row[derived] = row[name] and _time(name, sent, instant, faults)
    row["ends_at"] = _ends_at(row["starts_at"], row["ends_at"], str(row["start_time"]), assumed_hours)
    row["age_calc_base_date"] = _time("age_calc_base_date", event.age_calc_base_date, values.date, faults)
    return _without_nul(row), faults


def _optional(name: str, value: object, parse: Callable[[str], T], faults: list[str]) -> T | None:
    if value is None or value == "":
        return None
    try:
        return parse(str(value))
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return None


def _time(name: str, value: object, parse: Callable[[str], dt.date], faults: list[str]) -> str | None:
    """Return a date or time in ISO form, or None and a field error for an unreadable one."""
    if value is not None and values.is_blank_date(str(value)):
        return None
    time = _optional(name, value, parse, faults)
    return time.isoformat() if time else None


def _ends_at(starts_at: object, ends_at: object, start_time: str, assumed_hours: float) -> object:
    """Return the end as an ISO instant: the one received, or the assumed one if that is missing or before the start."""
    if starts_at is None:
        return ends_at
    start = dt.datetime.fromisoformat(str(starts_at))
    if ends_at is not None and dt.datetime.fromisoformat(str(ends_at)) >= start:
        return ends_at
    is_all_day = start_time.endswith("T00:00:00")
    return (start + (dt.timedelta(days=1) if is_all_day else dt.timedelta(hours=assumed_hours))).isoformat()


def _needs_zone(event: Event) -> bool:
    """Return whether the instant of a time of an event depends on the zone of its race."""
    try:
        return any(not values.has_offset(str(text)) for text in (event.start_time, event.end_time) if text)
    except ValueError:
        return False


def _sub_events(event: Event, faults: list[str]) -> list[int]:
    sent = event.sub_event_ids if isinstance(event.sub_event_ids, list) else []
    return [event_id for event_id in sent if _fitting("sub_event_ids", event_id, faults) is not None]


def _fitting(name: str, value: int | None, faults: list[str]) -> int | None:
    if value is not None and not -(2**63) <= value < 2**63:
        faults.append(f"{name}: out of range")
        return None
    return value


def _payload(raw: bytes, faults: list[str], *, without: str = "") -> dict[str, object]:
    """Return what was received, except one field and numbers that no computer can store."""
    kept: dict[str, object] = {}
    for name, member in members_of(raw).items():
        if name == without:
            continue
        try:
            kept[name] = msgspec.json.decode(member)
        except msgspec.DecodeError:
            faults.append(f"{sanitize_for_display(name, MAX_NAMED_CHARS)}: cannot be kept in the payload")
    return kept


def _optional_text(value: object) -> str | None:
    return None if value is None else str(value)


def _distance(text: object) -> str | None:
    match = re.match(r"\s*([0-9]{1,7}(?:\.[0-9]+)?)", str(text)[:100]) if text is not None else None
    return match[1] if match else None


def _without_nul(row: dict[str, object]) -> dict[str, object]:
    """Return a row with U+FFFD for NUL characters, which PostgreSQL's text cannot store."""
    encoded = msgspec.json.encode(row)
    if (whole := without_nul(encoded)) == encoded:
        return row
    cleaned: dict[str, object] = msgspec.json.decode(whole)
    return cleaned
