"""What Kubernetes is told, played through where there is none: the job that migrates, and the dagster.yaml that the chart
makes of the values, on a real database.

The chart is not rendered here. Its part of dagster.yaml (templates/configmap-instance.yaml, 1.13) is written down below.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2.extensions
import pytest
import yaml

from rsu_pipeline.orchestration.run_coordinator import LaneCoordinator
from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.commands.shell import environment, rows
from rsu_pipeline_tests.deploy.deployed import document
from rsu_pipeline_tests.hub import SECRET_KEY
from rsu_pipeline_tests.orchestration.queued import queue
from rsu_pipeline_tests.orchestration.runs import use_environment


def migrate(settings: dict[str, str]) -> None:
    """The job's own command."""
    (container,) = document("deploy/kubernetes/migrate.yaml")["spec"]["template"]["spec"]["containers"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        container["command"], env=environment(**settings) | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def charts_instance(values: dict[str, Any], url: str) -> dict[str, Any]:
    """The dagster.yaml of the chart, but for the launcher, which needs a cluster. The database is this one."""
    parts = psycopg2.extensions.parse_dsn(url)
    database = {
        "postgres_db": {
            "username": parts["user"],
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": parts["host"],
            "db_name": parts["dbname"],
            "port": int(parts["port"]),
            "params": values["postgresql"]["postgresqlParams"],
        }
    }
    kinds = {
        "schedule_storage": ("dagster_postgres.schedule_storage", "PostgresScheduleStorage"),
        "run_storage": ("dagster_postgres.run_storage", "PostgresRunStorage"),
        "event_log_storage": ("dagster_postgres.event_log", "PostgresEventLogStorage"),
    }
    return {
        "scheduler": {"module": "dagster.core.scheduler", "class": "DagsterDaemonScheduler"},
        **{name: {"module": module, "class": kind, "config": database} for name, (module, kind) in kinds.items()},
        "run_coordinator": values["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"],
        "compute_logs": {"module": "dagster.core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"},
        "telemetry": values["telemetry"],
        **values["additionalInstanceConfig"],
    }


def test_an_installation_moves_into_the_chart_with_its_runs(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"RSU_DATABASE_URL": empty_database, "RSU_HOME": str(tmp_path / "home"), "RSU_SECRET_KEY": SECRET_KEY}
    for _ in range(2):  # before each upgrade
        migrate(settings)
    use_environment(monkeypatch, settings)
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", psycopg2.extensions.parse_dsn(empty_database)["password"])
    config = charts_instance(document("deploy/kubernetes/values.yaml"), empty_database)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config))

    with dg.DagsterInstance.from_config(str(tmp_path)) as there:
        assert isinstance(there.run_coordinator, LaneCoordinator)
        concurrency = there.get_concurrency_config()
        first = queue(there, partition="1-acme")
        assert there.get_run_by_id(first.run_id).tags["lane"] == "routine"  # type: ignore[union-attr]
        required = there.get_required_daemon_types()
    assert rows(settings, "SELECT schemaname FROM pg_tables WHERE tablename = 'runs'") == [("dagster",)]

    monkeypatch.setenv("DAGSTER_HOME", str(project_root()))
    with dg.DagsterInstance.get() as here:
        assert [run.run_id for run in here.get_runs()] == [first.run_id]
        assert here.get_required_daemon_types() == required
        assert here.get_concurrency_config() == concurrency
