"""Decide between full and incremental reads: a pure function of what is stored, the settings and the present.

Both kinds of read cost a call per page. An incremental visit adds one for the removed registrations. A full one shows by
itself what is gone and repairs what an incremental read cannot see.
"""

import datetime as dt
import itertools
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rsu_pipeline.included_fields import NONE, format_include
from rsu_pipeline.runsignup.event_ids import split_by_address
from rsu_pipeline.sync import cadence
from rsu_pipeline.warehouse import foreign_writes
from rsu_pipeline.warehouse.cursors import EventCursor, Mode
from rsu_pipeline.warehouse.events import StoredEvent

FIRST_READ = "first read"
SMALL_RACE = "small enough for one call"
OTHER_FIELDS = "other optional fields are requested than before"
_DISTANT: tuple[cadence.Tier, ...] = ("later", "undated")


@dataclass(frozen=True)
class PlannedEvent:
    """An upcoming event, its tier, and its next read. `closes_at` is when it was over, None except for a closing read."""

    event: StoredEvent
    tier: cadence.Tier
    mode: Mode
    reason: str
    closes_at: dt.datetime | None = None

    def row(self) -> dict[str, object]:
        """Return it as a row of `future_events`."""
        return {
            "event_id": self.event.event_id,
            "race_id": self.event.race_id,
            "tier": self.tier,
            "starts_at": self.event.starts_at,
            "over_at": cadence.over_at(self.event.starts_at, self.event.ends_at),
            "next_read": self.mode,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class PlannedRead:
    """One pass over some events of a race.

    `modified_after` is the cursor of an incremental one. `closes_at` is when the last of its events that need a closing read was
    over: the race's events are requested first, because a start may have moved.
    """

    race_id: int
    race_name: str
    event_ids: tuple[int, ...]
    mode: Mode
    reason: str
    modified_after: int | None = None
    closes_at: dt.datetime | None = None


@dataclass(frozen=True)
class Plan:
    """What a sync of a partner will do. `is_partial` means for some races only."""

    events: list[PlannedEvent] = field(default_factory=list)
    reads: list[PlannedRead] = field(default_factory=list)
    is_partial: bool = False

    def only(self, race_ids: Container[int]) -> "Plan":
        """Return the part of the plan that is about these races."""
        return Plan(
            [item for item in self.events if item.event.race_id in race_ids],
            [read for read in self.reads if read.race_id in race_ids],
            is_partial=True,
        )


def plan_reads(
    events: Sequence[StoredEvent],
    cursors: Mapping[int, EventCursor],
    now: dt.datetime,
    *,
    incremental_days: float = 7.0,
    full_read_up_to_rows: int = 0,
    force_full: bool = False,
    also: Sequence[dt.datetime] = (),
    include: Sequence[str] = (),
) -> Plan:
    """Return the events that are upcoming or need a closing read, each with its next read, and the resulting reads.

    The nearest race is read first, but of those that fit one page and are more than a day away the largest is the first. Of one
    race, full reads come first. `also` are later moments that may be the present as well, while clocks disagree: each event is
    planned for the one that makes it most urgent. `include` are the optional fields that are requested.
    """
    latest, included = max((now, *also)), format_include(include)
    wanted: list[tuple[StoredEvent, cadence.Tier, dt.datetime, str | None]] = []
    # Past editions that are stored are not part of a read, so they do not make a race large.
    rows_of_race: dict[int, int] = {}
    for event in events:
        tier, moment = cadence.nearest_tier(event.starts_at, event.ends_at, now, also)
        cursor = cursors.get(event.event_id)
        closing = _closing_read(event, cursor, moment)
        if (tier == "over" and closing is None) or event.lost:
            continue
        wanted.append((event, tier, moment, closing))
        rows_of_race[event.race_id] = rows_of_race.get(event.race_id, 0) + (cursor.registrations if cursor else 0)
    planned: list[PlannedEvent] = []
    for event, tier, moment, closing in wanted:
        if closing is not None:
            over_at = cadence.over_at(event.starts_at, event.ends_at)
            planned.append(PlannedEvent(event, tier, "full", closing, over_at))
            continue
        small = is_small(rows_of_race[event.race_id], full_read_up_to_rows)
        mode, reason = decide_read(
            event,
            tier,
            cursors.get(event.event_id),
            moment,
            incremental_days=incremental_days,
            force=force_full,
            small=small,
            latest=latest,
            included=included,
        )
        planned.append(PlannedEvent(event, tier, mode, reason))
    return Plan(planned, _longest_page_first(_reads(planned, cursors), planned, rows_of_race))


def whole_visit_rows(full_read_up_to_rows: int, page_size: int) -> int:
    """Return up to how many registrations a visit of all races reads a race in full: those that fit one page.

    A full read of them is one call where an incremental read is two, whatever their size. More frequent visits weigh that call
    against the bytes, by `full_read_up_to_rows`, where 0 turns both off.
    """
    return max(full_read_up_to_rows, page_size - 1) if full_read_up_to_rows else 0


def _closing_read(event: StoredEvent, cursor: EventCursor | None, now: dt.datetime) -> str | None:
    if cursor is None:
        return cadence.closing_read(event.starts_at, event.ends_at, None, now)
    # Writes of other programs are repaired for upcoming events only.
    needs_full = cursor.needs_full if cursor.needs_full != foreign_writes.REASON else None
    return cadence.closing_read(event.starts_at, event.ends_at, cursor.last_full_at, now, needs_full)


def is_small(registrations: int, full_read_up_to_rows: int) -> bool:
    """Return whether a race is read in full at every visit, never if that is turned off by 0."""
    return 0 < full_read_up_to_rows >= registrations


def decide_read(
    event: StoredEvent,
    tier: cadence.Tier,
    cursor: EventCursor | None,
    now: dt.datetime,
    *,
    incremental_days: float,
    force: bool = False,
    small: bool = False,
    latest: dt.datetime | None = None,
    included: str = NONE,
) -> tuple[Mode, str]:
    """Return the next read of one event, by the first rule that applies. `latest` is the latest moment that may be the present."""
    if cursor is None:
        return "full", FIRST_READ
    if force:
        return "full", "requested"
    if cursor.needs_full:
        return "full", cursor.needs_full
    if cadence.is_ahead(cursor.furthest, latest or now):
        return "full", "its checkpoint is in the future, so a clock was wrong"
    if cursor.included != included:
        return "full", OTHER_FIELDS
    age = now - cursor.last_full_at
    if age >= dt.timedelta(days=incremental_days):
        return "full", f"last full read {age.total_seconds() / 86400:.1f} days ago"
    start = event.starts_at
    if tier == "window" and start is not None and cursor.last_full_at < start - cadence.WINDOW_BEFORE:
        return "full", "entering the hours before its start"
    if tier == "window" and start is not None and cursor.last_full_at < start - cadence.FINAL_READ_LEAD <= now:
        return "full", "just before its start"
    if tier != "over" and start is not None and now >= start - cadence.LAST_WEEK and age >= dt.timedelta(days=1):
        return "full", "daily in its last week"
    if small:
        return "full", SMALL_RACE
    return "incremental", f"last full read {age.total_seconds() / 3600:.1f} h ago"


def postpone_full(plan: Plan, cursors: Mapping[int, EventCursor]) -> Plan:
    """Return the plan with incremental reads of loaded events instead of full ones."""
    events = [
        replace(item, mode="incremental", reason="full read postponed")
        for item in plan.events
        if item.event.event_id in cursors
    ]
    return Plan(events, _reads(events, cursors))


def _reads(planned: Sequence[PlannedEvent], cursors: Mapping[int, EventCursor]) -> list[PlannedRead]:
    by_race: dict[int, list[PlannedEvent]] = {}
    for item in sorted(planned, key=_nearness):
        by_race.setdefault(item.event.race_id, []).append(item)
    reads = []
    modes: tuple[Mode, ...] = ("full", "incremental")
    for race_id, items in by_race.items():
        # One refused event would refuse the whole request, so each is requested separately, after the others.
        groups = [[item for item in items if item.event.refused_at is None]]
        groups += [[item] for item in items if item.event.refused_at is not None]
        for of_group, mode in itertools.product(groups, modes):
            group = [item for item in of_group if item.mode == mode]
            if not group:
                continue
            # A pass of more events than fit one address would request its parts again for every page of one of them.
            for ids in split_by_address(sorted(item.event.event_id for item in group)):
                since = min(cursors[event_id].modified_after for event_id in ids) if mode == "incremental" else None
                closes_at = max((item.closes_at for item in group if item.closes_at), default=None)
                reads.append(
                    PlannedRead(race_id, group[0].event.race_name, ids, mode, group[0].reason, since, closes_at)
                )
    return reads


def _longest_page_first(
    reads: list[PlannedRead], planned: Sequence[PlannedEvent], rows_of_race: Mapping[int, int]
) -> list[PlannedRead]:
    """Return the reads with the largest of the distant small races before the other distant ones.

    A short page shows the end of its feed if the server has just returned a longer one. So of the races that fit one page only the
    largest can take a second call, instead of each that is larger than all before it.
    """
    near = {item.event.race_id for item in planned if item.tier not in _DISTANT}
    distant = [read for read in reads if read.race_id not in near]
    largest = max(
        (read.race_id for read in distant if read.reason == SMALL_RACE), key=rows_of_race.__getitem__, default=None
    )
    first = [read for read in distant if read.race_id == largest]
    return [read for read in reads if read.race_id in near] + first + [read for read in distant if read not in first]


def _nearness(item: PlannedEvent) -> tuple[bool, dt.datetime]:
    start = item.event.starts_at
    return (start is None, start or dt.datetime.max.replace(tzinfo=dt.UTC))
