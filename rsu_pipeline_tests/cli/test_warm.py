"""Commands and sandboxes that are copies of a process behave as the installed script and the module do (see warm.py)."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rsu_pipeline_tests.cli import warm
from rsu_pipeline_tests.cli.shell import SCRIPT, environment, launch_sandbox, rsu, rsu_script
from rsu_pipeline_tests.cli.warm import Copy, Warm
from runsignup_sandbox.process import SandboxProcess, launch

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

from rsu_pipeline.definitions import load_definitions

print(sorted(set(found)))
load_definitions()
print(sorted(set(found)))
"""


@pytest.fixture(scope="module")
def copies() -> Iterator[Warm]:
    made = Warm()
    yield made
    made.close()


def test_what_is_imported_beforehand_reads_no_setting() -> None:
    command = [sys.executable, "-c", READS, *warm.MODULES]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=60)
    beforehand, definitions, loaded = done.stdout.splitlines()
    assert beforehand == definitions == "[]"
    assert "RSU_TIMEZONE" in loaded, "a read that is made goes unnoticed"


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


@pytest.fixture(params=[launch_sandbox, launch], ids=["copy", "module"])
def started_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Have sandboxes started as copies or by the module, and return whether they are copies."""
    monkeypatch.setattr(SandboxProcess, "launch", staticmethod(request.param))
    return request.param is launch_sandbox


WORLDS: list[Any] = []


def test_a_copy_of_the_sandbox_serves_the_world_that_the_module_does(started_by: bool) -> None:
    with SandboxProcess.start("small", seed=7, now=1_790_000_000.0) as sandbox:
        assert isinstance(sandbox.process, Copy) == started_by
        sandbox.admin.clock(rate=0)
        truth = sandbox.admin.truth(1)
        del truth["now"]
        WORLDS.append((sandbox.admin.partners(), sandbox.admin.switches(), truth["active"], truth["races"]))
    assert sandbox.process.poll() is not None
    assert len(WORLDS[-1][2]) > 10 and WORLDS[0] == WORLDS[-1]


def test_a_sandbox_ends_by_a_signal_with_exit_code_0(started_by: bool) -> None:
    sandbox = SandboxProcess.start("blank")
    sandbox.process.terminate()
    assert sandbox.process.wait(30) == sandbox.process.poll() == 0
    sandbox.stop()


def test_a_sandbox_that_is_asked_for_nonsense_does_not_start(started_by: bool) -> None:
    with pytest.raises(RuntimeError, match=r"exit code 2"):
        SandboxProcess.start("no such scale")
