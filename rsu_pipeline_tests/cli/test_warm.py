"""Commands run as copies of a process that has imported them behave as the installed script does (see warm.py)."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsu_pipeline_tests.cli import warm
from rsu_pipeline_tests.cli.shell import SCRIPT, environment, rsu, rsu_script
from rsu_pipeline_tests.cli.warm import Warm

READS = """
import importlib, os, sys

class Watched(type(os.environ)):
    def __getitem__(self, name):
        if name.startswith("RSU_"):
            found.append(name)
        return super().__getitem__(name)

found = []
os.environ.__class__ = Watched
for name in sys.argv[1:]:
    importlib.import_module(name)
print(sorted(set(found)))
"""


@pytest.fixture(scope="module")
def copies() -> Iterator[Warm]:
    made = Warm()
    yield made
    made.close()


def test_what_is_imported_beforehand_reads_no_setting() -> None:
    def reads(*modules: str) -> str:
        command = [sys.executable, "-c", READS, *modules]
        return subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    assert reads(*warm.MODULES) == "[]"
    assert "RSU_TIMEZONE" in reads("rsu_pipeline.definitions")


@pytest.mark.parametrize("arguments", [["--version"], ["status"], ["no-such"], ["partners", "add"], ["status", "--no"]])
def test_a_copy_says_and_returns_what_the_script_does(arguments: list[str], untouched: dict[str, str]) -> None:
    copy, script = rsu(*arguments, settings=untouched), rsu_script(*arguments, settings=untouched)
    assert (copy.returncode, copy.stdout, copy.stderr) == (script.returncode, script.stdout, script.stderr)


def test_a_copy_has_the_environment_the_folder_and_the_input_it_is_given(
    copies: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untouched: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = environment(**untouched | {"RSU_PAGE_SIZE": "none"})
    done = copies.run([str(SCRIPT), "status"], variables, b"", 60)
    assert done and done.returncode == 2 and b"RSU_PAGE_SIZE" in done.stderr
    done = copies.run([str(SCRIPT), "partners", "add", "--help"], environment(), b"", 60)
    assert done and b"Usage: rsu partners add" in done.stdout


def test_a_copy_that_takes_too_long_is_ended(copies: Warm, untouched: dict[str, str]) -> None:
    command = [str(SCRIPT), "race-day", "--watch"]
    with pytest.raises(subprocess.TimeoutExpired):
        copies.run(command, environment(**untouched), b"", 2)


def test_what_python_reads_at_its_start_needs_the_script(copies: Warm) -> None:
    def is_copied(stdin: bytes = b"", **more: str) -> bool:
        return copies.run([str(SCRIPT), "--version"], environment(**more), stdin, 60) is not None

    assert is_copied()
    assert not is_copied(PYTHONUTF8="0")
    assert not is_copied(LC_ALL="C")
    assert not is_copied(stdin=b"x" * 70_000)


def test_a_shell_runs_copies_by_a_script(copies: Warm, tmp_path: Path, untouched: dict[str, str]) -> None:
    copies.write_script(tmp_path / "rsu", SCRIPT)

    def shell(command: str) -> tuple[int, str]:
        variables = environment(**untouched, PATH=f"{tmp_path}:/usr/bin:/bin")
        done = subprocess.run(["sh", "-c", command], env=variables, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    version = rsu_script("--version", settings=untouched).stdout
    assert shell("rsu --version") == shell("LC_ALL=C rsu --version") == (0, version)
    assert shell("RSU_PAGE_SIZE=none rsu status")[0] == 2
    assert shell("echo secret | rsu partners add Acme --key k --secret-stdin --no-check; rsu partners list")[0] == 0
    assert shell("timeout 1 rsu race-day --watch")[0] == 124
