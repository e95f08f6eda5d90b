"""Steps of clocks: RunSignup's `Date`, the hub's own clock and the database's clock are off."""

from rsu_pipeline_tests.proof.season.programs import choice, step
from rsu_pipeline_tests.proof.season.world import World


class ClockSteps(World):
    """See the module."""

    @step(kind=choice("true", "absent", "senseless"))
    def send_date(self, kind: str) -> None:
        self.admin.switch(date_header=kind)
        self.has_true_date = self.has_true_date and kind == "true"

    @step(seconds=choice(-7200, -30, 0, 30, 7200))
    def skew_date(self, seconds: int) -> None:
        self.admin.clock(skew=seconds)
        self.has_true_date = self.has_true_date and seconds == 0

    @step(seconds=choice(-7200, -20, 0, 20, 7200))
    def runsignup_clock_steps(self, seconds: int) -> None:
        """Let RunSignup stamp what changes with another time, and send that with every answer. It also ends what failed there."""
        self.end_passing_faults()
        if self.late:
            # What is hidden until a time by that clock is hidden for longer.
            self.late += max(self.clocks.runsignup_error - seconds, 0)
        self.clocks.runsignup_error = seconds
        self.clocks.advance(0)
        self.has_true_date = self.has_true_date and seconds == 0

    @step(seconds=choice(-60, -20, 0, 20, 60))
    def hub_clock_drifts(self, seconds: int) -> None:
        self.clocks.hub_error = seconds

    @step(seconds=choice(-86400, -7200, 0, 7200, 86400))
    def hub_clock_steps(self, seconds: int) -> None:
        self.clocks.hub_error = seconds

    @step(seconds=choice(-7200, 0, 7200))
    def database_clock_steps(self, seconds: int) -> None:
        self.clocks.database_error = seconds
        self.clocks.advance(0)
