"""Materializations, backfills and a scheduled batch of the same partners at the same time: none fails because of another.

The runs are real processes, launched by the hub's launcher at a code server.
"""

import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import code_server, use_environment
from rsu_pipeline_tests.orchestration.test_terminate import Runs
from rsu_pipeline_tests.specs import estate

SPEC = estate(partners=2, races=3, registrations=12, start_in_hours=30)


@pytest.fixture
def hub(make_hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Provide a hub whose races have a past edition, with calls so slow that runs overlap."""
    hub = make_hub(spec=SPEC, seed=7)
    admin = hub.sandbox.admin
    for partner in hub.partners:
        for race in admin.truth(partner)["races"]:
            event = admin.add_event(race["race_id"], "Last year", start_in_hours=-8736, race_event_days_id=7001)
            admin.register(event, count=12)
    admin.switch(latency_ms=700)
    use_environment(monkeypatch, hub.environment)
    monkeypatch.chdir(project_root())
    yield hub
    installation.current.cache_clear()


def test_launching_all_partitions_while_the_schedule_and_a_backfill_run_ends_green(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    keys = list(hub.partners.values())
    hub_instance.add_dynamic_partitions(partitions.NAME, keys)
    with code_server(hub_instance) as workspace:
        runs = Runs(hub, hub_instance, workspace)
        scheduled = {"ops": {"sync_partners": {"config": {"partners": keys, "relist": keys}}}}
        launched = [runs.launch("sync_batch", config=scheduled)]
        for key in keys:
            launched.append(runs.launch("sync_partner", key))
            launched.append(runs.launch("backfill_history", key))
        deadline = time.monotonic() + 240
        while not all(runs.status(run_id).value in ("SUCCESS", "FAILURE", "CANCELED") for run_id in launched):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    failed = [
        event.step_failure_data.user_failure_data or event.step_failure_data.error
        for run_id in launched
        for entry in hub_instance.all_logs(run_id)
        if (event := entry.dagster_event) is not None and event.is_step_failure
    ]
    assert failed == []
    assert {runs.status(run_id) for run_id in launched} == {dg.DagsterRunStatus.SUCCESS}
    for partner in hub.partners:
        hub.assert_equal(partner, past_too=True)
