"""The pictures of docs/performance.md, as PNG."""

import io
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.growth import Grown
from benchmarks.watch import Everything, Watched
from rsu_pipeline.reports.plots import COLOURS, GREY

Runs = list[dict[str, Any]]
STEPS = ("first load", "1 % changed")
PALE = 0.45
SOFTWARE = {"Software": None}
"""So that the same figures give the same bytes with every version of matplotlib's name."""


def load(whole: dict[str, Any]) -> bytes:
    """Draw seconds and CPU seconds of each contender in both steps. Of dlt and of pandas the fastest way is shown."""
    figure = Figure(figsize=(10, 5.6), dpi=110, layout="constrained", facecolor="white")
    rows = figure.subplots(2, 2)
    for axes, step in zip(rows, STEPS, strict=True):
        runs = quickest(whole["runs"][step])
        labels = sorted(runs, key=lambda label: _median(runs[label], _wall), reverse=True)
        _bars(axes[0], labels, [[_median(runs[label], _wall) for label in labels]])
        _bars(
            axes[1],
            labels,
            [
                [_median(runs[label], lambda run: run["report"]["registrations"]["cpu"]) for label in labels],
                [_median(runs[label], lambda run: run["postgres_cpu"]) for label in labels],
            ],
        )
        axes[0].set_title(f"{step}: seconds", fontsize=10, loc="left")
        axes[1].set_title(f"{step}: CPU seconds", fontsize=10, loc="left")
    kinds = [Patch(color=GREY, label="process"), Patch(color=GREY, alpha=PALE, label="PostgreSQL")]
    # The shortest bars are at the top.
    rows[0][1].legend(handles=kinds, fontsize=8, loc="upper right")
    figure.suptitle(f"{whole['rows']:,} registrations, {whole['machine']['cores']} cores", fontsize=11)
    return _png(figure)


def quickest(by_label: dict[str, Runs]) -> dict[str, Runs]:
    """Return the runs by contender, and of those with several ways (`dlt, …`) the quickest."""
    best: dict[str, str] = {}
    for label, runs in by_label.items():
        kind = label.partition(",")[0]
        # The pipeline's two ways do different things; each is shown.
        kind = label if kind == "ours" else kind
        if kind not in best or _median(runs, _wall) < _median(by_label[best[kind]], _wall):
            best[kind] = label
    return {label: by_label[label] for label in best.values()}


def _bars(axes: Axes, labels: Sequence[str], series: Sequence[Sequence[float]]) -> None:
    ends = [0.0] * len(labels)
    for values, strength in zip(series, (1.0, PALE), strict=False):
        colours = [
            GREY if label == "floor" else COLOURS[0] if label.startswith("ours") else COLOURS[1] for label in labels
        ]
        axes.barh(range(len(labels)), values, left=ends, color=colours, alpha=strength, height=0.7)
        ends = [end + value for end, value in zip(ends, values, strict=True)]
    for place, end in enumerate(ends):
        axes.text(end, place, f" {end:.1f}", va="center", fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_xlim(0, max(ends) * 1.15)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def growth(grown: Grown) -> bytes:
    """Draw loading, a visit, and partners, each against size."""
    figure = Figure(figsize=(10, 3.4), dpi=110, layout="constrained", facecolor="white")
    loading, visit, partners = figure.subplots(1, 3)
    stored = [item.stored for item in grown.registrations]
    _line(loading, stored, [item.wall for item in grown.registrations], 0, "seconds")
    _line(loading, stored, [item.cpu for item in grown.registrations], 1, "CPU s, process")
    _line(loading, stored, [item.postgres_cpu for item in grown.registrations], 2, "CPU s, PostgreSQL")
    loading.set_yscale("log")
    _name(loading, "Loading one partner", stored, "registrations", "s")
    _line(visit, stored, [item.visit_wall * 1000 for item in grown.registrations], 0, "ms")
    _line(visit, stored, [item.visit_cpu * 1000 for item in grown.registrations], 1, "CPU ms, process")
    visit.set_ylim(0)
    _name(visit, "A visit that finds 50 new bibs", stored, "registrations stored", "ms")
    counts = [fleet.partners for fleet in grown.partners]
    each: list[tuple[str, Callable[[Any], float]]] = [
        ("first load", lambda fleet: fleet.first["wall"]),
        ("again, nothing new", lambda fleet: fleet.again["wall"]),
    ]
    for place, (name, value) in enumerate(each):
        _line(partners, counts, [value(fleet) / fleet.partners * 1000 for fleet in grown.partners], place, name)
    partners.set_ylim(0)
    _name(partners, "One small partner of many", counts, "partners", "ms a partner")
    return _png(figure)


def watch(found: Everything) -> bytes:
    """Draw how soon a bib is here against the races in their window: a line for each interval, dashed as calculated."""
    figure = Figure(figsize=(10, 3.4), dpi=110, layout="constrained", facecolor="white")
    half, most = figure.subplots(1, 2)
    each: list[tuple[Axes, str, str, Callable[[Watched], float]]] = [
        (half, "Half of the bibs are here within", "p50", lambda item: item.found.p50),
        (most, "95 % of the bibs are here within", "p95", lambda item: item.found.p95),
    ]
    for axes, title, name, value in each:
        for place, interval in enumerate(dict.fromkeys(item.interval for item in found.watched)):
            own = [item for item in found.watched if item.interval == interval]
            races = [item.races for item in own]
            _line(axes, races, [value(item) for item in own], place, f"a poll every {interval:g} s")
            axes.plot(races, [item.expected[name] for item in own], color=COLOURS[place], linestyle="--", linewidth=1)
        axes.set_ylim(0)
        _name(axes, title, list(dict.fromkeys(item.races for item in found.watched)), "races in their window", "s")
    return _png(figure)


def _line(axes: Axes, sizes: Sequence[float], values: Sequence[float], colour: int, label: str) -> None:
    axes.plot(sizes, values, color=COLOURS[colour], marker="o", markersize=4, label=label)


def _name(axes: Axes, title: str, sizes: Sequence[float], across: str, up: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xscale("log")
    axes.set_xticks(sizes)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: _short(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.10g}"))
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8)


def _short(value: float) -> str:
    """Return a size as an axis shows it."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _wall(run: dict[str, Any]) -> float:
    return float(run["report"]["registrations"]["wall"])


def _median(runs: Runs, value: Callable[[dict[str, Any]], float]) -> float:
    return statistics.median(value(run) for run in runs)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata=SOFTWARE)
    return stream.getvalue()
