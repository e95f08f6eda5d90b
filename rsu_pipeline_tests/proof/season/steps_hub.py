"""Steps of the hub: its schedules, what an operator asks, kills at any point, and downtime."""

from rsu_pipeline_tests.proof.kills import killed_after
from rsu_pipeline_tests.proof.season.installation import Installation, one_of
from rsu_pipeline_tests.proof.season.programs import choice, number, pick, step
from rsu_pipeline_tests.proof.season.world import HOUR, World

WORK = ("nightly", "proximity", "watch", "backfill", "sync", "full sync")


class HubSteps(World):
    """See the module."""

    @step(is_hub=True)
    def nightly(self) -> None:
        self.work(self.installation.nightly)

    @step(is_hub=True)
    def proximity(self) -> None:
        self.work(self.installation.proximity)

    @step(is_hub=True, seconds=choice(5, 25, 130))
    def watch(self, seconds: int) -> None:
        self.work(lambda: self.installation.watch(seconds))

    @step(is_hub=True, pick=pick)
    def request_backfill(self, pick: int) -> None:
        self.installation.request_backfill(self.keys[pick % len(self.keys)])
        self.work(self.installation.go_on_with_backfills)

    @step(is_hub=True)
    def go_on_with_backfills(self) -> None:
        self.work(self.installation.go_on_with_backfills)

    @step(is_hub=True, pick=pick, which=pick)
    def sync_one_race(self, pick: int, which: int) -> None:
        partner = self.partners[pick % len(self.partners)]
        if races := self.races(partner):
            race_id = races[which % len(races)]["race_id"]
            self.work(lambda: self.installation.sync(self.hub.partners[partner], race_ids=[race_id]))

    @step(is_hub=True, pick=pick, full=choice(True, False))
    def sync(self, pick: int, full: bool) -> None:
        self.work(lambda: self.installation.sync(self.keys[pick % len(self.keys)], full=full))

    @step(is_hub=True, pick=pick, steps=number(1, 150), what=choice(*WORK))
    def killed(self, pick: int, steps: int, what: str) -> None:
        """Kill a process of the hub at its n-th statement or commit."""

        def die() -> None:
            with (
                killed_after(steps, self.monkeypatch),
                Installation(self.hub, self.clocks, run_id="killed") as installation,
            ):
                one_of(installation, what, self.keys[pick % len(self.keys)])()

        self.work(die)

        self._wait_for_killed_sessions()

    def _wait_for_killed_sessions(self) -> None:
        while True:
            with self.conn.cursor() as cur:
                cur.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name LIKE '%killed%'"
                )
                (left,) = cur.fetchone() or (0,)
            self.conn.rollback()
            if not left:
                return

    @step(is_hub=True, seconds=choice(0.4, 1, 30, 61, 500))
    def time_passes(self, seconds: float) -> None:
        self.clocks.advance(seconds)

    @step(is_hub=True, hours=choice(0.3, 2, 5, 9, 26, 50, 100))
    def downtime(self, hours: float) -> None:
        """Let the hub do nothing, whatever is due meanwhile."""
        self.clocks.advance(hours * HOUR)
