"""Where a morning is played: a PostgreSQL and a RunSignup of its own, every partner onboarded and synced once."""

import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.race_morning import fast, judge
from benchmarks.race_morning.morning import Morning
from rsu_pipeline.local import embedded
from rsu_pipeline.reading_settings import ApiSettings
from rsu_pipeline.settings import Settings, load_settings
from rsu_pipeline.sync import listing, partner_sync
from rsu_pipeline.sync.session import open_partner_session
from rsu_pipeline.warehouse import credentials, database
from rsu_pipeline.warehouse.secret_box import SecretBox, generate_secret_key
from runsignup_sandbox.process import SandboxProcess

Log = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """Where a morning is played: one morning is played once."""

    url: str
    sandbox: SandboxProcess
    environment: dict[str, str]
    keys: dict[int, tuple[int, str]]
    """Partner id and partition key by the sandbox's number of the partner."""
    registrations: list[list[int]]
    """Registration ids by race and entrant."""
    bibs: list[dict[int, int | None]]
    """Bib by registration id, by race, as the morning begins."""
    events: list[list[int]]
    """Event ids by race."""
    begins: float
    """The sandbox's time when the morning begins."""


@contextmanager
def stage(morning: Morning, *, seed: int, speed: float, log: Log) -> Iterator[Stage]:
    """Provide servers of its own for the length of a block, with every partner onboarded and synced."""
    partners = max(race.partner for race in morning.races)
    spec = {
        "partners": partners,
        "races_per_partner": len(morning.races) // partners,
        "events_per_race": 2,
        "registrations_per_event": morning.entrants // 2,
        # So far off that few have a bib yet; the starts are moved before anything is read.
        "start_in_hours": 30 * 24,
    }
    with tempfile.TemporaryDirectory(prefix="rsu-simulation-") as home:
        folder = Path(home) / "postgres"
        try:
            log("Starting a PostgreSQL and a RunSignup of its own ...")
            url = judge.server_with_commit_times(folder)
            with SandboxProcess.start(spec=spec, seed=seed, timeout=300) as sandbox:
                secret_key = generate_secret_key()
                environment = {
                    "RSU_HOME": home,
                    "RSU_DATABASE_URL": url,
                    "RSU_API_BASE_URL": sandbox.api_url,
                    "RSU_SECRET_KEY": secret_key,
                    # Waits between attempts are real ones.
                    "RSU_CALL_BACKOFF": str(ApiSettings().backoff / speed),
                }
                begins = math.ceil(sandbox.admin.clock() / 60) * 60 + 600.0 + 60.0 * partners
                races = _place(morning, sandbox, begins)
                secret_box = SecretBox([secret_key], source="RSU_SECRET_KEY")
                with database.session(url, purpose="simulate") as conn:
                    fast.prepare_database(conn)
                settings = load_settings(environment)
                keys = _onboard(url, sandbox, settings, secret_box, log)
                yield Stage(url, sandbox, environment, keys, *races, begins)
        finally:
            embedded.release(folder)
            embedded.destroy(folder)


_Races = tuple[list[list[int]], list[dict[int, int | None]], list[list[int]]]


def _place(morning: Morning, sandbox: SandboxProcess, begins: float) -> _Races:
    """Move the sandbox's races to their starts, and return registration ids, bibs and event ids by race."""
    registrations: list[list[int]] = [[] for _ in morning.races]
    bibs: list[dict[int, int | None]] = [{} for _ in morning.races]
    events: list[list[int]] = [[] for _ in morning.races]
    for number in sorted({race.partner for race in morning.races}):
        truth = sandbox.admin.truth(number)
        of_event = defaultdict(list)
        for row in truth["active"]:
            of_event[row["event_id"]].append(row)
        places = [place for place, race in enumerate(morning.races) if race.partner == number]
        for place, race in zip(places, sorted(truth["races"], key=lambda race: int(race["race_id"])), strict=True):
            events[place] = sorted(int(event["event_id"]) for event in race["events"])
            for event_id in events[place]:
                sandbox.admin.move_event(event_id, start_time=begins + morning.races[place].start)
                rows = sorted(of_event[event_id], key=lambda row: int(row["registration_id"]))
                registrations[place] += [row["registration_id"] for row in rows]
                bibs[place] |= {row["registration_id"]: row["bib_num"] for row in rows}
    return registrations, bibs, events


def _onboard(
    url: str, sandbox: SandboxProcess, settings: Settings, secret_box: SecretBox, log: Log
) -> dict[int, tuple[int, str]]:
    """Enter every partner and sync it for the first time, in real time."""
    keys = {}
    with database.session(url, purpose="simulate") as conn:
        database.migrate(conn)
        for item in sandbox.admin.partners():
            partner_id = credentials.add(
                conn, secret_box, name=item["name"], principal=item["key"], secret=item["secret"]
            )
            keys[item["partner"]] = (partner_id, credentials.ensure_key(conn, partner_id))
        conn.commit()
    log(f"Onboarding {len(keys)} partners: first syncs ...")
    for _, key in keys.values():
        with open_partner_session(
            url, secret_box, settings, key, lane="new_partner", run_id="first", log=lambda line: None
        ) as session:
            listing.refresh_events(session)
            outcome = partner_sync.sync_participants(session, partner_sync.make_plan(session))
            if outcome.failures or outcome.out_of_budget is not None:
                raise RuntimeError(f"The first sync of {key} failed: {outcome.failures or 'out of budget'}")
    return keys
