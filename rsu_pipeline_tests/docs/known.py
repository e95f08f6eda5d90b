"""What a page may name: commands and their options, settings, targets of the Makefile, the words of the program."""

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import click

from rsu_pipeline.cli.main import rsu as root
from rsu_pipeline.settings import load_settings
from rsu_pipeline_tests.cli.shell import SCRIPT, environment
from rsu_pipeline_tests.command_tree import commands_of
from tools.pages import PROJECT

_CALL = re.compile(r"(?:^|(?<=[\s\"'(;&|]))(?:[\w./$~{}-]*/)?rsu +")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


class Unknown(AssertionError):
    """A page names what is not there."""


def leaves(group: click.Group = root, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command that does something."""
    for name, command in commands_of(group).items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name)


def check_calls(code: str) -> int:
    """Compare every call of `rsu` in a piece of code with the existing commands.

    Returns how many it found. Raises Unknown for a command or an option that is not there.
    """
    count = 0
    for match in _CALL.finditer(code):
        words = re.sub(r"[\[\]]|\\\||\|", " ", code[match.end() :]).split()
        if not words or (match.start() and words[0] not in commands_of(root)):
            continue  # a user or a folder of that name
        _check_call(words, code)
        count += 1
    return count


def _check_call(words: list[str], code: str) -> None:
    command: click.Command = root
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if words[0] in ("…", "...", "<command>", "COMMAND"):
            return
        name = words.pop(0).rstrip(",;:)\"'")
        below = commands_of(command)
        if name not in below:
            raise Unknown(f"`{code}`: there is no command {name}.")
        command = below[name]
    rest = " ".join(words)
    if command.name == "psql":
        return  # what follows is psql's
    # What follows a pipe or another command is not ours; pipes between options were taken out before.
    for option in _OPTION.findall(re.split(r" (?:&&|;|>|<) ", rest)[0]):
        if option not in options_of(command):
            raise Unknown(f"`{code}`: {option} is no option of {command.name}.")


def options_of(command: click.Command) -> set[str]:
    """Return the options that its --help shows."""
    if command.name == "sandbox":
        return _sandbox_options()
    # As the program does: a command keeps the help option that it makes first.
    shown = command.get_help(click.Context(command, info_name=command.name, help_option_names=["-h", "--help"]))
    return set(_OPTION.findall(shown)) | {"--help", *(("--version",) if command is root else ())}


@cache
def _sandbox_options() -> set[str]:
    shown = subprocess.run(
        [SCRIPT, "sandbox", "--help"], env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    return set(_OPTION.findall(shown.stdout))


def all_options() -> set[str]:
    """Return the options of all commands."""

    def below(command: click.Command) -> Iterator[click.Command]:
        yield command
        if isinstance(command, click.Group):
            for one in commands_of(command).values():
                yield from below(one)

    return {option for command in below(root) for option in options_of(command)}


def settings() -> set[str]:
    """Return the variables that the settings are read from, as they are requested then."""
    asked: set[str] = set()

    class Recording(Mapping[str, str]):
        def __getitem__(self, name: str) -> str:
            asked.add(name)
            raise KeyError(name)

        def __iter__(self) -> Iterator[str]:
            return iter(())

        def __len__(self) -> int:
            return 0

    load_settings(Recording())
    return asked


def other_variables() -> set[str]:
    """Return RSU_ variables that something else reads: a command, a test, a file for an installation."""
    found: set[str] = set()
    for folder in ("rsu_pipeline", "rsu_pipeline_tests", "benchmarks"):
        for path in (PROJECT / folder).rglob("*.py"):
            found |= set(re.findall(r'(?:environ(?:\.get)?[(\[]|getenv\(|envvar=)\s*"(RSU_\w+)"', path.read_text()))
    for path in _deployed():
        found |= set(re.findall(r"(?:\$\{?|env: |environ\[\")(RSU_\w+)", path.read_text(encoding="utf-8")))
    return found


def _deployed() -> list[Path]:
    return [path for path in (PROJECT / "deploy").rglob("*") if path.is_file() and path.suffix not in (".md", ".pyc")]


def targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z][\w-]*):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


@cache
def sentences() -> tuple[str, ...]:
    """Return every text of the program, with a NUL for each value."""
    found: list[str] = []
    for path in (PROJECT / "rsu_pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def says(words: str) -> bool:
    """Return whether the program has these words: a piece of a sentence, or a whole one with values in their places."""
    for sentence in sentences():
        fixed = sentence.split("\0")
        if words in sentence or (
            max(map(len, fixed)) > 15 and re.fullmatch(".+".join(map(re.escape, fixed)), words, re.DOTALL)
        ):
            return True
    return False
