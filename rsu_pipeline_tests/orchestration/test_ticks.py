"""Ticks of sensors and schedules: what one costs does not grow with the number of partners."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import dagster as dg
import psycopg2.extensions
import pytest
from click.testing import CliRunner
from psycopg2.extensions import connection as Connection

from rsu_pipeline import installation
from rsu_pipeline.cli.main import rsu
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.orchestration.run_tags import REPORTS_SENSOR
from rsu_pipeline.warehouse import addresses, backfill_state
from rsu_pipeline.warehouse.cursors import REMOVALS_PENDING
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import use_environment

FEW, MANY = 5, 16
SPEC = {
    "partners": MANY,
    "races_per_partner": 1,
    "events_per_race": 1,
    "registrations_per_event": 1,
    "start_in_hours": 30,
}
MAX_NAMED = 10
MAX_OF_DAGSTER = 50
"""Statements of Dagster's own evaluation, which are more where something has changed: 43 here."""
COMMANDS = ("status", "status --prometheus -", "health", "race-day", "log --failed", "alerts list", "partners list")
"""Commands that show all partners."""

Statements = Counter[str]


class Tick(NamedTuple):
    """What an evaluation took, and how many runs, partitions and events its result names. The daemon handles each by itself."""

    statements: Statements
    named: int


Ticks = dict[str, Tick]


@pytest.fixture
def hub(make_hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = make_hub(spec=SPEC, seed=7)
    use_environment(monkeypatch, hub.environment)
    yield hub
    installation.current.cache_clear()


class CountedCursor(psycopg2.extensions.cursor):
    """A cursor whose statements are counted, those of Dagster's storage and those of the hub."""

    statements: ClassVar[Statements] = Counter()

    def execute(self, *arguments: object, **options: object) -> None:
        self.statements[str(arguments[0])] += 1
        super().execute(*arguments, **options)  # type: ignore[arg-type]

    def executemany(self, *arguments: object, **options: object) -> None:
        raise AssertionError(f"one statement for each row: {arguments[0]}")


@pytest.fixture
def counted(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Statements:
    """Count the statements of every session that is opened from now on."""
    open_connection = addresses.open_connection

    def opened(conninfo: str) -> Connection:
        conn = open_connection(conninfo)
        conn.cursor_factory = CountedCursor
        return conn

    monkeypatch.setattr(addresses, "open_connection", opened)
    CountedCursor.statements.clear()
    return CountedCursor.statements


def tick_all(instance: dg.DagsterInstance, counted: Statements) -> Ticks:
    """Evaluate every sensor and schedule once."""
    repository = build_definitions().get_repository_def()
    given: dict[str, Any] = {
        "instance": instance,
        "instance_ref": instance.get_ref(),
        "repository_def": repository,
        "resources": {"warehouse": WarehouseResource(), "runsignup": RunSignupResource()},
    }
    found = {}
    for sensor in repository.sensor_defs:
        counted.clear()
        with dg.build_sensor_context(sensor_name=sensor.name, **given) as context:
            result = sensor.evaluate_tick(context)
        partitions = [key for request in result.dynamic_partitions_requests or () for key in request.partition_keys]
        named = len(result.run_requests or ()) + len(partitions) + len(result.asset_events or ())
        found[sensor.name] = Tick(counted.copy(), named)
    for schedule in repository.schedule_defs:
        counted.clear()
        with dg.build_schedule_context(scheduled_execution_time=dt.datetime.now(dt.UTC), **given) as context:
            requests = schedule.evaluate_tick(context).run_requests
        found[schedule.name] = Tick(counted.copy(), len(requests or ()))
    return found


def show_all(instance: dg.DagsterInstance, counted: Statements) -> Ticks:
    """Run the checks of the fleet and each command that shows all partners once."""
    counted.clear()
    assert (
        build_definitions().resolve_job_def("check_fleet").execute_in_process(instance=instance, raise_on_error=False)
    )
    found = {"check_fleet": Tick(counted.copy(), 0)}
    for command in COMMANDS:
        counted.clear()
        done = CliRunner().invoke(rsu, command.split())
        assert done.exit_code in (0, 1) and counted, done.output
        found[command] = Tick(counted.copy(), 0)
    return found


def enable_only(hub: Hub, count: int) -> list[str]:
    """Disable all partners but the first ones, and return the partition keys of these."""
    hub.execute("UPDATE timing_partners SET disabled_at = CASE WHEN timing_partner_id > %s THEN now() END", count)
    return list(hub.partners.values())[:count]


def sync(instance: dg.DagsterInstance, keys: list[str]) -> None:
    job = build_definitions().resolve_job_def("sync_batch")
    config = {"ops": {"sync_partners": {"config": {"partners": keys, "relist": keys}}}}
    assert job.execute_in_process(instance=instance, run_config=config).success


def fail_everything(hub: Hub) -> None:
    """Leave every partner stale: a third with a race in its window, a third with one within 24 h, and each with failed reads.

    Each has two failed runs too, one of them without a trace, removals pending confirmation, duplicate bibs, and an event that
    its race's detail lacks.
    """
    hub.execute("UPDATE partner_provider_credentials SET entered_at = now() - interval '9 days'")
    hub.execute(
        "UPDATE runsignup_events SET created_at = now() - interval '9 days', vanished_at = now() - interval '2 hours',"
        " starts_at = now() + CASE event_id % 3 WHEN 0 THEN interval '1 hour' WHEN 1 THEN interval '20 hours' ELSE '30 hours' END"
    )
    hub.execute("UPDATE partner_races SET listed_at = now() - interval '9 days'")
    hub.execute("UPDATE event_cursors SET last_read_at = now() - interval '2 days', needs_full = %s", REMOVALS_PENDING)
    hub.execute("UPDATE start_lists SET duplicate_bibs = 2")
    hub.execute("DELETE FROM sync_history")
    hub.execute(
        "INSERT INTO sync_history (timing_partner_id, race_id, status, finished_at, error_details, run_id)"
        " SELECT timing_partner_id, race_id, 'failed', now() - interval '1 minute', '{\"cause\": \"connection failed\"}',"
        " 'run of ' || timing_partner_id FROM partner_races"
    )
    hub.execute(
        "INSERT INTO dagster.runs (run_id, pipeline_name, status, run_body, partition, start_time, end_time)"
        " SELECT CASE odd WHEN 0 THEN 'run of ' || timing_partner_id ELSE 'bug of ' || timing_partner_id END, 'sync_partner',"
        " 'FAILURE', (SELECT run_body FROM dagster.runs ORDER BY id DESC LIMIT 1), partition_key,"
        " extract(epoch FROM now()) - 90, extract(epoch FROM now()) - 60"
        " FROM timing_partners, generate_series(0, 1) AS odd WHERE disabled_at IS NULL"
    )


def tick_in_each_state(hub: Hub, instance: dg.DagsterInstance, counted: Statements, count: int) -> dict[str, Ticks]:
    """Evaluate everything while this number of partners are new, are being synced, are due, and have backfills requested."""
    keys = enable_only(hub, count)
    found = {"new": tick_all(instance, counted)}
    sync(instance, keys)
    hub.execute(
        "UPDATE dagster.runs SET status = CASE WHEN id = (SELECT max(id) FROM dagster.runs) THEN 'STARTED' ELSE 'SUCCESS' END"
    )
    found["being synced"] = tick_all(instance, counted)
    hub.execute("UPDATE dagster.runs SET status = 'SUCCESS'")
    hub.execute("UPDATE sync_history SET finished_at = finished_at - interval '1 day'")
    hub.execute("UPDATE event_cursors SET last_read_at = last_read_at - interval '1 day'")
    found["due"] = tick_all(instance, counted)
    hub.execute(
        "INSERT INTO history_requests (timing_partner_id, backfill_id) SELECT timing_partner_id, 'backfill' || timing_partner_id"
        " FROM timing_partners WHERE disabled_at IS NULL ON CONFLICT DO NOTHING"
    )
    found["backfills"] = tick_all(instance, counted)
    hub.execute("DELETE FROM history_requests")
    return found


def assert_as_many_queries(few: dict[str, Ticks], many: dict[str, Ticks]) -> None:
    """Assert that no evaluation with many partners makes more queries, or names more runs, than with few."""
    for state, ticks in many.items():
        for name, tick in ticks.items():
            was = few[state][name].statements
            limit = MAX_OF_DAGSTER if name == REPORTS_SENSOR else was.total()
            assert tick.statements.total() <= limit, (state, name, tick.statements - was)
            assert tick.named <= MAX_NAMED, (state, name)


def test_a_tick_takes_as_many_queries_whatever_the_number_of_partners(
    hub: Hub, hub_instance: dg.DagsterInstance, counted: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_state, "MAX_QUEUED_SLICES", FEW)  # Dagster validates the partition of each run
    enable_only(hub, 1)
    tick_all(hub_instance, counted)  # what a process does once
    few, many = (tick_in_each_state(hub, hub_instance, counted, count) for count in (FEW, MANY))
    assert_as_many_queries(few, many)
    assert many["due"]["race_proximity"].named and many["backfills"]["history"].named == FEW


def test_a_tick_takes_as_many_queries_whatever_the_number_of_failing_partners(
    hub: Hub, hub_instance: dg.DagsterInstance, counted: Statements
) -> None:
    enable_only(hub, MANY)
    tick_all(hub_instance, counted)  # what a process does once, and the partitions
    sync(hub_instance, list(hub.partners.values()))
    fail_everything(hub)
    found: list[dict[str, Ticks]] = []
    for count in (FEW, MANY):
        enable_only(hub, count)
        hub.execute("DELETE FROM alerts")
        first = tick_all(hub_instance, counted)
        assert hub.value("SELECT count(*) FROM alerts WHERE cleared_at IS NULL") >= 5 * count
        found.append(
            {"failing": first, "with open alerts": tick_all(hub_instance, counted) | show_all(hub_instance, counted)}
        )
    assert_as_many_queries(*found)
