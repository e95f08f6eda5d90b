"""What is in the folder of an installation is its owner's alone, whatever the umask."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsu_pipeline import private_files, settings
from rsu_pipeline_tests.cli.started import without_ours

OPENS_INSTANCE = """
import os
os.umask(0)
import dagster as dg
with dg.DagsterInstance.get() as instance:
    logs = instance.compute_log_manager
    print(type(logs).__name__, oct(os.umask(0)))
"""


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(home: Path) -> dict[str, str]:
    return {str(path.relative_to(home)): oct(path.lstat().st_mode & 0o7777) for path in sorted(home.rglob("*"))}


def test_files_made_after_it_are_private_and_those_of_children_too(tmp_path: Path) -> None:
    assert private_files.set_umask() == 0
    (tmp_path / "folder").mkdir()
    subprocess.run([sys.executable, "-c", "open('file', 'w')"], cwd=tmp_path / "folder", check=True, timeout=120)
    assert modes(tmp_path) == {"folder": "0o700", "folder/file": "0o600"}


def test_a_folder_that_others_could_read_is_closed(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / "dagster" / "logs").mkdir(parents=True)
    (home / "postgres").mkdir()
    (home / "dagster" / "logs" / "run.err").write_text("x")
    (home / "script").touch(0o755)
    (home / "postgres" / "data").touch()
    elsewhere.write_text("somebody's")
    (home / "link").symlink_to(elsewhere)
    private_files.close_folder(home)
    found = modes(home)
    assert found.pop("link") and oct(elsewhere.stat().st_mode & 0o777) == "0o666"
    # PostgreSQL's folder has modes of its own.
    assert found == {
        "dagster": "0o700",
        "dagster/logs": "0o700",
        "dagster/logs/run.err": "0o600",
        "postgres": "0o777",
        "postgres/data": "0o666",
        "script": "0o700",
    }
    assert home.stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)


def test_a_new_folder_is_closed_from_the_start(tmp_path: Path) -> None:
    private_files.make_folder(tmp_path / "a" / "home")
    assert (tmp_path / "a" / "home").stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)


def test_no_right_is_given_that_was_not_there(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(0o700)
    (home / "secret.key").touch(0o400)
    private_files.close_folder(home)
    assert home.stat().st_mode & 0o777 == 0o700 and modes(home) == {"secret.key": "0o400"}


def test_a_process_of_dagster_writes_private_files(database_url: str, tmp_path: Path) -> None:
    """Code server, daemon, web UI and runs alike: each has Dagster's instance, however it is started."""
    variables = {
        "RSU_DATABASE_URL": database_url,
        "RSU_HOME": str(tmp_path),
        "DAGSTER_HOME": str(settings.project_root()),
    }
    done = subprocess.run(
        [sys.executable, "-c", OPENS_INSTANCE],
        env=without_ours() | variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == "HomeLogs 0o77\n"
