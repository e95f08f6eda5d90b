"""A command at a terminal shows within two seconds that it is at work, however long it takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rsu_pipeline.cli import first_output
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.cli.shell import rsu_script
from rsu_pipeline_tests.cli.terminal import on_a_terminal
from rsu_pipeline_tests.hub import Hub

LIMIT = 2.0
USUAL_START = 0.5
"""Seconds in which `rsu --version` answers on an idle machine. What it takes longer is the machine's."""
AT_DATABASE = (
    "status",
    "log",
    "health",
    "race-day",
    "start-list 1",
    "sync",
    "backfill --wait",
    "partners check 1",
    "privacy purge --before 2020-01-01",
    "secrets rotate",
    "report --html FILE",
    "export participants --csv FILE",
    "db export FILE",
)
"""Commands that read much, and so may take more than five seconds on a large or busy hub."""
AT_RUNSIGNUP = ("sync --partner 1", "partners check 1", "partners check --all")


@contextmanager
def locked(url: str) -> Iterator[Callable[[], None]]:
    """Lock every table, as a database that is very slow. Yields what unlocks them."""
    with database.session(url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute(
            "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
        )
        ((names,),) = cur.fetchall()
        cur.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
        yield conn.rollback


@pytest.fixture(scope="module")
def limit(hub: Hub) -> float:
    began = time.monotonic()
    on_a_terminal(hub.environment, "--version")
    return LIMIT + max(0.0, time.monotonic() - began - USUAL_START)


def seconds_to_first_output(hub: Hub, command: str, stop: Callable[[], None]) -> float:
    """Return after how many seconds a command printed something. What holds it up is stopped then."""
    began, found = time.monotonic(), []

    def is_enough(shown: str) -> bool:
        if shown.strip() and not found:
            found.append(time.monotonic() - began)
            stop()
        if not found and time.monotonic() - began > 20:
            stop()
        return bool(found)

    on_a_terminal(hub.environment, *command.split(), until=is_enough)
    assert found, f"`rsu {command}` printed nothing"
    return found[0]


@pytest.mark.parametrize("command", AT_DATABASE)
def test_a_command_that_waits_for_the_database_shows_that_it_works(
    command: str, hub: Hub, limit: float, tmp_path: Path
) -> None:
    with locked(hub.url) as unlock:
        assert seconds_to_first_output(hub, command.replace("FILE", str(tmp_path / "file")), unlock) <= limit


@pytest.mark.parametrize("command", AT_RUNSIGNUP)
def test_a_command_that_waits_for_runsignup_shows_that_it_works(command: str, hub: Hub, limit: float) -> None:
    hub.sandbox.admin.switch(latency_ms=4000)
    try:
        assert seconds_to_first_output(hub, command, lambda: hub.sandbox.admin.switch(latency_ms=0)) <= limit
    finally:
        hub.sandbox.admin.switch(latency_ms=0)


class SlowTypist:
    """Answers each prompt after some seconds, and keeps what the terminal showed just before each answer."""

    def __init__(self, *answers: tuple[str, str], seconds: float = 2 * first_output.SILENT_SECONDS) -> None:
        self._answers = list(answers)
        self._seconds = seconds
        self._since: float | None = None
        self.seen: list[str] = []

    def __call__(self, shown: str) -> str:
        if not self._answers or self._answers[0][0] not in shown:
            return ""
        self._since = self._since or time.monotonic()
        if time.monotonic() - self._since < self._seconds:
            return ""
        self.seen.append(shown)
        self._since = None
        return f"{self._answers.pop(0)[1]}\n"


@pytest.mark.parametrize(
    ("command", "prompt", "answer"),
    [
        (("partners", "remove", "1", "--archive"), "races? [y/N]:", "n"),
        (("partners", "merge", "1", "2"), "into 2-split-second-harwick? [y/N]:", "n"),
        (("privacy", "erase", "--user", "1"), "permanently? [y/N]:", "n"),
        (("webhooks", "add", "https://hooks.example/x"), "Secret (whsec_...):", "whsec_x"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_while_a_prompt_waits_the_line_is_not_written(
    command: tuple[str, ...], prompt: str, answer: str, hub: Hub
) -> None:
    typist = SlowTypist((prompt, answer))
    on_a_terminal(hub.environment, *command, type_in=typist)
    assert len(typist.seen) == 1 and "is working" not in typist.seen[0]


def test_while_standard_input_is_typed_the_line_is_not_written(hub: Hub, limit: float) -> None:
    typist = SlowTypist(("", "name,key,secret\n\x04"), seconds=limit + first_output.SILENT_SECONDS)
    shown, code = on_a_terminal(hub.environment, "partners", "import", "-", type_in=typist)
    assert "is working" not in shown
    assert typist.seen == [""] and code == 2


def test_the_line_is_written_after_the_last_answer_if_the_command_is_silent_again(hub: Hub) -> None:
    typist = SlowTypist(("API key:", "key-of-acme"), ("API secret:", "secret-of-acme"))
    with locked(hub.url) as unlock:

        def is_announced(shown: str) -> bool:
            if "is working" in shown or (len(typist.seen) == 2 and shown.count("\n") > 3):
                unlock()
                return True
            return False

        shown, _ = on_a_terminal(hub.environment, "partners", "add", "Acme", type_in=typist, until=is_announced)
    assert typist.seen == ["RunSignup API key: ", "RunSignup API key: key-of-acme\nRunSignup API secret: "]
    assert shown.startswith(f"{typist.seen[-1]}\nrsu partners add is working ...\n")


def test_without_a_terminal_nothing_is_added(hub: Hub) -> None:
    hub.sandbox.admin.switch(latency_ms=1200)
    try:
        done = rsu_script("partners", "check", "1", settings=hub.environment)
    finally:
        hub.sandbox.admin.switch(latency_ms=0)
    assert "is working" not in done.stdout + done.stderr


def test_the_line_names_the_command_and_nothing_that_follows_it() -> None:
    assert first_output.describe_command(["privacy", "erase", "--email", "a@b.example"]) == "rsu privacy erase"
    assert first_output.describe_command(["export", "--csv", "f"]) == "rsu export"
