"""What starting costs, as a measured process: ticks of sensors and schedules, and runs that have nothing to do.

In this process, on the instance that dagster.yaml describes, with the partners' partitions in it. Nothing of a daemon or a
web server is in the figures. Each is done once before it is timed, and of several times the median counts.
"""

import datetime as dt
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.measure import Job, Meter, Report, answer, job
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration import alert_sensors, fleet_checks, partitions, race_day_sensors, schedules, sensors
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.settings import project_root
from rsu_pipeline.warehouse import credentials, database

TIMES = 5
BIB_CHANGES = race_day_sensors.build_bib_changes("watch")
SENSORS = (
    sensors.new_credentials,
    sensors.history,
    race_day_sensors.race_day,
    BIB_CHANGES,
    alert_sensors.alerts,
)
SCHEDULES = (schedules.race_proximity, fleet_checks.fleet_check)


def main() -> None:
    meter = Meter()
    work = job()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="rsu-starts-") as name:
        os.environ |= {
            "RSU_HOME": str(Path(name, "home")),
            "RSU_DATABASE_URL": work.database_url,
            "RSU_API_BASE_URL": work.api_url,
            "RSU_SECRET_KEY": work.secret_key,
            "RSU_CALLS_PER_HOUR": "1000000",
        }
        shutil.copy(project_root() / "dagster.yaml", name)
        with meter.timing(report.registrations), dg.DagsterInstance.from_config(name) as instance:
            measure(work, report, instance)
    meter.close(report)
    answer(report)


def measure(work: Job, report: Report, instance: dg.DagsterInstance) -> None:
    with database.session(work.database_url, purpose="benchmark") as conn:
        keys = [credentials.ensure_key(conn, partner.number) for partner in work.partners]
        conn.commit()
    instance.add_dynamic_partitions(partitions.NAME, keys)
    warehouse = {"warehouse": WarehouseResource()}
    for sensor in SENSORS:
        more: dict[str, Any] = {"runsignup": RunSignupResource()} if sensor is BIB_CHANGES else {}

        def look(sensor: dg.SensorDefinition = sensor, more: dict[str, Any] = more) -> None:
            with dg.build_sensor_context(instance=instance, resources=warehouse | more) as context:
                sensor(context)

        report.seconds[f"tick of {sensor.name}"] = _median(look)
    for schedule in SCHEDULES:

        def tick(schedule: dg.ScheduleDefinition = schedule) -> None:
            now = dt.datetime.now(dt.UTC)
            with dg.build_schedule_context(
                instance=instance, scheduled_execution_time=now, resources=warehouse
            ) as context:
                schedule.evaluate_tick(context)

        report.seconds[f"tick of {schedule.name}"] = _median(tick)
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    empty = _nothing.to_job(name="nothing")
    report.seconds["run of a job with nothing to do"] = _median(
        lambda: empty.execute_in_process(instance=instance, run_config=quiet)
    )
    sync = build_definitions().resolve_job_def("sync_partner")
    report.seconds["run of sync_partner with nothing new"] = _median(
        # Its job has loggers of its own, without a level.
        lambda: sync.execute_in_process(instance=instance, partition_key=keys[0])
    )
    report.seconds["import of the definitions"] = _median(lambda: _python("-c", "import rsu_pipeline.definitions"))
    report.seconds["rsu status"] = _median(lambda: _rsu("status", "--json"), times=3)
    # No daemon and no web UI are at work here, which it then reports.
    report.seconds["rsu health"] = _median(lambda: _rsu("health", ends_with=1), times=3)
    with database.session(work.database_url, purpose="benchmark") as conn, conn.cursor() as cur:
        cur.execute("UPDATE runsignup_events SET starts_at = now() + interval '2 hours', ends_at = NULL")
        conn.commit()
    report.seconds["rsu race-day, every race in its window"] = _median(lambda: _rsu("race-day", "--json"), times=3)


@dg.graph
def _nothing() -> None:
    @dg.op
    def nothing() -> None:
        pass

    nothing()


def _python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def _rsu(*arguments: str, ends_with: int = 0) -> None:
    command = [sys.executable, "-m", "rsu_pipeline.cli.main", *arguments]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if done.returncode != ends_with:
        raise RuntimeError(f"rsu {arguments[0]} ended with {done.returncode} instead of {ends_with}")


def _median(action: Callable[[], object], times: int = TIMES) -> float:
    action()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


if __name__ == "__main__":
    main()
