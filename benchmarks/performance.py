"""The drawn parts of docs/performance.md.

They are tables and pictures from the JSON files of compare, full_sync, history, latency, large_race, growth and watch.

    python -m benchmarks.performance [--from FOLDER]

A part whose file is not in the folder (build/bench) stays as it is.
"""

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import drawings
from benchmarks.growth import Grown
from benchmarks.hub import ROOT
from benchmarks.large_race import LargeRace
from benchmarks.latency import Nights
from benchmarks.watch import Everything

PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"
FOLDER = ROOT / "build" / "bench"
Runs = list[dict[str, Any]]
Whole = dict[str, Any]


def beside(whole: Whole) -> str:
    """Return the tables of compare, full_sync or history: medians, one table for each step."""
    repetitions = max(len(runs) for by_label in whole["runs"].values() for runs in by_label.values())
    lines = [
        f"{whole['what']} of scale {whole['scale']}, {whole['rows']:,} registrations; {_times(repetitions)}."
        f" {_machine(whole['machine'])}",
        "",
    ]
    for step, by_label in whole["runs"].items():
        rows = [
            [label + (" ¹" if label in whole["notes"] else ""), *_figures(runs, whole["ratios"][step][label])]
            for label, runs in sorted(by_label.items(), key=lambda item: (item[0] != "floor", _wall(item[1])))
        ]
        heads = f"{step}|wall s|× floor|CPU s|× floor|PostgreSQL CPU s|sandbox CPU s|peak MiB|calls|MB"
        lines += [*_table(heads.split("|"), rows), ""]
    lines += [f"¹ {label}: {note}." for label, note in whole["notes"].items()]
    lines += [f"{label} is refused. {reason}." for label, reason in whole["refused"].items()]
    return "\n".join(lines).strip()


def _figures(runs: Runs, ratio: dict[str, float]) -> list[str]:
    def median(value: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(value(run) for run in runs)

    return [
        f"{_wall(runs):.1f}",
        f"{ratio['wall']:.2f}",
        f"{median(lambda run: run['report']['registrations']['cpu']):.1f}",
        f"{ratio['cpu']:.2f}",
        f"{median(lambda run: run['postgres_cpu']):.1f}",
        f"{median(lambda run: run['sandbox_cpu']):.1f}",
        f"{median(lambda run: run['report']['peak_mib']):.0f}",
        f"{median(lambda run: sum(run['calls'].values())):,.0f}",
        f"{median(lambda run: run['bytes'] / 1e6):.1f}",
    ]


def _wall(runs: Runs) -> float:
    return statistics.median(float(run["report"]["registrations"]["wall"]) for run in runs)


def growth(grown: Grown) -> str:
    """Return the tables of growth."""
    loaded = [
        [
            f"{item.stored:,}",
            f"{item.wall:.1f}",
            f"{item.cpu:.1f}",
            f"{item.postgres_cpu:.1f}",
            f"{item.rows_per_second:,.0f}",
            f"{item.peak_mib:.0f}",
            f"{item.calls:,}",
            f"{item.database_bytes / 2**20:,.0f}",
            f"{item.visit_wall * 1000:.0f}",
            f"{item.visit_cpu * 1000:.0f}",
            f"{item.visit_postgres_cpu * 1000:.0f}",
        ]
        for item in grown.registrations
    ]
    heads = (
        "stored|load s|CPU s|PostgreSQL CPU s|rows/s of the last step|peak MiB|calls|database MiB|a visit ms|CPU ms|"
        "PostgreSQL CPU ms"
    )
    partners = [
        [
            f"{fleet.partners:,}",
            f"{fleet.first['wall']:.1f}",
            f"{fleet.first['wall'] / fleet.partners * 1000:.0f}",
            f"{fleet.again['wall']:.1f}",
            f"{fleet.again['wall'] / fleet.partners * 1000:.0f}",
            f"{fleet.again['cpu']:.1f}",
            f"{fleet.again['postgres_cpu']:.1f}",
            f"{max(fleet.first['peak_mib'], fleet.again['peak_mib']):.0f}",
            f"{fleet.again['calls']:,.0f}",
            f"{fleet.database_bytes / 2**20:,.0f}",
        ]
        for fleet in grown.partners
    ]
    partner_heads = (
        "partners|first load s|ms a partner|again s|ms a partner|CPU s|PostgreSQL CPU s|peak MiB|calls again|"
        "database MiB"
    )
    names = list(dict.fromkeys(name for fleet in grown.partners for name in fleet.seconds))
    starts = [[name, *(f"{fleet.seconds[name] * 1000:,.0f}" for fleet in grown.partners)] for name in names]
    parts: list[str] = [_machine(grown.machine), ""]
    if loaded:
        parts += _table(heads.split("|"), loaded)
        parts += ["", f"A visit with the most stored takes {grown.visit_ratio:.2f} of one with the least.", ""]
    if partners:
        parts += [*_table(partner_heads.split("|"), partners), ""]
        parts += [*_table(["ms", *(f"{fleet.partners:,} partners" for fleet in grown.partners)], starts), ""]
    if grown.web_ui_seconds:
        parts += [f"The web UI answers {grown.web_ui_seconds:.1f} s after `rsu up`."]
    return "\n".join(parts).strip()


def latency(found: Nights) -> str:
    """Return the table of latency: of each kind of night the one with the median ratio."""
    rows = []
    for name in found.nights:
        night = found.median(name)
        beyond = [f"{seconds:.1f}" for seconds in vars(night.waits).values()]
        rows.append(
            [
                name,
                f"{sum(night.calls.values()):,}",
                f"{night.least:.1f}",
                f"{night.wall:.1f}",
                f"{night.ratio:.3f}",
                *beyond,
                f"{night.cpu:.1f}",
            ]
        )
    heads = "nothing changed|calls|least s|wall s|× least|longer calls s|place unused s|last partner alone s|CPU s"
    repetitions = max(len(nights) for nights in found.nights.values())
    return "\n".join(
        [
            f"Future events of scale {found.scale}: {found.events:,} events, {found.rows:,} registrations; {found.latency:g} s"
            f" a call, {found.in_flight} in flight; {_times(repetitions)}. {_machine(found.machine)}",
            "",
            *_table(heads.split("|"), rows),
        ]
    )


def race_at_latency(found: LargeRace) -> str:
    """Return the table of large_race."""
    cells = [found.least, statistics.median(found.wall), found.ratio]
    heads = "one race|calls|least s|wall s|× least|CPU s|PostgreSQL CPU s"
    row = [
        f"{found.rows:,} registrations",
        f"{found.calls:,}",
        *(f"{cell:.1f}" for cell in cells[:2]),
        f"{cells[2]:.3f}",
        *(f"{statistics.median(seconds):.1f}" for seconds in (found.cpu, found.postgres_cpu)),
    ]
    return "\n".join(
        [
            f"{found.latency:g} s a call, one at a time; {_times(len(found.wall))}. {_machine(found.machine)}",
            "",
            *_table(heads.split("|"), [row]),
        ]
    )


def watch(found: Everything) -> str:
    """Return the table of watch."""
    rows = [
        [
            f"{item.races:,}",
            f"{item.partners:,}",
            f"{item.interval:g}",
            f"{item.found.changes:,}",
            *(f"{seconds:.1f}" for seconds in (item.found.p50, item.found.p95, item.found.worst)),
            *(f"{item.expected[name]:.1f}" for name in ("p50", "p95", "worst")),
        ]
        for item in found.watched
    ]
    heads = "races|partners|a poll every s|bibs|p50 s|p95 s|worst s|on paper p50|on paper p95|on paper worst"
    missing = f"{len(found.missing)} are missing" if found.missing else "not one is missing"
    return "\n".join(
        [
            f"{found.call_seconds:g} s a call; bibs at random moments of {found.seconds:g} s, {missing}."
            f" {_machine(found.machine)}",
            "",
            *_table(heads.split("|"), rows),
        ]
    )


def _machine(machine: dict[str, Any]) -> str:
    return (
        f"{machine['date']}, {machine['cores']} cores ({machine['processor']}), {machine['system']}, PostgreSQL"
        f" {machine['postgresql']}, Python {machine['python']}, load {machine['load']}."
    )


def _times(count: int) -> str:
    return f"medians of {count} repetitions" if count > 1 else "one repetition"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(heads), _line(["---", *["---:" for _ in heads[1:]]]), *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _compared(file: bytes) -> tuple[str, bytes | None]:
    whole = msgspec.json.decode(file)
    return beside(whole), drawings.load(whole)


def _grown(file: bytes) -> tuple[str, bytes | None]:
    grown = msgspec.json.decode(file, type=Grown)
    return growth(grown), drawings.growth(grown)


def _watched(file: bytes) -> tuple[str, bytes | None]:
    found = msgspec.json.decode(file, type=Everything)
    return watch(found), drawings.watch(found)


PARTS: dict[str, Callable[[bytes], tuple[str, bytes | None]]] = {
    "compare": _compared,
    "full_sync": lambda file: (beside(msgspec.json.decode(file)), None),
    "history": lambda file: (beside(msgspec.json.decode(file)), None),
    "latency": lambda file: (latency(msgspec.json.decode(file, type=Nights)), None),
    "large_race": lambda file: (race_at_latency(msgspec.json.decode(file, type=LargeRace)), None),
    "growth": _grown,
    "watch": _watched,
}
"""By the name of the part and of its file: what turns the file into the part's text, and its picture if it has one."""
PICTURES = {"compare": "load", "growth": "growth", "watch": "watch"}


def put(page: str, name: str, text: str) -> str:
    """Return the page with a part drawn again. Raises ValueError if the page has no such part."""
    marks = re.compile(rf"(<!-- drawn: {name} -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
    if not marks.search(page):
        raise ValueError(f"{PAGE.name} has no part <!-- drawn: {name} --> … <!-- end of {name} -->.")
    return marks.sub(lambda found: found[1] + text + found[2], page)


def main() -> int:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance", description=str(__doc__).split("\n")[0])
    parser.add_argument("--from", dest="folder", type=Path, default=FOLDER, metavar="FOLDER")
    folder = parser.parse_args().folder
    page, drawn = PAGE.read_text(), 0
    for name, draw in PARTS.items():
        file = folder / f"{name}.json"
        if not file.exists():
            print(f"{name}: there is no {file}; its part stays as it is.", file=sys.stderr)
            continue
        text, picture = draw(file.read_bytes())
        page = put(page, name, text)
        if picture is not None:
            (IMAGES / f"performance-{PICTURES[name]}.png").write_bytes(picture)
        drawn += 1
    PAGE.write_text(page)
    return 0 if drawn else 2


if __name__ == "__main__":
    sys.exit(main())
