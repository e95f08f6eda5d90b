"""Steps of people at RunSignup: they register, get bibs, are corrected, move and leave, and the feeds misbehave."""

from rsu_pipeline_tests.proof.season.programs import choice, number, pick, step
from rsu_pipeline_tests.proof.season.world import ALL_RACES, JUST_NOW_SECONDS, World

REASONS = ("cleared", "removed", "deferred")
HIDDEN_SECONDS = 3
"""How long one half of a transfer stays unseen."""
BIB = choice(None, *range(1, 10))


class RegistrationSteps(World):
    """See the module."""

    @step(pick=pick, count=number(1, 4), bib=BIB)
    def register(self, pick: int, count: int, bib: int | None) -> None:
        if event := self.event(pick):
            self.admin.register(event["event_id"], {"bib_num": bib}, count=count)

    @step(pick=pick, name=choice("a", "Ä'c", "\\", "\t☃b"))
    def edit(self, pick: int, name: str) -> None:
        if row := self.registration(pick):
            self.admin.edit(row["registration_id"], {"first_name": name})

    @step(pick=pick, bib=BIB)
    def set_bib(self, pick: int, bib: int | None) -> None:
        if row := self.registration(pick):
            self.admin.bib(row["registration_id"], bib)

    @step(pick=pick, bib=number(1, 9), seconds=choice(0, 1, 40))
    def clear_bib_and_give_it_again(self, pick: int, bib: int, seconds: float) -> None:
        """Take a registration's bib away and give it one, between two polls of the hub: the one that it had, or another."""
        if row := self.registration(pick):
            self.admin.bib(row["registration_id"], None)
            self.clocks.advance(seconds)
            self.admin.bib(row["registration_id"], row["bib_num"] if bib < 5 else bib)

    @step(pick=pick, numbers=number(100, 900))
    def check_in(self, pick: int, numbers: int) -> None:
        """Give everybody of an event a bib."""
        if event := self.event(pick):
            rows = [row for row in self.registrations() if row["event_id"] == event["event_id"]]
            for number, row in enumerate(rows):
                self.admin.bib(row["registration_id"], numbers + number)

    @step(first=pick, second=pick)
    def swap_bibs(self, first: int, second: int) -> None:
        a, b = self.registration(first), self.registration(second)
        if a and b and a["registration_id"] != b["registration_id"]:
            self.admin.swap_bibs(a["registration_id"], b["registration_id"])

    @step(pick=pick, into=pick, with_bib=choice(True, False), hide=choice(None, "new", "removed"))
    def transfer(self, pick: int, into: int, with_bib: bool, hide: str | None) -> None:
        row = self.registration(pick)
        if row is None:
            return
        targets = [
            event
            for race in self.races()
            if row["event_id"] in [event["event_id"] for event in race["events"]]
            for event in race["events"]
            if self.may_change(event, race)
        ]
        if targets:
            event_id = targets[into % len(targets)]["event_id"]
            # What is hidden stays so for longer than any change does at the time.
            self.late = max(self.late, HIDDEN_SECONDS + self._admin.switches()["visibility_delay"])
            new = self.admin.transfer(
                row["registration_id"], event_id, transfer_bib=with_bib, hide=hide, hide_seconds=HIDDEN_SECONDS
            )
            if row["registration_id"] in self.erased:
                self.erased.add(new)

    @step(pick=pick, reason=choice(*REASONS))
    def remove(self, pick: int, reason: str) -> None:
        if row := self.registration(pick):
            self.admin.remove(row["registration_id"], reason)

    @step(pick=pick)
    def vanish(self, pick: int) -> None:
        if row := self.registration(pick):
            self.admin.remove(row["registration_id"], silent=True)

    @step(pick=pick, keep_stamp=choice(True, False))
    def reactivate(self, pick: int, keep_stamp: bool) -> None:
        rows = [row for row in self.removed() if row["removed_reason"] in REASONS]
        if rows:
            row = rows[pick % len(rows)]
            stamp = row["last_modified_ts"] - 60 if keep_stamp else None
            self.admin.reactivate(row["registration_id"], last_modified=stamp)

    @step(pick=pick)
    def leave_and_come_back(self, pick: int) -> None:
        """Remove a registration, let the hub read that, and reactivate it at RunSignup with the stamp it had."""
        if row := self.registration(pick):
            self.admin.remove(row["registration_id"], "removed")
            self.work(self.installation.nightly)
            self.clocks.advance(90)
            self.admin.reactivate(row["registration_id"], last_modified=row["last_modified"])

    @step(pick=pick, bib=number(1, 9), of_profile=choice(True, False))
    def change_without_a_stamp(self, pick: int, bib: int, of_profile: bool) -> None:
        if row := self.registration(pick):
            fields: dict[str, object] = {"phone": f"312-555-010{bib}"} if of_profile else {"bib_num": bib}
            self.admin.edit(row["registration_id"], fields, last_modified=row["last_modified"])

    @step(pick=pick, bib=number(1, 9))
    def visit_after_a_bib_without_a_stamp(self, pick: int, bib: int) -> None:
        """Set a bib that moves no stamp. A visit that reads the race in full because it is small has to see it."""
        row = self.registration(pick)
        if row is None:
            return
        self.end_passing_faults()
        self.clocks.advance(JUST_NOW_SECONDS)
        self.admin.edit(row["registration_id"], {"bib_num": bib}, last_modified=row["last_modified"])
        self.work(self.installation.nightly)
        if self.full_read_up_to_rows < ALL_RACES or self.late:
            return
        for partner in self.readers_of(row["event_id"]):
            stored = self.hub.stored(partner).get(row["registration_id"])
            seen = stored["bib_num"] if stored else None
            assert seen == str(bib), f"registration {row['registration_id']} was read, and has bib {bib}, not {seen}"

    @step(pick=pick)
    def forget_removed(self, pick: int) -> None:
        """Empty the removed feed of a race."""
        if race := self.race(pick):
            self.admin.forget_removed(race["race_id"])

    @step(seconds=choice(0, 3, 200, 900))
    def see_late(self, seconds: int) -> None:
        self.admin.switch(visibility_delay=seconds)
        self.late = max(self.late, seconds)

    @step(layout=choice("last", "own", "first"))
    def lay_out(self, layout: str) -> None:
        self.admin.switch(layout=layout)
