"""What a program acts on: its partners, its races at RunSignup as they are now, and what was done that the judge must know."""

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from rsu_pipeline.runsignup import transport
from rsu_pipeline_tests.proof.season.arena import Arena
from rsu_pipeline_tests.proof.season.installation import FLOOR, Installation
from runsignup_sandbox.process import AdminClient

Row = dict[str, Any]
HOURS = (-3, -0.5, 1, 3, 8, 26, 60, 200)
"""How far off an upcoming edition is when a program begins."""
HOUR = 3600.0
ALL_RACES = 500
"""Up to how many registrations a race is read in full at every visit where all races are to be."""
JUST_NOW_SECONDS = 10
"""How long ago a read may be that was made just now: longer than a poll's pause, shorter than what passes before a step reads."""
REFRESH_SECONDS = 360.0
"""How long the events of a race in its window are good for, with a minute's error of a clock."""
OVER_AFTER_HOURS = 7.0
"""Hours after its start when an event without an end is over: six that it is taken to last, and one of grace."""
CORRECTED_FOR_HOURS = 23.0
"""Hours after an event is over in which people still change it. The hub reads it once more when 24 have passed."""


class World:
    """What one program acts on."""

    def __init__(self, arena: Arena, random: Random, full_read_up_to_rows: int) -> None:
        hours = [random.choice(HOURS) for _ in range(4)]
        self.hub, self.conn, self.clocks, self.partners = arena.program()
        self._admin: AdminClient = self.hub.sandbox.admin
        self._truths: dict[int, Row] = {}
        self.monkeypatch = pytest.MonkeyPatch()
        host = SimpleNamespace(time=lambda: self.clocks.hub_now().timestamp(), monotonic=time.monotonic)
        self.monkeypatch.setattr(transport, "time", host)
        self.full_read_up_to_rows = full_read_up_to_rows
        self.hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = str(full_read_up_to_rows)
        self.installation = Installation(self.hub, self.clocks)
        self.late = 0.0
        """Seconds after which everything that happened so far is visible."""
        self.unreadable: dict[int, dict[str, Any]] = {}
        """New races that RunSignup never lets anybody read, with the fault that does it."""
        self.refused_events: dict[int, dict[str, Any]] = {}
        """Events for which RunSignup refuses every request that names them, with the fault that does it."""
        self.refusing_races: set[int] = set()
        """Races that refused for a while. Where all of a partner do, and it has several, the key is wrong by all evidence."""
        self.moved_events: set[int] = set()
        """Events that are of another race now. Until that race is read they are missing from their old one."""
        self.erased: set[int] = set()
        """Registrations of people who asked to be erased."""
        self.is_purged = False
        self.disabled: set[int] = set()
        self.has_true_date = True
        """Whether RunSignup sent the right time with every answer so far."""
        self.revoked: set[int] = set()
        self.new_secrets: dict[int, tuple[str, str]] = {}
        """Keys and secrets that RunSignup changed and nobody entered yet."""
        first, second, third = self.partners
        self._make_race(first, hours[0], events=2, past_days=300)
        shared = self._make_race(first, hours[1], events=1, past_days=20)
        self.admin.grant(second, shared)
        self._make_race(second, hours[2], events=1, past_days=2)
        self._make_race(third, hours[3], events=1)
        if random.random() < 0.7:
            self.installation.nightly()
        if random.random() < 0.3:
            for key in self.keys:
                self.installation.request_backfill(key)
            self.installation.go_on_with_backfills()

    def close(self) -> None:
        """End what the program opened."""
        self.installation.close()
        self.monkeypatch.undo()

    def _make_race(self, partner: int, hours: float, *, events: int, past_days: int | None = None) -> int:
        race_id, event_ids = self.admin.add_race(
            partner, [{"name": f"Event {number}", "start_in_hours": hours} for number in range(events)]
        )
        if past_days is not None:
            days_id = race_id  # a number that no edition has
            event_ids.append(
                self.admin.add_event(race_id, "Past", start_in_hours=-24 * past_days, race_event_days_id=days_id)
            )
        for event_id in event_ids:
            self.admin.register(event_id, {"bib_num": event_id % 50}, count=1)
            self.admin.register(event_id)
        return race_id

    @property
    def admin(self) -> AdminClient:
        """RunSignup, for a change: what was known of it is forgotten."""
        self._truths.clear()
        return self._admin

    @property
    def keys(self) -> list[str]:
        """Partition keys of the program's partners."""
        return [self.hub.partners[number] for number in self.partners]

    # What RunSignup holds now.

    def truth(self, partner: int) -> Row:
        """Return what RunSignup holds of a partner's races."""
        if partner not in self._truths:
            self._truths[partner] = self._admin.truth(partner)
        return self._truths[partner]

    def races(self, partner: int | None = None) -> list[Row]:
        """Return the races that a partner can read, or that any can, each once."""
        found = {
            race["race_id"]: race
            for number in ([partner] if partner else self.partners)
            for race in self.truth(number)["races"]
            if race["access"]
        }
        return list(found.values())

    def race(self, pick: int) -> Row | None:
        """Return one race that can be read."""
        races = [race for race in self.races() if race["race_id"] not in self.unreadable]
        return races[pick % len(races)] if races else None

    def open_events(self) -> list[Row]:
        """Return the events whose registrations people may still change."""
        return [event for race in self.races() for event in race["events"] if self.may_change(event, race)]

    def event(self, pick: int) -> Row | None:
        """Return one event whose registrations people may still change."""
        events = self.open_events()
        return events[pick % len(events)] if events else None

    def registrations(self) -> list[Row]:
        """Return the active registrations that people may still change, each once."""
        return self._rows_of_open_events("active", "event_id")

    def removed(self) -> list[Row]:
        """Return the removed registrations that people may still change, each once."""
        return self._rows_of_open_events("removed", "_event_id")

    def _rows_of_open_events(self, side: str, event: str) -> list[Row]:
        open_events = {event["event_id"] for event in self.open_events()}
        rows = {
            row["registration_id"]: row
            for partner in self.partners
            for row in self.truth(partner)[side]
            if row[event] in open_events
        }
        return [rows[number] for number in sorted(rows)]

    def registration(self, pick: int) -> Row | None:
        """Return one active registration that people may still change."""
        rows = self.registrations()
        return rows[pick % len(rows)] if rows else None

    def may_change(self, event: Row, race: Row) -> bool:
        """Return whether the hub still owes the event a read in which it sees a change."""
        return self.hours_since_over(event, race) < CORRECTED_FOR_HOURS

    def hours_since_over(self, event: Row, race: Row) -> float:
        """Return how many hours ago an event was over, which is negative for one that is not."""
        start = starts_at(event, race)
        if start is None:
            return float("-inf")
        return (self.clocks.time - start) / HOUR - OVER_AFTER_HOURS

    def is_over(self, event: Row, race: Row) -> bool:
        """Return whether the event is over."""
        return self.hours_since_over(event, race) >= 0

    def end_passing_faults(self) -> None:
        """End the faults that a retry or a later visit gets over. Races and events that nobody may read stay so."""
        self.admin.clear_faults()
        for fault in (*self.unreadable.values(), *self.refused_events.values()):
            self.admin.fault(times=0, **fault)

    # What the hub does.

    def readers_of(self, event_id: int) -> list[int]:
        """Return the partners whose registrations of an event the hub read just now, by its own account.

        None while a clock is wrong, since that account is then of another time.
        """
        if not self.has_true_date or self.clocks.hub_error or self.clocks.database_error:
            return []
        query = (
            "SELECT timing_partner_id, event_id FROM event_cursors"
            f" WHERE timing_partner_id = ANY (%s) AND last_read_at > now() - interval '{JUST_NOW_SECONDS} s'"
        )
        return [partner for partner, number in self.query(query) if number == event_id]

    def work(self, work: Callable[[], object]) -> None:
        """Have the hub do something.

        No partner that RunSignup lets read a race may be stopped by it, and no read that showed too little may take away
        more of a race than is allowed without a person.
        """
        rejected, missing = self._rejected(), self._missing()
        work()
        self._truths.clear()
        for partner in self._rejected() - rejected:
            listed = {race["race_id"] for race in self.races(partner)}
            readable = listed - self.unreadable.keys()
            is_one_race = len(listed | self._known_races(partner)) == 1
            all_refuse = not is_one_race and self.refusing_races.issuperset(readable)
            is_right = partner in self.revoked or partner in self.new_secrets or not readable or all_refuse
            assert is_right, f"partner {partner} is stopped though races {sorted(readable)} can be read"
        if self.has_true_date:
            self._assert_no_cursor_moved_ahead()
        new = self._missing() - missing
        if new:
            self._assert_few_are_missing_wrongly(new)

    def _assert_few_are_missing_wrongly(self, new: set[tuple[Any, ...]]) -> None:
        active = {
            (partner, row["registration_id"]) for partner in self.partners for row in self.truth(partner)["active"]
        }
        wrong = [row for row in new if (row[0], row[3]) in active and row[2] not in self.refused_events]
        gone = [row for row in wrong if row[4] == "event_deleted" and row[2] not in self.moved_events]
        assert not gone, f"registrations of events that RunSignup has are called deleted: {gone}"
        counts = Counter((row[0], row[1]) for row in wrong if row[2] not in self.moved_events)
        too_many = {key: count for key, count in counts.items() if count > FLOOR}
        assert not too_many, f"registrations marked missing that RunSignup has, by partner and race: {too_many}"

    def _assert_no_cursor_moved_ahead(self) -> None:
        query = (
            "SELECT race_id, event_id, greatest(modified_after, removed_after) FROM event_cursors"
            " WHERE timing_partner_id = ANY (%s)"
        )
        ahead = [row for row in self.query(query) if row[2] > self.clocks.time]
        assert not ahead, f"cursors (race, event, time) are ahead of {self.clocks.time:.0f}: {ahead}"

    def _known_races(self, partner: int) -> set[int]:
        """Return the races that the hub has listed for a partner, with those that refuse since another partner has them now."""
        query = "SELECT timing_partner_id, race_id FROM partner_races WHERE timing_partner_id = ANY (%s)"
        return {race_id for number, race_id in self.query(query) if number == partner}

    def _rejected(self) -> set[int]:
        return {
            partner
            for (partner,) in self.query(
                "SELECT timing_partner_id FROM partner_provider_credentials"
                " WHERE rejected_at IS NOT NULL AND timing_partner_id = ANY (%s)"
            )
        }

    def _missing(self) -> set[tuple[Any, ...]]:
        """Return the registrations that a read did not see, alone or with their event, and nothing else explains."""
        return set(
            self.query(
                "SELECT timing_partner_id, race_id, event_id, registration_id, removed_reason FROM runsignup_participants"
                " WHERE timing_partner_id = ANY (%s) AND removed_reason IN ('missing_upstream', 'event_deleted')"
            )
        )

    def query(self, query: str) -> list[tuple[Any, ...]]:
        """Return what the database has of the program's partners, its one parameter."""
        with self.conn.cursor() as cur:
            cur.execute(query, (self.partners,))
            rows = cur.fetchall()
        self.conn.rollback()
        return rows


def starts_at(event: Row, race: Row) -> float | None:
    """Return when an event starts in Unix seconds, None for an unscheduled one."""
    if not event["start_time"]:
        return None
    wall = dt.datetime.strptime(event["start_time"], "%m/%d/%Y %H:%M")
    return wall.replace(tzinfo=ZoneInfo(race["timezone"])).timestamp()
