"""What a measured process gets and what it answers, and how it measures itself."""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

_MAXRSS_PER_MIB = 1024 if sys.platform != "darwin" else 1024**2


class Partner(msgspec.Struct, frozen=True):
    """One of the sandbox's partners. `number` is its number in the database as well."""

    number: int
    name: str
    key: str
    secret: str


class Read(msgspec.Struct, frozen=True):
    """Registrations to read: some events of a race, as one partner."""

    partner: int
    race_id: int
    event_ids: list[int]


class Job(msgspec.Struct):
    """What a process is to do. It comes as JSON on its standard input."""

    action: str
    database_url: str
    api_url: str
    now: float
    partners: list[Partner]
    reads: list[Read] = []
    secret_key: str = ""
    page_size: int = 2500
    in_flight: int = 2
    """Partners side by side, and calls at a time."""
    variant: str = ""
    """How, for a contender that knows several ways."""


class Part(msgspec.Struct):
    """Seconds that a part of the work took: on the clock, and of the CPU by this process and its ended children."""

    wall: float = 0.0
    cpu: float = 0.0


class Report(msgspec.Struct):
    """What a process did. It goes as JSON to its standard output."""

    listing: Part = msgspec.field(default_factory=Part)
    registrations: Part = msgspec.field(default_factory=Part)
    peak_mib: float = 0.0
    imports_mib: float = 0.0
    rows: int = 0
    inserted: int = 0
    updated: int = 0
    removed: int = 0
    bib_changes: int = 0
    unequal: int = 0
    reads: list[Read] = []
    problems: list[str] = []
    seconds: dict[str, float] = {}
    """What was timed by itself, by name."""


class Meter:
    """Times parts of the work, and knows this process's memory."""

    def __init__(self) -> None:
        self.imports_mib = memory()[0]

    @contextmanager
    def timing(self, part: Part) -> Iterator[None]:
        wall, cpu = time.perf_counter(), _cpu_seconds()
        try:
            yield
        finally:
            part.wall += time.perf_counter() - wall
            part.cpu += _cpu_seconds() - cpu

    def close(self, report: Report, *, with_child: bool = False) -> None:
        """Note the memory. `with_child` adds the most that a child process of this one took, if that does the work."""
        report.imports_mib = self.imports_mib
        report.peak_mib = memory()[1]
        if with_child:
            report.peak_mib += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / _MAXRSS_PER_MIB


def _cpu_seconds() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def memory() -> tuple[float, float]:
    """Return the resident memory of this process in MiB: now, and at most so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would give the parent's peak as well: a child begins with the memory that it was forked from.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmRSS"].split()[0]) / 1024, int(lines["VmHWM"].split()[0]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MAXRSS_PER_MIB
    return most, most


def cpu_of(pid: int, *, of_ended_children: bool = False) -> float:
    """Return CPU seconds of another process, or of its children that have ended, or 0 if the system does not report them."""
    path = Path(f"/proc/{pid}/stat")
    if not path.exists():
        return 0.0
    fields = path.read_text().rpartition(")")[2].split()
    first = 13 if of_ended_children else 11
    return (int(fields[first]) + int(fields[first + 1])) / os.sysconf("SC_CLK_TCK")


def answer(report: Report) -> None:
    """End a measured process: its report goes out."""
    sys.stdout.buffer.write(msgspec.json.encode(report))


def job() -> Job:
    """Return the job of this process."""
    return msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
