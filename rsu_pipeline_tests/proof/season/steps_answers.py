"""Steps of RunSignup's answers: a server that returns fewer rows than requested, for good or for a moment, or none at all."""

from typing import Any

from rsu_pipeline_tests.proof.season.programs import Draw, choice, number, pick, step
from rsu_pipeline_tests.proof.season.world import World

MOMENT: Draw = choice(20, 300, 3000)
"""How long transient empty responses last at most, in seconds. An hour later the hub takes a response for another one."""
FEED: Draw = choice("participants", "participants", "removed")


class AnswerSteps(World):
    """See the module."""

    @step(feed=choice("participants", "removed", "races"), rows=choice(2, 3, 1000))
    def clamp_pages(self, feed: str, rows: int) -> None:
        """Let RunSignup give out fewer rows at a time than requested from now on."""
        most = self._admin.switches()["most_rows"]
        self.admin.switch(most_rows=most | {feed: rows})

    @step(pick=pick, feed=FEED, times=number(1, 4), seconds=MOMENT, after_page=choice(True, False))
    def answer_empty(self, pick: int, feed: str, times: int, seconds: float, after_page: bool) -> None:
        """Let the next answers with registrations of a race have none, or those behind a page."""
        self._answer_few(pick, feed, 0, times=times, seconds=seconds, after_page=after_page)

    @step(pick=pick, feed=FEED, rows=number(1, 3), times=number(1, 4), empty=number(0, 4), seconds=MOMENT)
    def answer_short(self, pick: int, feed: str, rows: int, times: int, empty: int, seconds: float) -> None:
        """Let the next answers with registrations of a race have few, and those after them none."""
        self._answer_few(pick, feed, rows, times=times, seconds=seconds)
        if empty:
            self._answer_few(pick, feed, 0, times=empty, seconds=seconds)

    @step(pick=pick, races=number(0, 2), times=number(1, 4), seconds=MOMENT)
    def list_few_races(self, pick: int, races: int, times: int, seconds: float) -> None:
        """Let the next listings of a partner have few of its races."""
        partner = self.partners[pick % len(self.partners)]
        until = self._admin.clock() + seconds
        self.admin.fault("few_rows", times, endpoint="races", partner=partner, size=races, until=until)

    def _answer_few(self, pick: int, feed: str, rows: int, *, seconds: float, **how: Any) -> None:
        if race := self.race(pick):
            until = self._admin.clock() + seconds
            self.admin.fault("few_rows", endpoint=feed, race_id=race["race_id"], size=rows, until=until, **how)
