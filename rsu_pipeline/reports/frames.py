"""From rows to frames: registrations by event and day, bib coverage by day, amounts by event."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

Rows = Sequence[Mapping[str, object]]
COLUMNS = (
    *("registration_id", "event_id", "race", "event", "registered_on", "first_seen_on", "came_with_bib", "has_bib"),
    "amount_paid",
)


def summarize_by_event(registrations: Rows) -> "pd.DataFrame":
    """Return one row per event, in their original order.

    The columns are race, event, entrants, with_bib, priced (entrants whose amount is known) and amount_paid. The amount is
    missing, not 0, if no amount is known.
    """
    import pandas as pd

    frame = pd.DataFrame(list(registrations), columns=list(COLUMNS))
    frame["amount_paid"] = frame["amount_paid"].astype(float)
    grouped = frame.groupby("event_id", sort=False)
    return pd.DataFrame(
        {
            "race": grouped["race"].first(),
            "event": grouped["event"].first(),
            "entrants": grouped.size(),
            "with_bib": grouped["has_bib"].sum().astype(int),
            "priced": grouped["amount_paid"].count(),
            "amount_paid": grouped["amount_paid"].sum(min_count=1).round(2),
        }
    )


def count_registrations_by_day(registrations: Rows) -> "pd.DataFrame":
    """Return the registrations so far: one row per day from the first to the last, one column per event id."""
    import pandas as pd

    frame = pd.DataFrame(list(registrations), columns=list(COLUMNS)).dropna(subset=["registered_on"])
    if frame.empty:
        return pd.DataFrame()
    counts = frame.groupby(["registered_on", "event_id"]).size().unstack(fill_value=0)
    counts.index = pd.DatetimeIndex(counts.index)
    return counts.asfreq("D", fill_value=0).cumsum()


def compute_bib_coverage(registrations: Rows, changes: Rows, today: dt.date) -> "pd.DataFrame":
    """Return the bib coverage: one row per day from the first stored registration until `today`.

    `entrants` counts the entrants stored by then, and `with_bib` those of them that had a bib. Both follow from the bib each
    entrant came with and the log of changes since.
    """
    import pandas as pd

    frame = pd.DataFrame(list(registrations), columns=list(COLUMNS))
    if frame.empty:
        return pd.DataFrame(columns=["entrants", "with_bib"])
    first = frame.set_index("registration_id")["first_seen_on"]
    log = pd.DataFrame(list(changes), columns=["registration_id", "day", "change"])
    log = log[log["registration_id"].isin(first.index)]
    # RunSignup's clock may date a change before the day on which the entrant was first seen here.
    days = [max(day, first[number]) for number, day in zip(log["registration_id"], log["day"], strict=True)]
    came = frame[frame["came_with_bib"].astype(bool)]["first_seen_on"]
    bibs = pd.concat([pd.Series(1, index=came), pd.Series(list(log["change"]), index=days, dtype=int)])
    every_day = pd.date_range(min(first), max(today, *first), freq="D")

    def total(series: "pd.Series[int]") -> "pd.Series[int]":
        series.index = pd.DatetimeIndex(series.index)
        # Days after today, by a clock that is ahead, count as today.
        series.index = series.index.where(series.index <= every_day[-1], every_day[-1])
        return series.groupby(level=0).sum().reindex(every_day, fill_value=0).cumsum().astype(int)

    return pd.DataFrame({"entrants": total(pd.Series(1, index=list(first))), "with_bib": total(bibs)})
