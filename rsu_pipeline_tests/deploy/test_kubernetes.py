"""Kubernetes' configuration, tried without a cluster on a real database.

These are the job that migrates, and the dagster.yaml that the chart makes of the values.

The chart is not rendered here. Its part of dagster.yaml (templates/configmap-instance.yaml, 1.13) is written down below, and
what it makes of a deployment for its runs (the container context). docs/deploy.md has how it was rendered by hand.
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
from rsu_pipeline_tests.cli.shell import environment, rows
from rsu_pipeline_tests.deploy.deployed import document
from rsu_pipeline_tests.hub import SECRET_KEY
from rsu_pipeline_tests.orchestration.queued import queue
from rsu_pipeline_tests.orchestration.runs import use_environment


def migrate(settings: dict[str, str]) -> None:
    """Run the job's own command."""
    (container,) = document("deploy/kubernetes/migrate.yaml")["spec"]["template"]["spec"]["containers"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        container["command"],
        env=environment(**settings) | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def charts_instance(values: dict[str, Any], url: str) -> dict[str, Any]:
    """Return the dagster.yaml of the chart, but for the launcher, which needs a cluster. The database is this one."""
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


def pod_templates() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return pod and container of each kind of pod, under the names that Kubernetes gives their fields."""
    values = document("deploy/kubernetes/values.yaml")
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    pods = {
        name: (
            {"securityContext": part["podSecurityContext"]},
            {key: part[key] for key in ("securityContext", "resources", "envSecrets")},
        )
        for name, part in (
            ("web UI", values["dagsterWebserver"]),
            ("daemon", values["dagsterDaemon"]),
            ("code server", deployment),
        )
    }
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    # A run has the code server's secrets by includeConfigInLaunchedRuns.
    assert deployment["includeConfigInLaunchedRuns"]["enabled"]
    pods["run"] = (launcher["runK8sConfig"]["podSpecConfig"], launcher | {"envSecrets": deployment["envSecrets"]})
    for name, file in (("migration", "migrate"), ("delivery", "delivery")):
        spec = document(f"deploy/kubernetes/{file}.yaml")["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        pods[name] = (spec, container | {"envSecrets": [source["secretRef"] for source in container["envFrom"]]})
    return pods


def test_every_pod_runs_unprivileged_with_resources() -> None:
    for name, (pod, container) in pod_templates().items():
        user = {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001}
        assert pod["securityContext"] == user, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
        assert container["resources"]["limits"]["memory"], name


def test_only_code_server_runs_and_delivery_have_the_key() -> None:
    found = {name: [secret["name"] for secret in one["envSecrets"]] for name, (_, one) in pod_templates().items()}
    all_of_them = {name: ["rsu-database", "rsu"] for name in ("code server", "run", "delivery")}
    assert found == {name: ["rsu-database"] for name in ("web UI", "daemon", "migration")} | all_of_them
    # What the guide puts into each secret.
    guide = (project_root() / "docs" / "deploy.md").read_text()
    assert "secret generic rsu-database --from-env-file=database.env" in guide
    assert "`database.env` holds `RSU_DATABASE_URL`" in guide


def test_the_code_location_is_named_as_everywhere_else() -> None:
    """Dagster keeps the state of sensors and schedules, and their ticks, under the location's name."""
    values = document("deploy/kubernetes/values.yaml")
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    workspace = values["dagsterWebserver"]["workspace"]
    server = {"host": deployment["name"], "port": deployment["port"], "name": "rsu_pipeline"}
    assert workspace == {"enabled": True, "servers": [server]}
    for path in ("workspace.yaml", "deploy/systemd/workspace.yaml", "deploy/compose/workspace.yaml"):
        ((place,),) = [entry.values() for entry in document(path)["load_from"]]
        assert place["location_name"] == server["name"], path


def test_a_run_pod_is_made_as_the_values_say() -> None:
    """By Dagster's own launcher for Kubernetes, from what the chart hands to it."""
    pytest.importorskip("dagster_k8s", reason="`pip install -r deploy/kubernetes/requirements.txt` brings dagster-k8s")
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job

    values = document("deploy/kubernetes/values.yaml")
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    own = {
        "security_context": launcher["securityContext"],
        "resources": launcher["resources"],
        "run_k8s_config": {"pod_spec_config": launcher["runK8sConfig"]["podSpecConfig"]},
    }
    of_the_location = {
        "env_secrets": [secret["name"] for secret in deployment["envSecrets"]],
        "env": deployment["env"],
        "resources": deployment["resources"],
        "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
    }
    context = K8sContainerContext.create_from_config({"k8s": own}).merge(
        K8sContainerContext.create_from_config({"k8s": of_the_location})
    )
    config = DagsterK8sJobConfig(
        job_image="rsu-pipeline:0.2.0",
        dagster_home="/opt/dagster/dagster_home",
        instance_config_map="dagster-instance",
        postgres_password_secret="dagster-postgresql-secret",
    )
    made = construct_dagster_k8s_job(
        config,
        args=[],
        job_name="dagster-run-1",
        component="run_worker",
        user_defined_k8s_config=context.run_k8s_config,
    )
    pod = made.spec.template.spec
    (container,) = pod.containers
    assert (pod.security_context.run_as_user, pod.security_context.run_as_non_root) == (10001, True)
    assert container.security_context.allow_privilege_escalation is False
    assert container.security_context.capabilities.drop == ["ALL"]
    assert container.resources.limits == {"memory": "1Gi"}
    assert {source.secret_ref.name for source in container.env_from} == {"rsu-database", "rsu"}


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
