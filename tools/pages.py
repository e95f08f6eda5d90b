"""README.md and docs/*.md as a reader sees them: fenced blocks, the commands in them, inline code, links, headings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SHELL = frozenset({"console", "sh", "bash", "shell"})
SQL = "sql"
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+|~~~+)(?P<language>\S*).*$")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)(?:\s+\"[^\"]*\")?\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its file, the number of its first line, its language and its text."""

    path: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """Its place, for people."""
        return f"{self.path.name}:{self.line}"

    def pieces(self) -> list[str]:
        """Return the commands of a shell's block or the statements of an SQL block, one by one."""
        return list(_commands(self.text) if self.language in SHELL else _statements(self.text))


def files() -> list[Path]:
    """Return every page that people read."""
    return [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    return _split(path)[0]


def prose(path: Path) -> str:
    """Return a page without its fenced blocks."""
    return _split(path)[1]


def _split(path: Path) -> tuple[list[Block], str]:
    found: list[Block] = []
    outside: list[str] = []
    inside: list[str] = []
    opened: re.Match[str] | None = None
    start = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = _FENCE.match(line)
        if opened is None and match:
            opened, start, inside = match, number + 1, []
        elif opened is not None and line.strip() == opened["fence"]:
            found.append(Block(path, start, opened["language"], "\n".join(inside)))
            opened = None
        elif opened is not None:
            inside.append(line.removeprefix(opened["indent"]))
        else:
            outside.append(line)
    if opened is not None:
        raise ValueError(f"{path.name}: the block that begins in line {start} has no end.")
    return found, "\n".join(outside)


def _commands(text: str) -> Iterator[str]:
    """Yield each command whole, with lines that a backslash or an open quote continues, and with its here-document.

    Where lines begin with a prompt, the others are output.
    """
    lines = text.splitlines()
    prompted = any(line.startswith("$ ") for line in lines)
    rest = iter(lines)
    for line in rest:
        if prompted and not line.startswith("$ "):
            continue
        command = line.removeprefix("$ ") if prompted else line
        if not command.strip() or command.lstrip().startswith("#"):
            continue
        while command.endswith("\\") or not _is_whole(command):
            command += "\n" + next(rest)
        if marker := re.search(r"<<-?\s*['\"]?(\w+)['\"]?", command):
            while (line := next(rest)).strip() != marker[1]:
                command += "\n" + line
            command += "\n" + line
        yield command


def _is_whole(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def _statements(text: str) -> Iterator[str]:
    """Yield each statement, which ends with a semicolon at the end of a line."""
    without_comments = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    for statement in re.split(r";[ \t]*(?:\n|$)", without_comments):
        if statement.strip():
            yield statement.strip()


def inline_code(text: str) -> list[str]:
    """Return the code between backticks, lines joined."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        found += [
            " ".join(code.split()) for _, code in re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", paragraph, re.DOTALL)
        ]
    return found


def links(text: str) -> list[str]:
    """Return where links and images lead."""
    return _LINK.findall(text)


def headings(path: Path) -> list[str]:
    """Return the headings of a page, as written."""
    return [match[1].strip() for match in re.finditer(r"^#{1,6} +(.+?) *#*$", prose(path), re.MULTILINE)]


def anchors(path: Path) -> set[str]:
    """Return the names by which links find the headings of a page, as GitHub makes them."""
    found: set[str] = set()
    for heading in headings(path):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (name := f"{anchor}-{number}" if number else anchor) in found:
            number += 1
        found.add(name)
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', path.read_text(encoding="utf-8")))
