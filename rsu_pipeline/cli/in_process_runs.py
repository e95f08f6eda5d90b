"""Runs of the jobs in this process, against the same instance as the Dagster UI."""

import getpass
import os
import socket
from dataclasses import dataclass
from typing import Any

from rsu_pipeline import cancellation
from rsu_pipeline.cli.common import set_dagster_home


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run: success, numbers of its metadata, and the reason of a failure in a sentence.

    Of a name that was reported twice, the last number counts. `api_calls` are added up.
    """

    is_success: bool
    run_id: str
    numbers: dict[str, Any]
    error: str


def describe_user() -> str:
    """Return who runs this process, and on which machine."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        name = f"user {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def run_in_process(job: str, key: str, *, lane: str, launched_by: str, ops: dict[str, Any]) -> RunResult:
    """Run a job for one partner's partition, which is added if it is missing.

    Raises:
        KeyboardInterrupt: a signal ended the run.
    """
    import dagster as dg

    from rsu_pipeline.definitions import load_definitions
    from rsu_pipeline.orchestration import partitions

    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(partitions.NAME, [key])
        outcome = (
            load_definitions()
            .resolve_job_def(job)
            .execute_in_process(
                partition_key=key,
                instance=instance,
                raise_on_error=False,
                run_config={"ops": ops, "loggers": {"quiet": {}}},
                # The Dagster UI shows the tag `user` as who launched the run.
                tags={"lane": lane, "partner": key, "launched_by": launched_by, "user": describe_user()},
            )
        )
    if cancellation.was_cancelled():
        raise KeyboardInterrupt
    numbers: dict[str, Any] = {}
    error = ""
    for event in outcome.all_node_events:
        metadata: Any = {}
        if event.is_step_materialization:
            metadata = event.step_materialization_data.materialization.metadata
        elif event.is_step_failure:
            failure = event.step_failure_data
            details = failure.user_failure_data
            error = (details.description if details else None) or (
                failure.error.message.strip() if failure.error else "failed"
            )
            metadata = details.metadata if details else {}
        for name, value in metadata.items():
            if isinstance(value.value, int | float) and name != "seconds":
                numbers[name] = numbers.get(name, 0) + value.value if name == "api_calls" else value.value
    return RunResult(outcome.success, outcome.run_id, numbers, error)


def delete_partition(key: str) -> None:
    """Delete a partner's partition. Its runs and materializations stay."""
    import dagster as dg

    from rsu_pipeline.orchestration import partitions

    set_dagster_home()
    with dg.DagsterInstance.get() as instance:
        if key in instance.get_dynamic_partitions(partitions.NAME):
            instance.delete_dynamic_partition(partitions.NAME, key)
