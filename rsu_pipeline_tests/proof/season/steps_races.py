"""Steps of race directors: events and races are added, moved, cancelled, deleted and renamed."""

import base64
import json

from rsu_pipeline_tests.proof.season.programs import choice, pick, step
from rsu_pipeline_tests.proof.season.world import HOUR, REFRESH_SECONDS, World, starts_at


class RaceSteps(World):
    """See the module."""

    @step(pick=pick, hours=choice(-2, 0.5, 5, 20, 100, 500), is_new_edition=choice(True, False))
    def add_event(self, pick: int, hours: float, is_new_edition: bool) -> None:
        if race := self.race(pick):
            days_id = 1_000_000 + race["race_id"] if is_new_edition else None
            event_id = self.admin.add_event(race["race_id"], "Added", start_in_hours=hours, race_event_days_id=days_id)
            self.admin.register(event_id, {"bib_num": 3}, count=2)

    @step(pick=pick, hours=choice(1, 6, 30, 600))
    def move_to_another_day(self, pick: int, hours: float) -> None:
        """Move an event to another time from now on."""
        if event := self.event(pick):
            self.admin.move_event(event["event_id"], start_in_hours=hours)

    @step(pick=pick, hours=choice(-3, -1, 0.5, 2, 5))
    def delay(self, pick: int, hours: float) -> None:
        """Delay an event near its start, or bring it forward."""
        near = [
            (event, start)
            for race in self.races()
            for event in race["events"]
            if (start := starts_at(event, race)) and -2 * HOUR < start - self.clocks.time < 6 * HOUR
        ]
        if near:
            event, start = near[pick % len(near)]
            moved = start + hours * HOUR
            # Nobody brings an event forward into the past.
            if moved > self.clocks.time:
                self.admin.move_event(event["event_id"], start_time=moved)

    @step(pick=pick, hours=choice(-1, 0.5, 2))
    def start_moves_while_it_is_watched(self, pick: int, hours: float) -> None:
        """Move an event near its start while the watch polls its race, which has to see that."""
        self.end_passing_faults()
        self.work(lambda: self.installation.watch(5))
        self.delay(pick, hours)
        self.clocks.advance(REFRESH_SECONDS)
        self.work(lambda: self.installation.watch(5))
        self._assert_starts_are_seen()

    def _assert_starts_are_seen(self) -> None:
        stored = dict(
            self.query(
                "SELECT e.event_id, extract(epoch FROM e.starts_at)::float FROM runsignup_events e"
                " JOIN partner_races l USING (race_id) WHERE l.timing_partner_id = ANY (%s)"
            )
        )
        for race in self.races():
            for event in race["events"]:
                true = starts_at(event, race)
                if self.readers_of(event["event_id"]):
                    seen = stored[event["event_id"]]
                    assert seen == true, f"event {event['event_id']} was polled, and starts at {true}, not at {seen}"

    @step(pick=pick)
    def cancel_event(self, pick: int) -> None:
        if event := self.event(pick):
            self.admin.edit_event(event["event_id"], {"name": "CANCELLED"})
            self._empty(event["event_id"])

    @step(pick=pick, entrants=choice("left", "removed", "transferred"))
    def delete_event(self, pick: int, entrants: str) -> None:
        event = self.event(pick)
        if event is None:
            return
        race = next(race for race in self.races() if event in race["events"])
        others = [other for other in race["events"] if other != event and self.may_change(other, race)]
        if entrants == "removed":
            self._empty(event["event_id"])
        elif entrants == "transferred" and others:
            for row in [row for row in self.registrations() if row["event_id"] == event["event_id"]]:
                new = self.admin.transfer(row["registration_id"], others[0]["event_id"])
                if row["registration_id"] in self.erased:
                    self.erased.add(new)
        self.admin.delete_event(event["event_id"])

    def _empty(self, event_id: int) -> None:
        for row in [row for row in self.registrations() if row["event_id"] == event_id]:
            self.admin.remove(row["registration_id"], "cleared")

    @step(pick=pick, into=pick)
    def move_to_another_race(self, pick: int, into: int) -> None:
        event, race = self.event(pick), self.race(into)
        if event and race and event not in race["events"]:
            self.admin.move_to_race(event["event_id"], race["race_id"])
            self.moved_events.add(event["event_id"])

    @step(pick=pick)
    def delete_race(self, pick: int) -> None:
        if race := self.race(pick):
            self.admin.delete_race(race["race_id"])

    @step(pick=pick, name=choice("Renamed", "Ö'Race"))
    def rename_race(self, pick: int, name: str) -> None:
        if race := self.race(pick):
            self.admin.edit_race(race["race_id"], {"name": name})

    @step(pick=pick, hours=choice(0.5, 30, 300))
    def new_race(self, pick: int, hours: float) -> None:
        partner = self.partners[pick % len(self.partners)]
        _, event_ids = self.admin.add_race(partner, [{"name": "One", "start_in_hours": hours}])
        self.admin.register(event_ids[0], {"bib_num": 1}, count=5)

    @step(pick=pick, is_new_edition=choice(True, False))
    def edit_race_twice_within_a_minute(self, pick: int, is_new_edition: bool) -> None:
        """Change a race, let the hub read it, and add an event to it within the same minute."""
        if race := self.race(pick):
            self.admin.edit_race(race["race_id"], {"name": "Edited"})
            self.work(self.installation.nightly)
            self.add_event(pick, 500, is_new_edition)

    @step(pick=pick)
    def answer_detail_without_events(self, pick: int) -> None:
        """Change a race, and leave the key `events` out of its next detail."""
        if race := self.race(pick):
            self.admin.edit_race(race["race_id"], {"name": "Changed"})
            detail = {key: value for key, value in race.items() if key not in ("events", "access")}
            body = base64.b64encode(json.dumps({"race": detail}).encode()).decode()
            self.admin.fault("raw", 1, endpoint="race", race_id=race["race_id"], body=body)
