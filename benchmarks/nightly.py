"""A nightly sync of many partners whose process is killed, whose database restarts and whose time runs out on the way.

    python -m benchmarks.nightly [--partners 1000] [--latency-ms 700] [--json FILE]

One installation as `rsu up` starts it, two calls in flight, every partner with one race of 20 registrations that is read
already. Ten races are within the day, and due every 15 minutes. A nightly of all partners is launched at the web UI. At a
quarter of the partners its process is killed. At half of them PostgreSQL restarts after the crash of a session. And the
runs that follow the first may last half as long as the whole takes.

Every partner has to be listed by the end, near races may not wait longer than 20 minutes (the schedule ticks every five), and
no more visits may be made twice than were in flight at the kill, the restart and the end of time. Else this ends with 1.
With 1,000 partners and 700 ms it takes some 25 minutes.
"""

import argparse
import datetime as dt
import os
import re
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import requests

from benchmarks.hub import Hub, end_cleanly, started
from benchmarks.installation import Installation, installed
from benchmarks.report import as_json, machine
from rsu_pipeline.orchestration.batch import sync_batch
from rsu_pipeline.orchestration.lanes import LANE_TAG
from rsu_pipeline.orchestration.schedules import ACTIVE, DISTANCE_TAG, FAR, nightly
from rsu_pipeline.settings import project_root
from rsu_pipeline.sync import listing, partner_sync
from rsu_pipeline.sync.session import limit_concurrent_partners, open_partner_session
from rsu_pipeline.warehouse import database, fleet
from runsignup_sandbox.scales import Spec

NEAR_RACES = 10
CALLS_OF_A_VISIT = 3
"""A page of the listing, an empty one that shows its end, and a page of the race."""
LONGEST_WAIT_OF_NEAR_RACES = 20 * 60.0
LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


@dataclass
class Nightly:
    """What was measured. Times are seconds."""

    partners: int
    latency_ms: float
    machine: dict[str, object] = field(default_factory=machine)
    estimated: float = 0.0
    """Calls times latency by two in flight."""
    seconds: float = 0.0
    reached: int = 0
    visits_made_twice: int = 0
    most_in_flight: int = 0
    """Visits that could be in flight at the kill, the restart and each end of time."""
    longest_wait_of_near_races: float = 0.0
    runs: list[str] = field(default_factory=list)
    """How the runs ended that visited partners of the nightly, in their order."""

    @property
    def is_kept(self) -> bool:
        return (
            self.reached == self.partners
            and self.visits_made_twice <= self.most_in_flight
            and self.longest_wait_of_near_races <= LONGEST_WAIT_OF_NEAR_RACES
        )


@dataclass
class Night:
    """A nightly at work. `since` is when it was launched, by the database's clock."""

    here: Installation
    instance: dg.DagsterInstance
    found: Nightly
    since: dt.datetime

    def reached(self) -> int:
        """Return how many partners were listed since the launch."""
        return int(self.here.rows(_REACHED, self.since)[0][0])

    def runs(self) -> list[dg.DagsterRun]:
        """Return the batches since the launch that are not only of near races, the first one first."""
        found = self.instance.get_runs(dg.RunsFilter(job_name=sync_batch.name, created_after=self.since))
        return [run for run in reversed(found) if run.tags.get(DISTANCE_TAG) == FAR]

    def kill(self) -> None:
        """Kill the process of the run that is at work."""
        run = next(run for run in self.runs() if run.status is dg.DagsterRunStatus.STARTED)
        texts = [entry.message for entry in self.instance.all_logs(run.run_id)]
        pid = next(int(hit[1]) for text in texts if (hit := re.search(r"process for run \(pid: (\d+)\)", text)))
        os.kill(pid, signal.SIGKILL)

    def restart_database(self) -> None:
        """Let one session of PostgreSQL crash, which then ends all of them and recovers."""
        with database.session(self.here.url, purpose="benchmark") as conn:
            os.kill(conn.get_backend_pid(), signal.SIGKILL)

    def limit_runs(self) -> None:
        """Give each run after the first half of the estimated time."""
        for run in self.runs()[1:]:
            self.instance.add_run_tags(run.run_id, {"dagster/max_runtime": str(int(self.found.estimated / 2))})


def measure(partners: int, latency_ms: float) -> Nightly:
    """Load the partners, launch the nightly and disturb it until all are reached."""
    found = Nightly(partners, latency_ms, estimated=partners * CALLS_OF_A_VISIT * latency_ms / 1000 / 2)
    with started(Spec(partners, 1, 1, 20, start_in_hours=24 * 60)) as hub:
        url = hub.database()
        hub.run("ours", "prepare", url)
        hub.warm()
        print(f"Loading {partners:,} partners ...", flush=True)
        hub.run("ours", "plan", url)
        folder = hub.folder / "up"
        folder.mkdir()
        with installed(url, hub.sandbox, folder, secret_key=hub.secret_key) as here:
            near = _bring_near(here, hub)
            hub.sandbox.admin.switch(latency_ms=latency_ms)
            os.environ |= {name: text for name, text in here.environment.items() if name.startswith("RSU_")}
            with dg.DagsterInstance.from_config(str(project_root())) as instance:
                night = Night(here, instance, found, here.value("SELECT now()"))
                _launch(here, instance)
                _disturb(night)
                found.seconds = round((here.value("SELECT now()") - night.since).total_seconds(), 1)
                _judge(night, near)
    return found


def _bring_near(here: Installation, hub: Hub) -> list[int]:
    """Move the races of ten partners into the next day, and return their numbers."""
    races = []
    for number in range(1, NEAR_RACES + 1):
        race, *_ = hub.sandbox.admin.truth(number)["races"]
        for event in race["events"]:
            hub.sandbox.admin.move_event(event["event_id"], start_time=time.time() // 60 * 60 + 20 * 3600)
        key = here.keys[number - 1]
        with open_partner_session(
            here.url, here.secret_box, here.settings, key, lane="routine", run_id="benchmark", log=lambda line: None
        ) as session:
            listing.refresh_events(session)
            partner_sync.make_plan(session)
        races.append(int(race["race_id"]))
    return races


def _launch(here: Installation, instance: dg.DagsterInstance) -> None:
    """Launch what the schedule `nightly` requests, as it does at two in the morning."""
    now = here.value("SELECT now()")
    here.conn.autocommit = False
    keys = [partner.key for partner in fleet.select_partners_to_sync(here.conn, now, ())]
    here.conn.rollback()
    here.conn.autocommit = True
    tags = {LANE_TAG: "routine", DISTANCE_TAG: FAR}
    params: dict[str, Any] = {
        "selector": {
            "repositoryLocationName": "rsu_pipeline",
            "repositoryName": "__repository__",
            "pipelineName": sync_batch.name,
        },
        "mode": "default",
        "runConfigData": {"ops": {"sync_partners": {"config": {"partners": keys, "races": {}, "relist": keys}}}},
        "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
    }
    with requests.Session() as session:
        session.trust_env = False
        port = here.environment["RSU_UI_PORT"]
        body = {"query": LAUNCH, "variables": {"params": params}}
        answer = session.post(f"http://127.0.0.1:{port}/graphql", json=body, timeout=60).json()
    launched = answer["data"]["launchPipelineExecution"]
    if launched["__typename"] != "LaunchRunSuccess":
        raise RuntimeError(f"The nightly was not launched: {answer}")
    # Only the daemon may submit a run with this tag, by which an interrupted nightly is known.
    instance.add_run_tags(launched["run"]["runId"], {"dagster/schedule_name": nightly.name})


def _disturb(night: Night) -> None:
    """Wait until every partner is reached, and disturb the nightly on the way."""
    partners = night.found.partners
    following = [(partners // 4, "killed", night.kill), (partners // 2, "database restarted", night.restart_database)]
    limited = time.monotonic()

    def is_reached() -> bool:
        nonlocal limited
        reached = night.reached()
        if following and reached >= following[0][0]:
            _, name, disturb = following.pop(0)
            print(f"{reached:,} of {partners:,} partners reached: {name}", flush=True)
            disturb()
        if time.monotonic() - limited > 10:
            limited = time.monotonic()
            night.limit_runs()
            print(f"{reached:,} of {partners:,} partners reached", flush=True)
        return reached >= partners

    night.here.until("every partner is reached", is_reached, seconds=6 * night.found.estimated + 1800, or_else=False)


def _judge(night: Night, near: list[int]) -> None:
    found, here = night.found, night.here
    found.reached = night.reached()
    # The run that reached the last partner still has to report it.
    here.until("the last run ends", lambda: all(run.status not in ACTIVE for run in night.runs()), or_else=False)
    found.runs = [run.status.value for run in night.runs()]
    interruptions = 2 + sum(status in ("CANCELED", "FAILURE") for status in found.runs[1:])
    found.most_in_flight = interruptions * limit_concurrent_partners(here.settings.budget)
    found.visits_made_twice = int(here.rows(_VISITS_MADE_TWICE, night.since)[0][0])
    found.longest_wait_of_near_races = float(here.rows(_WAITS, near=near, since=night.since)[0][0])


_REACHED = """
SELECT count(DISTINCT timing_partner_id) FROM sync_history WHERE race_id IS NULL AND status <> 'failed' AND finished_at >= %s
"""
# Partners with a near race are listed again in between.
_VISITS_MADE_TWICE = f"""
SELECT count(*) FROM (
    SELECT FROM api_calls WHERE endpoint = 'races' AND credential_id > {NEAR_RACES} AND granted_at >= %s
    GROUP BY credential_id HAVING count(*) > {CALLS_OF_A_VISIT - 1}
) again
"""
_WAITS = """
SELECT extract(epoch FROM max(following - at)) FROM (
    SELECT at, lead(at, 1, now()) OVER (PARTITION BY race_id ORDER BY at) AS following FROM (
        SELECT race_id, granted_at AS at FROM api_calls
        WHERE endpoint = 'participants' AND error IS NULL AND race_id = ANY(%(near)s) AND granted_at >= %(since)s
        UNION ALL SELECT unnest(%(near)s), %(since)s
    ) reads
) gaps
"""


def main() -> int:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nightly", description=str(__doc__).split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--partners", type=int, default=1000, metavar="N")
    parser.add_argument("--latency-ms", type=float, default=700.0, metavar="MS", help="of each call")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    end_cleanly()
    found = measure(options.partners, options.latency_ms)
    print(
        f"{found.reached:,} of {found.partners:,} partners reached in {found.seconds:,.0f} s ({found.estimated:,.0f} s of"
        f" calls), {found.visits_made_twice} visits made twice of at most {found.most_in_flight}, near races read after"
        f" {found.longest_wait_of_near_races:,.0f} s at the latest; runs: {', '.join(found.runs)}"
    )
    if options.json:
        options.json.write_bytes(as_json(found))
    return 0 if found.is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
