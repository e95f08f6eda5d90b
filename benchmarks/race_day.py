"""How soon a bib is here, in real time and as an installation runs: `rsu up`, its daemon, its sensor, its watch.

    python -m benchmarks.race_day [--minutes 10] [--idle-minutes 2] [--embedded] [--json FILE]

Two measurements of one installation with servers of its own, 13 partners with 3 races each. Idle: every race is far off,
nothing is due. Race day: every race is in its window, a call takes 700 ms, 1000 calls an hour for each credential and 2 in
flight are allowed, and bibs are given out at random moments. A bib counts from the moment before RunSignup gets it to the
commit of its row in the bib log (and of the registration, which is the same transaction).
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.footprint import disk_growth, pss_mb
from benchmarks.installation import Installation, installed
from benchmarks.measure import cpu_of
from benchmarks.race_morning import judge
from benchmarks.race_morning.cpu import cpu_with_children, parent_of
from benchmarks.race_morning.judge import Made
from benchmarks.race_morning.report import latency
from rsu_pipeline.local import embedded
from rsu_pipeline.sync import listing, partner_sync
from rsu_pipeline.sync.session import open_partner_session
from runsignup_sandbox.process import AdminClient, SandboxProcess

SPEC = {
    "partners": 13,
    "races_per_partner": 3,
    "events_per_race": 1,
    "registrations_per_event": 300,
    "start_in_hours": 60,
}
RACES = 39
LATENCY_MS = 700.0
EVERY = 0.6
"""Mean seconds between two bibs given out anywhere."""
PATIENCE = 120.0

Figures = dict[str, Any]


class Entrant(NamedTuple):
    """Who may get a bib: the partner's number in the sandbox, the race and the registration."""

    partner: int
    race_id: int
    registration_id: int


def idle(here: Installation, minutes: float) -> Figures:
    """Measure while nothing is due: what daemon and UI cost, how long ticks take, which runs were started."""
    here.until("no run is active", lambda: not here.value(_ACTIVE))
    # The last runs' processes take some seconds to go.
    time.sleep(15)
    began, since = time.monotonic(), here.value("SELECT extract(epoch FROM now())::float")
    with here.measuring() as cpu, disk_growth(here.conn) as disk:
        time.sleep(minutes * 60)
        memory = pss_mb(parent_of(here.conn.get_backend_pid()))
    seconds = time.monotonic() - began
    ticks: dict[str, list[float]] = {}
    for name, millis in here.rows(_TICKS, since):
        ticks.setdefault(name, []).append(float(millis))
    return {
        "minutes": round(seconds / 60, 2),
        "load": os.getloadavg()[1],
        "runs_started": dict(here.rows(_RUNS, since)),
        "ticks": {
            name: {"count": len(found), "median_ms": sorted(found)[len(found) // 2], "worst_ms": max(found)}
            for name, found in sorted(ticks.items())
        },
        "cpu_seconds": cpu,
        "share_of_a_core": round(sum(cpu.values()) / seconds, 4),
        "disk": disk,
        "postgresql_pss_mb": memory,
    }


def bring_into_window(here: Installation, sandbox: SandboxProcess) -> list[Entrant]:
    """Move every event to start within two hours, and wait until the watch has polled each race.

    Return who may get a bib.
    """
    admin = sandbox.admin
    entrants: list[Entrant] = []
    for number, key in enumerate(here.keys, start=1):
        truth = admin.truth(number)
        race_of = {event["event_id"]: race["race_id"] for race in truth["races"] for event in race["events"]}
        entrants += [
            Entrant(number, race_of[row["event_id"]], row["registration_id"])
            for row in truth["active"]
            if row["event_id"] in race_of
        ]
        for event_id in race_of:
            admin.move_event(event_id, start_time=time.time() // 60 * 60 + 2 * 3600)
        with open_partner_session(
            here.url, here.secret_box, here.settings, key, lane="routine", run_id="benchmark", log=lambda line: None
        ) as session:
            listing.refresh_events(session)
            partner_sync.make_plan(session)
    admin.switch(latency_ms=LATENCY_MS)
    here.until("the watch has polled every race", lambda: here.value(_LOOKED_AT) >= RACES)
    random.Random(7).shuffle(entrants)
    return entrants


def give_bibs(
    admin: AdminClient,
    entrants: Iterable[Entrant],
    minutes: float,
    first_bib: int,
    is_left_out: Callable[[Entrant], bool],
) -> list[Made]:
    """Give out bibs at random moments for that long, to entrants who are not left out at that moment.

    Return when each was.
    """
    rng = random.Random(7)
    made: list[Made] = []
    until, following = time.monotonic() + minutes * 60, time.monotonic()
    for entrant in entrants:
        if is_left_out(entrant):
            continue
        following += rng.expovariate(1 / EVERY)
        if following > until:
            break
        time.sleep(max(0.0, following - time.monotonic()))
        at, bib = time.time(), first_bib + len(made)
        admin.bib(entrant.registration_id, bib)
        made.append(Made(at, entrant.partner, entrant.registration_id, "bib", str(bib)))
    time.sleep(max(0.0, until - time.monotonic()))
    return made


def race_day(here: Installation, sandbox: SandboxProcess, minutes: float) -> Figures:
    """Measure every race in its window: how soon bibs are here, and what it costs."""
    admin = sandbox.admin
    asked = time.monotonic()
    entrants = bring_into_window(here, sandbox)
    to_first_round = time.monotonic() - asked
    admin.reset_stats()
    since = here.value("SELECT extract(epoch FROM now())::float")
    postmaster = parent_of(here.conn.get_backend_pid())
    servers = cpu_with_children(postmaster), cpu_of(sandbox.process.pid)
    with here.measuring() as cpu, disk_growth(here.conn) as disk:
        made = give_bibs(admin, entrants, minutes, 5001, lambda entrant: False)
        memory = pss_mb(postmaster)
    stats = admin.stats()
    used = cpu_with_children(postmaster) - servers[0], cpu_of(sandbox.process.pid) - servers[1]
    here.until("every bib is here", lambda: not judge.noticed(here.conn, made)[1], seconds=PATIENCE, or_else=False)
    noticed, missed = judge.noticed(here.conn, made)
    differences = [
        f"{key}: {item}"
        for number, key in enumerate(here.keys, start=1)
        for item in judge.differences(here.conn, admin, number, int(key.split("-")[0]))
    ]
    calls = Counter(dict(here.rows(_CALLS, since, since + minutes * 60)))
    return {
        "minutes": minutes,
        "load": os.getloadavg()[1],
        "seconds_to_the_first_round": round(to_first_round, 1),
        "bibs": len(made),
        "latency": vars(latency([item.latency for item in noticed])),
        "missed": [str(item) for item in missed] + differences,
        "calls_an_hour_of_the_busiest_credential": round(max(calls.values(), default=0) * 60 / minutes),
        "calls": stats["calls"],
        "max_in_flight": stats["max_in_flight"],
        "violations": stats["violations"],
        "runs_started": dict(here.rows(_RUNS, since)),
        "cpu_seconds": cpu | {"PostgreSQL": round(used[0], 1), "sandbox": round(used[1], 1)},
        "peak_mib_of_a_run": here.peak_mib_of_a_run,
        "disk": disk,
        "postgresql_pss_mb": memory,
    }


_ACTIVE = (
    "SELECT count(*) FROM dagster.runs WHERE status IN ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING')"
)
_RUNS = "SELECT pipeline_name, count(*) FROM dagster.runs WHERE create_timestamp > to_timestamp(%s) AT TIME ZONE 'UTC' GROUP BY 1"
# From the row's making, when the tick begins, to its end by the daemon's clock; a schedule's timestamp is its cron time.
_TICKS = """
SELECT coalesce(tick_body::jsonb ->> 'instigator_name', tick_body::jsonb ->> 'job_name'),
    round(1000 * ((tick_body::jsonb ->> 'end_timestamp')::numeric - extract(epoch FROM create_timestamp)))
FROM dagster.job_ticks
WHERE create_timestamp > to_timestamp(%s) AT TIME ZONE 'UTC' AND tick_body::jsonb ->> 'end_timestamp' IS NOT NULL
"""
_LOOKED_AT = "SELECT count(DISTINCT race_id) FROM api_calls WHERE lane = 'race_day' AND settled_at IS NOT NULL"
_CALLS = """
SELECT api_key_id, count(*) FROM api_calls
WHERE granted_at BETWEEN to_timestamp(%s) AND to_timestamp(%s) GROUP BY 1
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of race day")
    parser.add_argument("--idle-minutes", type=float, default=2.0, help="with nothing due, before it")
    parser.add_argument("--embedded", action="store_true", help="use the server that `rsu up` brings along")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    figures: Figures = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="rsu-race-day-") as name:
        folder = Path(name)
        try:
            url = judge.server_with_commit_times(
                folder / "postgres", None if options.embedded else embedded.machine_binaries()
            )
            with SandboxProcess.start(spec=SPEC, seed=7) as sandbox, installed(url, sandbox, folder) as here:
                print("Waiting for the daemon's first syncs ...", flush=True)
                here.until("every race is read", lambda: here.value("SELECT count(*) FROM event_cursors") == RACES)
                if options.idle_minutes:
                    print(f"Idle for {options.idle_minutes:g} minutes ...", flush=True)
                    figures["idle"] = idle(here, options.idle_minutes)
                    print(json.dumps(figures["idle"], indent=2), flush=True)
                if options.minutes:
                    print(f"Race day for {options.minutes:g} minutes ...", flush=True)
                    figures["race_day"] = race_day(here, sandbox, options.minutes)
        finally:
            embedded.release(folder / "postgres")
            embedded.destroy(folder / "postgres")
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if figures.get("race_day", {}).get("missed") else 0


if __name__ == "__main__":
    sys.exit(main())
