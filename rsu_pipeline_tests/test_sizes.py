"""Functions and modules stay small enough to be read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

from rsu_pipeline.settings import project_root

MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 400
PACKAGES = ("rsu_pipeline", "runsignup_sandbox", "tools", "benchmarks")


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((project_root() / package).rglob("*.py"))


def long_functions(source: str, most: int) -> list[str]:
    """Return the functions of a module with more lines, from `def` to the end."""
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > most
    ]


def test_no_function_is_longer_than_60_lines() -> None:
    assert long_functions("@a\ndef b():\n    c = 1\n    return c\n", 3) == []
    assert long_functions("class A:\n    async def b():\n        c = 1\n        return c\n", 2) == ["b"]
    found = {str(path): long_functions(path.read_text(), MAX_FUNCTION_LINES) for path in modules()}
    assert len(found) > 100
    assert {path: names for path, names in found.items() if names} == {}


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in modules()}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_MODULE_LINES} == {}
