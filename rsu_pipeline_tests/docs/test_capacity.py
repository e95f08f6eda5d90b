"""docs/capacity.md has the figures of the program's own rules."""

import datetime as dt

import pytest

from benchmarks.race_morning import paper
from rsu_pipeline.sync import forecast
from tools import capacity


def test_the_reckoned_figures_of_the_page_are_those_of_the_rules() -> None:
    text = capacity.PAGE.read_text(encoding="utf-8")
    assert text == capacity.filled(text, capacity.parts()), f"{capacity.PAGE.name} is out of date: `{capacity.COMMAND}`"


def test_the_text_around_the_tables_says_the_same() -> None:
    text = " ".join(capacity.PAGE.read_text(encoding="utf-8").split())
    assert [words for words in capacity.said() if words not in text] == []


def test_another_rule_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    text = capacity.PAGE.read_text(encoding="utf-8")
    before = capacity.ends()
    assert before in text
    monkeypatch.setattr(paper, "WANTED_P95", 60.0)
    assert capacity.filled(text, {"ends": capacity.ends()}) != text


def test_the_needs_are_what_can_be_reckoned_by_hand() -> None:
    # A listing every 4 h or, near a race, every 15 min, and a full read of each of three races: every 4 h, every 15 min, or a
    # poll of one call every 20 s and a refresh of its events every 5 min.
    for ahead, routine, watch in (
        (capacity.FAR, (1 + 3) / 4, 0.0),
        (capacity.NEAR, 4 + 3 * 4, 0.0),
        (capacity.WINDOW, 4, 3 * (180 + 12)),
    ):
        (need,) = capacity.budget(1, ahead).needs
        assert (need.routine, need.watch) == pytest.approx((routine, watch))
    assert capacity.nightly_seconds(1000) == pytest.approx(5000 * 1.4 / 2)
    assert (
        capacity.budget(1000, capacity.FAR).is_flight_enough
        and not capacity.budget(1000, capacity.NEAR).is_flight_enough
    )


def test_races_that_were_read_need_no_full_read() -> None:
    reads = capacity.reads(2, 3, dt.timedelta(days=30))
    assert len({read.event_id for read in reads}) == len(reads) == 6
    assert not any(read.needs_full for read in reads)
    assert len(forecast.forecast_calls(reads, capacity.NOW, capacity.SETTINGS)) == 2


def test_a_page_without_a_place_is_noticed() -> None:
    with pytest.raises(ValueError, match="no place for the reckoned part 'needs'"):
        capacity.filled("# A page\n\n<!-- reckoned: ends -->\n<!-- end of ends -->\n", {"ends": "", "needs": ""})
