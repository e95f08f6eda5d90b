"""The suite itself: it does not depend on who started it, nor on a disk, and lists what it left out."""

import ast
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rsu_pipeline_tests import schedule, scratch
from tools import slow_tests

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
CHILD = "import signal; print([signal.getsignal(n) == signal.SIG_IGN for n in (2, 15, 3, 1)])"


def test_started_with_signals_ignored_or_blocked_what_the_tests_start_has_their_defaults() -> None:
    def ignore() -> None:
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)

    code = (
        "import rsu_pipeline_tests.conftest, signal, subprocess, sys;"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, []));"
        f"subprocess.run([sys.executable, '-c', {CHILD!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-uc", code],
        preexec_fn=ignore,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split("\n") == ["set()", "[False, False, False, False]", ""]


def waits_without_end(source: str) -> list[str]:
    """Return the waits for processes in a module that have no time-out, as its code has them."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items]
            found += [call for call in calls if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("Popen")]
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        has_timeout = any(keyword.arg in ("timeout", None) for keyword in node.keywords)
        owner, name = ast.unparse(node.func.value), node.func.attr
        runs = owner == "subprocess" and name in ("run", "call", "check_call", "check_output")
        # A supervisor is no process: tests that wait for one have a thread or a child that ends it.
        waits = name in ("wait", "communicate") and not node.args and owner != "supervisor"
        if (runs or waits) and not has_timeout:
            found.append(node)
    return [ast.unparse(node) for node in found]


def test_every_wait_for_a_process_has_its_own_time_out() -> None:
    assert waits_without_end("with subprocess.Popen(c) as p:\n    p.wait(3)") == ["subprocess.Popen(c)"]
    assert waits_without_end("subprocess.run(c, check=True)\np.wait()\np.communicate()\np.wait(timeout=3)") == [
        "subprocess.run(c, check=True)", "p.wait()", "p.communicate()"
    ]  # fmt: skip
    found = {str(path): waits_without_end(path.read_text()) for path in Path(__file__).parent.rglob("*.py")}
    assert {path: waits for path, waits in found.items() if waits} == {}


def test_temporary_files_are_in_the_folder_of_the_run(tmp_path: Path) -> None:
    folder = Path(tempfile.gettempdir())
    assert folder.name.startswith("rsu-tests-") and folder in tmp_path.parents
    asked = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout.strip() == str(folder)


def test_what_a_killed_run_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait(60)
    left, other, own = (tmp_path / f"rsu-tests-{name}" for name in (ended.pid, os.getppid(), "mine"))
    for folder in (left, other, own):
        (folder / "t").mkdir(parents=True)
    monkeypatch.setattr(scratch, "MEMORY", tmp_path)
    monkeypatch.setattr(scratch, "ENOUGH_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    monkeypatch.setenv("TMPDIR", "")
    made = scratch.make_folder()
    assert sorted(tmp_path.iterdir()) == sorted([other, own, made])


def test_where_memory_has_no_room_the_machines_temporary_folder_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "ENOUGH_BYTES", 2**62)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", "")
    assert scratch.make_folder().parent == tmp_path


def test_a_test_goes_to_the_process_of_what_it_shares() -> None:
    name = schedule.ROOT
    assert schedule.group(f"{name}browser/test_web_ui.py::test_a") == schedule.group(f"{name}browser/test_b.py::test_b")
    assert schedule.group(f"{name}sync/test_bibs.py::test_a") == schedule.group(f"{name}sync/test_bibs.py::test_b[1]")
    assert schedule.group(f"{name}proof/test_x.py::test_a[1]") != schedule.group(f"{name}proof/test_x.py::test_a[2]")
    servers = f"{name}installation/test_real_servers.py"
    assert schedule.group(f"{servers}::test_a[13]") == schedule.group(f"{servers}::test_b[13]")
    assert schedule.group(f"{servers}::test_a[13]") != schedule.group(f"{servers}::test_a[18]")


def test_the_longest_begin_first_and_proofs_alternate_with_what_waits() -> None:
    tests = [
        "sync/test_bibs.py::test_a",
        "deploy/test_x.py::test_a",
        "cli/test_up.py::test_a",
        "cli/test_up.py::test_b",
    ]
    proofs = ["proof/test_season.py::test_a[1]", "proof/test_season.py::test_a[2]"]
    found = schedule.ordered([schedule.ROOT + name for name in [*tests, *proofs]])
    first, second, third, *last, end = [schedule.name_of(nodeid) for nodeid in found]
    assert [first, second, third] == [proofs[0], "deploy/test_x.py::test_a", proofs[1]]
    assert (last, end) == (["cli/test_up.py::test_a", "cli/test_up.py::test_b"], "sync/test_bibs.py::test_a")


def test_modules_that_wait_are_spread_among_those_that_compute() -> None:
    waiting = [f"{name}.py::test_a" for name in schedule.WAITING[:3]]
    computing = [f"alerts/test_{number:02}.py::test_a" for number in range(2 * schedule.WAITING_EVERY + 1)]
    found = [
        schedule.name_of(nodeid) for nodeid in schedule.ordered([schedule.ROOT + name for name in waiting + computing])
    ]
    assert [found.index(name) for name in waiting] == [
        schedule.WAITING_EVERY,
        2 * schedule.WAITING_EVERY + 1,
        len(found) - 1,
    ]
    assert [name for name in found if name not in waiting] == computing


@pytest.mark.parametrize(
    "name",
    [*schedule.LONGEST, *schedule.WAITING, *(name for names in schedule.LEFT_TO_CI.values() for name in names)],
)
def test_what_the_schedule_names_is_there(name: str) -> None:
    path, _, test = name.partition("::")
    (first, *_) = Path(__file__).parent.glob(f"{path}*")
    assert not test or f"def {test.partition('[')[0]}" in first.read_text()


def test_each_slow_test_is_there() -> None:
    folder = Path(__file__).parent
    names = [name.split("::") for name in schedule.SLOW_TESTS.read_text().split()]
    texts = {path: (folder / path).read_text() for path, *_ in names if (folder / path).exists()}
    gone = ["::".join([path, *test]) for path, *test in names if f"def {test[-1]}(" not in texts.get(path, "")]
    assert names and gone == [], "remove these lines, or have tools/slow_tests.py write all of them"


def test_what_took_seconds_is_slow_but_not_what_nearly_every_change_concerns() -> None:
    cases = [
        ("sync.test_a", "test_quick[1]", 3.4), ("sync.test_a", "test_quick[2]", 0.5), ("sync.test_a", "test_slow", 3.5),
        ("docs.test_docs", "test_links", 9), ("sync.test_a.TestB", "test_slow[1]", 3.5),
        ("proof.test_season", "test_converges[0-49]", 99),
    ]  # fmt: skip
    lines = [
        f'<testcase classname="rsu_pipeline_tests.{module}" name="{name}" time="{seconds}" />'
        for module, name, seconds in cases
    ]
    report = ElementTree.ElementTree(ElementTree.fromstring(f"<testsuites>{''.join(lines)}</testsuites>"))  # noqa: S314
    assert slow_tests.select_slow(report) == ["sync/test_a.py::TestB::test_slow", "sync/test_a.py::test_slow"]


def test_make_test_leaves_out_what_has_a_marker_of_the_schedule() -> None:
    makefile = Path(__file__).parents[1] / "Makefile"
    expression = " and ".join(f"not {marker}" for marker in schedule.LEFT_TO_CI)
    assert f'$(PYTEST) -m "{expression}"\n' in makefile.read_text()


def test_what_was_left_out_is_said_with_how_to_run_it() -> None:
    assert schedule.describe(Counter(), ["proof: random programs"]) == []
    said = schedule.describe(Counter(proof=21), ["proof: random programs", "browser: the web UI"])
    assert said == [
        "21 tests are left to .ci/run, which runs every test:",
        "   21 proof: random programs",
        "`make test-all` runs every test too, `.venv/bin/pytest -m proof` those of one kind.",
    ]
