"""First syncs of many partners: one shared run, by one query a tick, which leaves a place to a partner entered by hand."""

import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest
import sqlalchemy
import yaml

from rsu_pipeline import installation
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration.first_syncs import MAX_SINGLE_RUNS, SHARED
from rsu_pipeline.settings import project_root
from rsu_pipeline.warehouse import credentials, dagster_runs, database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import use_environment
from rsu_pipeline_tests.orchestration.test_sensors import enter_by_sql, look, run_keys, skip_message

SPEC = {"partners": 5, "races_per_partner": 1, "events_per_race": 1, "registrations_per_event": 4, "start_in_hours": 30}
ASSETS = ("partner_events", "future_events", "participants", "start_lists")


@pytest.fixture
def hub(make_hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Provide a hub whose five partners are entered at once."""
    hub = make_hub(spec=SPEC, seed=7)
    use_environment(monkeypatch, hub.environment)
    yield hub
    installation.current.cache_clear()


def shared_request(result: dg.SensorResult) -> dg.RunRequest:
    (request,) = result.run_requests or []
    assert (request.job_name, request.partition_key) == ("sync_batch", None)
    assert request.tags == {"lane": "new_partner", "first_sync": SHARED}
    return request


def execute_shared(instance: dg.DagsterInstance, request: dg.RunRequest) -> bool:
    job = build_definitions().resolve_job_def("sync_batch")
    return job.execute_in_process(
        instance=instance, run_config=dict(request.run_config), tags=dict(request.tags), raise_on_error=False
    ).success


def enter_again(hub: Hub, partner: int) -> None:
    """Enter the key and secret of a partner once more, as if by hand."""
    item = hub.sandbox.admin.partners()[partner - 1]
    with database.session(hub.url, purpose="tests") as conn:
        credentials.add(conn, hub.secret_box, name=item["name"], principal=item["key"], secret=item["secret"])
        conn.commit()


def test_many_new_partners_share_one_run_and_each_partition_turns_green(hub: Hub, instance: dg.DagsterInstance) -> None:
    request = shared_request(look(instance))
    keys = list(hub.partners.values())
    assert request.run_config["ops"]["sync_partners"]["config"]["partners"] == keys
    assert execute_shared(instance, request)
    for asset in ASSETS:
        assert instance.get_materialized_partitions(dg.AssetKey(asset)) == set(keys)
    for partner in hub.partners:
        hub.assert_equal(partner)
    assert skip_message(look(instance)) == "5 active partners, 0 new, 0 awaiting their first sync, 0 encrypted"


def test_a_shared_run_is_requested_once_and_a_partner_entered_meanwhile_gets_its_own(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    request = shared_request(look(instance))
    assert shared_request(look(instance)).run_key == request.run_key
    job = build_definitions().resolve_job_def("sync_batch")
    instance.create_run_for_job(
        job, run_config=request.run_config, tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED
    )
    assert run_keys(look(instance)) == {}

    enter_again(hub, 3)
    (own,) = look(instance).run_requests or []
    assert (own.job_name, own.partition_key) == ("sync_partner", hub.partners[3])


def test_a_shared_first_sync_that_ended_without_a_trace_is_requested_again_after_a_delay(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = shared_request(look(hub_instance))
    use_environment(monkeypatch, {"RSU_SECRET_KEY": "VVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVU="})
    assert not execute_shared(hub_instance, request)
    use_environment(monkeypatch, hub.environment)
    assert run_keys(look(hub_instance)) == {}

    hub.execute("UPDATE dagster.runs SET end_time = end_time - 61")
    again = shared_request(look(hub_instance))
    assert again.run_config == request.run_config
    assert again.run_key != request.run_key
    assert execute_shared(hub_instance, again)
    assert run_keys(look(hub_instance)) == {}


def test_one_partner_that_fails_in_a_shared_run_leaves_the_others_green(hub: Hub, instance: dg.DagsterInstance) -> None:
    hub.sandbox.admin.fault("http_500", 0, endpoint="races", partner=2)
    assert not execute_shared(instance, shared_request(look(instance)))
    synced = instance.get_materialized_partitions(dg.AssetKey("participants"))
    assert synced == set(hub.partners.values()) - {hub.partners[2]}
    # It was tried: the schedules go on with it.
    assert run_keys(look(instance)) == {}


def test_a_partner_that_waits_in_a_shared_run_is_not_alerted_as_never_synced(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    request, keys = shared_request(look(hub_instance)), list(hub.partners.values())

    def without_run(*, in_batches: bool) -> list[str]:
        with database.session(hub.url, purpose="tests") as conn:
            return dagster_runs.find_partners_without_run(conn, [*keys, "9-other"], in_batches=in_batches)

    assert without_run(in_batches=True) == [*keys, "9-other"]
    job = build_definitions().resolve_job_def("sync_batch")
    hub_instance.create_run_for_job(
        job, run_config=request.run_config, tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED
    )
    assert without_run(in_batches=True) == ["9-other"]
    assert without_run(in_batches=False) == [*keys, "9-other"]


def test_one_place_of_the_lane_is_never_a_shared_runs() -> None:
    for path in ("dagster.yaml", "deploy/celery/dagster.yaml", "deploy/kubernetes/values.yaml"):
        text = yaml.safe_load((project_root() / path).read_text())
        limits = {(limit["key"], str(limit["value"])): limit["limit"] for limit in _tag_limits(text)}
        assert limits["lane", "new_partner"] > limits["first_sync", SHARED] == 1, path


def _tag_limits(config: object) -> list[dict[str, object]]:
    """Return the list of tag limits wherever it is in a YAML file."""
    if isinstance(config, dict):
        if "tag_concurrency_limits" in config:
            return list(config["tag_concurrency_limits"])
        return [limit for value in config.values() for limit in _tag_limits(value)]
    return []


def test_a_tick_with_a_thousand_new_partners_takes_less_than_a_second(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    hub.execute("DELETE FROM partner_provider_credentials; DELETE FROM timing_partners")
    hub.execute("INSERT INTO timing_partners (company_name) SELECT 'Partner ' || n FROM generate_series(1, 1000) n")
    look(hub_instance)  # imports
    hub.execute(
        "INSERT INTO partner_provider_credentials (timing_partner_id, provider_id, principal, secret)"
        " SELECT timing_partner_id, provider_id, 'key-' || timing_partner_id, 'secret' FROM timing_partners, providers"
        " WHERE providers.name = 'RunSignup'"
    )
    queries: list[str] = []
    engine = hub_instance.run_storage._engine  # type: ignore[attr-defined]
    sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *event: queries.append(event[2]))
    started = time.process_time(), time.monotonic()
    request = shared_request(look(hub_instance))
    cpu, elapsed = time.process_time() - started[0], time.monotonic() - started[1]
    assert (
        hub.value("SELECT count(DISTINCT api_key_id) FROM partner_provider_credentials WHERE secret LIKE 'sealed:%'")
        == 1000
    )
    assert len(request.run_config["ops"]["sync_partners"]["config"]["partners"]) == 1000
    assert sum("run_tags" in query for query in queries) == 1
    assert min(cpu, elapsed) < 1


def test_a_few_partners_entered_by_sql_get_a_run_each(hub: Hub, instance: dg.DagsterInstance) -> None:
    assert execute_shared(instance, shared_request(look(instance)))
    for number in range(MAX_SINGLE_RUNS):
        enter_by_sql(hub, f"Lantern Timing {number}", f"key-{number}", "secret")
    requests = look(instance).run_requests or []
    assert [request.job_name for request in requests] == ["sync_partner"] * MAX_SINGLE_RUNS
