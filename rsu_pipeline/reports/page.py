"""A report as one self-contained HTML file, which needs no internet."""

import datetime as dt
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rsu_pipeline.display import counted
from rsu_pipeline.reports import frames, plots, sparklines

if TYPE_CHECKING:
    import pandas as pd

EARLIEST_DATE = dt.date(1990, 1, 1)
"""No registration is older. Plots need a first day."""
_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Registrations</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100% } th, td { padding: .3em .6em; border-bottom: 1px solid #ddd; text-align: left }
td.number, th.number { text-align: right } img { max-width: 100%; height: auto }
</style></head><body>
"""


@dataclass
class Report:
    """A partner's report: figures of its events, plots as PNG by title, and a line for each plot. It has nobody's name."""

    partner: str
    events: "pd.DataFrame"
    pictures: dict[str, bytes] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the events as plain values. An unknown amount is NaN."""
        return [{str(name): value for name, value in row.items()} for row in self.events.to_dict("records")]


def build_report(
    partner: str, registrations: frames.Rows, changes: frames.Rows, today: dt.date, zone: dt.tzinfo = dt.UTC
) -> Report:
    """Make the report from the rows, whose days and `today` are of `zone`.

    Impossible days (a typing error or a garbled clock at RunSignup) are left out. Those of a bib count as today.
    """
    registrations = [
        row if _is_plausible(row["registered_on"], today) else {**row, "registered_on": None} for row in registrations
    ]
    changes = [row if _is_plausible(row["day"], today) else {**row, "day": today} for row in changes]
    events = frames.summarize_by_event(registrations)
    by_day, coverage = (
        frames.count_registrations_by_day(registrations),
        frames.compute_bib_coverage(registrations, changes, today),
    )
    lines = {
        "registrations_by_day": summarize_days(by_day),
        "bib_coverage": summarize_coverage(coverage),
        "amount_by_event": summarize_amounts(events),
    }
    return Report(partner, events, plots.draw_plots(events, by_day, coverage, str(zone)), lines)


def summarize_days(by_day: "pd.DataFrame") -> str:
    """Return the registrations of each of the last days as bars, with their number."""
    if by_day.empty:
        return "No registration with a day."
    totals = [int(total) for total in by_day.sum(axis=1).to_numpy()]
    daily = [after - before for before, after in pairwise([0, *totals])][-sparklines.WIDTH :]
    until = max(by_day.index)
    total = counted(sum(daily), "registration")
    return f"{sparklines.draw_sparkline(daily)} {total} in the {len(daily)} days until {until:%Y-%m-%d}"


def summarize_coverage(coverage: "pd.DataFrame") -> str:
    """Return the share of entrants with a bib on each of the last days as bars, with the present share."""
    if coverage.empty:
        return "No entrant."
    entrants, with_bib = (
        [int(count) for count in coverage[name].to_numpy()][-sparklines.WIDTH :] for name in ("entrants", "with_bib")
    )
    shares = [bibs / number if number else 0.0 for bibs, number in zip(with_bib, entrants, strict=True)]
    return f"{sparklines.draw_sparkline(shares)} {shares[-1]:.0%}: {with_bib[-1]:,} of {entrants[-1]:,} entrants"


def summarize_amounts(events: "pd.DataFrame") -> str:
    """Return the sum of the known amounts with its currency, and of how many events it is. Amounts in others are no numbers."""
    known = [float(amount) for amount in events["amount_paid"].dropna().to_numpy()]
    if not known:
        return "No known amount."
    return f"{sparklines.draw_sparkline(known)} USD {sum(known):,.2f} of {len(known)} of {len(events)} events"


def _is_plausible(day: object, today: dt.date) -> bool:
    """Return whether a registration can have this day, with two days' grace for clocks and zones."""
    return isinstance(day, dt.date) and EARLIEST_DATE <= day <= today + dt.timedelta(days=2)


def render_html(reports: list[Report], made_at: dt.datetime) -> str:
    """Return one page with a section for each partner."""
    sections = "".join(_section(item) for item in reports)
    return f"{_HEAD}<h1>Registrations</h1><p>Upcoming events, as of {made_at:%Y-%m-%d %H:%M %Z}.</p>\n{sections}</body></html>\n"


def format_amount(value: float) -> str:
    """Return an amount for people, or a dash if it is unknown."""
    return "–" if value != value else f"{value:,.2f}"


def _section(item: Report) -> str:
    rows = "".join(
        f"<tr><td>{_text(row['race'])}</td><td>{_text(row['event'])}</td>"
        f'<td class="number">{row["entrants"]:,}</td><td class="number">{row["with_bib"]:,}</td>'
        f'<td class="number">{format_amount(row["amount_paid"])}</td></tr>\n'
        for row in item.rows()
    )
    heads = "<th>Race</th><th>Event</th>" + "".join(
        f'<th class="number">{name}</th>' for name in ("Entrants", "With bib", "Amount paid")
    )
    pictures = "".join(
        f'<p><img alt="{escape(title)}" src="{plots.encode_data_uri(png)}"></p>\n'
        for title, png in item.pictures.items()
    )
    table = f"<table><tr>{heads}</tr>\n{rows}</table>\n" if rows else "<p>No registrations of upcoming events.</p>\n"
    return f"<h2>{_text(item.partner)}</h2>\n{table}{pictures}"


def _text(name: str) -> str:
    """Return a name from outside as HTML. In <bdi> a mark that changes the direction of writing ends with the name."""
    return f"<bdi>{escape(''.join(one if one >= ' ' and one != chr(127) else ' ' for one in name))}</bdi>"
