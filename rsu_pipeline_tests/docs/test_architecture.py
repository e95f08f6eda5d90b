"""The picture of docs/architecture.md has the packages that there are, and the imports between them."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tools.pages import PROJECT, blocks

PACKAGE = PROJECT / "rsu_pipeline"
PACKAGES = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
(PICTURE,) = (block.text for block in blocks(PROJECT / "docs" / "architecture.md") if block.language == "mermaid")
NODES = dict(re.findall(r"^\s*(\w+)(?:\[\"|\[\(\"|\(\[\")(.+?)\"", PICTURE, re.MULTILINE))
ARROWS = re.findall(r"^\s*(\w+) (-->|==>|---) (\w+)$", PICTURE, re.MULTILINE)
OUTSIDE = {"api", "database", "people", "programs"}


@cache
def imported_by(package: str) -> set[str]:
    """Return the packages whose modules a package imports, in whatever form."""
    found: set[str] = set()
    for path in (PACKAGE / package).rglob("*.py"):
        for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            found |= {name.split(".")[1] for name in names if name.startswith("rsu_pipeline.")}
    return found & PACKAGES - {package}


def test_the_picture_has_every_package_and_none_that_is_not_there() -> None:
    assert {name for name in NODES if name not in OUTSIDE} == PACKAGES
    assert all(NODES[name].startswith(f"{name}: ") for name in PACKAGES), "a box begins with the package's name"
    assert {end for begin, _, other in ARROWS for end in (begin, other)} == PACKAGES | OUTSIDE


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_the_arrows_of_a_package_are_its_imports(package: str) -> None:
    """Each arrow is an import, and each package that is imported can be reached by arrows."""
    arrows = {begin: {other for one, kind, other in ARROWS if (one, kind) == (begin, "-->")} for begin in PACKAGES}
    assert arrows[package] <= imported_by(package)
    reached, rest = set(), [package]
    while rest:
        further = arrows[rest.pop()] - reached
        reached |= further
        rest += further
    assert imported_by(package) <= reached
