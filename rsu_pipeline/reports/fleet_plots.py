"""The fleet in two plots: how fresh each partner is, and how fast bibs arrived."""

import datetime as dt
from collections.abc import Mapping, Sequence

from rsu_pipeline.reports import plots

FRESHNESS = "Wait of each partner's stalest event"
BIBS = "Bibs of the last 24 hours"
MAX_SHARE = 5.0
"""Longer waits are drawn as this."""
NAMED = 25
"""At most this many partners have their names below."""


def draw_fleet_plots(
    waits: Mapping[str, float], bibs: Sequence[tuple[dt.datetime, int, float | None]], now: dt.datetime
) -> dict[str, bytes]:
    """Return PNG plots by title. A plot that has nothing to show is left out.

    Args:
        waits: for each partner's key the share of the allowed wait that is used up, above 1 if something is stale.
        bibs: hours, bib changes in each, and the seconds within which 95 % of them arrived.
        now: the present.
    """
    made = {}
    if waits:
        made[FRESHNESS] = _freshness(waits)
    if bibs:
        made[BIBS] = _bibs(bibs, now)
    return made


def _freshness(waits: Mapping[str, float]) -> bytes:
    figure, axes = plots._axes(FRESHNESS, "partners, stalest first", "share of the allowed wait")
    ordered = sorted(waits.items(), key=lambda item: item[1], reverse=True)
    shares = [min(share, MAX_SHARE) for _, share in ordered]
    places = range(1, len(ordered) + 1)
    colours = [plots.COLOURS[1] if share > 1 else plots.COLOURS[0] for share in shares]
    axes.bar(places, shares, color=colours, width=0.8 if len(ordered) <= NAMED else 1.0)
    axes.axhline(1, color=plots.GREY, linewidth=1)
    axes.set_ylim(0, 1.05 * max(1.0, *shares))
    if len(ordered) <= NAMED:
        names = [key if len(key) <= 24 else f"{key[:23]}…" for key, _ in ordered]
        axes.set_xticks(places, labels=names, rotation=20, ha="right", fontsize=7)
    return plots._png(figure)


def _bibs(bibs: Sequence[tuple[dt.datetime, int, float | None]], now: dt.datetime) -> bytes:
    from matplotlib.ticker import MaxNLocator

    figure, axes = plots._axes(BIBS, "hours from now", "bib changes")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    ago = [(hour - now).total_seconds() / 3600 + 0.5 for hour, _, _ in bibs]
    axes.bar(ago, [count for _, count, _ in bibs], color=plots.COLOURS[0], width=0.9)
    axes.set_xlim(-25, 1)
    known = [(at, seconds) for at, (_, _, seconds) in zip(ago, bibs, strict=True) if seconds is not None]
    if known:
        right = axes.twinx()
        right.plot(
            [at for at, _ in known], [seconds for _, seconds in known], "o", color=plots.COLOURS[1], markersize=4
        )
        right.set_ylabel("95 % stored within seconds", color=plots.COLOURS[1])
        right.set_ylim(bottom=0)
        right.tick_params(labelsize=8)
    return plots._png(figure)
