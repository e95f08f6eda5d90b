"""Lines of bars, which the Dagster UI shows without a click."""

import datetime as dt

import pytest

from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration.figures import FIGURES
from rsu_pipeline.reports import page
from rsu_pipeline.reports.sparklines import draw_sparkline
from rsu_pipeline_tests.orchestration.test_assets import NUMBERS
from rsu_pipeline_tests.orchestration.test_fleet_health import NUMBERS as FLEET_NUMBERS

DAY = dt.date(2027, 3, 1)


def entrant(number: int, amount: float | None) -> dict[str, object]:
    return {
        "registration_id": number,
        "event_id": 1 if amount is not None else 2,
        "race": "Race",
        "event": "Event",
        "registered_on": DAY + dt.timedelta(days=number),
        "first_seen_on": DAY,
        "came_with_bib": number % 2 == 0,
        "has_bib": number % 2 == 0,
        "amount_paid": amount,
    }


@pytest.mark.parametrize(
    ("values", "bars"), [([], ""), ([0, 0], "▁▁"), ([1, 2, 4, 8], "▂▃▅█"), ([5], "█"), ([-1, 1], "▁█")]
)
def test_the_largest_value_is_the_highest_bar(values: list[float], bars: str) -> None:
    assert draw_sparkline(values) == bars
    assert len(draw_sparkline(list(range(100)))) == 30


def test_a_report_has_a_line_for_each_picture_with_the_currency_and_how_many_events() -> None:
    made = page.build_report(
        "Acme", [entrant(1, 10.5), entrant(2, 20.0), entrant(3, None)], [], DAY + dt.timedelta(days=9)
    )
    assert made.lines["registrations_by_day"].endswith("3 registrations in the 3 days until 2027-03-04")
    assert made.lines["bib_coverage"].endswith("33%: 1 of 3 entrants")
    assert made.lines["amount_by_event"] == "█ USD 30.50 of 1 of 2 events"


def test_every_figure_is_explained_in_the_description_of_its_asset() -> None:
    graph = build_definitions().resolve_asset_graph()
    described = {key.to_user_string(): str(graph.get(key).description) for key in graph.get_all_asset_keys()}
    for asset, names in {**NUMBERS, "fleet_health": FLEET_NUMBERS}.items():
        assert names - FIGURES[asset].keys() == set(), asset
    for asset, figures in FIGURES.items():
        assert all(f"- `{name}`: {meaning}" in described[asset] for name, meaning in figures.items())
