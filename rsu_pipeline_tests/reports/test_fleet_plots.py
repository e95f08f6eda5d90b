"""The fleet's pictures: there when there is something to show, small whatever the number of partners."""

import datetime as dt

import pytest

from rsu_pipeline.reports import fleet_plots

NOW = dt.datetime(2026, 10, 3, 12, 30, tzinfo=dt.UTC)
HOURS = [(NOW.replace(minute=0) - dt.timedelta(hours=back), back, 2.5 * back) for back in range(24)]


@pytest.mark.parametrize("partners", [1, 13, 1000])
def test_both_pictures_are_small_png(partners: int) -> None:
    waits = {f"{number}-a_$partner_with_a_rather_long_name": number / 10 for number in range(partners)}
    made = fleet_plots.draw_fleet_plots(waits, HOURS, NOW)
    assert set(made) == {fleet_plots.FRESHNESS, fleet_plots.BIBS}
    assert all(png.startswith(b"\x89PNG") and len(png) < 60_000 for png in made.values())


def test_what_has_nothing_to_show_is_left_out() -> None:
    assert fleet_plots.draw_fleet_plots({}, [], NOW) == {}
    assert set(fleet_plots.draw_fleet_plots({"1-acme": -0.0}, [], NOW)) == {fleet_plots.FRESHNESS}
    assert set(fleet_plots.draw_fleet_plots({}, [(NOW, 1, None)], NOW)) == {fleet_plots.BIBS}


def test_a_partner_that_nobody_read_for_a_year_does_not_flatten_the_others() -> None:
    far, near = (
        fleet_plots.draw_fleet_plots({"1-acme": share, "2-brook": 0.5}, [], NOW)[fleet_plots.FRESHNESS]
        for share in (1e4, 5.0)
    )
    assert far == near
