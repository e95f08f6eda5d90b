"""Compares what a command printed with what `json_types` declares for it, field by field."""

import datetime as dt
import json
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints, is_typeddict

from rsu_pipeline.cli import json_outputs

OPTIONS = ("--changes", "--missing")
"""Options with which a command prints another output."""


def check_output(arguments: tuple[str, ...], stdout: str) -> None:
    """Check the whole shape of what `rsu` printed, if it was called with --json and printed something."""
    if "--json" in arguments and stdout and (name := output_of(arguments)):
        found = misfits(json_outputs.OUTPUTS[name], json.loads(stdout), name)
        assert not found, found


def output_of(arguments: tuple[str, ...]) -> str | None:
    """Return the name of the output that a call prints, or None for a call of no such command."""
    variant = "".join(f" {option}" for option in OPTIONS if option in arguments)
    if arguments[0] == "start-list" and any(one.isdigit() for one in arguments[1:2]):
        return "start-list EVENT"
    for words in (arguments[:2], arguments[:1]):
        if (name := " ".join(words) + variant) in json_outputs.OUTPUTS:
            return name
    return None


def misfits(shape: Any, value: Any, where: str) -> list[str]:
    """Return where a value from JSON differs from its declared type: fields that are missing or too many, other types."""
    arguments = get_args(shape)
    if get_origin(shape) is list:
        if not isinstance(value, list):
            return [f"{where} is no list"]
        return [one for item in value for one in misfits(arguments[0], item, f"{where}[]")]
    if get_origin(shape) is dict:
        if not isinstance(value, dict):
            return [f"{where} is no object"]
        return [one for name, item in value.items() for one in misfits(arguments[1], item, f"{where}.{name}")]
    if get_origin(shape) is Literal:
        return [] if value in arguments else [f"{where} is {value!r}"]
    if NoneType in arguments:
        (other,) = (one for one in arguments if one is not NoneType)
        return [] if value is None else misfits(other, value, where)
    if is_typeddict(shape):
        return _misfits_of_fields(shape, value, where)
    return [] if _is_of(shape, value) else [f"{where} is {value!r}, not {shape.__name__}"]


def _misfits_of_fields(shape: Any, value: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where} is no object"]
    declared = get_type_hints(shape)
    found = [f"{where}.{name} is missing" for name in shape.__required_keys__ - value.keys()]
    found += [f"{where}.{name} is not declared" for name in value.keys() - declared.keys()]
    for name in declared.keys() & value.keys():
        found += misfits(declared[name], value[name], f"{where}.{name}")
    return found


def _is_of(leaf: Any, value: Any) -> bool:
    if leaf is dt.datetime:
        return isinstance(value, str) and bool(dt.datetime.fromisoformat(value))
    if leaf is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is leaf
