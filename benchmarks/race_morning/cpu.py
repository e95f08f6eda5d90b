"""CPU seconds of other processes, if the system reports them (Linux), and 0 elsewhere."""

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process alone."""
    return sum(_times(pid)[:2])


def cpu_with_children(pid: int) -> float:
    """Return the CPU seconds of a process, of its children that have ended, and of those that live.

    So a PostgreSQL server is measured by its parent process.
    """
    return sum(_times(pid)) + sum(cpu_of(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """Return the living children of a process."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(text) for text in path.read_text().split()]
        except OSError:
            continue
    return found


def parent_of(pid: int) -> int:
    """Return the process that started this one, or 0 if the system does not report it."""
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def _times(pid: int) -> list[float]:
    """Return own user and system time, and that of ended children."""
    fields = _fields(pid)
    return [int(text) / _TICK for text in fields[11:15]] if fields else [0.0]


def _fields(pid: int) -> list[str]:
    try:
        # After the name, which may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
