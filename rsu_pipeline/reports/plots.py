"""From frames to plots: PNG, small enough to be stored with a run, in the same colours everywhere."""

import base64
import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours that people with a colour vision deficiency can distinguish."""
GREY = "#999999"
MAX_LINES = len(COLOURS)
"""Events with their own line or bar. The rest share one, in grey."""


def draw_plots(events: "pd.DataFrame", by_day: "pd.DataFrame", coverage: "pd.DataFrame", zone: str) -> dict[str, bytes]:
    """Return PNG plots by title: registrations by day, bib coverage, amounts by event. Empty plots are left out.

    Days are of `zone`, which the axes name.
    """
    plots = {}
    largest = list(events.sort_values("entrants", ascending=False, kind="stable").index[:MAX_LINES])
    names = {event_id: _label(events.loc[event_id]) for event_id in largest}
    if not by_day.empty:
        plots["Registrations so far, by event"] = _registrations(by_day, names, zone)
    if not coverage.empty:
        plots["Entrants with a bib, over time"] = _coverage(coverage, zone)
    if not events.empty and events["amount_paid"].notna().any():
        plots["Amount paid, by event"] = _money(events, names)
    return plots


def encode_data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _registrations(by_day: "pd.DataFrame", names: Mapping[Any, str], zone: str) -> bytes:
    figure, axes = _axes("Registrations so far, by event", f"day of registration ({zone})", "registrations")
    for colour, (event_id, name) in zip(COLOURS, names.items(), strict=False):
        if event_id in by_day.columns:
            axes.plot(by_day.index, by_day[event_id].to_numpy(), color=colour, label=name)
    others = by_day.drop(columns=[event_id for event_id in names if event_id in by_day.columns])
    if not others.empty and len(others.columns):
        axes.plot(by_day.index, others.sum(axis=1).to_numpy(), color=GREY, label=f"{len(others.columns)} other events")
    axes.legend(fontsize=8, loc="upper left")
    return _png(figure)


def _coverage(coverage: "pd.DataFrame", zone: str) -> bytes:
    figure, axes = _axes("Entrants with a bib, over time", f"day ({zone})", "entrants")
    axes.step(coverage.index, coverage["entrants"].to_numpy(), color=GREY, where="post", label="entrants")
    axes.step(coverage.index, coverage["with_bib"].to_numpy(), color=COLOURS[0], where="post", label="with a bib")
    axes.scatter(coverage.index[-1:], coverage["with_bib"].to_numpy()[-1:], color=COLOURS[0], s=12)
    axes.legend(fontsize=8, loc="upper left")
    return _png(figure)


def _money(events: "pd.DataFrame", names: Mapping[Any, str]) -> bytes:
    figure, axes = _axes("Amount paid, by event", "amount paid, in the race's currency", "")
    amounts = [events["amount_paid"][event_id] for event_id in names]
    places = range(len(names))
    axes.barh(places, [0 if amount != amount else amount for amount in amounts], color=COLOURS[: len(names)])
    labels = [
        f"{name} (unknown)" if amount != amount else name for name, amount in zip(names.values(), amounts, strict=True)
    ]
    axes.set_yticks(places, labels=labels, fontsize=8)
    axes.invert_yaxis()
    return _png(figure)


def _axes(title: str, x: str, y: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_ymargin(0.1)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)
    return figure, axes


def _label(event: "pd.Series[str]") -> str:
    """Return event and race as plain text. A dollar would begin a formula, a leading underscore would hide the line."""
    text = " ".join(f"{event['event']}, {event['race']}".split()).lstrip("_")
    short = text if len(text) <= 40 else f"{text[:39]}…"
    return short.replace("$", r"\$")


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Characters of a script that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
