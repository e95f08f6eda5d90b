"""Every private name of Dagster that the project uses, in one place.

Dagster promises nothing about them, so its version is pinned exactly. When a new version moves one, the import here fails, and
this list is what to check. A test finds private imports elsewhere.

- `QueuedRunCoordinator`, `DefaultRunLauncher`, the storages, `ConfigurableClass` and its data are the base classes that Dagster's
  own documentation of dagster.yaml names. Classes of the instance have no public base.
- `SqlEventLogStorage` and the tables of its schema are what retention deletes from. Dagster has no deletion by age.
- `InstigatorState` and its data have the moments that a step of the clock leaves in the future.
- `DagsterUserCodeUnreachableError` is the one error after which the daemon queues a run again.
- The tags of data versions are what Dagster writes for a step, and what a report without one must have too.
- `BaseWorkspaceRequestContext` and `IWorkspaceProcessContext` are in the signatures of the web server's methods.
"""

from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    DEFAULT_DATA_VERSION,
    NULL_EVENT_POINTER,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.scheduler.instigation import InstigatorState, ScheduleInstigatorData, SensorInstigatorData
from dagster._core.storage.dagster_run import CANCELABLE_RUN_STATUSES
from dagster._core.storage.defs_state.base import DefsStateStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs.schema import RunsTable
from dagster._core.storage.tags import SCHEDULE_NAME_TAG, SCHEDULED_EXECUTION_TIME_TAG
from dagster._core.workspace.context import BaseWorkspaceRequestContext, IWorkspaceProcessContext
from dagster._serdes import ConfigurableClass, ConfigurableClassData

__all__ = [
    "CANCELABLE_RUN_STATUSES",
    "CODE_VERSION_TAG",
    "DATA_VERSION_IS_USER_PROVIDED_TAG",
    "DATA_VERSION_TAG",
    "DEFAULT_DATA_VERSION",
    "NULL_EVENT_POINTER",
    "RUNLESS_RUN_ID",
    "SCHEDULED_EXECUTION_TIME_TAG",
    "SCHEDULE_NAME_TAG",
    "AssetCheckExecutionsTable",
    "AssetEventTagsTable",
    "BaseWorkspaceRequestContext",
    "BulkActionStatus",
    "BulkActionsFilter",
    "CheckRunHealthResult",
    "ConfigurableClass",
    "ConfigurableClassData",
    "DagsterUserCodeUnreachableError",
    "DefaultRunLauncher",
    "DefsStateStorage",
    "IWorkspaceProcessContext",
    "InstigatorState",
    "InstigatorType",
    "LaunchRunContext",
    "LocalArtifactStorage",
    "LocalComputeLogManager",
    "QueuedRunCoordinator",
    "RunsTable",
    "ScheduleInstigatorData",
    "SensorInstigatorData",
    "SqlEventLogStorage",
    "SqlEventLogStorageTable",
    "SubmitRunContext",
    "WorkerStatus",
    "get_input_data_version_tag",
    "get_input_event_pointer_tag",
]
