"""A season in simulated time: what is wrong at the end of each day, which bibs are late on race mornings, what it costs.

    python -m benchmarks.season [--weeks 8] [--partners 13] [--seed N] [--json FILE]

Every partner has a race every other week, on a Saturday or Sunday morning. People register, change, transfer and cancel all
the while. On the morning bibs are given out by the minute. At believable rates RunSignup fails, answers with nothing, moves
starts, deletes events and takes access away, and the hub is down for nights, for a day and over a race morning. The hub works
by the product's own decisions, as in the proof (rsu_pipeline_tests/proof/season). What is compared is the whole copy with
RunSignup's truth, each night once the nightly sync is done. The floor is one call for each read of a race and each listing.
"""

import argparse
import base64
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from rsu_pipeline.local import embedded, pg_binaries
from rsu_pipeline.reading_settings import SyncSettings
from rsu_pipeline.runsignup import transport
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import FIELDS, Hub, expected
from rsu_pipeline_tests.proof.season import clocks
from rsu_pipeline_tests.proof.season.clocks import Clocks
from rsu_pipeline_tests.proof.season.installation import Installation
from rsu_pipeline_tests.servers import execute
from runsignup_sandbox.process import AdminClient, SandboxProcess

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
NIGHTLY_AT = 6 * HOUR
"""02:00 in New York, in seconds of the UTC day."""
ENTRANTS_AT_FIRST, ENTRANTS_A_DAY = 40, 2
CHECK_IN = (-150, 90)
"""Minutes before and after a start in which bibs are given out and corrected."""
LATE_SECONDS = 60.0
NO_ROWS = base64.b64encode(b"[]").decode()
FAILURES_A_DAY = 20
"""Calls of a day that RunSignup answers with HTTP 500: some 1 %."""
REMOVALS_FLOOR = 20


@dataclass
class Week:
    """What one week showed.

    `wrong` and `missing` are sums over its days of registrations that differ from RunSignup's, or are not here, or only here.
    """

    days: int = 0
    registrations: int = 0
    wrong: int = 0
    missing: int = 0
    bibs: int = 0
    late: int = 0
    while_down: int = 0
    missed: int = 0
    calls: int = 0
    floor: int = 0
    happened: list[str] = field(default_factory=list)


@dataclass
class Race:
    """A race of a partner: its one or two events and when they start, in Unix seconds."""

    partner: int
    race_id: int
    event_ids: list[int]
    start: float
    next_bib: int = 1


class Season:
    """The fleet, RunSignup and time. Days are counted from the first one."""

    def __init__(self, hub: Hub, clock: Clocks, weeks: int, seed: int) -> None:
        self.hub, self.clock, self.weeks = hub, clock, weeks
        self.admin: AdminClient = hub.sandbox.admin
        self.random = Random(seed)
        self.installation = Installation(hub, clock, removals_floor=REMOVALS_FLOOR)
        self.began = clock.time - clock.time % DAY
        self.down: list[tuple[float, float]] = []
        self.given: list[tuple[float, int, str]] = []
        """When each bib was given out, to which registration."""
        self.races = [race for partner in hub.partners for race in self._races(partner)]
        self.report = [Week() for _ in range(weeks)]
        self._plan_downtime()

    def _races(self, partner: int) -> list[Race]:
        races = []
        for week in range(partner % 2, self.weeks, 2):
            day = 7 * week + (3 if partner % 3 else 4)  # the first day is a Wednesday: Saturday or Sunday
            start = self.began + day * DAY + (11.5 + (partner % 4) / 2) * HOUR
            events = [{"name": name, "start_in_hours": (start - self.clock.time) / HOUR} for name in ("10K", "5K")]
            race_id, event_ids = self.admin.add_race(partner, events[: 1 + week % 2])
            for event_id in event_ids:
                self.admin.register(event_id, count=ENTRANTS_AT_FIRST // len(event_ids))
            races.append(Race(partner, race_id, event_ids, start))
        return races

    def _plan_downtime(self) -> None:
        """Plan to be down two nights and a day in eight weeks, and on the last race morning of the middle week."""
        for day, hour, hours in ((2, 1, 7), (16, 0, 26), (37, 2, 6)):
            self.down.append((self.began + day * DAY + hour * HOUR, self.began + day * DAY + (hour + hours) * HOUR))
        middle = [race for race in self.races if race.start < self.began + (self.weeks // 2 + 1) * 7 * DAY]
        if middle:
            start = max(race.start for race in middle)
            self.down.append((start - 2 * HOUR, start + 5 * HOUR))

    @property
    def week(self) -> Week:
        """Return the week that it is."""
        return self.report[min(int((self.clock.time - self.began) / DAY) // 7, self.weeks - 1)]

    def is_down(self, moment: float) -> bool:
        """Return whether the hub is down at a moment."""
        return any(begin <= moment < end for begin, end in self.down)

    def run(self) -> None:
        """Run all days, and a last night."""
        for day in range(7 * self.weeks):
            began = time.monotonic()
            self._day(self.began + day * DAY)
            print(f"day {day + 1:3} of {7 * self.weeks}: {time.monotonic() - began:5.1f} s, {self.week}", flush=True)
        self._judge_bibs()

    def _day(self, midnight: float) -> None:
        self.admin.reset_stats()
        self._happen_daily(midnight)
        nightly_owed = True
        moment = max(midnight, self.clock.time)
        failures = sorted(midnight + self.random.random() * DAY for _ in range(FAILURES_A_DAY))
        # Nothing fails before the season begins.
        failures = [failure for failure in failures if failure >= moment]
        while moment < midnight + DAY:
            self._go_to(moment)
            while failures and failures[0] <= moment:
                # While the hub is down there is no call that could fail.
                if not self.is_down(failures.pop(0)):
                    self.admin.fault("http_500", 1)
            near = self._at_check_in(moment)
            if near:
                self._give_bibs(near, moment)
            if self.is_down(moment):
                moment += MINUTE if near else 15 * MINUTE
                continue
            if nightly_owed and moment >= midnight + NIGHTLY_AT:
                nightly_owed = False
                self.installation.nightly()
                self._judge_day()
            minute = int((moment - midnight) / MINUTE)
            if minute % 15 == 0:
                self.installation.proximity()
            if near or (minute % 5 == 0 and self._in_window(moment)):
                self.installation.watch(MINUTE)
            moment += MINUTE if near else 5 * MINUTE if self._in_window(moment) else 15 * MINUTE
        self._count_calls()

    def _go_to(self, moment: float) -> None:
        if moment > self.clock.time:
            self.clock.set_to(moment)

    def _in_window(self, moment: float) -> bool:
        return any(race.start - 4 * HOUR <= moment < race.start + 7 * HOUR for race in self.races)

    def _at_check_in(self, moment: float) -> list[Race]:
        first, last = CHECK_IN
        return [race for race in self.races if first <= (moment - race.start) / MINUTE < last]

    # What happens at RunSignup.

    def _give_bibs(self, races: list[Race], moment: float) -> None:
        """Give out bibs in one minute: to most before the start, corrections after it."""
        for race in races:
            rows = self._rows(race)
            waiting = [row for row in rows if row["bib_num"] is None]
            left = max(1.0, (race.start - moment) / MINUTE)
            chosen = waiting[: max(1, round(len(waiting) / left))] if moment < race.start else waiting[:1]
            if moment >= race.start and rows and self.random.random() < 0.1:
                chosen = [self.random.choice(rows)]
            for row in chosen:
                self.admin.bib(row["registration_id"], race.next_bib)
                self.given.append((self.clock.time, row["registration_id"], str(race.next_bib)))
                race.next_bib += 1

    def _rows(self, race: Race) -> list[dict[str, Any]]:
        return [row for row in self.admin.truth(race.partner)["active"] if row["event_id"] in race.event_ids]

    def _happen_daily(self, midnight: float) -> None:
        """Play what people and RunSignup do in a day. The hub finds it later."""
        day = int((midnight - self.began) / DAY)
        upcoming = [race for race in self.races if race.start > midnight + DAY]
        for race in upcoming:
            for event_id in race.event_ids:
                self.admin.register(event_id, count=self.random.randint(0, ENTRANTS_A_DAY))
            rows = self._rows(race)
            if rows:
                self.admin.edit(self.random.choice(rows)["registration_id"], {"first_name": f"Edited{day}"})
            if len(rows) > 2 and self.random.random() < 0.15:
                self.admin.remove(rows[0]["registration_id"], self.random.choice(("cleared", "removed", "deferred")))
            if len(race.event_ids) > 1 and len(rows) > 2 and self.random.random() < 0.2:
                self.admin.transfer(rows[1]["registration_id"], self.random.choice(race.event_ids))
        if not upcoming:
            return
        race = self.random.choice(upcoming)
        if day % 7 == 1:
            self._note(f"an empty answer for race {race.race_id}")
            self.admin.fault("raw", 1, endpoint="participants", race_id=race.race_id, body=NO_ROWS)
        if day % 7 == 2:
            self._note(f"race {race.race_id} starts 45 minutes later")
            race.start += 45 * MINUTE
            for event_id in race.event_ids:
                self.admin.move_event(event_id, start_in_hours=(race.start - self.clock.time) / HOUR)
        if day % 14 == 5 and len(race.event_ids) > 1:
            self._note(f"event {race.event_ids[1]} is deleted, its entrants transferred")
            for row in [row for row in self._rows(race) if row["event_id"] == race.event_ids[1]]:
                self.admin.transfer(row["registration_id"], race.event_ids[0])
            self.admin.delete_event(race.event_ids.pop())
        if day % 14 == 8:
            self._note(f"race {race.race_id} is handed to another partner")
            other = self.random.choice([partner for partner in self.hub.partners if partner != race.partner])
            self.admin.revoke(race.partner, race.race_id)
            self.admin.grant(other, race.race_id)
            race.partner = other
        if day % 14 == 11:
            self._note("the hub's clock is an hour ahead for a day")
            self.clock.hub_error = HOUR
        elif self.clock.hub_error:
            self.clock.hub_error = 0.0

    def _note(self, what: str) -> None:
        self.week.happened.append(what)

    # What it comes to.

    def _judge_day(self) -> None:
        """Compare every registration that RunSignup has with the copy, and the other way round."""
        week = self.week
        week.days += 1
        for partner in self.hub.partners:
            truth = self._readable(partner)
            stored = self.hub.stored(partner)
            week.registrations += len(truth)
            week.missing += len(truth.keys() ^ stored.keys())
            week.wrong += sum(
                any(stored[number][name] != row[name] for name in FIELDS)
                for number, row in truth.items()
                if number in stored
            )

    def _readable(self, partner: int) -> dict[int, dict[str, Any]]:
        """Return the active registrations of the races that the partner can read, as they should be stored."""
        truth = self.admin.truth(partner)
        events = {event["event_id"] for race in truth["races"] if race["access"] for event in race["events"]}
        return {row["registration_id"]: expected(row) for row in truth["active"] if row["event_id"] in events}

    def _judge_bibs(self) -> None:
        """Find out when each bib that was given out was here. One that was replaced before the hub could see it is not missed."""
        log = self.hub.rows(
            "SELECT registration_id, new_bib, min(recorded_at) AS at FROM runsignup_bib_changes GROUP BY 1, 2"
        )
        seen = {(row["registration_id"], row["new_bib"]): row["at"].timestamp() for row in log}
        first = self.hub.rows(
            "SELECT registration_id, first_bib FROM runsignup_participants WHERE first_bib IS NOT NULL"
        )
        known = {(row["registration_id"], row["first_bib"]) for row in first}
        times: dict[int, list[float]] = {}
        for given, number, _ in self.given:
            times.setdefault(number, []).append(given)
        for given, number, bib in self.given:
            week = self.report[min(int((given - self.began) / DAY) // 7, self.weeks - 1)]
            week.bibs += 1
            at = seen.get((number, bib))
            ends = [end for begin, end in self.down if begin - LATE_SECONDS < given < end]
            could_be_seen = max([given, *ends])
            if at is None:
                is_replaced = any(given < later <= could_be_seen + LATE_SECONDS for later in times[number])
                week.missed += not is_replaced and (number, bib) not in known
            elif at - given > LATE_SECONDS:
                week.while_down += bool(ends)
                week.late += not ends

    def _count_calls(self) -> None:
        log = self.admin.stats()["log"]
        kinds = Counter(
            call["endpoint"] for call in log
            if not call["query"].get("after_registration_id") and call["query"].get("page", "1") == "1"
        )  # fmt: skip
        self.week.calls += len(log)
        self.week.floor += kinds["participants"] + kinds["races"]


def table(report: list[Week]) -> str:
    """Return the weeks as a table in Markdown."""
    head = (
        *(
            "week",
            "registrations compared",
            "wrong",
            "missing or extra",
            "bibs on race mornings",
            "late by over a minute",
        ),
        *("late while the hub was down", "never seen", "calls", "of the floor"),
    )
    rows = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for number, week in enumerate(report, 1):
        cells = (
            number,
            week.registrations,
            week.wrong,
            week.missing,
            week.bibs,
            week.late,
            week.while_down,
            week.missed,
        )
        share = week.calls / week.floor if week.floor else 0.0
        rows.append(f"| {' | '.join(f'{cell:,}' for cell in cells)} | {week.calls:,} | {share:.2f} × |")
    return "\n".join(rows)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--weeks", type=int, default=8)
    arguments.add_argument("--partners", type=int, default=13)
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--json", type=Path)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="rsu-season-") as name:
        Path(name).chmod(0o711)
        folder = Path(name) / "postgres"
        server = embedded.ensure_running(folder, pg_binaries.machine_binaries())
        try:
            report = measure(server, Path(name), chosen.weeks, chosen.partners, chosen.seed)
        finally:
            embedded.release(folder)
            embedded.destroy(folder)
    print(table(report))
    if chosen.json:
        chosen.json.write_text(json.dumps([vars(week) for week in report], indent=2) + "\n")


def measure(server: str, home: Path, weeks: int, partners: int, seed: int) -> list[Week]:
    """Run a season on a database of its own, and return its weeks."""
    execute(server, "CREATE DATABASE season")
    url = f"{server.rsplit('/', 1)[0]}/season"
    with database.session(url, purpose="season") as conn:
        database.migrate(conn)
        conn.commit()
        clocks.install(conn, url)
    spec = {"partners": partners, "races_per_partner": 0}
    with SandboxProcess.start(spec=spec, seed=seed, now=clocks.START.timestamp()) as sandbox:
        sandbox.admin.clock(rate=0)
        # The default, which the tests' hub turns off.
        up_to = str(SyncSettings().full_read_up_to_rows)
        hub = Hub(url, sandbox, home, RSU_CALL_BACKOFF="0", RSU_MAX_IN_FLIGHT="1", RSU_FULL_READ_UP_TO_ROWS=up_to)
        with database.session(url, purpose="season control") as conn:
            clock = Clocks(sandbox.admin, conn)
            transport.time = SimpleNamespace(  # type: ignore[assignment]
                time=lambda: clock.hub_now().timestamp(), monotonic=time.monotonic
            )
            season = Season(hub, clock, weeks, seed)
            for key in hub.partners.values():
                season.installation.request_backfill(key)
            with season.installation:
                season.run()
    return season.report


if __name__ == "__main__":
    main()
