"""What a run's config may hold: its own few fields, no reference to the environment, no address, no other section."""

from typing import Any

import dagster as dg
import pytest

from rsu_pipeline.definitions import defs
from rsu_pipeline.display import MAX_NAME_CHARS
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.orchestration.batch import BatchConfig
from rsu_pipeline.orchestration.run_config import MAX_VALUES, RunRefused, check_run_config, fields_of, read_config
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.queued import make, submit

REFERENCE = {"env": "RSU_SECRET_KEY"}
BATCH = {"ops": {"sync_partners": {"config": {"partners": ["1-a"]}}}}


@pytest.mark.parametrize(
    "config",
    [
        {"ops": {"sync_partners": {"config": {"partners": [REFERENCE]}}}},
        {"ops": {"sync_partners": {"config": {"partners": ["1-a"], "races": {"1-a": [REFERENCE]}}}}},
        {"ops": {"sync_partners": {"config": {"partners": REFERENCE}}}},
        {"ops": {"unknown": {"config": {"deep": [[{"deeper": REFERENCE}]]}}}},
        {"ops": {"unknown": {"config": {"env": {"env": "RSU_SECRET_KEY"}, "other": 1}}}},
        {"resources": {"io_manager": {"config": {"base_dir": REFERENCE}}}},
        {"ops": REFERENCE},
        REFERENCE,
    ],
)
def test_a_reference_to_the_environment_is_refused_wherever_it_stands(config: dict[str, Any]) -> None:
    with pytest.raises(RunRefused, match="enter the value itself"):
        check_run_config(config)


@pytest.mark.parametrize(
    "config",
    [
        {"resources": {"runsignup": {"config": {"base_url": "http://127.1:9/rest"}}}},
        {"resources": {"warehouse": {"config": {"url": "postgresql://evil.test/hub"}}}},
        {"resources": {"io_manager": {"config": {"base_dir": "/etc"}}}},
        {"loggers": {"console": {"config": {"name": "urllib3", "log_level": "DEBUG"}}}},
        {"execution": {"config": {"marker_to_close": "x"}}},
        {"inputs": {"x": 1}},
        {"anything": None},
    ],
)
def test_nothing_but_ops_can_be_configured(config: dict[str, Any]) -> None:
    with pytest.raises(RunRefused, match="can be configured for a run"):
        check_run_config({**BATCH, **config})


def test_what_the_launchpad_scaffolds_is_accepted() -> None:
    check_run_config({**BATCH, "execution": {"config": {}}, "loggers": {"console": {"config": {}}}, "resources": {}})
    check_run_config({})


def test_a_config_that_is_too_deep_or_too_large_is_refused() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = {"x": deep}
    wide = [0] * 1000
    for config in ({"ops": deep}, {"ops": [wide] * (MAX_VALUES // 1000 + 1)}):
        with pytest.raises(RunRefused, match="too large"):
            check_run_config(config)


def test_a_message_repeats_a_path_from_outside_short_and_without_markup() -> None:
    with pytest.raises(RunRefused) as caught:
        check_run_config({"ops": {"<b>\n\x1b[31m" + "x" * 500: REFERENCE}})
    assert "<" not in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 250


def test_declared_fields_never_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSU_CANARY", "canary")
    repository = defs().get_repository_def()
    types = {
        config_type
        for job in repository.get_all_jobs()
        for config_type in job.run_config_schema.config_type.type_iterator()
    }
    assert len(types) > 50
    assert types.isdisjoint({dg.StringSource, dg.IntSource, dg.BoolSource})
    assert not [one for one in types if type(one).__name__ in ("StringSourceType", "ScalarUnion", "Any")]


def test_a_config_class_of_an_unknown_type_is_not_declared() -> None:
    class Odd(dg.Config):
        path: dict[str, Any]

    with pytest.raises(TypeError, match="not known to be free of references"):
        fields_of(Odd)


def test_no_resource_logger_or_executor_has_a_field() -> None:
    for job in defs().get_repository_def().get_all_jobs():
        sections = dict(job.run_config_schema.config_type.fields)  # type: ignore[attr-defined]
        for name in ("resources", "loggers", "execution"):
            fields = sections[name].config_type.fields
            entries = {"": sections[name]} if name == "execution" else fields
            for entry in entries.values():
                assert entry.config_type.fields["config"].config_type.fields == {}, (job.name, name)


def test_every_job_is_checked_where_it_starts() -> None:
    for job in defs().get_repository_def().get_all_jobs():
        for node in job.all_node_defs:
            assert isinstance(node, dg.OpDefinition)
            assert "warehouse" in node.required_resource_keys, node.name


def test_a_value_out_of_range_is_one_sentence_that_does_not_repeat_it() -> None:
    with pytest.raises(dg.Failure) as caught:
        read_config(BatchConfig, {"partners": ["1-a"], "races": {"1-a": [-77777]}})
    assert "races" in str(caught.value.description) and "77777" not in str(caught.value.description)
    assert "\n" not in str(caught.value.description)


def test_the_coordinator_refuses_before_anything_is_queued(hub_instance: dg.DagsterInstance) -> None:
    config = {"ops": {"sync_partners": {"config": {"partners": [REFERENCE]}}}}
    queued = make(hub_instance)
    with pytest.raises(RunRefused):
        submit(hub_instance, dg.DagsterRun(job_name="sync_batch", run_id=queued.run_id, run_config=config))
    assert [one.status for one in hub_instance.get_runs()] == [dg.DagsterRunStatus.NOT_STARTED]


def test_a_run_that_passed_no_coordinator_is_refused_where_it_starts(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dagster asset materialize` and Dagster's Python interface need none."""
    calls = len(hub.rows("SELECT 1 FROM api_calls"))
    outcome = (
        defs()
        .resolve_job_def("__ASSET_JOB")
        .execute_in_process(
            instance=hub_instance,
            asset_selection=[dg.AssetKey("fleet_health")],
            run_config={"ops": {"anything": {"config": REFERENCE}}, "resources": {"other": {"config": {"url": "x"}}}},
            raise_on_error=False,
        )
    )
    assert not outcome.success
    text = "\n".join(str(entry) for entry in hub_instance.all_logs(outcome.run_id))
    assert "RunRefused" in text
    assert hub.environment["RSU_SECRET_KEY"] not in text
    assert len(hub.rows("SELECT 1 FROM api_calls")) == calls


HOSTILE = "<img src=x onerror=1>[x](http://evil.test)\u202e" + "x" * 150
NOTE = "belongs to no partner. Nothing was read."


def texts_of(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Return every log line of a run, and of every event its message and its metadata."""
    texts = []
    for entry in instance.all_logs(run_id):
        texts += [entry.message, entry.user_message]
        event = entry.dagster_event
        if event is None:
            continue
        texts.append(event.message or "")
        if event.is_step_materialization:
            made = event.step_materialization_data.materialization
            texts += [str(value.value) for value in made.metadata.values()]
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            texts += [check.description or "", *(str(value.value) for value in check.metadata.values())]
    return texts


def test_a_partition_key_from_outside_is_repeated_short_and_without_markup(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    hub_instance.add_dynamic_partitions(partitions.NAME, [HOSTILE])
    batch = (
        defs()
        .resolve_job_def("sync_batch")
        .execute_in_process(
            instance=hub_instance,
            run_config={"ops": {"sync_partners": {"config": {"partners": [HOSTILE]}}}},
            raise_on_error=False,
        )
    )
    one = (
        defs()
        .resolve_job_def("sync_partner")
        .execute_in_process(instance=hub_instance, partition_key=HOSTILE, run_config={}, raise_on_error=False)
    )
    for outcome in (batch, one):
        assert outcome.success
        texts = texts_of(hub_instance, outcome.run_id)
        repeated = [text for text in texts if "evil.test" in text or "onerror" in text or "xxx" in text]
        assert repeated
        for text in repeated:
            assert NOTE in text
            assert not set("<>[]\u202e") & set(text)
            assert "x" * (MAX_NAME_CHARS // 2) not in text
    made = [
        event.step_materialization_data.materialization for event in one.all_events if event.is_step_materialization
    ]
    assert {found.asset_key.to_user_string() for found in made} >= {"partner_events", "participants", "start_lists"}
    for found in made:
        assert NOTE in str(found.metadata["note"].value)
    assert hub.value("SELECT count(*) FROM api_calls") == 0


def test_a_partition_key_that_holds_control_characters_or_is_too_long_is_refused() -> None:
    for key in ("1-a\x00", "1-a\nb", "x" * 256, ""):
        with pytest.raises(dg.Failure) as caught:
            read_config(BatchConfig, {"partners": [key]})
        assert str(caught.value.description).startswith("The config field 'partners.0' cannot be used")
