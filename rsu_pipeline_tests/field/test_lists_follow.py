"""Start lists are rebuilt for what was read, also where another race failed, however the sync was started."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.orchestration.assets.synced_assets import participants
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.sync.watch import Watch
from rsu_pipeline_tests.field.scripted import Field
from rsu_pipeline_tests.orchestration.runs import use_environment

KEY = "1-acme-timing"
PARTICIPANTS = {"participants": {"config": {}}}


@pytest.fixture
def two(field: Field, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    """Provide a hub in step with two races, whose second one fails from now on.

    A bib was set in the first meanwhile.
    """
    field.environment["RSU_CALL_ATTEMPTS"] = "1"
    use_environment(monkeypatch, field.environment)
    field.runsignup.race(1, field.runsignup.event(101, in_hours=2))
    field.runsignup.race(2, field.runsignup.event(201, in_hours=3))
    field.runsignup.enter(101, 11)
    field.runsignup.enter(201, 21)
    field.sync()
    field.rebuild_lists()
    field.runsignup.refuse("participants", 8, race=2)
    field.runsignup.enter(101, 11, bib_num=5)
    yield field
    installation.current.cache_clear()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(partitions.NAME, [KEY])
        yield instance


def run(instance: dg.DagsterInstance, job: str, ops: dict[str, Any], partition: str | None = KEY) -> bool:
    """Run a job and return whether it succeeded."""
    found = build_definitions().resolve_job_def(job)
    outcome = found.execute_in_process(
        instance=instance, partition_key=partition, run_config={"ops": ops}, raise_on_error=False
    )
    return bool(outcome.success)


def bibs(field: Field) -> dict[int, str | None]:
    return {number: row["bib"] for number, row in field.start_list().items()}


def reports(instance: dg.DagsterInstance) -> int:
    """Return how often the asset start_lists was reported."""
    return len(instance.fetch_materializations(dg.AssetKey("start_lists"), limit=10).records)


def test_a_run_whose_other_race_failed_rebuilds_the_lists(two: Field, instance: dg.DagsterInstance) -> None:
    # As started from the UI, by `rsu sync` and by the sensors.
    assert not run(instance, "sync_partner", PARTICIPANTS)
    assert bibs(two) == {11: "5", 21: None}
    assert reports(instance) == 1


def test_a_run_of_the_registrations_alone_rebuilds_the_lists(two: Field, instance: dg.DagsterInstance) -> None:
    two.runsignup.behave()
    resources = {"warehouse": WarehouseResource(), "runsignup": RunSignupResource()}
    assert dg.materialize([participants], partition_key=KEY, instance=instance, resources=resources).success
    assert bibs(two) == {11: "5", 21: None}
    assert reports(instance) == 1


@pytest.mark.parametrize("code", [8, 17])
def test_a_batch_whose_other_race_failed_rebuilds_the_lists(
    two: Field, instance: dg.DagsterInstance, code: int
) -> None:
    """17 is a refusal of the whole installation, which ends the visit at once."""
    two.runsignup.behave()
    two.runsignup.refuse("participants", code, race=2)
    assert not run(instance, "sync_batch", {"sync_partners": {"config": {"partners": [KEY]}}}, None)
    assert bibs(two) == {11: "5", 21: None}


def test_a_watch_whose_other_race_failed_rebuilds_the_lists(two: Field) -> None:
    watch = Watch(two.url, two.secret_box, two.settings, run_id="watch", log=lambda line: None)
    done = watch.run(1.5)
    assert done[KEY].trouble.keys() == {2} and done[KEY].lists_rebuilt
    assert bibs(two) == {11: "5", 21: None}


def test_a_backfill_whose_other_race_failed_rebuilds_the_lists(two: Field, instance: dg.DagsterInstance) -> None:
    for race in (1, 2):
        ahead = two.runsignup.event(race * 100 + 1, in_hours=90)
        two.runsignup.race(
            race, ahead, two.runsignup.event(race * 100 + 2, in_hours=-40), last_modified="9/30/2026 09:00"
        )
    two.runsignup.enter(102, 12, bib_num=6)
    assert run(instance, "backfill_history", {"participant_history": {"config": {}}})
    assert two.value("SELECT count(*) FROM history_events WHERE event_id = 102") == 1
    assert bibs(two)[12] == "6"
