"""Every test that docs/guarantees.md names is there."""

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "guarantees.md"
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def missing(text: str) -> list[str]:
    """Return the tests named that are not there."""
    found = []
    for file, name in NAMED.findall(text):
        if name not in functions_of(TESTS / file):
            found.append(f"{file}::{name}")
    return found


@cache
def functions_of(path: Path) -> set[str]:
    """Return the names of a file's functions."""
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(NAMED.findall(text)) > 50
    assert missing(text) == []


def test_a_test_that_is_gone_shows() -> None:
    assert missing("`proof/test_converges.py::test_nothing` and `nowhere.py::test_x`") == [
        "proof/test_converges.py::test_nothing",
        "nowhere.py::test_x",
    ]
