"""The supervisor, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rsu_pipeline
from rsu_pipeline.local import child_output
from rsu_pipeline.local.supervisor import SIGNALS, Child, ChildFailed, Supervisor

PROJECT = Path(rsu_pipeline.__file__).parent.parent

# Writes its process id to a file, then waits for its end.
SLEEPER = """
import os, signal, sys, time
from pathlib import Path
def leave(*_):
    with open(sys.argv[2], "a") as order:
        order.write(sys.argv[3] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
Path(sys.argv[1]).write_text(str(os.getpid()))
print("up", sys.argv[3])
time.sleep(600)
"""
STUBBORN = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(600)
"""
# A child that ends at once on SIGTERM, whose own child, in a group of its own, does not.
PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], process_group=0)
time.sleep(600)
"""
# A whole supervisor, to be signalled and killed from outside.
OUTER = """
import sys
from pathlib import Path
from rsu_pipeline.local.supervisor import Child, Supervisor
folder = Path(sys.argv[1])
def echo(name, line):
    print(f"{name} | {line}", flush=True)
with Supervisor(echo=echo, grace=float(sys.argv[3])) as supervisor:
    file = folder / "child"
    supervisor.start(Child("child", [sys.executable, "-c", sys.argv[2], str(file), str(folder / "order"), "child"],
                           ready=file.exists))
    (folder / "ready").touch()
    status = supervisor.wait()
    (folder / "stopping").touch()
sys.exit(10 + status)
"""


class Lines:
    """What was echoed."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.all.append((name, line))


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def supervisor(lines: Lines, tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(echo=lines, log_dir=tmp_path / "logs", grace=5) as one:
        yield one


def script(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *(str(argument) for argument in arguments)]


def sleeper(tmp_path: Path, name: str) -> Child:
    file = tmp_path / name
    return Child(name, script(SLEEPER, file, tmp_path / "order", name), ready=lambda: has_text(file))


def has_text(file: Path) -> bool:
    return file.exists() and file.read_text() != ""


def alive(file: Path) -> bool:
    """Return whether the process whose number is in the file lives. A zombie does not."""
    try:
        state = Path(f"/proc/{file.read_text()}/stat").read_text()
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def outer(tmp_path: Path, code: str, grace: float = 5, **options: object) -> subprocess.Popen[bytes]:
    command = script(OUTER, tmp_path, code, grace)
    process = subprocess.Popen(command, cwd=PROJECT, **options)  # type: ignore[call-overload]
    eventually((tmp_path / "ready").exists)
    assert isinstance(process, subprocess.Popen)
    return process


def test_children_are_stopped_in_reverse_order(supervisor: Supervisor, lines: Lines, tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        supervisor.start(sleeper(tmp_path, name))
        assert alive(tmp_path / name), "start returns when the child is ready"
    supervisor.stop()
    assert (tmp_path / "order").read_text().split() == ["third", "second", "first"]
    assert not any(alive(tmp_path / name) for name in ("first", "second", "third"))
    assert lines.all == [(name, f"up {name}") for name in ("first", "second", "third")]
    assert (tmp_path / "logs" / "first.log").read_text() == "up first\n"
    assert (tmp_path / "logs" / "first.log").stat().st_mode & 0o077 == 0


def test_a_child_that_ends_before_it_is_ready_is_explained(supervisor: Supervisor) -> None:
    code = "import sys; print('no configuration'); sys.exit(3)"
    with pytest.raises(ChildFailed, match=r"web ended with status 3 (?s:.*)no configuration"):
        supervisor.start(Child("web", script(code), ready=lambda: False))


def test_a_child_that_is_never_ready_is_explained(supervisor: Supervisor, tmp_path: Path) -> None:
    child = Child("web", script(STUBBORN, tmp_path / "web"), ready=lambda: False, ready_timeout=0.5)
    with pytest.raises(ChildFailed, match=r"web was not ready after 0\.5 s"):
        supervisor.start(child)


def test_a_command_that_does_not_exist_is_explained(supervisor: Supervisor) -> None:
    with pytest.raises(ChildFailed, match="web could not be started"):
        supervisor.start(Child("web", ["/no/such/program"]))


def test_an_earlier_child_that_ends_meanwhile_is_noticed(supervisor: Supervisor) -> None:
    supervisor.start(Child("first", script("import time; time.sleep(0.3)")))
    with pytest.raises(ChildFailed, match="first ended with status 0 while second was starting"):
        supervisor.start(Child("second", script("import time; time.sleep(60)"), ready=lambda: False))


def test_not_listening_yet_is_not_an_error(supervisor: Supervisor) -> None:
    attempts: list[int] = []

    def ready() -> bool:
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionRefusedError
        return True

    supervisor.start(Child("web", script("import time; time.sleep(60)"), ready=ready))
    assert len(attempts) == 3


def test_waiting_ends_when_a_child_does(supervisor: Supervisor, lines: Lines, tmp_path: Path) -> None:
    supervisor.start(sleeper(tmp_path, "first"))
    supervisor.start(Child("second", script("import os; os.kill(os.getpid(), 9)")))
    assert supervisor.wait() == 1
    supervisor.stop()
    assert ("second", "was ended by SIGKILL") in lines.all
    assert not alive(tmp_path / "first")


def test_a_child_that_ignores_its_end_is_killed(lines: Lines, tmp_path: Path) -> None:
    with Supervisor(echo=lines, grace=0.5) as supervisor:
        file = tmp_path / "stubborn"
        supervisor.start(Child("stubborn", script(STUBBORN, file), ready=lambda: has_text(file)))
        begun = time.monotonic()
    assert not alive(file)
    assert 0.5 <= time.monotonic() - begun < 4


def test_grandchildren_are_ended_too(lines: Lines, tmp_path: Path) -> None:
    with Supervisor(echo=lines, grace=0.5) as supervisor:
        file = tmp_path / "grandchild"
        supervisor.start(Child("parent", script(PARENT, file, STUBBORN), ready=lambda: has_text(file)))
        assert alive(file)
    assert not alive(file)


def test_what_a_child_leaves_behind_ends_with_it_before_it_is_started_again(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rsu_pipeline.local.supervisor.FIRST_DELAY", 0.1)
    file = tmp_path / "left"
    code = PARENT.replace("time.sleep(600)", "time.sleep(0.5)")
    supervisor.start(Child("parent", script(code, file, STUBBORN), ready=lambda: has_text(file), restart=True))
    left = tmp_path / "first"
    left.write_text(file.read_text())
    _wait_until(supervisor, lambda: file.read_text() != left.read_text())
    assert not alive(left)


def test_a_child_is_started_again_with_growing_delays(
    supervisor: Supervisor, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rsu_pipeline.local.supervisor.FIRST_DELAY", 0.05)
    monkeypatch.setattr("rsu_pipeline.local.supervisor.LAST_DELAY", 0.15)
    supervisor.start(Child("daemon", script("print('hello')"), restart=True))
    _wait_until(supervisor, lambda: sum(line == "hello" for _, line in lines.all) >= 5)
    told = [line for _, line in lines.all if "Restarting it" in line]
    assert [line.split()[-2] for line in told[:4]] == ["0.05", "0.1", "0.15", "0.15"]


def _wait_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    """Let the supervisor wait in this, the main thread, until a condition holds, and then send it a signal."""

    def end() -> None:
        deadline = time.monotonic() + 20
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    assert supervisor.wait() == 0
    thread.join()
    assert condition()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_in_order(tmp_path: Path, number: signal.Signals) -> None:
    process = outer(tmp_path, SLEEPER)
    process.send_signal(number)
    assert process.wait(10) == 10
    assert (tmp_path / "order").read_text() == "child\n"
    assert not alive(tmp_path / "child")


OBEDIENT = """
import os, sys, time
from pathlib import Path
Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(600)
"""


def ignore_and_block() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))


def test_children_of_a_parent_that_ignores_and_blocks_signals_end_when_told_to(tmp_path: Path) -> None:
    process = outer(tmp_path, OBEDIENT, grace=60, preexec_fn=ignore_and_block)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 10
    assert time.monotonic() - began < 8, "it was killed after its grace"
    assert not alive(tmp_path / "child")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_service_started_by_a_shell_that_ignores_signals_ends_when_told_to(number: signal.Signals) -> None:
    service = subprocess.Popen(
        [sys.executable, "-m", "rsu_pipeline.default_signals", "/bin/sleep", "600"],
        preexec_fn=ignore_and_block,
        cwd=PROJECT,
    )
    try:
        eventually(lambda: "sleep" in Path(f"/proc/{service.pid}/comm").read_text())
        service.send_signal(number)
        assert service.wait(5) == -number
    finally:
        service.kill()
        service.wait(60)


def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    process = outer(tmp_path, STUBBORN, grace=60)
    process.send_signal(signal.SIGINT)
    eventually((tmp_path / "stopping").exists)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 10
    assert not alive(tmp_path / "child")


def test_a_signal_while_a_child_gets_ready_is_noticed(supervisor: Supervisor, tmp_path: Path) -> None:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        supervisor.start(Child("web", script("import time; time.sleep(60)"), ready=lambda: False))
    timer.join()


def test_the_handlers_of_before_are_back_afterwards(lines: Lines) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Supervisor(echo=lines):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux informs a child that its parent was killed")
def test_a_killed_supervisor_takes_its_children_with_it(tmp_path: Path) -> None:
    process = outer(tmp_path, SLEEPER)
    process.kill()
    process.wait(60)
    eventually(lambda: not alive(tmp_path / "child"))
    assert (tmp_path / "order").read_text() == "child\n", "it could end in order"


def test_a_closed_terminal_stops_nobody(tmp_path: Path) -> None:
    chatter = SLEEPER.replace(
        "time.sleep(600)",
        "\nfor n in range(10**9):\n    print('x' * 200)\n    Path(sys.argv[1] + '.count').write_text(str(n))",
    )
    process = outer(tmp_path, chatter, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    count = tmp_path / "child.count"
    seen = int(count.read_text() or 0) if count.exists() else 0
    eventually(lambda: count.exists() and int(count.read_text() or 0) > seen + 2000)
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    assert not alive(tmp_path / "child")


def test_a_stuck_terminal_holds_up_nobody(tmp_path: Path) -> None:
    stuck = threading.Event()

    def echo(_name: str, _line: str) -> None:
        stuck.wait(30)

    file = tmp_path / "done"
    code = "import sys, time\nfor n in range(50000): print(n)\nopen(sys.argv[1], 'w').write('x')\ntime.sleep(60)"
    with Supervisor(echo=echo, log_dir=tmp_path) as supervisor:
        supervisor.start(Child("chatter", script(code, file), ready=lambda: has_text(file), ready_timeout=20))
    stuck.set()
    assert (tmp_path / "chatter.log").read_text().endswith("49999\n")


def test_output_of_any_kind_is_shown(supervisor: Supervisor, lines: Lines) -> None:
    code = "import sys; sys.stdout.buffer.write(b'caf\\xe9\\r\\n' + 'Zoë'.encode() + b'\\nno end'); sys.exit(0)"
    supervisor.start(Child("odd", script(code), env={"PYTHONUTF8": "1"}))
    supervisor.wait()
    supervisor.stop()
    assert [line for _, line in lines.all if "ended" not in line] == ["caf\N{REPLACEMENT CHARACTER}", "Zoë", "no end"]


def test_logs_are_put_aside_when_full(supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_output, "LOG_BYTES", 1000)
    supervisor.start(Child("chatter", script("for n in range(1000): print(n, '.' * 50)")))
    supervisor.wait()
    supervisor.stop()
    logs = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert logs in (["chatter.log", "chatter.log.1", "chatter.log.2"], ["chatter.log.1", "chatter.log.2"])
    assert all(path.stat().st_size < 1200 for path in (tmp_path / "logs").iterdir())
