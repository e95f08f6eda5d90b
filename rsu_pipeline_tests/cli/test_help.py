"""Every command has a description, and the quick ones stay quick."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import click
import pytest

from rsu_pipeline.cli.main import COMMANDS
from rsu_pipeline.cli.main import rsu as root
from rsu_pipeline_tests.cli.shell import environment, rsu
from rsu_pipeline_tests.command_tree import commands_of

PURPOSE = {
    (): "Keep a race-data hub's PostgreSQL equal to RunSignup.",
    ("alerts",): "Show open alerts and test their notifications.",
    ("alerts", "list"): "Show the open alerts",
    ("alerts", "test"): "Send one message to every address",
    ("bibs",): "Give bibs here (local_bib), and send them to RunSignup.",
    ("bibs", "give"): "The start list shows it at once.",
    ("bibs", "take"): "Take back the bib that was given to REGISTRATION here.",
    ("bibs", "push"): "read whether they arrived",
    ("db",): "Manage the hub's database",
    ("db", "migrate"): "Migrate the schema",
    ("db", "psql"): "Open psql on the hub's database",
    ("db", "grant-reader"): "Create the database login NAME",
    ("db", "url"): "Print the database's URL with its password",
    ("demo",): "Start everything with a local RunSignup",
    ("export",): "Write participants, events or bibs (the bib log) to a FILE.",
    ("log",): "Show the sync log, newest first",
    ("partners",): "Manage timing partners and their RunSignup credentials.",
    ("partners", "add"): "Add the partner NAME",
    ("partners", "check"): "Verify at RunSignup",
    ("partners", "disable"): "Disable PARTNER",
    ("partners", "enable"): "Enable PARTNER",
    ("partners", "import"): "Enter the partners of a CSV FILE, all or none.",
    ("partners", "list"): "Show every partner",
    ("partners", "merge"): "Merge the partner SOURCE into TARGET",
    ("partners", "remove"): "Remove PARTNER (id or key): its credential, its partition",
    ("partners", "rename"): "Give PARTNER (id or key) another NAME.",
    ("partners", "set"): "Change settings of PARTNER",
    ("race-day",): "Show whether each race near its start is in sync, worst first.",
    ("report",): "Write a report of upcoming events",
    ("sandbox",): "RunSignup",
    ("schema",): "Show fields of registrations that RunSignup sends",
    ("secrets",): "Manage the key that encrypts partners' secrets",
    ("secrets", "new-key"): "Print a new key for RSU_SECRET_KEY.",
    ("start-list",): "Show the start list of EVENT",
    ("status",): "Show per partner",
    ("sync",): "Sync partners' events and registrations now.",
    ("up",): "Start the Dagster UI and the daemon",
}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in commands_of(group).items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def test_every_command_has_help_that_names_its_purpose() -> None:
    assert PURPOSE.keys() <= set(commands(root))
    paths = sorted(commands(root))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda path: rsu(*path, "--help", settings={}), paths))
    for path, done in zip(paths, answers, strict=True):
        assert (done.returncode, done.stderr) == (0, ""), path
        assert PURPOSE.get(path, " ") in " ".join(done.stdout.split()), path
        assert done.stdout.lower().startswith("usage: "), path


def test_the_version_is_told() -> None:
    assert version("rsu-pipeline") in rsu("--version", settings={}).stdout


def test_the_list_of_commands_says_what_each_is_for_in_80_columns() -> None:
    shown = rsu("--help", settings={}).stdout
    for name, command in COMMANDS.items():
        assert f"  {name:<10}  {command.summary}\n" in shown
    assert max(map(len, shown.splitlines())) <= 80


CHECK = """
import sys
from rsu_pipeline.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
slow = {"dagster", "grpc", "msgspec", "pandas", "requests", "sqlalchemy", "starlette"} & set(sys.modules)
sys.exit(f"imported {slow}" if slow else 0)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["sync", "--help"],
        ["status"],
        ["health", "--only", "database"],
        ["race-day"],
        ["log"],
        ["partners", "list"],
        ["alerts", "list"],
    ],
)
def test_the_quick_commands_load_neither_dagster_nor_a_client_of_runsignup(
    settings: dict[str, str], arguments: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
