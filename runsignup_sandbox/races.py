"""Races, their editions and events, and the JSON objects they are served as."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo

from runsignup_sandbox.people import Place, Row, money
from runsignup_sandbox.times import DAY, day_of, day_text, minute_text


@dataclass(slots=True)
class Event:
    """One event of one edition. `start`, `end` and `opens` are Unix seconds or None.

    `days_id` (the API's race_event_days_id) is shared by all events of an edition. `fields` are members that replace what would be
    served, whatever their value.
    """

    id: int
    race_id: int
    days_id: int
    name: str
    start: float | None
    end: float | None = None
    opens: float | None = None
    age_base: float | None = None
    """The start as first planned. Ages are as of that day, so a move changes no row."""
    event_type: str = "running_race"
    distance: str | None = "5K"
    volunteer: bool = False
    fee_cents: int = 5500
    sub_event_ids: list[int] = field(default_factory=list)
    fields: Row = field(default_factory=dict)

    def last_day(self, zone: ZoneInfo) -> date | None:
        """Return the calendar day in `zone` on which the event ends, or starts if it has no end."""
        moment = self.end if self.end is not None else self.start
        return None if moment is None else day_of(moment, zone)


@dataclass(slots=True)
class Race:
    """A race with all its editions. `created` and `modified` are Unix seconds.

    `partners` are the numbers of the partners whose keys reach it. `fields` are as in Event.
    """

    id: int
    name: str
    place: Place
    partners: set[int]
    created: int
    modified: int
    private: bool = False
    draft: bool = False
    timezone: str = ""
    description: str | None = "<p>An invented race.</p>\r\n"
    event_ids: list[int] = field(default_factory=list)
    fields: Row = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.timezone = self.timezone or self.place.timezone

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


@dataclass(frozen=True, slots=True)
class Edition:
    """The events of one race_event_days_id and the span of days (race zone) they cover."""

    days_id: int
    events: Sequence[Event]
    first: date | None
    last: date | None


def editions_of(race: Race, events: Sequence[Event]) -> list[Edition]:
    """Return the race's editions, undated ones last."""
    zone = race.zone
    groups: dict[int, list[Event]] = {}
    for event in events:
        groups.setdefault(event.days_id, []).append(event)
    editions = []
    for days_id, group in groups.items():
        firsts = [day_of(event.start, zone) for event in group if event.start is not None]
        lasts = [day for event in group if (day := event.last_day(zone))]
        editions.append(Edition(days_id, group, min(firsts, default=None), max(lasts, default=None)))
    return sorted(editions, key=lambda edition: (edition.first or date.max, edition.days_id))


def next_and_last(race: Race, editions: Sequence[Edition], now: float) -> tuple[Edition | None, Edition | None]:
    """Return the earliest edition that is not over (else None) and the latest that is over (else None)."""
    today = day_of(now, race.zone)
    coming = [edition for edition in editions if edition.last and edition.last >= today]
    over = [edition for edition in editions if edition.last and edition.last < today]
    return (coming[0] if coming else None), (over[-1] if over else None)


def current_edition(race: Race, editions: Sequence[Edition], now: float) -> Edition | None:
    """Return the edition that a listing shows: the next one, or the latest when all are past."""
    coming, over = next_and_last(race, editions, now)
    return coming or over or (editions[-1] if editions else None)


def race_object(race: Race, editions: Sequence[Edition], now: float) -> Row:
    """Return the members that a race has in the list and alone, without events."""
    coming, over = next_and_last(race, editions, now)
    slug = "".join(char for char in race.name if char.isalnum() and char.isascii())
    row: Row = {
        "race_id": race.id,
        "name": race.name,
        "last_date": day_text(over.first) if over else None,
        "last_end_date": day_text(over.last) if over else None,
        "next_date": day_text(coming.first) if coming else None,
        "next_end_date": day_text(coming.last) if coming else None,
        "is_draft_race": "T" if race.draft else "F",
        "is_private_race": "T" if race.private else "F",
        "is_registration_open": "T" if coming else "F",
        "created": minute_text(race.created),
        "last_modified": minute_text(race.modified),
        "description": race.description,
        "url": f"https://sandbox.example.test/Race/{race.place.state}/{race.place.city.replace(' ', '')}/{slug}",
        "external_race_url": None,
        "external_results_url": None,
        "fb_page_id": None,
        "fb_event_id": None,
        "address": {
            "street": "12 Pond Rd",
            "street2": None,
            "city": race.place.city,
            "state": race.place.state,
            "zipcode": race.place.zipcode,
            "country_code": "US",
        },
        "timezone": race.timezone,
        "logo_url": f"https://cdn.example.test/logo-{race.id}.png",
        "real_time_notifications_enabled": "F",
    }
    row.update(race.fields)
    return row


def event_object(event: Event, zone: ZoneInfo) -> Row:
    """Return an event as served. Its times are wall times of the race's `zone`."""
    periods = []
    opens = None if event.opens is None else minute_text(event.opens, zone)
    if event.opens is not None and event.start is not None:
        closes = minute_text(event.start - DAY / 2, zone)
        fee = money(event.fee_cents)
        periods = [
            {"registration_opens": opens, "registration_closes": closes, "race_fee": fee, "processing_fee": "$5.50"}
        ]
    row: Row = {
        "event_id": event.id,
        "race_event_days_id": event.days_id,
        "name": event.name,
        "details": None,
        "start_time": None if event.start is None else minute_text(event.start, zone),
        "end_time": None if event.end is None else minute_text(event.end, zone),
        "age_calc_base_date": None,
        "registration_opens": opens,
        "event_type": event.event_type,
        "distance": event.distance,
        "volunteer": "T" if event.volunteer else "F",
        "require_dob": "F" if event.volunteer else "T",
        "require_phone": "T",
        "registration_periods": periods,
        "sub_event_ids": event.sub_event_ids,
        "giveaway": None,
    }
    row.update(event.fields)
    return row
