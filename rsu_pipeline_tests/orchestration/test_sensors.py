"""`new_credentials`, called as the daemon calls it, on a real instance and database."""

import dagster as dg
import pytest

from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.sensors import MAX_STRAY, new_credentials
from rsu_pipeline.warehouse import credentials, database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import sync_partner, use_environment

SECRET = "canary-secret-entered-by-sql"


def look(instance: dg.DagsterInstance) -> dg.SensorResult:
    """Evaluate the sensor once, and delete partitions as the daemon does."""
    with dg.build_sensor_context(instance=instance, resources={"warehouse": WarehouseResource()}) as context:
        result = new_credentials(context)
    assert isinstance(result, dg.SensorResult)
    for request in result.dynamic_partitions_requests or []:
        for key in request.partition_keys:
            instance.delete_dynamic_partition(request.partitions_def_name, key)
    return result


def partition_keys(instance: dg.DagsterInstance) -> list[str]:
    return list(instance.get_dynamic_partitions(partitions.NAME))


def run_keys(result: dg.SensorResult) -> dict[str, str]:
    return {str(request.partition_key): str(request.run_key) for request in result.run_requests or []}


def execute(instance: dg.DagsterInstance, result: dg.SensorResult, key: str) -> bool:
    """Execute one of a tick's requests, and return whether it succeeded."""
    (request,) = (request for request in result.run_requests or [] if request.partition_key == key)
    job = build_definitions().resolve_job_def("sync_partner")
    outcome = job.execute_in_process(
        instance=instance, partition_key=key, tags=dict(request.tags), raise_on_error=False
    )
    return outcome.success


def skip_message(result: dg.SensorResult) -> str:
    assert result.skip_reason is not None
    return str(result.skip_reason.skip_message)


def forget_partners(hub: Hub) -> None:
    hub.execute("DELETE FROM partner_provider_credentials; DELETE FROM timing_partners")


def enter_by_sql(hub: Hub, name: str, principal: str, secret: str) -> None:
    """Enter a partner as operators do."""
    hub.execute("INSERT INTO timing_partners (company_name) VALUES (%s)", name)
    hub.execute(
        "INSERT INTO partner_provider_credentials (timing_partner_id, provider_id, principal, secret)"
        " SELECT t.timing_partner_id, p.provider_id, %s, %s FROM timing_partners t, providers p"
        " WHERE t.company_name = %s AND p.name = 'RunSignup'",
        principal,
        secret,
        name,
    )


def test_every_new_partner_gets_a_partition_and_one_first_sync(hub: Hub, instance: dg.DagsterInstance) -> None:
    result = look(instance)
    keys = list(hub.partners.values())
    assert partition_keys(instance) == keys
    assert sorted(run_keys(result)) == keys
    for request in result.run_requests or []:
        assert request.tags["lane"] == "new_partner"
        assert request.tags["partner"] == request.partition_key
    assert result.skip_reason is None

    # Before the runs have started: the same run keys, by which the daemon drops them, and no partition again.
    again = look(instance)
    assert run_keys(again) == run_keys(result)
    assert partition_keys(instance) == keys


def test_after_the_first_sync_it_skips_and_says_how_many_there_are(hub: Hub, instance: dg.DagsterInstance) -> None:
    forget_partners(hub)
    assert skip_message(look(instance)) == "0 active partners, 0 new, 0 awaiting their first sync, 0 encrypted"
    partner = hub.sandbox.admin.partners()[2]
    enter_by_sql(hub, partner["name"], partner["key"], partner["secret"])
    result = look(instance)
    (key,) = run_keys(result)
    assert key == "4-mill-pond-race-services"
    assert execute(instance, result, key)
    assert hub.stored(4)
    after = look(instance)
    assert run_keys(after) == {}
    assert skip_message(after) == "1 active partners, 0 new, 0 awaiting their first sync, 0 encrypted"


def test_a_first_sync_that_failed_at_runsignup_is_not_asked_for_again_until_the_credential_changes(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    first = look(instance)
    key = hub.partners[2]
    hub.sandbox.admin.fault("http_500", 0, endpoint="races", partner=2)
    assert not execute(instance, first, key)
    assert key not in run_keys(look(instance))

    with database.session(hub.url, purpose="tests") as conn:
        partner = hub.sandbox.admin.partners()[1]
        credentials.add(conn, hub.secret_box, name=partner["name"], principal=partner["key"], secret=partner["secret"])
        conn.commit()
    changed = look(instance)
    assert run_keys(changed)[key] != run_keys(first)[key]
    assert partition_keys(instance) == list(hub.partners.values())
    hub.sandbox.admin.clear_faults()
    assert execute(instance, changed, key)
    assert key not in run_keys(look(instance))


def test_a_credential_changed_by_sql_asks_for_a_new_run(hub: Hub, instance: dg.DagsterInstance) -> None:
    first = look(instance)
    key = hub.partners[3]
    assert execute(instance, first, key)
    assert key not in run_keys(look(instance))
    partner = hub.sandbox.admin.partners()[2]
    hub.execute(
        "UPDATE partner_provider_credentials SET principal = %s, secret = %s WHERE timing_partner_id = 3",
        partner["key"],
        partner["secret"],
    )
    assert run_keys(look(instance))[key] != run_keys(first)[key]


def test_partners_without_credential_or_switched_off_keep_their_partition_and_are_not_synced(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    look(instance)
    with database.session(hub.url, purpose="tests") as conn:
        credentials.set_disabled(conn, 1, True)
    hub.execute("DELETE FROM partner_provider_credentials WHERE timing_partner_id = 2")
    hub.execute("UPDATE partner_provider_credentials SET secret = '' WHERE timing_partner_id = 3")
    result = look(instance)
    assert run_keys(result) == {}
    assert skip_message(result) == "0 active partners, 0 new, 0 awaiting their first sync, 0 encrypted"
    assert partition_keys(instance) == list(hub.partners.values())


def test_partitions_of_partners_that_are_gone_are_removed(hub: Hub, instance: dg.DagsterInstance) -> None:
    look(instance)
    forget_partners(hub)
    (request,) = look(instance).dynamic_partitions_requests or ()
    assert isinstance(request, dg.DeleteDynamicPartitionsRequest)
    assert sorted(request.partition_keys) == sorted(hub.partners.values())
    assert partition_keys(instance) == []


def test_a_secret_entered_in_clear_is_sealed_by_the_next_look(hub: Hub, instance: dg.DagsterInstance) -> None:
    with database.session(hub.url, purpose="tests") as conn:
        credentials.set_disabled(conn, 1, True)  # more than three would share a run
    enter_by_sql(hub, "Quill & Ribbon Timing", "canary-key", SECRET)
    result = look(instance)
    assert partition_keys(instance)[-1] == "4-quill-ribbon-timing"
    assert run_keys(result).keys() >= {"4-quill-ribbon-timing"}
    rows = hub.rows("SELECT principal, secret FROM partner_provider_credentials WHERE timing_partner_id = 4")
    (row,) = rows
    assert "canary" not in f"{row['principal']} {row['secret']}"
    assert hub.secret_box.decrypt(row["secret"]) == SECRET
    assert hub.secret_box.decrypt(row["principal"]) == "canary-key"
    # Sealing is no change: the same run key.
    assert run_keys(look(instance)) == run_keys(result)


def test_a_first_sync_that_ended_without_a_trace_is_asked_for_again_but_not_at_once(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, first = hub.partners[1], look(hub_instance)
    use_environment(monkeypatch, {"RSU_SECRET_KEY": "VVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVU="})
    assert not execute(hub_instance, first, key)
    use_environment(monkeypatch, hub.environment)
    assert run_keys(look(hub_instance)).keys() == set(hub.partners.values()) - {key}

    hub.execute("UPDATE dagster.runs SET end_time = end_time - 61")
    second = look(hub_instance)
    assert run_keys(second)[key] == f"{run_keys(first)[key]}:2"
    use_environment(monkeypatch, {"RSU_SECRET_KEY": "VVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVU="})
    assert not execute(hub_instance, second, key)
    use_environment(monkeypatch, hub.environment)
    hub.execute("UPDATE dagster.runs SET end_time = end_time - 61")
    assert key not in run_keys(look(hub_instance))
    hub.execute("UPDATE dagster.runs SET end_time = end_time - 61")
    third = look(hub_instance)
    assert run_keys(third)[key] == f"{run_keys(first)[key]}:3"
    assert execute(hub_instance, third, key)
    assert key not in run_keys(look(hub_instance))


def test_a_first_sync_that_is_running_is_not_asked_for_again(hub: Hub, instance: dg.DagsterInstance) -> None:
    result = look(instance)
    (request,) = (request for request in result.run_requests or [] if request.partition_key == hub.partners[2])
    job = build_definitions().resolve_job_def("sync_partner")
    instance.create_run_for_job(job, tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED)
    assert hub.partners[2] not in run_keys(look(instance))


def test_a_sync_from_elsewhere_counts_as_the_first(hub: Hub, instance: dg.DagsterInstance) -> None:
    assert sync_partner(instance, hub.partners[3]).success
    assert run_keys(look(instance)).keys() == {hub.partners[1], hub.partners[2]}


def test_a_database_that_is_away_is_one_sentence(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": "postgresql://hub:canary@127.0.0.1:9/hub"})
    with pytest.raises(dg.Failure) as failed:
        look(instance)
    assert str(failed.value.description).startswith("Cannot use PostgreSQL at 127.0.0.1:9/hub: ")
    assert "canary" not in str(failed.value.description)


def test_many_partitions_of_partners_that_are_gone_are_removed_over_several_ticks(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(partitions.NAME, [f"99-gone-{number}" for number in range(MAX_STRAY + 20)])
    for left in (20, 0, 0):
        look(instance)
        assert sum(key.startswith("99-gone-") for key in partition_keys(instance)) == left
    assert sorted(partition_keys(instance)) == sorted(hub.partners.values())
