"""What Dagster loads: complete, described, and loadable anywhere, and who may import whom."""

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import dagster as dg
import pytest

import rsu_pipeline
from rsu_pipeline.definitions import build_definitions, defs
from rsu_pipeline.orchestration.resources import WarehouseResource

PACKAGE = Path(rsu_pipeline.__file__).parent
PROJECT = PACKAGE.parent
NOWHERE = "postgresql://nobody@127.0.0.1:9/none"

SYNCED = {"partner_events", "future_events", "participants", "start_lists"}
OF_A_PARTNER = {*SYNCED, "participant_history", "registration_report"}
ASSETS = {*OF_A_PARTNER, "fleet_health", "race_day_board", "runsignup"}

# Loads the definitions where nothing is at hand, and prints what that took.
LOAD = """
import json, sys

def refuse(event, args):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "subprocess.Popen")):
        raise RuntimeError(f"importing did {event} {args}")
    if event == "open" and isinstance(args[0], str) and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        raise RuntimeError(f"importing opened {args[0]} for writing")
    if event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        raise RuntimeError(f"importing did {event} {args}")

import dagster
before = set(sys.modules)
sys.dont_write_bytecode = True
sys.addaudithook(refuse)
from rsu_pipeline.definitions import defs
print(json.dumps({
    "assets": sorted(key.to_user_string() for key in defs().resolve_all_asset_keys()),
    "pandas": "pandas" in sys.modules,
    "numpy": "numpy" in sys.modules,
    "matplotlib": "matplotlib" in sys.modules,
    "prometheus": "prometheus_client" in sys.modules,
    "apprise": "apprise" in sys.modules,
}))
"""


def modules(part: str) -> list[Path]:
    """Return the modules of a package, or a single module."""
    alone = PACKAGE / f"{part}.py"
    return [alone] if alone.exists() else sorted((PACKAGE / part).rglob("*.py"))


@cache
def imported(path: Path) -> frozenset[str]:
    """Return every module that a file imports anywhere. Relative ones are resolved."""
    found: set[str] = set()
    own = path.relative_to(PROJECT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*own[: -node.level], *filter(None, [node.module])]) if node.level else str(node.module)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_the_definitions_are_loadable() -> None:
    dg.Definitions.validate_loadable(defs())


@pytest.mark.parametrize("variable", ["RSU_TIMEZONE", "RSU_BIB_POLL", "RSU_PAGE_SIZE"])
def test_an_import_reads_no_setting_and_loading_names_a_bad_one(variable: str) -> None:
    """Everything of the package is imported, and only then are the definitions loaded, as Dagster does it."""
    modules_of_all = [
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if path.name not in ("__main__.py", "celery_launcher.py")
    ]
    code = (
        f"import importlib\nfor name in {modules_of_all!r}:\n    importlib.import_module(name)\nprint('imported')\n"
        "from rsu_pipeline.definitions import defs\ndefs()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, variable: "Mars/Olympus"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("imported\n", 1)
    assert done.stderr.splitlines()[-1].startswith(f"rsu_pipeline.errors.SettingsError: {variable} is 'Mars/Olympus'")


def test_private_names_of_dagster_are_imported_in_one_module() -> None:
    private = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(re.match(r"dagster\w*\._", name) for name in imported(path))
    }
    assert private == {"orchestration/dagster_internals.py"}


def test_the_repository_holds_these_assets_jobs_and_sensors() -> None:
    repository = defs().get_repository_def()
    assert {key.to_user_string() for key in defs().resolve_all_asset_keys()} == ASSETS
    assert {job.name for job in repository.get_all_jobs()} >= {
        "sync_partner",
        "sync_batch",
        "backfill_history",
        "check_fleet",
        "watch",
        "__ASSET_JOB",
    }
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "new_credentials",
        "race_day",
        "bib_changes",
        "race_day_board_refresh",
        "history",
        "alerts",
        "alerts_stand_in",
        "registration_reports",
        "fleet_health_refresh",
    }
    assert {schedule.name for schedule in repository.schedule_defs} >= {"race_proximity", "nightly", "fleet_check"}
    assert {key.to_user_string() for key in defs().resolve_asset_graph().asset_check_keys} == {
        "participants:equals_runsignup",
        "participants:no_quarantined_rows",
        "participants:no_schema_drift",
        "start_lists:no_duplicate_bibs",
        "start_lists:every_entrant_has_a_bib",
        "participant_history:history_complete",
        "fleet_health:every_partner_fresh",
        "fleet_health:no_duplicate_registrations",
        "fleet_health:bib_log_replays",
        "fleet_health:budget_is_enough",
        "fleet_health:credentials_work",
        "fleet_health:no_partner_lost_access",
        "fleet_health:events_equal_runsignup",
        "fleet_health:no_rows_held_back",
        "fleet_health:no_shared_api_keys",
        "fleet_health:no_similar_partner_names",
        "fleet_health:no_foreign_writes",
        "fleet_health:clocks_agree",
        "fleet_health:nothing_stands_still",
    }
    sensor = repository.get_sensor_def("new_credentials")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert [target.job_name for target in sensor.targets] == ["sync_partner", "sync_batch"]
    selected = defs().resolve_job_def("sync_partner").asset_layer.selected_asset_keys
    assert {key.to_user_string() for key in selected} == SYNCED


@pytest.mark.parametrize("name", sorted(OF_A_PARTNER))
def test_every_asset_is_described_grouped_and_has_one_partition_per_partner(name: str) -> None:
    key = dg.AssetKey(name)
    asset = defs().resolve_assets_def(key)
    spec = asset.get_asset_spec(key)
    assert len(str(spec.description)) > 80
    assert spec.group_name == "runsignup"
    assert spec.kinds == {"python", "pandas" if name == "registration_report" else "postgres"}
    assert isinstance(spec.partitions_def, dg.DynamicPartitionsDefinition)
    assert spec.partitions_def.name == "timing_partner"


def test_the_fleets_health_is_one_asset_of_all_partners_checked_by_a_schedule_that_runs() -> None:
    key = dg.AssetKey("fleet_health")
    spec = defs().resolve_assets_def(key).get_asset_spec(key)
    assert (spec.group_name, spec.partitions_def) == ("runsignup", None)
    assert spec.kinds == {"python", "postgres"} and len(str(spec.description)) > 80
    schedule = defs().get_repository_def().get_schedule_def("fleet_check")
    assert (schedule.job_name, schedule.cron_schedule) == ("check_fleet", "*/30 * * * *")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    layer = defs().resolve_job_def("check_fleet").asset_layer
    assert layer.selected_asset_keys == {key} and len(layer.asset_graph.asset_check_keys) == 13


def test_each_asset_depends_on_the_one_before() -> None:
    graph = defs().resolve_asset_graph()
    assert graph.get(dg.AssetKey("runsignup")).parent_keys == set() and graph.get(dg.AssetKey("runsignup")).is_external
    assert graph.get(dg.AssetKey("partner_events")).parent_keys == {dg.AssetKey("runsignup")}
    assert graph.get(dg.AssetKey("fleet_health")).parent_keys == {
        dg.AssetKey("participants"),
        dg.AssetKey("participant_history"),
    }
    assert graph.get(dg.AssetKey("future_events")).parent_keys == {dg.AssetKey("partner_events")}
    assert graph.get(dg.AssetKey("participants")).parent_keys == {dg.AssetKey("future_events")}
    assert graph.get(dg.AssetKey("start_lists")).parent_keys == {dg.AssetKey("participants")}
    assert graph.get(dg.AssetKey("registration_report")).parent_keys == {dg.AssetKey("participants")}
    assert graph.get(dg.AssetKey("participant_history")).parent_keys == {dg.AssetKey("partner_events")}


def test_resources_can_be_replaced() -> None:
    other = WarehouseResource()
    built = build_definitions({"warehouse": other})
    resources = built.resources or {}
    assert resources["warehouse"] is other
    assert set(resources) == {"warehouse", "runsignup", "io_manager"}


def test_a_fresh_interpreter_loads_them_silently_without_network_disk_database_or_pandas(tmp_path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", LOAD],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)}
        | {"RSU_DATABASE_URL": NOWHERE, "RSU_HOME": str(tmp_path / "home")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert json.loads(outcome.stdout) == {
        "assets": sorted(ASSETS),
        "pandas": False,
        "numpy": False,
        "matplotlib": False,
        "prometheus": False,
        "apprise": False,
    }
    assert list(tmp_path.iterdir()) == []


def test_dagster_definitions_validate_works_in_the_checkout(database_url: str, tmp_path: Path) -> None:
    outcome = subprocess.run(
        [str(Path(sys.executable).parent / "dagster"), "definitions", "validate"],
        env=os.environ | {"RSU_DATABASE_URL": database_url, "RSU_HOME": str(tmp_path / "home")},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "Validation successful for code location rsu_pipeline" in outcome.stdout + outcome.stderr


LAYERS = (
    {"cli"},
    {"definitions"},
    {"orchestration"},
    {"alerts"},
    {"sync", "reports", "adoption", "installation"},
    {"start_lists", "local", "webhooks"},
    {"runsignup", "warehouse"},
)
"""From above to below: a module imports from lower rows, and of its own row from its own package alone."""
SHARED = {
    "cancellation",
    "default_signals",
    "display",
    "eastern",
    "errors",
    "included_fields",
    "private_files",
    "reading_settings",
    "service_settings",
    "setting_values",
    "settings",
    "sql_files",
}
"""Below all rows: they import each other and nothing else of the package."""


def rank(part: str) -> int:
    return len(LAYERS) if part in SHARED else next(number for number, row in enumerate(LAYERS) if part in row)


@cache
def parts() -> list[str]:
    """Return the packages and modules right below the package."""
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    return sorted(found - {"__init__"})


@pytest.mark.parametrize("part", parts())
def test_dagster_is_known_to_orchestration_definitions_and_the_command_line_alone(part: str) -> None:
    if part in ("orchestration", "definitions", "cli"):
        return
    for path in modules(part):
        assert not {name for name in imported(path) if is_in(name, "dagster") or name.startswith("dagster_")}, path


@pytest.mark.parametrize("part", parts())
def test_imports_point_one_way(part: str) -> None:
    assert modules(part)
    for path in modules(part):
        for name in imported(path):
            other = [*name.split("."), "", ""][1]
            if is_in(name, "rsu_pipeline") and other in parts() and other != part:
                assert rank(other) > rank(part) or {part, other} <= SHARED, (
                    f"{path.relative_to(PACKAGE)} imports {name}"
                )


def test_nothing_of_the_package_needs_benchmarks_or_tests_and_only_commands_start_the_sandbox() -> None:
    for path in PACKAGE.rglob("*.py"):
        for other in ("benchmarks", "rsu_pipeline_tests", "runsignup_sandbox", "tools"):
            wrong = {name for name in imported(path) if is_in(name, other)}
            assert not wrong or (other == "runsignup_sandbox" and path.parent.name == "cli"), path


def test_the_sandbox_imports_nothing_of_the_pipeline() -> None:
    found = sorted((PROJECT / "runsignup_sandbox").rglob("*.py"))
    assert found
    for path in found:
        assert not {name for name in imported(path) if is_in(name, "rsu_pipeline")}, path


def test_no_module_of_the_project_is_imported_under_another_name() -> None:
    ours = {path.stem for path in PACKAGE.rglob("*.py")}
    for path in [*PACKAGE.rglob("*.py"), *(PROJECT / "benchmarks").rglob("*.py"), *(PROJECT / "tools").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("rsu_pipeline"):
                renamed = {alias.asname for alias in node.names if alias.asname not in (None, alias.name)}
                assert not renamed or not {alias.name for alias in node.names} & ours, f"{path}:{node.lineno} {renamed}"


def test_every_module_has_a_name_of_its_own() -> None:
    names = [path.stem for path in PACKAGE.rglob("*.py") if path.stem != "__init__"]
    names += [path.parent.name for path in PACKAGE.rglob("__init__.py")]
    assert {name for name in names if names.count(name) > 1} == set()


@pytest.mark.parametrize("package", ["requests", "urllib3"])
def test_the_warehouse_speaks_no_http(package: str) -> None:
    for path in modules("warehouse"):
        assert not {name for name in imported(path) if is_in(name, package)}, path


@pytest.mark.parametrize("package", ["psycopg2", "sqlalchemy"])
def test_the_client_speaks_no_sql(package: str) -> None:
    for path in modules("runsignup"):
        assert not {name for name in imported(path) if is_in(name, package)}, path


def test_no_module_of_dagsters_postpones_its_annotations() -> None:
    # Dagster refuses a context whose annotation is a text.
    checked = [*modules("orchestration"), PACKAGE / "definitions.py"]
    assert any("AssetExecutionContext" in path.read_text() for path in checked)
    for path in checked:
        assert "__future__.annotations" not in imported(path), path


def test_the_lint_rule_refuses_dagster_below_orchestration() -> None:
    ruff = [str(Path(sys.executable).parent / "ruff"), "check", "--config", str(PROJECT / "pyproject.toml")]
    verdicts = {}
    for place in ("runsignup", "warehouse", "sync", "orchestration"):
        outcome = subprocess.run(
            [*ruff, "--select", "TID251", "--stdin-filename", str(PACKAGE / place / "made_up.py"), "-"],
            input="import dagster as dg\n\nprint(dg)\n",
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        verdicts[place] = "TID251" in outcome.stdout
    assert verdicts == {"runsignup": True, "warehouse": True, "sync": True, "orchestration": False}


def test_every_asset_has_an_owner_and_says_what_a_row_is_and_its_columns_where_it_fills_a_table() -> None:
    filled = {
        "partner_events": "runsignup_events",
        "future_events": "future_events",
        "participants": "runsignup_participants",
        "participant_history": "runsignup_participants",
        "start_lists": "start_list_entries",
    }
    for spec in defs().resolve_all_asset_specs():
        assert spec.owners and spec.kinds and spec.group_name == "runsignup" and spec.description
        table = filled.pop(spec.key.to_user_string(), None)
        assert spec.metadata.get("dagster/table_name") == table
        if table:
            columns = spec.metadata["dagster/column_schema"].columns
            assert len(columns) > 5
            assert all(column.description and column.type for column in columns)
    assert not filled
