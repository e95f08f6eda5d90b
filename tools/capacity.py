"""The calculated figures of docs/capacity.md, by the program's own rules.

`python -m tools.capacity` writes them there. A test fails where the page differs.
"""

import datetime as dt
import sys
from collections.abc import Mapping, Sequence
from functools import cache

from benchmarks.race_morning import paper
from benchmarks.race_morning.paper import Paper, Rules
from rsu_pipeline.orchestration.lanes import RULES
from rsu_pipeline.setting_values import InFlightScope
from rsu_pipeline.settings import load_settings
from rsu_pipeline.sync import forecast
from rsu_pipeline.sync.forecast import BudgetForecast
from rsu_pipeline.sync.session import SIDE_BY_SIDE
from rsu_pipeline.sync.watch_pace import CALL_SECONDS
from rsu_pipeline.warehouse.call_ledger import LANES
from rsu_pipeline.warehouse.freshness import EventRead
from tools.pages import PROJECT

PAGE = PROJECT / "docs" / "capacity.md"
COMMAND = "python -m tools.capacity"
PARTNERS = (13, 100, 1000)
RACES = 3
"""Of each partner, one event each."""
ENTRANTS = 300
"""Of each race: few enough to be read in full at every visit."""
CORES = 2
NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
SETTINGS = load_settings({})
FAR, NEAR = dt.timedelta(days=30), dt.timedelta(hours=12)
WINDOW = dt.timedelta(hours=1)


def reads(partners: int, races: int, ahead: dt.timedelta) -> list[EventRead]:
    """Return races that start that far ahead, all of them read in full some time ago."""
    ago = NOW - dt.timedelta(hours=1)
    return [
        EventRead(partner, f"{partner}-acme", partner, race, race, NOW + ahead, None, ago, ago, ENTRANTS, False)
        for partner in range(1, partners + 1)
        for race in range(partner * races, (partner + 1) * races)
    ]


@cache
def budget(partners: int, ahead: dt.timedelta) -> BudgetForecast:
    """Return what the next hour needs and may have, as `fleet_health` judges it."""
    return forecast.forecast_budget(forecast.forecast_calls(reads(partners, RACES, ahead), NOW, SETTINGS), SETTINGS)


def places(partners: int, ahead: dt.timedelta) -> float:
    """Return the share of the calls in flight that visits and polls need."""
    found = budget(partners, ahead)
    assert found.flight_limit
    return sum(need.calls for need in found.needs) / found.flight_limit


def nightly_calls(partners: int) -> int:
    """Return the calls of one visit of everything: the listing up to its empty page, and a full read of each race."""
    return partners * (2 + forecast.calls_per_visit(is_small=True) * RACES)


def nightly_seconds(partners: int) -> float:
    return nightly_calls(partners) * CALL_SECONDS / SETTINGS.budget.max_in_flight


@cache
def on_paper(partners: int, scope: InFlightScope) -> Paper:
    """Return what `python -m benchmarks.race_morning --paper` calculates."""
    return paper.calculate(partners, RACES, scope, Rules())


def needs() -> str:
    """Return what the fleet needs, for each number of partners."""
    rows: list[tuple[str, list[str]]] = []

    def add(what: str, values: Sequence[str]) -> None:
        rows.append((what, list(values)))

    for ahead, when in ((FAR, "more than a day off"), (NEAR, "within the day"), (WINDOW, "in its window")):
        calls = [sum(need.calls for need in budget(partners, ahead).needs) for partners in PARTNERS]
        add(f"every race {when}: calls an hour", [f"{number:,.0f}" for number in calls])
        add("– of what two calls in flight carry", [f"{places(partners, ahead):,.0%}" for partners in PARTNERS])
    add("the nightly visit: calls", [f"{nightly_calls(partners):,}" for partners in PARTNERS])
    add("– minutes", [f"{nightly_seconds(partners) / 60:.0f}" for partners in PARTNERS])
    for scope, counted in (("all", "over all credentials"), ("credential", "for each credential")):
        papers = [on_paper(partners, scope) for partners in PARTNERS]
        add(f"95 % of the bibs within, calls counted {counted}", [f"{found.p95:,.0f} s" for found in papers])
    add("– watches (`RSU_WATCH_SHARDS`)", [f"{on_paper(partners, 'credential').shards}" for partners in PARTNERS])
    add("– cores kept busy by polls", [f"{on_paper(partners, 'credential').cores:.2f}" for partners in PARTNERS])
    head = ["partners", *(f"{partners:,}" for partners in PARTNERS)]
    return _table(head, [[what, *values] for what, values in rows])


def carried(ahead: dt.timedelta) -> int:
    """Return the number of partners whose visits the calls in flight carry."""
    one = budget(1, ahead)
    assert one.flight_limit
    return int(one.flight_limit / one.routine)


def carried_at_night() -> int:
    """Return the number of partners that one run can visit in the time that it may last."""
    return int(RULES["routine"].max_runtime / nightly_seconds(1))


def ends() -> str:
    """Return how much each limit carries."""
    found = paper.ends(RACES, Rules(), cores=CORES)
    limit = SETTINGS.budget.calls_per_hour
    per_race = forecast.forecast_calls(reads(1, 1, NEAR), NOW, SETTINGS)[0].routine - 3600 / SETTINGS.cadence.later
    longest = RULES["routine"].max_runtime
    rows = [
        ["calls in flight", "visits, every race more than a day off", f"{carried(FAR):,} partners"],
        ["calls in flight", "visits, every race within the day", f"{carried(NEAR):,} partners"],
        [
            "calls in flight",
            f"the nightly visit within the {longest // 3600} h that a run may last",
            f"{carried_at_night():,} partners",
        ],
        [
            "calls in flight",
            f"polls, 95 % of the bibs within {paper.WANTED_P95:.0f} s",
            f"{found.in_flight} partners in their window at once",
        ],
        [
            "a credential's calls an hour",
            "polls, the same",
            f"{found.races_for_budget} races of one partner in their window at once",
        ],
        [
            "a credential's calls an hour",
            "visits, every race within the day",
            f"{int(limit * LANES['routine'] / per_race)} races of one partner",
        ],
        [
            f"{CORES} cores",
            "polls, the same, calls counted for each credential",
            f"{found.cpu} partners in their window at once",
        ],
    ]
    return _table(["limit", "for", "carries"], rows)


def said() -> list[str]:
    """Return the same figures as the text around the tables has them."""
    found = paper.ends(RACES, Rules(), cores=CORES)
    limit = budget(1, NEAR).flight_limit
    assert limit
    faster = SIDE_BY_SIDE // SETTINGS.budget.max_in_flight
    listing, visits = 3600 / SETTINGS.cadence.later, budget(1, NEAR).routine - 3600 / SETTINGS.cadence.later
    return [
        f"95 % of the bibs are here within {on_paper(13, 'all').p95:.0f} s",
        f"more than {found.in_flight} partners with {RACES} races each",
        f"more than {carried(NEAR)} partners whose races are all of the next day",
        f"with 3600 nearly four times as many fit, {int(limit / (listing + visits * SETTINGS.cadence.day / 3600))}",
        f"more than {found.cpu} partners in their window at once",
        f"more than {carried_at_night():,} partners",
        f"= {limit:,} calls an hour",
        f"needs {budget(1, FAR).routine:g} calls an hour, or {budget(1, NEAR).routine:g}",
        f"the worst bib of 100 partners comes after {on_paper(100, 'all').worst:,.0f} s",
        f"of 1,000 after {on_paper(1000, 'all').worst:,.0f} s",
        f"where they count for each, after {on_paper(100, 'credential').worst:.0f} s",
        f"some {2 * faster * carried(NEAR):,} partners whose races are all of the next day",
        f"of at most {faster * carried_at_night():,} partners",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def parts() -> dict[str, str]:
    """Return the calculated parts of the page, by the names of their markers."""
    return {"needs": needs(), "ends": ends()}


def filled(text: str, reckoned: Mapping[str, str]) -> str:
    """Return the text with every calculated part in its place. Raises ValueError if a part has no place."""
    for name, part in reckoned.items():
        begin, end = f"<!-- reckoned: {name} -->", f"<!-- end of {name} -->"
        before, begun, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (begun and ended):
            raise ValueError(f"{PAGE.name} has no place for the reckoned part {name!r}: {begin} … {end}")
        text = f"{before}{begin}\n\n{part}\n\n{end}{after}"
    return text


def main() -> int:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), parts()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
