"""The files of deploy/, as the tests read them."""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from rsu_pipeline import settings

ROOT = settings.project_root()
DEPLOY = ROOT / "deploy"
INSTALLED = "/opt/rsu-pipeline"
"""Where docs/deploy.md has the checkout installed."""


def document(path: str) -> Any:
    """Read a YAML file of the checkout."""
    return yaml.safe_load((ROOT / path).read_text())


def compose() -> dict[str, Any]:
    return dict(document("deploy/compose/compose.yaml"))


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Return a unit's settings by section. A setting that occurs several times has several values."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in (DEPLOY / "systemd" / name).read_text().splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = heading[1]
        elif line and not line.startswith("#"):
            key, separator, value = line.partition("=")
            assert separator and section, f"{name}: {line}"
            found.setdefault(section, {}).setdefault(key, []).append(value)
    return found


def units(suffix: str = "") -> list[str]:
    return sorted(path.name for path in (DEPLOY / "systemd").glob(f"rsu*.{suffix or '*'}") if path.suffix != ".example")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command that the files start, with its place: its program first, by its bare name."""
    for name in units("service"):
        for key in ("ExecStart", "ExecStartPost"):
            for line in unit(name)["Service"].get(key, []):
                yield f"{name} {key}", _bare(shlex.split(line))
    for name, service in compose()["services"].items():
        if "command" in service:
            yield f"compose {name}", _bare(service["command"])
        if isinstance(test := service.get("healthcheck", {}).get("test"), list) and name != "postgres":
            assert test[0] == "CMD"
            yield f"compose health of {name}", _bare(test[1:])
    for where, command in _executed(document("deploy/kubernetes/values.yaml")):
        yield f"kubernetes {where}", _bare(command)


def _executed(values: object, where: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield what probes execute."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            if key == "exec":
                yield where, value["command"]
            else:
                yield from _executed(value, f"{where}.{key}")
    elif isinstance(values, list):
        for value in values:
            yield from _executed(value, where)


def _bare(command: list[str]) -> list[str]:
    return [part.removeprefix(f"{INSTALLED}/.venv/bin/") for part in command]
