"""Keep the daemon working after its machine's clock stepped, back or forward.

Dagster's daemon times everything by the wall clock. After a step back it sleeps until the old time is reached again: a loop that
waits, a sensor or schedule whose last tick is in the future, a heartbeat that is not due. Its state in memory cannot be
corrected from outside, so the daemon exits and its supervisor starts it again (`rsu up`, systemd, a container). Before it
begins, stamps in the future are set to the present.

A thread of the daemon compares the wall clock with the monotonic clock every second. It needs no sensor and no schedule.
"""

import datetime as dt
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg

from rsu_pipeline.orchestration.dagster_internals import (
    SCHEDULE_NAME_TAG,
    SCHEDULED_EXECUTION_TIME_TAG,
    InstigatorState,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
)

TOLERANCE_SECONDS = 30.0
"""How far the wall clock may move within a second. A smaller step delays nothing by more than that."""
ENDING_SECONDS = 10.0
"""How long the daemon has to exit by itself. Its threads may wait for a clock that was set back."""
MAX_INTERVAL_SECONDS = 60.0
"""The longest interval of a sensor."""
TICKS_READ = 1000
RUNS_READ = 500
"""Runs of schedules, newest first: more than they launch in the hours of a step."""

_guard = threading.Lock()
_watching: threading.Thread | None = None
_log = logging.getLogger("dagster")


def is_daemon() -> bool:
    """Return whether this process is Dagster's daemon."""
    return Path(sys.argv[0]).name == "dagster-daemon"


def begin(instance: dg.DagsterInstance) -> None:
    """Correct stamps in the future, and end this process when its clock steps. Called in the daemon, before it begins."""
    global _watching
    with _guard:
        if _watching is not None:
            return
        _watching = threading.Thread(target=watch, args=(_end_daemon,), name="clock-steps", daemon=True)
        now = time.time()
        if repaired := repair_stamps(instance, now) + repeat_ticks(instance, now):
            _log.warning(
                f"{repaired} stamps of ticks, sensors, schedules and runs were in the future and have been corrected"
            )
        _watching.start()


def watch(
    on_step: Callable[[float], None],
    *,
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Call `on_step` with the seconds of the first step of the wall clock by more than TOLERANCE_SECONDS, then return."""
    before = wall() - monotonic()
    while True:
        pause(1.0)
        difference = wall() - monotonic()
        if abs(difference - before) > TOLERANCE_SECONDS:
            on_step(difference - before)
            return
        before = difference


def repair_stamps(instance: dg.DagsterInstance, now: float) -> int:
    """Set stamps of ticks, sensors and schedules that are in the future to `now`. Return how many were."""
    repaired = 0
    for state in instance.all_instigator_state():
        for tick in instance.get_ticks(
            state.instigator_origin_id, state.selector_id, after=now + TOLERANCE_SECONDS, limit=TICKS_READ
        ):
            instance.update_tick(tick.with_status(tick.status, timestamp=now))
            repaired += 1
        if (present := _without_future(state, now)) is not None:
            instance.update_instigator_state(present)
            repaired += 1
    return repaired


def repeat_ticks(instance: dg.DagsterInstance, now: float) -> int:
    """Let schedules launch runs again for the times that come a second time, and return how many runs had such a time.

    Dagster launches no run for a scheduled time that already has one, and after a step back the hours to come have one.
    """
    repeated = 0
    names = [state.instigator_name for state in instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)]
    runs = instance.get_runs(dg.RunsFilter(tags={SCHEDULE_NAME_TAG: names}), limit=RUNS_READ) if names else []
    for run in runs:
        planned = run.tags.get(SCHEDULED_EXECUTION_TIME_TAG, "")
        with suppress(ValueError):
            if dt.datetime.fromisoformat(planned).timestamp() > now + TOLERANCE_SECONDS:
                instance.add_run_tags(
                    run.run_id, {SCHEDULED_EXECUTION_TIME_TAG: f"{planned} before the clock stepped back"}
                )
                repeated += 1
    return repeated


def _without_future(state: InstigatorState, now: float) -> InstigatorState | None:
    """Return a state whose stamps are no later than `now`, or None if they already are."""
    data = state.instigator_data
    if isinstance(data, SensorInstigatorData):
        names: tuple[str, ...] = (
            "last_tick_timestamp",
            "last_tick_start_timestamp",
            "last_sensor_start_timestamp",
            "last_tick_success_timestamp",
        )
    elif isinstance(data, ScheduleInstigatorData):
        names = ("start_timestamp", "last_iteration_timestamp")
    else:
        return None
    # A sensor whose last tick is as old as its interval ticks at once.
    stamp = now - MAX_INTERVAL_SECONDS if isinstance(data, SensorInstigatorData) else now
    present: dict[str, Any] = {name: stamp for name in names if (getattr(data, name) or 0.0) > now + TOLERANCE_SECONDS}
    return state.with_data(data._replace(**present)) if present else None


def _end_daemon(seconds: float) -> None:
    back = "back" if seconds < 0 else "forward"
    _log.warning(
        f"This machine's clock stepped {back} by {dt.timedelta(seconds=round(abs(seconds)))}."
        " The daemon exits and is started again."
    )
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ENDING_SECONDS)
    os._exit(1)
