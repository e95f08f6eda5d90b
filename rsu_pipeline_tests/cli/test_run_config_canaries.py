"""No run's config reads the environment: every RSU_ variable goes through every config field of an installation at work.

`rsu up` runs as a process, with a value of its own for every variable. The attacks come as the web UI's requests do, and by
Dagster's own commands.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psycopg2.extensions
import pytest

from rsu_pipeline.setting_values import declared_settings
from rsu_pipeline.settings import GROUPS, Settings, project_root
from rsu_pipeline_tests.cli.leaks import ask, captured, written
from rsu_pipeline_tests.cli.shell import environment
from rsu_pipeline_tests.cli.started import Started, free_port, gone
from rsu_pipeline_tests.hub import SECRET_KEY, Hub
from rsu_pipeline_tests.run_config_fields import fields_of_jobs
from rsu_pipeline_tests.warehouse.dumps import dump
from runsignup_sandbox.process import SandboxProcess

VARIABLES = sorted(
    declared.variable for group in (Settings, *GROUPS.values()) for declared in declared_settings(group).values()
)
"""Every variable that is read."""
CANARIES = {
    "RSU_ALERT_URLS": "json://someone:canaryALERT2718@127.0.0.1:9/hook",
    "RSU_ALERT_LINK": "https://canary-link.test",
    "RSU_API_REG": "4711.canaryREG",
    "RSU_API_REG_SECRET": "canaryREGSECRET",
    "RSU_UI_HOSTS": "canary-hosts.test",
    "RSU_TIMEZONE": "Pacific/Chatham",
    "RSU_CALLS_PER_HOUR": "987653",
    "RSU_MAX_IN_FLIGHT": "97",
    "RSU_CONNECT_TIMEOUT": "7.7531",
    "RSU_READ_TIMEOUT": "7.7532",
    "RSU_TOTAL_TIMEOUT": "7.7533",
    "RSU_RACE_DAY_TIMEOUT": "7.77533",
    "RSU_CALL_ATTEMPTS": "3",
    "RSU_CALL_BACKOFF": "0.017534",
    "RSU_INCREMENTAL_DAYS": "7.7535",
    "RSU_RACE_DETAIL_HOURS": "24.7536",
    "RSU_PAGE_SIZE": "2497",
    "RSU_CURSOR_OVERLAP": "77537",
    "RSU_MASS_REMOVAL_SHARE": "0.27538",
    "RSU_FULL_READ_UP_TO_ROWS": "77539",
    "RSU_INCLUDE": "corrals,est_finish",
    "RSU_INTERVAL_LATER": "77541.7",
    "RSU_INTERVAL_DAY": "77542.7",
    "RSU_INTERVAL_WINDOW": "77543.7",
    "RSU_INTERVAL_AFTER_FAILURE": "77544.7",
    "RSU_WATCH_INTERVAL": "3475.71",
    "RSU_WATCH_REMOVED_EVERY": "757",
    "RSU_WATCH_EVENTS": "317.7",
    "RSU_WATCH_SLICE": "5475.71",
    "RSU_WATCH_SHARDS": "2",
    "RSU_BIB_POLL": "watch",
    "RSU_IN_FLIGHT_SCOPE": "all",
    "RSU_HISTORY_SLICE": "2475.71",
    "RSU_CONTACT_RETENTION_DAYS": "27547",
}
SECRETS = ("RSU_SECRET_KEY", "RSU_DATABASE_URL", "RSU_ALERT_URLS", "RSU_API_REG", "RSU_API_REG_SECRET")
SHORTEST_NEEDLE = 7
"""A value such as 97 or `all` is found anywhere, six digits among microseconds. The answer shows that such a value was refused."""
SHOWN_ANYWAY = {"RSU_HOME", "RSU_UI_PORT", "RSU_TIMEZONE"}
"""What Dagster shows of its own: where its logs are, and when a schedule runs."""

CLOSED = (
    "resources.runsignup.config.base_url",
    "resources.warehouse.config.url",
    "resources.io_manager.config.base_dir",
    "resources.other.config.x",
    "loggers.console.config.name",
    "loggers.console.config.log_level",
    "execution.config.marker_to_close",
    "ops.unknown.config.x",
)
"""Fields that Dagster gives every job, and those that jobs of this project had."""
REPOSITORY = {"repositoryLocationName": "rsu_pipeline", "repositoryName": "__repository__"}
ATTACK = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message stack }
    ... on RunConfigValidationInvalid { errors { message } } ... on InvalidSubsetError { message } } }"""
PLAN = """query($params: ExecutionSelector!, $config: RunConfigData) {
    executionPlanOrError(pipeline: $params, runConfigData: $config, mode: "default") { __typename
    ... on PythonError { message stack } ... on RunConfigValidationInvalid { errors { message } } }
    isPipelineConfigValid(pipeline: $params, runConfigData: $config, mode: "default") { __typename
    ... on PythonError { message stack } ... on RunConfigValidationInvalid { errors { message } } } }"""
BACKFILL = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) { __typename
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message stack } } }"""
BACKFILLS = (
    "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status error { message stack } } } } }"
)
RUNS = """{ runsOrError(limit: 1000) { ... on Runs { results { runId jobName status runConfigYaml tags { key value }
    eventConnection(limit: 1000) { events { ... on MessageEvent { message } ... on ExecutionStepFailureEvent {
    error { message stack errorChain { error { message stack } } } } ... on RunFailureEvent { error { message stack }
    } } } } } } }"""
ADD_PARTITION = """mutation($repo: RepositorySelector!) { addDynamicPartition(repositorySelector: $repo,
    partitionsDefName: "timing_partner", partitionKey: "1-nobody") { __typename } }"""


def at(path: tuple[str, ...], value: Any) -> Any:
    """Return a config that has a value at a path."""
    for name in reversed(path):
        value = [value] if name == "[]" else {"1-nobody": value} if name == "{}" else {name: value}
    return value


def merged(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {name: merged(one.get(name), other.get(name)) for name in one | other}
    return one if other is None else other


def attacks() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield job, field, variable and run config of every attack.

    Every variable is tried at every declared field, and every secret at the fields that are closed.

    A field that several jobs have is tried at the others with one variable.
    """
    tried: set[tuple[str, ...]] = set()
    for job, declared in fields_of_jobs().items():
        required = {"ops": {"sync_partners": {"config": {"partners": []}}}} if job == "sync_batch" else {}
        closed = [tuple(path.split(".")) for path in CLOSED]
        for paths, variables in ((declared, VARIABLES), (closed, SECRETS)):
            for path in paths:
                for variable in SECRETS[:1] if path in tried else variables:
                    yield job, ".".join(path), variable, merged(required, at(path, {"env": variable}))
                tried.add(path)


@dataclass
class Attacked:
    """What was answered, written and shown: `answers` by attack, `outcomes` of Dagster's own commands."""

    answers: dict[tuple[str, str, str], str]
    texts: dict[str, str]
    needles: dict[str, str]
    runs: list[dict[str, Any]]
    backfills: list[dict[str, Any]]
    outcomes: dict[str, int]


def dagster(*arguments: str, settings: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("dagster"), *arguments],
        env=environment(**settings) | {"DAGSTER_HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def attacked(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("attacked")
    home, port = folder / "home", free_port()
    answers: dict[tuple[str, str, str], str] = {}
    shown: dict[str, str] = {}
    with SandboxProcess.start("blank", seed=7) as sandbox:
        hub = Hub(module_database, sandbox, home, **CANARIES, RSU_UI_PORT=str(port))
        given = [name for name in VARIABLES if name in hub.environment]
        assert len(given) >= 30
        started = Started("up", hub.environment, folder)
        try:
            started.until("the UI answers", lambda: "sync_batch" in ask(port, LOCATIONS))
            # A partner without credentials keeps its partition. A partition without a partner would be removed.
            hub.execute("INSERT INTO timing_partners (company_name, partition_key) VALUES ('Nobody', '1-nobody')")
            shown["partition"] = ask(port, ADD_PARTITION, {"repo": REPOSITORY})
            for job, field, variable, config in attacks():
                selector = {**REPOSITORY, "pipelineName": job}
                params = {"selector": selector, "mode": "default", "runConfigData": config}
                answers[job, field, variable] = ask(port, ATTACK, {"params": params})
                if variable == "RSU_SECRET_KEY" and job in ("__ASSET_JOB", "sync_batch"):
                    shown[f"plan {job} {field}"] = ask(port, PLAN, {"params": selector, "config": config})
            for name, value in TAGS.items():
                shown[f"tag {name}"] = launch_with_tag(port, name, value)
            for name, question in EVALUATIONS.items():
                shown[f"evaluation of {name}"] = ask(port, question)
            for asset, config in BACKFILLED.items():
                backfill = {
                    "assetSelection": [{"path": [asset]}],
                    "partitionNames": ["1-nobody"],
                    "runConfigData": {"ops": config},
                }
                shown[f"backfill of {asset}"] = ask(port, BACKFILL, {"params": backfill})
            wait_for_backfills(port)
            shown |= {"runs": ask(port, RUNS), "backfills": ask(port, BACKFILLS), "printed": captured(port, home)}
            commands = by_command(hub, folder)
        finally:
            started.end(signal.SIGINT)
            assert gone(started, None) == []
        shown |= {"the terminal": started.output, "pg_dump": dump(hub.url)}
        shown |= {f"command {name}": done.stdout + done.stderr for name, done in commands.items()}
        shown |= {f"file {name}": text for name, text in written(home).items()}
        needles = {name: hub.environment[name] for name in given if len(hub.environment[name]) >= SHORTEST_NEEDLE}
        needles |= {
            "the password": str(psycopg2.extensions.parse_dsn(hub.url)["password"]),
            "the alert": "canaryALERT2718",
        }
        runs = json.loads(shown["runs"])["data"]["runsOrError"]["results"]
        ends = json.loads(shown["backfills"])["data"]["partitionBackfillsOrError"]["results"]
    yield Attacked(answers, shown, needles, runs, ends, {name: done.returncode for name, done in commands.items()})


LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {" + (
    " ... on RepositoryLocation { repositories { pipelines { name } } } } } } } }"
)
TAGS = {
    "dagster-k8s/config": '{"container_config": {"env": [{"name": "X", "value": "1"}]}}',
    "dagster/max_retries": "1000",
    "dagster/run_key": "watch:0:after:x",
    "first_sync": "first:1-nobody:x",
    "lane": "race_day",
}
SELECTOR = '{repositoryName: "__repository__", repositoryLocationName: "rsu_pipeline", %s}'
EVALUATIONS = {
    "a sensor": "mutation { sensorDryRun(selectorData: "
    + SELECTOR % 'sensorName: "new_credentials"'
    + """, cursor: "{env: RSU_SECRET_KEY}") { __typename ... on DryRunInstigationTick {
        evaluationResult { runRequests { runConfigYaml } error { message stack } } } ... on PythonError { message stack } } }""",
    "a schedule": "mutation { scheduleDryRun(selectorData: "
    + SELECTOR % 'scheduleName: "nightly"'
    + """, timestamp: 1796083200.0) { __typename ... on DryRunInstigationTick {
        evaluationResult { runRequests { runConfigYaml } error { message stack } } } ... on PythonError { message stack } } }""",
}
BACKFILLED = {
    # Refused by the schema, and by the coordinator: Dagster lets a materialization configure ops that it does not have.
    "participants": {"participants": {"config": {"race_ids": [{"env": "RSU_SECRET_KEY"}]}}},
    "participant_history": {"anything": {"config": {"x": {"env": "RSU_SECRET_KEY"}}}},
}
PENDING = ("REQUESTED", "CANCELING", "FAILING", "COMPLETING")


def backfills(port: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ask(port, BACKFILLS))["data"]["partitionBackfillsOrError"]["results"]
    return found


def launch_with_tag(port: int, name: str, value: str) -> str:
    """Launch a job that takes no config and reads nothing from RunSignup."""
    params = {
        "selector": {**REPOSITORY, "pipelineName": "retention"},
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": name, "value": value}]},
    }
    return ask(port, ATTACK, {"params": params})


def wait_for_backfills(port: int) -> None:
    """Wait until the daemon has decided on them. A backfill whose runs are accepted goes on, which a test checks."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and any(one["status"] in PENDING for one in backfills(port)):
        time.sleep(1)


def by_command(hub: Hub, folder: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """Start runs that pass no run coordinator, as Dagster's commands do, and return their outcomes."""
    (folder / "dagster.yaml").write_text((project_root() / "dagster.yaml").read_text())
    batch = folder / "batch.yaml"
    batch.write_text(json.dumps({"ops": {"sync_partners": {"config": {"partners": [{"env": "RSU_SECRET_KEY"}]}}}}))
    other = {"ops": {"anything": {"config": {"env": "RSU_SECRET_KEY"}}}}
    module = ("-m", "rsu_pipeline.definitions")
    return {
        "job execute": dagster(
            "job", "execute", *module, "-j", "sync_batch", "-c", str(batch), settings=hub.environment, folder=folder
        ),
        "asset materialize": dagster(
            *("asset", "materialize", *module, "--select", "fleet_health", "--config-json", json.dumps(other)),
            settings=hub.environment,
            folder=folder,
        ),
    }


def test_every_field_and_variable_was_tried(attacked: Attacked) -> None:
    jobs = {job for job, _, _ in attacked.answers}
    assert len(jobs) >= 7 and len(VARIABLES) >= 30
    assert len(attacked.answers) >= len(VARIABLES) * 12 + len(CLOSED) * (len(SECRETS) + len(jobs) - 1)
    tried = {field for _, field, variable in attacked.answers if variable == "RSU_TIMEZONE"}
    assert len(tried) >= 12


def test_every_reference_to_the_environment_is_refused_at_submission(attacked: Attacked) -> None:
    accepted = {
        attack: answer
        for attack, answer in attacked.answers.items()
        if json.loads(answer)["data"]["launchPipelineExecution"]["__typename"] != "RunConfigValidationInvalid"
        and "RunRefused" not in answer
    }
    assert accepted == {}
    assert {end["status"] for end in attacked.backfills} <= {"FAILED", "COMPLETED_FAILED"}
    assert len(attacked.backfills) == len(BACKFILLED)
    # One was refused by the schema, the other by the coordinator. Neither failed of something else.
    (by_schema,) = [end["error"]["message"] for end in attacked.backfills if end["error"]]
    assert "DagsterInvalidConfigError" in by_schema
    ids = {end["id"] for end in attacked.backfills}
    (submitted,) = [run for run in attacked.runs if any(tag["value"] in ids for tag in run["tags"])]
    assert submitted["status"] == "FAILURE" and "RunRefused" in json.dumps(submitted["eventConnection"])


def test_no_run_with_a_reference_has_begun(attacked: Attacked) -> None:
    begun = [
        run
        for run in attacked.runs
        if "env:" in run["runConfigYaml"] and run["status"] not in ("FAILURE", "NOT_STARTED")
    ]
    assert begun == []
    refused = [run for run in attacked.runs if "env:" in run["runConfigYaml"]]
    assert refused, "otherwise the coordinator was not reached"


def test_a_launch_from_the_web_ui_cannot_pass_for_a_sensors_nor_take_race_days_lane(attacked: Attacked) -> None:
    for name in TAGS.keys() - {"lane"}:
        assert "RunRefused" in attacked.texts[f"tag {name}"], name
        assert name in attacked.texts[f"tag {name}"]
    launched = json.loads(attacked.texts["tag lane"])["data"]["launchPipelineExecution"]["run"]["runId"]
    (run,) = [run for run in attacked.runs if run["runId"] == launched]
    assert {"key": "lane", "value": "routine"} in run["tags"]


def test_evaluations_of_sensors_and_schedules_go_well_and_make_no_use_of_what_is_sent(attacked: Attacked) -> None:
    for name in EVALUATIONS:
        assert "DryRunInstigationTick" in attacked.texts[f"evaluation of {name}"], attacked.texts[
            f"evaluation of {name}"
        ]
        assert '"error":null' in attacked.texts[f"evaluation of {name}"].replace(" ", "")


def test_dagsters_own_commands_are_refused_too(attacked: Attacked) -> None:
    assert set(attacked.outcomes.values()) == {1}
    assert 'not valid for expected type "String"' in attacked.texts["command job execute"]
    assert "RunRefused" in attacked.texts["command asset materialize"]


def test_no_value_of_a_variable_is_found_in_answers_logs_or_tables(attacked: Attacked) -> None:
    texts = attacked.texts | {" ".join(attack): answer for attack, answer in attacked.answers.items()}
    assert SECRET_KEY in attacked.needles.values()
    found = {
        f"{what} in {where}"
        for what, needle in attacked.needles.items()
        if what not in SHOWN_ANYWAY
        for where, text in texts.items()
        if any(form in text for form in {needle, quote(needle), quote(needle, safe=""), quote_plus(needle)})
    }
    assert not found, sorted(found)[:20]
