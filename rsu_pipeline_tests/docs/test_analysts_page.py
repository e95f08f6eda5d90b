"""docs/analysts.md: its examples run with the login that only reads, and its table names the columns of the view."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rsu_pipeline.local import client_programs
from rsu_pipeline_tests.cli.shell import environment, rsu
from rsu_pipeline_tests.docs.conftest import Worked
from rsu_pipeline_tests.hub import SECRET_KEY
from tools.pages import PROJECT, Block, blocks

PAGE = PROJECT / "docs" / "analysts.md"
PYTHON = [block for block in blocks(PAGE) if block.language == "python"]


@pytest.fixture
def settings(worked: Worked, copy: Callable[[Worked], str], tmp_path: Path) -> dict[str, str]:
    """Provide an installation whose database may get a login."""
    return {"RSU_DATABASE_URL": copy(worked), "RSU_HOME": str(tmp_path / "home"), "RSU_SECRET_KEY": SECRET_KEY}


@pytest.fixture
def hub_url(settings: dict[str, str]) -> str:
    done = rsu("db", "url", "--reader", settings=settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_there_are_examples() -> None:
    assert ["pandas" in block.text for block in PYTHON] == [True, False]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_the_python_examples_work(block: Block, settings: dict[str, str], hub_url: str, tmp_path: Path) -> None:
    if "duckdb" in block.text and importlib.util.find_spec("duckdb") is None:
        pytest.skip("duckdb is not installed")
    exported = rsu("export", "participants", "--csv", str(tmp_path / "entrants.csv"), settings=settings)
    assert exported.returncode == 0, exported.stderr
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=tmp_path,
        env=environment(HUB_URL=hub_url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "active" in done.stdout or "entrants" in done.stdout


def test_the_example_for_psql_works(hub_url: str) -> None:
    psql = str(client_programs.find_programs("psql")[0].path)
    (line,) = (piece for block in blocks(PAGE) for piece in block.pieces() if piece.startswith('psql "$HUB_URL"'))
    script = line.replace("psql", f"'{psql}'", 1)
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment(HUB_URL=hub_url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "(0 rows)" not in done.stdout


def test_the_connection_string_for_odbc_works(hub_url: str) -> None:
    pyodbc = pytest.importorskip("pyodbc")
    if "PostgreSQL Unicode" not in pyodbc.drivers():
        pytest.skip("psqlODBC is not installed")
    (text,) = (block.text.strip() for block in blocks(PAGE) if block.text.startswith("Driver="))
    url = urlsplit(hub_url)
    places = {"HOST": url.hostname, "PORT": url.port, "DATABASE": url.path[1:], "USER": url.username}
    for place, value in (places | {"PASSWORD": url.password}).items():
        text = re.sub(rf"={place}\b", f"={value}", text)
    with closing(pyodbc.connect(text)) as conn:
        assert conn.execute("SELECT count(*) FROM entrants").fetchone()[0] > 0


def test_the_table_names_the_columns_of_the_view(settings: dict[str, str]) -> None:
    named = set(re.findall(r"`(\w+)`", PAGE.read_text().partition("| Columns | Meaning |")[2].partition("\n\n")[0]))
    done = rsu("export", "participants", "--csv", "-", "--since", "2999-01-01", settings=settings)
    columns = set(done.stdout.strip().split(","))
    # "and others" stands for the further amounts.
    others = {name for name in columns if re.search(r"_fee|fee_|profit|offline", name)}
    assert columns - others <= named | {"removed"}
    assert named - columns <= {"active", "removed", "registration", "bundle", "local"}
