"""Figures of several repetitions: medians, ratios to the floor within each repetition, a table, JSON."""

import datetime as dt
import os
import platform
import re
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.hub import Measured
from rsu_pipeline.local import pg_binaries


@dataclass
class Results:
    """Every run, by step and contender, in the order of the repetitions."""

    scale: str
    rows: int = 0
    what: str = "Future events"
    runs: dict[str, dict[str, list[Measured]]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    """What to know of a contender's figures."""
    refused: dict[str, str] = field(default_factory=dict)
    """Contenders whose figures do not count, and why."""

    def add(self, step: str, label: str, measured: Measured) -> None:
        self.runs.setdefault(step, {}).setdefault(label, []).append(measured)

    def refuse(self, label: str, reason: str) -> None:
        """Take a contender out, with what was measured of it so far."""
        self.refused[label] = reason
        for by_label in self.runs.values():
            by_label.pop(label, None)

    def show(self) -> None:
        """Print the table."""
        table = Table(title=f"{self.what} of scale {self.scale}: {self.rows:,} registrations")
        table.add_column("", no_wrap=True)
        for name in (
            "wall s", "× floor", "CPU s", "× floor", "rows/s", "listing s", "PostgreSQL CPU s", "sandbox CPU s",
            "peak MiB", "above imports", "calls", "MB received",
        ):  # fmt: skip
            table.add_column(name, justify="right")
        for step, by_label in self.runs.items():
            table.add_section()
            table.add_row(f"[bold]{step}[/bold]")
            for label in ["floor", *sorted(by_label.keys() - {"floor"})]:
                table.add_row(f"  {label}", *self._cells(by_label[label], by_label["floor"]))
        Console(width=None if Console().is_terminal else 180).print(table)
        print(
            "wall, CPU and rows/s are of reading and storing the registrations; the listing (races, plan), which the"
            " floor has not, is beside.\nrows/s are rows that the copy covers. Ratios are medians of ratios within a"
            " repetition."
        )
        for label, note in self.notes.items():
            print(f"{label}: {note}.")
        for label, reason in self.refused.items():
            print(f"{label} is refused. {reason}.")

    def _cells(self, runs: list[Measured], floor: list[Measured]) -> list[str]:
        wall, cpu = _median(runs, _wall), _median(runs, _cpu)
        return [
            f"{wall:.2f}",
            f"{_ratio(runs, floor, _wall):.2f}",
            f"{cpu:.2f}",
            f"{_ratio(runs, floor, _cpu):.2f}",
            f"{self.rows / wall:,.0f}",
            f"{_median(runs, lambda run: run.report.listing.wall):.2f}",
            f"{_median(runs, lambda run: run.postgres_cpu):.2f}",
            f"{_median(runs, lambda run: run.sandbox_cpu):.2f}",
            f"{_median(runs, lambda run: run.report.peak_mib):.0f}",
            f"{_median(runs, lambda run: run.report.peak_mib - run.report.imports_mib):.0f}",
            f"{_median(runs, lambda run: sum(run.calls.values())):.0f}",
            f"{_median(runs, lambda run: run.bytes / 1e6):.1f}",
        ]

    def ratio(self, step: str, label: str) -> float:
        """Return a contender's seconds × the floor's, the median of the repetitions."""
        return _ratio(self.runs[step][label], self.runs[step]["floor"], _wall)

    def as_json(self) -> bytes:
        """Return every run and the medians of the ratios."""
        ratios = {
            step: {
                label: {"wall": _ratio(runs, by_label["floor"], _wall), "cpu": _ratio(runs, by_label["floor"], _cpu)}
                for label, runs in by_label.items()
            }
            for step, by_label in self.runs.items()
        }
        runs = {
            step: {label: [_plain(run) for run in list_] for label, list_ in by_label.items()}
            for step, by_label in self.runs.items()
        }
        whole = {
            "what": self.what,
            "scale": self.scale,
            "rows": self.rows,
            "machine": machine(),
            "notes": self.notes,
            "refused": self.refused,
            "ratios": ratios,
            "runs": runs,
        }
        return as_json(whole)


def as_json(whole: object) -> bytes:
    """Encode figures as they are stored in a file."""
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def machine() -> dict[str, object]:
    """Return where the figures come from, without which they mean little."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    return {
        "cores": os.cpu_count(),
        "processor": models[0] if models else platform.processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "postgresql": pg_binaries.server_version(pg_binaries.machine_binaries() or pg_binaries.wheel_binaries()),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "load": round(os.getloadavg()[1], 1),
    }


def _plain(run: Measured) -> dict[str, object]:
    report = msgspec.to_builtins(run.report)
    del report["reads"]
    return {**asdict(run), "report": report}


def _wall(run: Measured) -> float:
    return run.report.registrations.wall


def _cpu(run: Measured) -> float:
    return run.report.registrations.cpu


def _median(runs: list[Measured], value: Callable[[Measured], float]) -> float:
    return statistics.median(value(run) for run in runs)


def _ratio(runs: list[Measured], floor: list[Measured], value: Callable[[Measured], float]) -> float:
    return statistics.median(value(run) / value(least) for run, least in zip(runs, floor, strict=True))
