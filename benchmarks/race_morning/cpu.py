"""CPU seconds of other processes, where the system tells them (Linux); 0 elsewhere."""

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def cpu_of(pid: int) -> float:
    """Of a process alone."""
    return sum(_times(pid)[:2])


def cpu_with_children(pid: int) -> float:
    """Of a process, of its children that have ended, and of those that live: all of a PostgreSQL server by its parent
    process."""
    return sum(_times(pid)) + sum(cpu_of(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """The living children of a process."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(text) for text in path.read_text().split()]
        except OSError:
            continue
    return found


def parent_of(pid: int) -> int:
    """The process that started this one; 0 where the system does not tell."""
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def _times(pid: int) -> list[float]:
    """Own user and system time, and that of ended children."""
    fields = _fields(pid)
    return [int(text) / _TICK for text in fields[11:15]] if fields else [0.0]


def _fields(pid: int) -> list[str]:
    try:
        # After the name, which may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
