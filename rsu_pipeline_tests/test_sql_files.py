"""Statements in `.sql` files are named, used, packaged, and run in psql."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import sqlalchemy
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
from sqlalchemy.dialects import postgresql

from rsu_pipeline import sql_files
from rsu_pipeline.adoption.rows import CREATE_MOVED
from rsu_pipeline.local import client_programs
from rsu_pipeline.warehouse.staging import _CREATE_STAGE
from tools import sql

PACKAGE = Path(sql_files.__file__).parent
FILES = sorted(
    path for path in PACKAGE.rglob("*.sql") if path.parent.name != "migrations" and path.with_suffix(".py").exists()
)
MODULES = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in FILES]
EXPLAINED = re.compile(r"\s*(?:--.*\n\s*)*(?:WITH|SELECT|INSERT|UPDATE|DELETE)\b")
OF_TYPE = {"timestamptz": "2026-10-03 12:00+00", "date": "2026-10-03", "interval": "1 hour"}
BY_NAME = {
    **dict.fromkeys(["full", "certain", "reload", "resumed"], "true"),
    "zone": "UTC",
    **dict.fromkeys(["now", "latest", "until"], OF_TYPE["timestamptz"]),
}


def settings(statement: str) -> list[str]:
    """Return psql's commands that set a statement's parameters, by the type that each is cast to."""
    values = {}
    for name, kind in re.findall(r":'(\w+)'(?:::(\w+(?:\[\])?))?", statement):
        fitting = f"{{{OF_TYPE.get(kind[:-2], 1)}}}" if kind.endswith("[]") else OF_TYPE.get(kind)
        values[name] = fitting or values.get(name) or BY_NAME.get(name, "1")
    return [f"\\set {name} '{value}'" for name, value in values.items()]


def create_dagsters_tables() -> list[str]:
    """Return the statements that create Dagster's tables, as its storage declares them, in their schema."""
    declared = (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata)
    tables = {table.name: table for metadata in declared for table in metadata.sorted_tables}
    created = [
        str(sqlalchemy.schema.CreateTable(table).compile(dialect=postgresql.dialect())) for table in tables.values()
    ]
    return ["CREATE SCHEMA dagster", "SET LOCAL search_path TO dagster", *created, "SET LOCAL search_path TO public"]


def test_there_are_statements_in_files() -> None:
    assert len(FILES) >= 1


@pytest.mark.parametrize("module", MODULES)
def test_each_statement_is_used_and_each_that_is_used_is_there(module: str) -> None:
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    used = set(re.findall(r'_SQL\["(\w+)"\]', path.read_text(encoding="utf-8")))
    fragments = re.findall(r"\{([A-Z_]+)\}", path.with_suffix(".sql").read_text(encoding="utf-8"))
    used |= {name.lower() for name in fragments} & sql.statements(module).keys()
    assert used == sql.statements(module).keys()


@pytest.mark.parametrize("module", MODULES)
def test_the_statements_run_in_psql(module: str, database_url: str) -> None:
    found = [text for text in sql.statements(module).values() if EXPLAINED.match(text)]
    lines = [line for text in found for line in (*settings(text), f"EXPLAIN {text};")]
    others = create_dagsters_tables() if any(" dagster." in text for text in found) else []
    script = "\n".join([f"BEGIN; {'; '.join([_CREATE_STAGE, CREATE_MOVED, *others])};", *lines, "ROLLBACK;"])
    psql = client_programs.find_programs("psql")[0].path
    done = subprocess.run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database_url],
        input=script, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_file_of_statements_is_packaged() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["rsu_pipeline"]
    packaged = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    assert set(PACKAGE.rglob("*.sql")) <= packaged


def write(folder: Path, text: str) -> str:
    (folder / "some.sql").write_text(text, encoding="utf-8")
    return str(folder / "some.py")


def test_parameters_are_written_as_in_psql_and_percent_signs_as_they_are(tmp_path: Path) -> None:
    module = write(
        tmp_path,
        "-- What is here.\n\n-- name: one\n-- Say what it does.\nSELECT :number, :'text'::text, 'a%', x::int -- why\n"
        "WHERE {HERE};\n\n-- name: two\nSELECT 5 % 3\n",
    )
    assert sql_files.load(module, HERE="y = %(y)s") == {
        "one": "SELECT %(number)s, %(text)s::text, 'a%%', x::int -- why\nWHERE y = %(y)s",
        "two": "SELECT 5 % 3",
    }


@pytest.mark.parametrize(
    ("text", "fragments", "reason"),
    [
        ("SELECT 1\n", {}, "no name"),
        ("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n", {}, "another has"),
        ("-- name: one\nSELECT {HERE}\n", {}, "HERE"),
        ("-- name: one\nSELECT 1\n", {"HERE": "2"}, "HERE"),
    ],
)
def test_a_file_in_another_form_is_refused(tmp_path: Path, text: str, fragments: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        sql_files.load(write(tmp_path, text), **fragments)
