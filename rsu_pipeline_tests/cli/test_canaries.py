"""Nothing leaks from an installation at work: all its secrets are searched wherever something is written or shown.

`rsu up` runs as a process with everything logged at DEBUG, partners that sync, one that RunSignup refuses, one whose run fails
unforeseen with a traceback, and alerts that nobody takes. What the client alone may reveal is in runsignup/test_secrets.py.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import psycopg2.extensions
import pytest
import requests

from rsu_pipeline.settings import project_root
from rsu_pipeline.warehouse import credentials, database
from rsu_pipeline_tests.cli.leaks import ask, captured, written
from rsu_pipeline_tests.cli.shell import environment, rsu
from rsu_pipeline_tests.cli.started import Started, free_port, gone
from rsu_pipeline_tests.hub import SECRET_KEY, Hub
from rsu_pipeline_tests.warehouse.dumps import dump
from runsignup_sandbox.process import SandboxProcess

CANARY_KEY, CANARY_SECRET, CANARY_ALERT = (
    "canaryKEY/4711+x=",
    "canarySECRET/0815+y=",
    "canaryALERT2718",
)
# Loaded by every Python process that is started: all that any library logs goes to its standard error.
VERBOSE = "import logging; logging.basicConfig(level=logging.DEBUG)\n"
REPOSITORY = '{repositoryName: "__repository__", repositoryLocationName: "rsu_pipeline"}'
ERROR = "error { message stack className errorChain { error { message stack } } }"
QUESTIONS = {
    "instance": "{ instance { info id executablePath daemonHealth { allDaemonStatuses { daemonType lastHeartbeatErrors"
    " { message stack } } } } }",
    "runs": "{ runsOrError(limit: 200) { __typename ... on Runs { results { runId status runConfigYaml tags { key value }"
    " eventConnection(limit: 1000) { events { __typename ... on MessageEvent { message level }"
    " ... on MaterializationEvent { metadataEntries { label description ... on TextMetadataEntry { text }"
    " ... on JsonMetadataEntry { jsonString } ... on MarkdownMetadataEntry { mdStr } } }"
    f" ... on RunFailureEvent {{ {ERROR} }} ... on ExecutionStepFailureEvent {{ {ERROR} failureMetadata"
    " { metadataEntries { label ... on TextMetadataEntry { text } ... on JsonMetadataEntry { jsonString } } } } } } } } } }",
    "ticks": f"{{ sensorsOrError(repositorySelector: {REPOSITORY}) {{ __typename ... on Sensors {{ results {{ name sensorState"
    " { ticks(limit: 50) { status skipReason error { message stack } logEvents { events { message } } } } } } } }",
    "resources": f"{{ allTopLevelResourceDetailsOrError(repositorySelector: {REPOSITORY}) {{ __typename ... on"
    " ResourceDetailsList { results { name description configuredValues { key value } } } } }",
    "workspace": "{ workspaceOrError { __typename ... on Workspace { locationEntries { name displayMetadata { key value }"
    " locationOrLoadError { __typename ... on PythonError { message stack } } } } } }",
}


@dataclass
class Seen:
    """What was written and shown, by where, and what must not be in it, by what it is."""

    texts: dict[str, str]
    needles: dict[str, str]
    runs: Mapping[str, str]
    environments: dict[str, str]


def statuses(port: int) -> dict[str, set[str]]:
    """Return how runs ended, by partition key."""
    results = json.loads(ask(port, QUESTIONS["runs"]))["data"]["runsOrError"]["results"]
    found: dict[str, set[str]] = {}
    for run in results:
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        found.setdefault(tags.get("dagster/partition", ""), set()).add(run["status"])
    return found


def environments(mark: str) -> dict[str, str]:
    """Return the environment of each process of a family, by its arguments."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            text = (entry / "environ").read_bytes().decode(errors="replace")
            if mark in text.split("\0"):
                found[(entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")] = text
    return found


def read_only_ui(hub: Hub) -> str:
    """Return the answer of docs/security.md's second UI to a request that would delete a run."""
    port = free_port()
    workspace = Path(hub.environment["RSU_HOME"]) / "workspace.yaml"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "rsu_pipeline.orchestration.webserver",
            "--read-only",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-w",
            str(workspace),
        ],
        env=environment(**hub.environment) | {"DAGSTER_HOME": str(project_root())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(requests.RequestException):
                return ask(port, 'mutation { deletePipelineRun(runId: "none") { __typename } }')
            time.sleep(0.2)
        raise AssertionError(f"the read-only UI does not answer: {process.poll()}")
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def seen(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("canaries")
    home, libraries, port = folder / "home", folder / "libraries", free_port()
    libraries.mkdir()
    (libraries / "sitecustomize.py").write_text(VERBOSE)
    with SandboxProcess.start("small", seed=7) as sandbox:
        registration, registration_secret = sandbox.admin.caller_registration()
        hub = Hub(
            module_database,
            sandbox,
            home,
            RSU_UI_PORT=str(port),
            RSU_API_REG=registration,
            RSU_API_REG_SECRET=registration_secret,
            RSU_ALERT_URLS=f"json://someone:{CANARY_ALERT}@127.0.0.1:9/hook",
            PYTHONPATH=str(libraries),
        )
        hub.execute(
            "CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'unforeseen'; END $$;"
            "CREATE TRIGGER sabotage BEFORE INSERT ON future_events FOR EACH ROW WHEN (NEW.timing_partner_id = 3)"
            " EXECUTE FUNCTION sabotage()"
        )
        started = Started("up", hub.environment, folder)
        try:
            started.until(
                "the UI answers",
                lambda: "daemonHealth" in ask(port, QUESTIONS["instance"]),
            )
            started.until(
                "a partner is synced",
                lambda: "SUCCESS" in statuses(port).get(hub.partners[1], ()),
                180,
            )
            # Only now, because more than three new partners would share a run.
            with database.session(hub.url, purpose="tests") as conn:
                refused = credentials.add(
                    conn,
                    hub.secret_box,
                    name="Canary",
                    principal=CANARY_KEY,
                    secret=CANARY_SECRET,
                    scheme="rsu_api_key",
                )
                key = credentials.ensure_key(conn, refused)
                conn.commit()
            failing = {key, hub.partners[3]}
            started.until(
                "two partners fail",
                lambda: failing <= {name for name, how in statuses(port).items() if "FAILURE" in how},
                180,
            )
            started.until(
                "did not accept a message",
                lambda: hub.value("SELECT max(failed_sends) > 0 FROM alerts"),
                240,
            )
            family = environments(started.mark)
            arguments = "\n".join(started.family())
            shown = {f"GraphQL {name}": ask(port, question) for name, question in QUESTIONS.items()}
            shown["GraphQL captured logs"] = captured(port, home)
            shown["the read-only UI"] = read_only_ui(hub)
            shown["the UI"] = ask(port, 'mutation { deletePipelineRun(runId: "none") { __typename } }')
            runs = {name: ",".join(sorted(states)) for name, states in statuses(port).items()}
        finally:
            started.end(signal.SIGINT)
            assert gone(started, None) == []
        exported = rsu("db", "export", str(folder / "hub.dump"), settings=hub.environment)
        told = {
            "the terminal": started.output,
            "the processes' arguments": arguments,
            "pg_dump": dump(hub.url),
            "rsu status": rsu("status", "--json", settings=hub.environment).stdout,
            "rsu partners list": rsu("partners", "list", "--json", settings=hub.environment).stdout,
            "rsu alerts list": rsu("alerts", "list", "--json", settings=hub.environment).stdout,
            "rsu db export": exported.stdout + exported.stderr,
        }
        needles = {
            "the sealing key": SECRET_KEY,
            "the refused key": CANARY_KEY,
            "the refused secret": CANARY_SECRET,
            "the registration": registration,
            "the registration's secret": registration_secret,
            "the notifier's password": CANARY_ALERT,
            "the database's password": str(psycopg2.extensions.parse_dsn(hub.url)["password"]),
        }
        for item in sandbox.admin.partners():
            needles |= {
                f"key of {item['name']}": item["key"],
                f"secret of {item['name']}": item["secret"],
            }
    files = {f"file {name}": text for name, text in written(home).items()}
    yield Seen(told | shown | files, needles, runs, family)


def test_no_secret_is_found_anywhere(seen: Seen) -> None:
    found = [
        f"{what} in {where}"
        for where, text in seen.texts.items()
        for what, needle in seen.needles.items()
        if any(
            form in text
            for form in {
                needle,
                quote(needle),
                quote(needle, safe=""),
                quote_plus(needle),
            }
        )
    ]
    assert found == []


def test_the_story_had_everything_in_it(seen: Seen) -> None:
    """Otherwise finding nothing would prove nothing."""
    assert "unforeseen" in seen.texts["GraphQL runs"] and "Traceback" not in seen.texts["the terminal"]
    assert "RaiseException" in seen.texts["GraphQL runs"], "a traceback of a failure that nobody foresaw"
    assert any("FAILURE" in states for states in seen.runs.values())
    for name in QUESTIONS:
        answer = json.loads(seen.texts[f"GraphQL {name}"])
        assert "errors" not in answer, (name, answer["errors"][:1])
        assert "PythonError" not in seen.texts[f"GraphQL {name}"], name
    logs = [text for where, text in seen.texts.items() if where.startswith("file logs/")]
    assert len(logs) >= 3
    assert any("DEBUG" in text for where, text in seen.texts.items() if "/logs/" in where or "logs/" in where)
    assert "event_logs" in seen.texts["pg_dump"] and "sealed:" in seen.texts["pg_dump"]
    assert "dagster-daemon" in seen.texts["the processes' arguments"]


def test_the_second_ui_refuses_what_the_first_would_do(seen: Seen) -> None:
    assert "UnauthorizedError" in seen.texts["the read-only UI"]
    assert "RunNotFoundError" in seen.texts["the UI"]


@pytest.mark.parametrize("program", ["orchestration.webserver", "dagster-daemon", "rsu_pipeline.local.orphan_guard"])
def test_who_needs_no_secret_is_given_none(seen: Seen, program: str) -> None:
    found = [text for arguments, text in seen.environments.items() if program in arguments]
    assert found
    # Dagster's tables are in the database.
    needed = {"the database's password"} if program != "rsu_pipeline.local.orphan_guard" else set()
    for text in found:
        assert {what for what, needle in seen.needles.items() if needle in text} - needed == set()


def test_no_personal_data_is_in_logs_and_in_dagsters_tables(seen: Seen) -> None:
    """People of the sandbox have addresses at example.test."""
    hub = seen.texts["pg_dump"]
    assert "@example.test" in hub, "in the hub's own tables it is"
    dagsters = "\n".join(line for line in hub.splitlines() if line.startswith("INSERT INTO dagster."))
    assert dagsters
    places = {where: text for where, text in seen.texts.items() if where != "pg_dump"} | {"Dagster's tables": dagsters}
    assert [where for where, text in places.items() if "@example.test" in text] == []
