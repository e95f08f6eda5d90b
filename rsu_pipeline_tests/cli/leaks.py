"""Where an installation could leak: what its web UI answers, and its files."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests


def ask(port: int, question: str, variables: Mapping[str, Any] | None = None) -> str:
    """Return the web UI's unchanged answer to a GraphQL request."""
    with requests.Session() as session:
        session.trust_env = False
        body = {"query": question, "variables": dict(variables or {})}
        return session.post(f"http://127.0.0.1:{port}/graphql", json=body, timeout=60).text


def captured(port: int, home: Path) -> str:
    """Return what runs printed, as the web UI shows it."""
    texts = []
    for path in sorted((home / "dagster" / "logs").glob("*/compute_logs/*.err")):
        key = json.dumps([path.parent.parent.name, "compute_logs", path.stem])
        texts.append(ask(port, f"{{ capturedLogs(logKey: {key}) {{ stdout stderr }} }}"))
    return "\n".join(texts)


def written(folder: Path) -> dict[str, str]:
    """Return every file below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):
            if path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes().decode(errors="replace")
    return found
