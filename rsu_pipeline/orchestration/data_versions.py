"""Data versions, by which the Dagster UI decides whether an asset is in sync with its upstreams.

An asset's version is that of its content, so a sync that finds nothing new leaves everything downstream in sync. The step
of an asset returns it with its result, and Dagster adds which versions of the upstreams it is based on. What is reported
without a step of the asset (a batch, the watch, a sensor) is given the same tags here. Without them Dagster compares times,
and shows start lists that are current as unsynced.
"""

import time
from collections.abc import Mapping

import dagster as dg
from psycopg2.extensions import connection as Connection

from rsu_pipeline.orchestration.dagster_internals import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    DEFAULT_DATA_VERSION,
    NULL_EVENT_POINTER,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from rsu_pipeline.sync.registration_rows import RULES
from rsu_pipeline.warehouse import content_versions

CONTENT = {
    "partner_events": content_versions.EVENTS,
    "future_events": content_versions.PLAN,
    "participants": content_versions.REGISTRATIONS,
    "start_lists": content_versions.START_LISTS,
    "participant_history": content_versions.PAST_EDITIONS,
}
"""The content of each asset."""
UPSTREAM = {
    "partner_events": "runsignup",
    "future_events": "partner_events",
    "participants": "future_events",
    "start_lists": "participants",
    "participant_history": "partner_events",
}
"""The asset that each depends on. A test compares this with the definitions."""
CODE_VERSIONS = {
    "partner_events": "1",
    "future_events": "1",
    "participants": RULES.decode(),
    "start_lists": "1",
    "participant_history": RULES.decode(),
    "registration_report": "2",
    "fleet_health": "1",
    "race_day_board": "1",
}
"""Raised when an asset makes something else of the same input. Until its next run the Dagster UI then shows it as unsynced."""


BASED_FOR_SECONDS = 3 * 86400.0
"""A run's events are kept for a week."""


def read_version(conn: Connection, asset: str, partner_id: int) -> dg.DataVersion:
    """Return the version of what is stored now of an asset's partition."""
    return dg.DataVersion(content_versions.read_version(conn, CONTENT[asset], partner_id))


def materialization(
    instance: dg.DagsterInstance,
    asset: str,
    key: str,
    version: dg.DataVersion,
    metadata: Mapping[str, dg.MetadataValue],
    *,
    tags: Mapping[str, str] | None = None,
) -> dg.AssetMaterialization:
    """Return the materialization of a partner's partition that no step of the asset reports.

    Args:
        instance: has the materializations of the upstream, the last of which it is based on.
        asset: name of the asset.
        key: the partition key.
        version: of the content, see `read_version`.
        metadata: what the Dagster UI shows.
        tags: further tags.
    """
    upstream = dg.AssetKey(UPSTREAM[asset])
    found = _last(instance, UPSTREAM[asset], key)
    seen = _tags(found).get(DATA_VERSION_TAG)
    return dg.AssetMaterialization(
        asset,
        partition=key,
        metadata=dict(metadata),
        tags={
            CODE_VERSION_TAG: CODE_VERSIONS[asset],
            DATA_VERSION_TAG: version.value,
            DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
            get_input_data_version_tag(upstream): seen or DEFAULT_DATA_VERSION.value,
            get_input_event_pointer_tag(upstream): str(found.storage_id) if found else NULL_EVENT_POINTER,
            **(tags or {}),
        },
    )


def is_based_on(instance: dg.DagsterInstance, asset: str, key: str, version: dg.DataVersion) -> bool:
    """Return whether the last materialization of an asset's partition is based on this version of its upstream.

    One that is older than BASED_FOR_SECONDS does not count: Dagster looks up the materialization of the upstream that it names,
    which the retention of old runs deletes.
    """
    found = _last(instance, asset, key)
    if found is None or time.time() - found.timestamp > BASED_FOR_SECONDS:
        return False
    return _tags(found).get(get_input_data_version_tag(dg.AssetKey(UPSTREAM[asset]))) == version.value


def _last(instance: dg.DagsterInstance, asset: str, key: str) -> dg.EventLogRecord | None:
    """Return the last materialization of a partition, None if it has none."""
    filters = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[key])
    return next(iter(instance.fetch_materializations(filters, limit=1).records), None)


def _tags(record: dg.EventLogRecord | None) -> Mapping[str, str]:
    event = record.asset_materialization if record else None
    return (event.tags if event else None) or {}
