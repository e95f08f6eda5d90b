"""`rsu` as an operator runs it: the installed script, in a process of its own, with an environment of its own."""

import atexit
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.cli.json_shapes import check_output
from rsu_pipeline_tests.cli.warm import PROGRAMS, Copy, Warm
from runsignup_sandbox.process import launch

SCRIPT = Path(sys.executable).with_name("rsu")
Done = subprocess.CompletedProcess[str]
TIMEOUT = 120


def environment(**settings: str) -> dict[str, str]:
    """Return this machine's environment with these RSU_ settings, and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RSU_", "DAGSTER_"))}
    return kept | settings


def rsu(*arguments: str, settings: dict[str, str], stdin: str | bytes = "") -> Done:
    """Run a command to its end.

    `settings` are the RSU_ variables, `stdin` what it can read there.

    It is a process of its own that has imported its libraries already (see warm.py). `rsu_script` has the script itself. What it
    prints with --json has the declared shape.
    """
    given = stdin if isinstance(stdin, bytes) else stdin.encode()
    copies = warm()
    done = copies.run([str(SCRIPT), *arguments], environment(**settings), given, TIMEOUT) if copies else None
    answer = _decoded(done) if done else rsu_script(*arguments, settings=settings, stdin=stdin)
    check_output(arguments, answer.stdout)
    return answer


def rsu_script(*arguments: str, settings: dict[str, str], stdin: str | bytes = "") -> Done:
    """Return the same with the installed script, whose arguments other processes can see."""
    done = subprocess.run(
        [SCRIPT, *arguments],
        env=environment(**settings),
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    return _decoded(done)


def run_module(program: str, *arguments: str, environment: Mapping[str, str]) -> int:
    """Run one of warm.py's programs that is a module to its end, as a copy, and return its exit code."""
    _, module = PROGRAMS[program]
    copies = warm(program)
    done = copies.run([module, *arguments], environment, b"", TIMEOUT) if copies else None
    if done is None:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=TIMEOUT, check=False)
    print((done.stdout + done.stderr).decode(errors="replace"), end="")
    return done.returncode


def launch_sandbox(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[str] | Copy":
    """Start the process of a sandbox as a copy of one that has imported it. `command` is the interpreter's."""
    copies = warm("sandbox")
    options = command[command.index("runsignup_sandbox") :]
    return (copies and copies.start(options, environment)) or launch(command, environment)


@cache
def warm(program: str = "rsu") -> Warm | None:
    """Return the process that commands, or sandboxes, are copies of, if the system can wait for one."""
    if not hasattr(os, "pidfd_open"):
        return None
    started = Warm(program)
    atexit.register(started.close)
    return started


def _decoded(done: "subprocess.CompletedProcess[bytes]") -> Done:
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def refusal(done: Done, code: int = 2) -> str:
    """Return the one sentence with which a command refused.

    It fails when the command did not, or printed a traceback.
    """
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    *usage, last = done.stderr.strip().splitlines()
    assert last.startswith("Error: "), done.stderr
    assert all(line.startswith(("Usage: ", "Try ")) or not line for line in usage), done.stderr
    return last.removeprefix("Error: ")


def rows(settings: dict[str, str], query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query at the installation's database, and commit what it changes."""
    with database.session(settings["RSU_DATABASE_URL"], purpose="tests") as conn, conn.cursor() as cur:
        cur.execute(query)
        found = cur.fetchall() if cur.description else []
        conn.commit()
    return found


def arguments_of_all() -> str:
    """Return the arguments of every process of this machine, as ps shows them."""
    if not Path("/proc/self/cmdline").exists():
        return subprocess.run(
            ["ps", "-axww", "-o", "args="], capture_output=True, text=True, check=True, timeout=120
        ).stdout
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(found)
