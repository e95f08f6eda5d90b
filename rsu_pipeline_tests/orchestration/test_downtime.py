"""Down for two days over a race, then started: one nightly brings everything, and `rsu status` shows what was caught up."""

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from benchmarks.race_morning import fast
from rsu_pipeline import installation
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.display import format_time
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.schedules import build_nightly
from rsu_pipeline.reading_settings import CadenceSettings
from rsu_pipeline.sync import downtime
from rsu_pipeline.sync.downtime import Downtime
from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.sync_gaps import CaughtUp, Gap
from rsu_pipeline_tests.cli.shell import rsu
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import use_environment
from rsu_pipeline_tests.specs import estate
from runsignup_sandbox.process import SandboxProcess

nightly = build_nightly("America/New_York")

HOUR = 3600.0
SPEC = estate(partners=2, races=2, registrations=12, start_in_hours=20)
EVERY = CadenceSettings()
EASTERN = ZoneInfo("America/New_York")
NOW = dt.datetime(2027, 6, 14, 9, tzinfo=dt.UTC)


@pytest.fixture
def hub(
    make_empty_database: Callable[[], str],
    make_sandbox: Callable[..., SandboxProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Hub]:
    """Provide a hub 60 hours ago, whose database and RunSignup have clocks that can be set."""
    url = make_empty_database()
    with database.session(url, purpose="tests") as conn:
        fast.prepare_database(conn)
    with database.session(url, purpose="tests") as conn:
        database.migrate(conn)
    sandbox = make_sandbox(spec=SPEC, seed=7, now=time.time() - 60 * HOUR)
    set_database_clock(url, -60 * HOUR)
    made = Hub(url, sandbox, tmp_path)
    use_environment(monkeypatch, made.environment)
    yield made
    installation.current.cache_clear()


def set_database_clock(url: str, seconds: float) -> None:
    with database.session(url, purpose="tests") as conn:
        wall = time.time()
        fast.set_database_clock(conn, fast.FastClock(wall + seconds, time.monotonic(), wall, 1.0))


def run_nightly(instance: dg.DagsterInstance) -> None:
    """Run what the schedule nightly requests, as the daemon does."""
    resources = {"warehouse": WarehouseResource()}
    now = dt.datetime.now(dt.UTC)
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=now, resources=resources) as context:
        requests = nightly(context)
    assert isinstance(requests, list)
    (request,) = requests
    job = build_definitions().resolve_job_def("sync_batch")
    assert job.execute_in_process(instance=instance, run_config=dict(request.run_config), tags=request.tags).success


def lines_on_downtime(hub: Hub) -> list[str]:
    done = rsu("status", settings=hub.environment)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    first = next((nth for nth, line in enumerate(lines) if line.startswith("Not syncing")), len(lines))
    assert all(len(line) <= 80 for line in lines[first:])
    return lines[first:]


def test_down_for_two_days_over_a_race_then_one_nightly_brings_everything_and_status_says_so(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    admin = hub.sandbox.admin
    for partner in hub.partners:
        assert not hub.sync(partner).failures
    began = admin.clock()
    since = hub.value(
        "SELECT greatest((SELECT max(finished_at) FROM sync_history), (SELECT max(granted_at) FROM api_calls))"
    )
    assert abs(since.timestamp() - began) < 60, "the last sign of life is of just now, by the hub's simulated clock"
    with_bib, swapped, gone, late = sorted(hub.stored())[:4]
    race_of = {row["event_id"]: row["race_id"] for row in hub.stored().values()}

    # The race starts after 20 h and is over after 27; the hub is down.
    admin.clock(set=began + 19 * HOUR)
    admin.bib(with_bib, 9001)
    admin.remove(gone, "deferred")
    (event, *_) = race_of
    entered = admin.register(event, {"bib_num": 9003}, count=1)
    admin.clock(set=began + 21 * HOUR)
    admin.bib(swapped, 9002)
    entered += admin.register(event, {"bib_num": 9004}, count=1)
    admin.clock(set=began + 30 * HOUR)
    admin.edit(late, {"first_name": "Corrected"})

    ended = admin.clock(set=time.time())
    set_database_clock(hub.url, 0)
    assert lines_on_downtime(hub) == [
        f"Not syncing since {format_time(since, EASTERN)} (60 h).",
        "  4 races ended meanwhile.",
        "  Still to do: 4 final reads.",
    ]
    run_nightly(instance)

    for partner in hub.partners:
        hub.assert_equal(partner, past_too=True)
        hub.assert_removals(partner)
        hub.assert_bib_log_replays(partner)
    stored = hub.stored()
    assert [stored[number]["bib_num"] for number in (with_bib, swapped, *entered)] == ["9001", "9002", "9003", "9004"]
    assert gone not in stored and stored[late]["first_name"] == "Corrected"
    until = hub.value("SELECT min(granted_at) FROM api_calls WHERE granted_at > %s", since)
    assert -1 < until.timestamp() - ended < 600, "the nightly's first call ends the downtime"
    assert lines_on_downtime(hub) == [
        f"Not syncing from {format_time(since, EASTERN)} to {format_time(until, EASTERN)} (60 h).",
        "  4 races ended meanwhile.",
        "  Caught up: 4 bibs, 2 new, 3 changed, 1 removed.",
        "  Nothing is left to do.",
    ]
    one, two = json.loads(rsu("status", "--json", settings=hub.environment).stdout)
    (found,) = one["downtimes"]
    assert {name: found[name] for name in ("races_over", "bibs", "new", "changed", "removed", "reads_left")} == {
        "races_over": 2, "bibs": 4, "new": 2, "changed": 3, "removed": 1, "reads_left": 0,
    }  # fmt: skip
    assert found["hours"] == round((until - since).total_seconds() / HOUR, 1) and two["downtimes"][0]["bibs"] == 0

    # Nothing is missing after a backfill, and nothing is left for it.
    for partner in hub.partners:
        while not hub.history(partner).finished:
            pass
        assert hub.history_progress(partner).is_complete
        hub.assert_equal(partner, past_too=True)
        hub.assert_removals(partner)

    # It is news for three days.
    with database.session(hub.url, purpose="tests") as conn:
        later = dt.datetime.now(dt.UTC) + dt.timedelta(days=3, hours=1)
        assert [item.until for item in downtime.find_downtimes(conn, later, EVERY)] == [None]


def gap(hours: float, *, had_window: bool = False) -> Gap:
    return Gap(NOW - dt.timedelta(hours=hours + 1), NOW - dt.timedelta(hours=1), had_window)


@pytest.mark.parametrize(
    ("found", "is_downtime"),
    [
        (gap(37), True),
        (gap(4.4), False),
        (gap(4.5), True),
        (gap(0.6), False),
        (gap(0.6, had_window=True), True),
        (Gap(NOW - dt.timedelta(hours=5), None, False), True),
        (Gap(NOW - dt.timedelta(hours=3), None, False), False),
    ],
)
def test_a_time_without_syncs_is_downtime_only_if_something_was_due_in_it(found: Gap, is_downtime: bool) -> None:
    assert downtime.is_downtime(found, NOW, EVERY) == is_downtime


def test_a_hub_that_syncs_as_it_should_was_never_down_and_polls_of_the_watch_count(database_url: str) -> None:
    minutes = dt.timedelta(minutes=1)
    with database.session(database_url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute("INSERT INTO timing_partners (timing_partner_id, company_name) VALUES (1, 'Acme')")
        cur.execute("INSERT INTO runsignup_races (race_id, name) VALUES (10, 'Run')")
        cur.execute("INSERT INTO partner_races (timing_partner_id, race_id) VALUES (1, 10)")
        cur.execute(
            "INSERT INTO runsignup_events (event_id, race_id, starts_at, ends_at) VALUES (1, 10, %s, %s)",
            (NOW - 90 * minutes, NOW + 300 * minutes),
        )
        cur.execute("INSERT INTO runsignup_api_keys (api_key_id, fingerprint) VALUES (1, 'x')")
        cur.executemany(
            "INSERT INTO sync_history (timing_partner_id, status, finished_at) VALUES (1, %s, %s)",
            [("completed", NOW - wait * minutes) for wait in (600, *range(360, 100, -20), 1)]
            + [("failed", NOW - wait * minutes) for wait in range(2, 120)],
        )
        # Since two hours ago only the watch calls, and from 50 to 10 minutes ago nobody does.
        cur.executemany(
            "INSERT INTO api_calls (credential_id, api_key_id, lane, endpoint, granted_at, settled_at, error)"
            " VALUES (1, 1, 'race_day', 'participants', %(at)s, %(at)s, %(error)s)",
            [{"at": NOW - wait * minutes, "error": "timeout" if 10 < wait < 50 else None} for wait in range(120)],
        )
        found = downtime.find_downtimes(conn, NOW, EVERY)
        assert [(item.since, item.until) for item in found] == [(NOW - 50 * minutes, NOW - 10 * minutes)]
        cur.execute("UPDATE api_calls SET error = NULL")
        assert downtime.find_downtimes(conn, NOW, EVERY) == []


def test_the_sentences_fit_eighty_columns_whatever_the_counts() -> None:
    much = CaughtUp(1, 123_456, 123_456, 123_456, 123_456, 123_456, 123_456)
    none = CaughtUp(2, 0, 0, 0, 0, 0, 0)
    hours = dt.timedelta(hours=3700)
    found = [Downtime(NOW - hours, NOW, 3700.0, [much, none]), Downtime(NOW - hours, NOW - hours / 2, 0.6, [none])]
    lines = list(downtime.describe(found, dt.UTC))
    assert all(len(line) <= 80 for line in lines)
    assert lines[4:] == [
        "Not syncing from 2027-01-11 05:00 UTC to 2027-03-29 07:00 UTC (36 min).",
        "  Nothing that changed meanwhile was found since.",
    ]
