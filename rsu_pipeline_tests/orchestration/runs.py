"""Runs of the real job for tests, and what they reported."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon.controller import create_daemon_grpc_server_registry

from rsu_pipeline import installation
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.settings import project_root

Metadata = Mapping[str, Any]


def use_environment(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Make these settings this process's installation."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    installation.current.cache_clear()


@contextmanager
def code_server(instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    """Start a code server of workspace.yaml as the daemon does. It has ended when the block has.

    One that lives on would find its database gone.
    """
    target = WorkspaceFileTarget([str(project_root() / "workspace.yaml")])
    with create_daemon_grpc_server_registry(instance) as registry:
        try:
            with WorkspaceProcessContext(instance, target, grpc_server_registry=registry) as workspace:
                yield workspace
        finally:
            registry.shutdown_all_processes()
            registry.wait_for_processes()  # it raises after 30 s


@dataclass
class Run:
    """A finished run of sync_partner, with metadata by asset. `failure` is None when the run succeeded."""

    success: bool
    run_id: str
    metadata: dict[str, Metadata]
    failure: "Failed | None"


@dataclass
class Failed:
    """How a run failed.

    This is its step, its message, what it measured, the whole text of the error, its causes, and how often the step was tried.
    """

    step: str
    description: str
    metadata: Metadata
    text: str
    chained: list[str]
    attempts: int


def sync_partner(instance: dg.DagsterInstance, key: str, **config: object) -> Run:
    """Run the job for one partition, with `config` as the launchpad's form of `participants`."""
    instance.add_dynamic_partitions(partitions.NAME, [key])
    outcome = (
        build_definitions()
        .resolve_job_def("sync_partner")
        .execute_in_process(
            instance=instance,
            partition_key=key,
            run_config={"ops": {"participants": {"config": config}}},
            raise_on_error=False,
        )
    )
    return _run(instance, outcome.run_id)


def _run(instance: dg.DagsterInstance, run_id: str) -> Run:
    """Return what Dagster's storage knows of a run, as the web UI shows it."""
    metadata: dict[str, Metadata] = {}
    failure = None
    entries = [entry.dagster_event for entry in instance.all_logs(run_id) if entry.dagster_event]
    for event in entries:
        if event.is_step_materialization:
            found = event.step_materialization_data.materialization
            metadata[found.asset_key.to_user_string()] = {name: value.value for name, value in found.metadata.items()}
        if event.is_step_failure:
            data = event.step_failure_data
            failure = Failed(
                step=str(event.step_key),
                description=str(data.user_failure_data.description) if data.user_failure_data else "",
                metadata={name: value.value for name, value in data.user_failure_data.metadata.items()}
                if data.user_failure_data
                else {},
                text=str(data.error),
                chained=[one.message for one in (data.error.cause, data.error.context) if one] if data.error else [],
                attempts=sum(one.is_step_start and one.step_key == event.step_key for one in entries),
            )
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return Run(run.is_success, run_id, metadata, failure)
