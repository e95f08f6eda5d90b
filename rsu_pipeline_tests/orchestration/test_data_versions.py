"""What the Dagster UI calls in sync is current, and what it calls unsynced is not."""

import datetime as dt
from collections.abc import Mapping

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration import data_versions
from rsu_pipeline.orchestration.data_versions import CODE_VERSIONS, UPSTREAM
from rsu_pipeline.orchestration.race_day_sensors import build_bib_changes
from rsu_pipeline.orchestration.report_automation import fleet_health_refresh
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import sync_partner
from rsu_pipeline_tests.orchestration.test_batch import batch
from rsu_pipeline_tests.orchestration.test_race_day_sensors import look

CHAIN = ("partner_events", "future_events", "participants", "start_lists")


def statuses(instance: dg.DagsterInstance, key: str) -> dict[str, str]:
    """Return what the Dagster UI shows of a partner's partition of each asset: FRESH, STALE (unsynced) or MISSING."""
    graph = build_definitions().resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return {name: resolver.get_status(dg.AssetKey(name), key).value for name in CHAIN}


def versions(instance: dg.DagsterInstance, key: str) -> dict[str, str]:
    """Return the data version of the last materialization of a partner's partition of each asset."""
    found = {}
    for name in CHAIN:
        filters = dg.AssetRecordsFilter(asset_key=dg.AssetKey(name), asset_partitions=[key])
        record = instance.fetch_materializations(filters, limit=1).records[0]
        assert record.asset_materialization is not None and record.asset_materialization.tags is not None
        found[name] = record.asset_materialization.tags["dagster/data_version"]
    return found


IN_SYNC = dict.fromkeys(CHAIN, "FRESH")


def test_the_versions_are_those_of_the_definitions() -> None:
    graph = build_definitions().resolve_asset_graph()
    for name, upstream in UPSTREAM.items():
        assert graph.get(dg.AssetKey(name)).parent_keys == {dg.AssetKey(upstream)}, name
    for key in graph.get_all_asset_keys() - {dg.AssetKey("runsignup")}:
        assert graph.get(key).code_version == CODE_VERSIONS[key.to_user_string()], key


def test_assets_are_in_sync_after_a_run_a_batch_and_a_bib_whatever_changed(
    own_hub: Hub, instance: dg.DagsterInstance
) -> None:
    hub, key = own_hub, own_hub.partners[1]
    assert sync_partner(instance, key).success
    assert statuses(instance, key) == IN_SYNC
    first = versions(instance, key)

    # Nothing has changed: the same versions, and nothing becomes unsynced, though the lists are not rebuilt.
    assert batch(instance, hub, 1).success
    assert statuses(instance, key) == IN_SYNC
    assert versions(instance, key)["participants"] == first["participants"]
    assert versions(instance, key)["start_lists"] == first["start_lists"]

    event = hub.value("SELECT min(event_id) FROM start_lists WHERE timing_partner_id = 1")
    (registration,) = hub.sandbox.admin.register(event)
    assert batch(instance, hub, 1).success
    assert statuses(instance, key) == IN_SYNC
    second = versions(instance, key)
    assert second["participants"] != first["participants"] and second["start_lists"] != first["start_lists"]

    # A bib that the watch stores is reported by the sensor, without a run.
    hub.sandbox.admin.bib(registration, 4711)
    hub.sync(1)
    look(build_bib_changes("watch"), instance)
    assert statuses(instance, key) == IN_SYNC
    assert versions(instance, key)["participants"] != second["participants"]


def test_registrations_synced_alone_take_the_start_lists_along(own_hub: Hub, instance: dg.DagsterInstance) -> None:
    hub, key = own_hub, own_hub.partners[1]
    assert sync_partner(instance, key).success
    event = hub.value("SELECT min(event_id) FROM start_lists WHERE timing_partner_id = 1")
    hub.sandbox.admin.register(event)
    job = build_definitions().resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(
        instance=instance, partition_key=key, asset_selection=[dg.AssetKey("participants")], raise_on_error=False
    )
    assert done.success
    assert statuses(instance, key) == IN_SYNC


def test_a_change_that_is_not_on_the_start_lists_yet_shows_as_unsynced(
    own_hub: Hub, instance: dg.DagsterInstance
) -> None:
    hub, key = own_hub, own_hub.partners[1]
    assert sync_partner(instance, key).success
    event = hub.value("SELECT min(event_id) FROM start_lists WHERE timing_partner_id = 1")
    hub.sandbox.admin.register(event)
    hub.sync(1)
    with hub.partner_session(1) as session:
        version = data_versions.read_version(session.conn, "participants", session.partner_id)
    instance.report_runless_asset_event(data_versions.materialization(instance, "participants", key, version, {}))
    assert statuses(instance, key) == IN_SYNC | {"start_lists": "STALE"}


def test_the_plan_and_the_run_report_the_reads_that_were_made(hub: Hub, instance: dg.DagsterInstance) -> None:
    key = hub.partners[1]
    races = sync_partner(instance, key).metadata["participants"]["races_read"]
    for config, full in (({}, 0), ({"force_full_sync": True}, races), ({"incremental_days": 0.0}, races)):
        run = sync_partner(instance, key, **config)
        for asset in ("future_events", "participants"):
            found = run.metadata[asset]
            assert (found["full_reads"], found["incremental_reads"]) == (full, races - full), (asset, config)
    assert [row["read"] for row in records(run.metadata["participants"])] == ["full"] * races


def records(metadata: Mapping[str, object]) -> list[dict[str, object]]:
    table = metadata["reads"]
    return [dict(record.data) for record in table.records]  # type: ignore[attr-defined]


def test_fleet_health_is_requested_once_the_first_sync_has_ended_and_when_an_alert_opens(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    def requested(cursor: str | None) -> tuple[int, str | None]:
        resources = {"warehouse": data_resource()}
        with dg.build_sensor_context(instance=instance, resources=resources, cursor=cursor) as context:
            result = fleet_health_refresh(context)
        assert isinstance(result, dg.SensorResult)
        return len(result.run_requests or ()), result.cursor

    count, cursor = requested(None)
    assert count == 0
    hub.sync(1)
    count, cursor = requested(cursor)
    assert count == 1
    assert requested(cursor) == (0, cursor)
    hub.execute(
        "INSERT INTO alerts (kind, cause, sentence, first_seen_at, last_seen_at) VALUES ('x', 'x', 'x', now(), now())"
    )
    count, cursor = requested(cursor)
    assert count == 1
    hub.execute("UPDATE alerts SET cleared_at = now()")
    assert requested(cursor)[0] == 1


def data_resource() -> object:
    from rsu_pipeline.orchestration.resources import WarehouseResource

    return WarehouseResource()


HOURLY = dt.timedelta(hours=1)


def test_a_report_is_requested_for_a_new_partner_and_hourly_when_registrations_changed(
    own_hub: Hub, instance: dg.DagsterInstance
) -> None:
    hub, key = own_hub, own_hub.partners[1]
    defs, start = build_definitions(), dt.datetime(2027, 3, 1, 12, 10, tzinfo=dt.UTC)
    report = dg.AssetKey("registration_report")

    def tick(moment: dt.datetime, cursor: object = None) -> tuple[set[str], object]:
        made = dg.evaluate_automation_conditions(
            defs=defs,
            instance=instance,
            asset_selection=dg.AssetSelection.assets(report),
            evaluation_time=moment,
            cursor=cursor,  # type: ignore[arg-type]
        )
        return set(made.get_requested_partitions(report)), made.cursor

    instance.add_dynamic_partitions("timing_partner", [key])
    found, cursor = tick(start)
    assert found == set(), "there is nothing to report before the first sync"
    assert sync_partner(instance, key).success
    found, cursor = tick(start + dt.timedelta(minutes=1), cursor)
    assert found == {key}
    assert tick(start + dt.timedelta(minutes=2), cursor)[0] == set(), "a report that failed waits for the next hour"
    assert tick(start)[0] == {key}, "the sensor's first evaluation counts as well"
    job = defs.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, partition_key=key, asset_selection=[report]).success
    for minutes in (2, 3):
        found, cursor = tick(start + dt.timedelta(minutes=minutes), cursor)
        assert found == set()
    # A sync that finds nothing new requests no report.
    assert sync_partner(instance, key).success
    found, cursor = tick(start + dt.timedelta(minutes=4), cursor)
    found, cursor = tick(start + HOURLY, cursor)
    assert found == set()
    hub.sandbox.admin.register(hub.value("SELECT min(event_id) FROM start_lists WHERE timing_partner_id = 1"))
    assert sync_partner(instance, key).success
    found, cursor = tick(start + HOURLY + dt.timedelta(minutes=5), cursor)
    assert found == set()
    found, cursor = tick(start + 2 * HOURLY, cursor)
    assert found == {key}


@pytest.mark.parametrize("count", [1, 2])
def test_one_run_makes_the_reports_of_several_partners(hub: Hub, instance: dg.DagsterInstance, count: int) -> None:
    keys = [hub.partners[number] for number in range(1, count + 1)]
    instance.add_dynamic_partitions("timing_partner", keys)
    job = build_definitions().resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey("registration_report")],
        tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]},
    )
    assert done.success
    found = {
        event.partition: event.step_materialization_data.materialization
        for event in done.all_events
        if event.is_step_materialization
    }
    assert set(found) == set(keys)
    assert all("entrants" in one.metadata for one in found.values())
