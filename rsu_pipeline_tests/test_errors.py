"""Every foreseen failure is in the tree that the docstring of errors draws, below its own base."""

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module

import rsu_pipeline
from rsu_pipeline import errors
from rsu_pipeline.errors import RsuError


def below(base: type[Exception], depth: int = 0) -> Iterator[tuple[str, str, int]]:
    for found in base.__subclasses__():
        yield found.__name__, found.__module__.removeprefix("rsu_pipeline."), depth
        yield from below(found, depth + 1)


def drawn() -> Iterator[tuple[str, str, int]]:
    """Yield the classes that the docstring has: name, module and depth.

    Without a module it is the base's, or this one.
    """
    module = ["errors"]
    for line in (errors.__doc__ or "").splitlines():
        if found := re.fullmatch(r"    ((?:│  )*)[├└]─ (\w+)(?: +([\w.]+))?", line):
            depth = len(found[1]) // 3
            module[depth:] = [found[3] or module[-1]]
            yield found[2], module[depth], depth


def test_the_tree_of_failures_is_the_one_that_is_drawn() -> None:
    for module in pkgutil.walk_packages(rsu_pipeline.__path__, "rsu_pipeline."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    found = {item for item in below(RsuError) if not item[1].startswith("rsu_pipeline_tests")}
    assert set(drawn()) == found
