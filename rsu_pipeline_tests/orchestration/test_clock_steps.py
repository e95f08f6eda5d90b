"""A clock that steps by hours: sensors, schedules and the queue of a real daemon go on within a minute."""

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
)
from dagster._core.storage.tags import SCHEDULE_NAME_TAG, SCHEDULED_EXECUTION_TIME_TAG

from rsu_pipeline.orchestration import clock_steps
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.cli.started import Started, free_port
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.daemon_tables import MINUTE, REPOSITORY, Daemon
from rsu_pipeline_tests.orchestration.queued import make

HOURS = 3 * 3600.0

SHIFTED = """
import datetime, importlib.abc, importlib.machinery, os, sys, time, types

_wall = time.time


def _ahead():
    try:
        with open(os.environ["CLOCK_AHEAD"]) as stream:
            return float(stream.read() or 0)
    except OSError:
        return 0.0


time.time = lambda: _wall() + _ahead()


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in ("dagster._time", "grpc._channel", "grpc._server"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            if name == "dagster._time":
                module._mockable_get_current_datetime = lambda: datetime.datetime.fromtimestamp(time.time(), datetime.timezone.utc)
            else:
                # It gives moments to its core in C, which sees the machine's own clock.
                module.time = types.SimpleNamespace(**vars(time) | {"time": _wall})

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())
"""
"""As sitecustomize: what Dagster takes for the present is ahead by the seconds in a file, from one moment to the next."""


class Shifted:
    """`rsu up` on a machine whose clock a test sets."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self._ahead = folder / "ahead"
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(SHIFTED)
        environment = {
            **hub.environment,
            "RSU_UI_PORT": str(free_port()),
            "PYTHONPATH": str(folder / "site"),
            "CLOCK_AHEAD": str(self._ahead),
        }
        self.up = Started("up", environment, folder)

    def step(self, seconds: float) -> float:
        """Set the clock, from one moment to the next, and return the real present."""
        written = self._ahead.with_suffix(".new")
        written.write_text(str(seconds))
        written.rename(self._ahead)
        return time.time()

    def ticked_since(self, since: float, name: str) -> list[float]:
        """Return by how many seconds the ended ticks of a sensor or schedule stored since then are ahead."""
        rows = self.hub.rows(
            "SELECT extract(epoch FROM timestamp - create_timestamp)::float AS ahead FROM dagster.job_ticks"
            " WHERE create_timestamp > to_timestamp(%s) AT TIME ZONE 'UTC' AND tick_body LIKE %s AND status <> 'STARTED'",
            since,
            f'%"{name}"%',
        )
        return [row["ahead"] for row in rows]

    def until_ticked(self, since: float, name: str, seconds: float) -> float:
        """Wait for a tick since then, and return after how many seconds it was seen."""
        self.up.until(f"{name} ticks", lambda: self.ticked_since(since, name), seconds)
        return time.time() - since


@pytest.fixture
def shifted(hub: Hub, tmp_path: Path) -> Iterator[Shifted]:
    (tmp_path / "up").mkdir()
    machine = Shifted(hub, tmp_path / "up")
    yield machine
    if machine.up.process.poll() is None:
        machine.up.process.terminate()
        machine.up.process.wait(60)


@pytest.mark.timeout(400)
def test_sensors_schedules_and_the_queue_go_on_within_a_minute_after_the_clock_steps(shifted: Shifted) -> None:
    began = time.time() - 1
    query = "SELECT to_regclass('dagster.job_ticks') IS NOT NULL"
    shifted.up.until("Dagster has its tables", lambda: shifted.hub.value(query))
    for name in ("race_day", "alerts", "new_credentials"):
        shifted.until_ticked(began, name, 120)
    for ahead in (-HOURS, 0.0):
        stepped = shifted.step(ahead)
        for name in ("race_day", "alerts"):
            assert shifted.until_ticked(stepped + 2, name, 90) < 60, shifted.up.output
            assert all(abs(found - ahead) < 60 for found in shifted.ticked_since(stepped + 2, name))
        # Whatever was dated before the step back is not later than the present any more.
        future = "SELECT count(*) FROM dagster.job_ticks WHERE timestamp > to_timestamp(%s) AT TIME ZONE 'UTC'"
        assert shifted.hub.value(future, time.time() + ahead + 60) == 0
    (partner,) = list(shifted.hub.partners)[:1]
    shifted.up.until(
        "runs of the queue end",
        lambda: shifted.hub.value("SELECT count(*) FROM sync_history WHERE timing_partner_id = %s", partner),
    )


@pytest.mark.parametrize(
    ("steps", "expected"), [([0, 0, -HOURS], -HOURS), ([5, -5, HOURS], HOURS), ([20, 20, -31], -31)]
)
def test_only_a_step_of_the_wall_clock_is_noticed(steps: list[float], expected: float) -> None:
    ahead, elapsed = [0.0], [0.0]
    left = iter(steps)

    def pause(seconds: float) -> None:
        elapsed[0] += seconds
        ahead[0] += next(left)

    found: list[float] = []
    clock_steps.watch(
        found.append, wall=lambda: 1e9 + elapsed[0] + ahead[0], monotonic=lambda: 50.0 + elapsed[0], pause=pause
    )
    assert found == [pytest.approx(expected)]


def test_stamps_in_the_future_are_set_to_the_present_and_no_others(hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    now = time.time()
    states = {
        "race_day": (
            InstigatorType.SENSOR,
            SensorInstigatorData(now + HOURS, last_tick_start_timestamp=now + HOURS, cursor="7"),
        ),
        "history": (InstigatorType.SENSOR, SensorInstigatorData(now - 5, last_tick_start_timestamp=now - 5)),
        "nightly": (InstigatorType.SCHEDULE, ScheduleInstigatorData("0 2 * * *", now - 5, now + HOURS)),
    }
    for name, (kind, data) in states.items():
        origin = REPOSITORY.get_instigator_origin(name)
        hub_instance.add_instigator_state(InstigatorState(origin, kind, InstigatorStatus.RUNNING, data))
    with database.session(hub.url, purpose="tests") as conn:
        daemon = Daemon(hub_instance, conn)
        daemon.tick("race_day", -180 * MINUTE)
        daemon.tick("race_day", 5 * MINUTE)
        daemon.tick("nightly", -120 * MINUTE)
    assert clock_steps.repair_stamps(hub_instance, now) == 4
    assert clock_steps.repair_stamps(hub_instance, now) == 0
    after = {state.instigator_name: state.instigator_data for state in hub_instance.all_instigator_state()}
    assert after["history"] == states["history"][1]
    race_day, nightly = after["race_day"], after["nightly"]
    assert isinstance(race_day, SensorInstigatorData) and isinstance(nightly, ScheduleInstigatorData)
    assert (race_day.last_tick_timestamp, race_day.last_tick_start_timestamp, race_day.cursor) == (
        now - 60,
        now - 60,
        "7",
    )
    assert (nightly.start_timestamp, nightly.last_iteration_timestamp) == (now - 5, now)
    query = "SELECT extract(epoch FROM now() AT TIME ZONE 'UTC' - timestamp) AS age FROM dagster.job_ticks"
    ages = [row["age"] for row in hub.rows(query)]
    assert min(ages) >= 0 and max(ages) > 290


def test_a_schedule_launches_again_for_a_time_that_comes_a_second_time(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    now = time.time()
    origin = REPOSITORY.get_instigator_origin("fleet_check")
    data = ScheduleInstigatorData("*/30 * * * *", now)
    hub_instance.add_instigator_state(InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, data))
    planned = {hours: dt.datetime.fromtimestamp(now + hours * 3600, dt.UTC).isoformat() for hours in (-1, 1, 2)}
    runs = {
        hours: make(hub_instance, "check_fleet", **{SCHEDULE_NAME_TAG: "fleet_check", SCHEDULED_EXECUTION_TIME_TAG: at})
        for hours, at in planned.items()
    }
    assert clock_steps.repeat_ticks(hub_instance, now) == 2
    assert clock_steps.repeat_ticks(hub_instance, now) == 0
    for hours, at in planned.items():
        found = hub_instance.get_runs(dg.RunsFilter(tags={SCHEDULED_EXECUTION_TIME_TAG: at}))
        assert [run.run_id for run in found] == ([runs[hours].run_id] if hours < 0 else [])
