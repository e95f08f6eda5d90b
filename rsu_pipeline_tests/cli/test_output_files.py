"""Output that cannot be written ends in one sentence, and what is no file is never replaced by one."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsu_pipeline_tests.cli.shell import SCRIPT, environment, rsu
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate
from runsignup_sandbox.process import SandboxProcess

PRINTING = (
    "status",
    "status --json",
    "status --prometheus -",
    "partners list",
    "start-list",
    "export bibs --csv -",
    "--help",
)


@pytest.fixture(scope="module")
def hub(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Provide a synced partner."""
    with SandboxProcess.start(spec=estate(registrations=3), seed=3) as sandbox:
        hub = Hub(module_database, sandbox, tmp_path_factory.mktemp("home"))
        hub.sync()
        yield hub


def in_shell(hub: Hub, command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/bash", "-c", f"{SCRIPT} {command}"],
        env=environment(**hub.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", PRINTING)
def test_a_full_disk_below_standard_output_is_one_sentence(hub: Hub, command: str) -> None:
    done = in_shell(hub, f"{command} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1:] == ["Error: The output could not be written: No space left on device."]
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("command", PRINTING)
def test_standard_output_that_is_closed_is_no_fault(hub: Hub, command: str) -> None:
    done = in_shell(hub, f"{command} >&-")
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_a_reader_that_has_ended_is_no_fault(hub: Hub) -> None:
    done = in_shell(hub, "status --json | true; exit ${PIPESTATUS[0]}")
    assert done.returncode in (0, 1) and done.stderr == ""


@pytest.mark.parametrize(
    "command", ["export bibs --csv", "export bibs --json", "status --prometheus", "db export --force"]
)
def test_what_is_no_file_is_not_replaced(hub: Hub, tmp_path: Path, command: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = rsu(*command.split(), str(pipe), settings=hub.environment)
    assert done.returncode == 2 and "is no regular file, and would be replaced" in done.stderr
    assert stat.S_ISFIFO(pipe.stat().st_mode) and list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("command", ["export bibs --csv", "status --prometheus", "db export --force"])
def test_a_link_leads_to_the_file_that_is_replaced(hub: Hub, tmp_path: Path, command: str) -> None:
    link, target = tmp_path / "link", tmp_path / "elsewhere" / "target"
    target.parent.mkdir()
    target.touch()
    link.symlink_to(target)
    assert rsu(*command.split(), str(link), settings=hub.environment).returncode == 0
    assert link.is_symlink() and target.stat().st_size > 0 and len(list(target.parent.iterdir())) == 1
