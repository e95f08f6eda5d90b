"""A report as one HTML file that needs nothing else, shown without internet."""

import datetime as dt
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from rsu_pipeline.reports import frames, plots

if TYPE_CHECKING:
    import pandas as pd

EARLIEST = dt.date(1990, 1, 1)
"""No registration is older; calendars of pictures have an end."""
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
    """A partner's report: its events in figures, and pictures as PNG by title. Nobody's name is in it."""

    partner: str
    events: "pd.DataFrame"
    pictures: dict[str, bytes] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """The events as plain values; an amount that is not known is not a number."""
        return [{str(name): value for name, value in row.items()} for row in self.events.to_dict("records")]


def report(partner: str, registrations: frames.Rows, changes: frames.Rows, today: dt.date) -> Report:
    """From the rows to the report. Days that cannot be, a slip or a garbled clock at RunSignup, are not told; a bib's counts
    as today's."""
    registrations = [
        row if _is_plausible(row["registered_on"], today) else {**row, "registered_on": None} for row in registrations
    ]
    changes = [row if _is_plausible(row["day"], today) else {**row, "day": today} for row in changes]
    events = frames.by_event(registrations)
    by_day, coverage = frames.registrations_by_day(registrations), frames.bib_coverage(registrations, changes, today)
    return Report(partner, events, plots.all_plots(events, by_day, coverage))


def _is_plausible(day: object, today: dt.date) -> bool:
    """Whether there can be a registration of this day; two days' grace for clocks and zones."""
    return isinstance(day, dt.date) and EARLIEST <= day <= today + dt.timedelta(days=2)


def html(reports: list[Report], made_at: dt.datetime) -> str:
    """One page with a section for each partner."""
    sections = "".join(_section(item) for item in reports)
    return f"{_HEAD}<h1>Registrations</h1><p>Events ahead, as of {made_at:%Y-%m-%d %H:%M} UTC.</p>\n{sections}</body></html>\n"


def amount(value: float) -> str:
    """An amount for people; a dash where it is not known."""
    return "–" if value != value else f"{value:,.2f}"


def _section(item: Report) -> str:
    rows = "".join(
        f"<tr><td>{_text(row['race'])}</td><td>{_text(row['event'])}</td>"
        f'<td class="number">{row["entrants"]:,}</td><td class="number">{row["with_bib"]:,}</td>'
        f'<td class="number">{amount(row["amount_paid"])}</td></tr>\n'
        for row in item.rows()
    )
    heads = "<th>Race</th><th>Event</th>" + "".join(
        f'<th class="number">{name}</th>' for name in ("Entrants", "With bib", "Amount paid")
    )
    pictures = "".join(
        f'<p><img alt="{escape(title)}" src="{plots.data_uri(png)}"></p>\n' for title, png in item.pictures.items()
    )
    table = f"<table><tr>{heads}</tr>\n{rows}</table>\n" if rows else "<p>No registrations of events ahead.</p>\n"
    return f"<h2>{_text(item.partner)}</h2>\n{table}{pictures}"


def _text(name: str) -> str:
    """A name from outside as HTML. In <bdi> a mark that turns the direction of writing ends with the name."""
    return f"<bdi>{escape(''.join(one if one >= ' ' and one != chr(127) else ' ' for one in name))}</bdi>"
