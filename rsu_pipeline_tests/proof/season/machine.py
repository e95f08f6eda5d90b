"""The season machine: random programs over a season's events, then a night by itself, then the judgement."""

import datetime as dt
from collections.abc import Collection, Iterable
from zoneinfo import ZoneInfo

from rsu_pipeline_tests.proof.season.arena import Arena
from rsu_pipeline_tests.proof.season.judge import judge
from rsu_pipeline_tests.proof.season.programs import Program
from rsu_pipeline_tests.proof.season.steps_access import AccessSteps
from rsu_pipeline_tests.proof.season.steps_answers import AnswerSteps
from rsu_pipeline_tests.proof.season.steps_clocks import ClockSteps
from rsu_pipeline_tests.proof.season.steps_hub import HubSteps
from rsu_pipeline_tests.proof.season.steps_people import PeopleSteps
from rsu_pipeline_tests.proof.season.steps_races import RaceSteps
from rsu_pipeline_tests.proof.season.steps_registrations import RegistrationSteps
from rsu_pipeline_tests.proof.season.world import ALL_RACES

GATED: frozenset[str] = frozenset()
"""Steps that are left out, since the rule that makes them harmless is not in the product yet."""
GATED_CLAIMS: frozenset[str] = frozenset()
"""Claims that are not judged yet, for the same reason."""
STEPS = 14
HUB_SHARE = 0.4
"""The share of steps that the hub takes."""
SMALL_RACES = (ALL_RACES, 5, 0)
"""Up to how many registrations a race is read in full at every visit: all races, some, none."""
EASTERN = ZoneInfo("America/New_York")


class Season(HubSteps, RegistrationSteps, AnswerSteps, RaceSteps, AccessSteps, ClockSteps, PeopleSteps):
    """One program's world with all steps."""

    def finish(self, left_out: frozenset[str] = frozenset()) -> None:
        """Let the night pass, and judge."""
        self._quieten()
        self._night()
        judge(self, left_out)

    def _quieten(self) -> None:
        """End what does not last: faults, withdrawn keys, clocks that somebody puts right. What RunSignup is like stays."""
        self.end_passing_faults()
        self.admin.switch(visibility_delay=0)
        self.admin.clock(skew=0)
        self.clocks.hub_error = self.clocks.database_error = self.clocks.runsignup_error = 0.0
        self.clocks.advance(0)
        self.restore_all()
        self.enter_secrets()
        self.enable_partners()
        self.clocks.advance(self.late + 1)

    def _night(self) -> None:
        """Do what an installation does by itself until the day after tomorrow, at the moments that matter."""
        for key in self.keys:
            self.installation.request_backfill(key)
        for moment in (0.0, self._until_two_at_night(), 25 * 3600.0):
            self.clocks.advance(moment)
            self.work(self.installation.nightly if moment else self.installation.proximity)
            self.work(lambda: self.installation.watch(5))
            self.work(self.installation.go_on_with_backfills)
            self.installation.confirm_pending_removals(self.keys)
        self._truths.clear()

    def _until_two_at_night(self) -> float:
        now = self.clocks.true_now().astimezone(EASTERN)
        night = (now + dt.timedelta(days=1)).replace(hour=2, minute=0, second=0)
        return (night - now).total_seconds()


def run_program(arena: Arena, seed: int, number: int, enabled: Collection[str] | None = None) -> None:
    """Run one program, and raise what failed with the program as a note. `enabled` is as for Program."""
    program = Program(Season, seed, number, GATED, enabled)
    season = Season(arena, program.random, SMALL_RACES[number % len(SMALL_RACES)])
    try:
        program.run(season, STEPS, HUB_SHARE)
        season.finish(GATED_CLAIMS)
    except Exception as error:
        error.add_note(f"program {seed}:{number}\n  " + "\n  ".join(program.lines))
        raise
    finally:
        season.close()


def run_programs(arena: Arena, numbers: Iterable[int], seed: int) -> None:
    """Run these programs of a seed, and raise what the first failing one raised."""
    for number in numbers:
        run_program(arena, seed, number)
