"""The drawn parts of docs/performance.md, from figures whose answers are known."""

import msgspec
import pytest

from benchmarks import drawings, performance, report
from benchmarks.growth import Fleet, Grown, Loaded
from benchmarks.hub import Measured
from benchmarks.large_race import LargeRace
from benchmarks.latency import Night, Nights, Waits
from benchmarks.measure import Part, Report
from benchmarks.race_morning.report import Latency
from benchmarks.watch import Everything, Watched

PNG = b"\x89PNG"


def run(wall: float, cpu: float) -> Measured:
    told = Report(registrations=Part(wall, cpu), peak_mib=50.4, rows=1000)
    return Measured(told, {"participants": 3, "races": 1}, 2_000_000, 2, 0.5, 1.5)


def grown() -> Grown:
    small = Loaded(10_000, 1.0, 0.4, 0.9, 10, 1_000, 80.0, 30 * 2**20, 10_000.0, 0.1, 0.050, 0.02, 0.01, 2)
    large = Loaded(1_000_000, 120.0, 40.0, 90.0, 700, 100_000, 90.0, 3_000 * 2**20, 8_300.0, 0.1, 0.055, 0.02, 0.01, 2)
    figures = {"wall": 2.6, "cpu": 1.0, "postgres_cpu": 2.0, "peak_mib": 60.0, "calls": 52.0, "bytes": 1_000.0}
    fleet = Fleet(13, 260, figures, figures, 20 * 2**20, {"tick of history": 0.015})
    return Grown(registrations=[small, large], partners=[fleet], web_ui_seconds=5.25)


def nights() -> Nights:
    found = [Night({"races": 2, "participants": 10}, wall, 0.5, 4.2, Waits(0.1, 0.3, 0.4)) for wall in (6.0, 5.0, 4.5)]
    return Nights("estate", 0.7, 1000, 20, nights={"as planned": found})


def watched() -> Everything:
    on_paper = {"p50": 2.0, "p95": 3.0, "worst": 4.0}
    found = [
        Watched(races, 1, interval, 8.0, Latency(40, interval / 2, interval, interval, 20.5), on_paper, 10, 12)
        for races in (1, 16)
        for interval in (5.0, 20.0)
    ]
    return Everything(60.0, watched=found)


@pytest.fixture
def results() -> report.Results:
    results = report.Results("large", rows=1000)
    for step in drawings.STEPS:
        for wall in (1.0, 3.0, 2.0):
            results.add(step, "floor", run(wall, 0.5))
            results.add(step, "ours", run(2 * wall, 1.0))
            results.add(step, "dlt, upsert csv", run(4 * wall, 2.0))
            results.add(step, "dlt, delete-insert csv", run(3 * wall, 2.0))
            results.add(step, "broken", run(0.1, 0.1))
    results.notes["ours"] = "scaled"
    results.refuse("broken", "first load: 3 rows stored, 3 of them different, 4 expected")
    return results


def test_a_table_has_medians_and_says_who_is_refused(results: report.Results) -> None:
    text = performance.beside(msgspec.json.decode(results.as_json()))
    lines = text.splitlines()
    assert lines[0].startswith("Future events of scale large, 1,000 registrations; medians of 3 repetitions. ")
    assert "| floor | 2.0 | 1.00 | 0.5 | 1.00 | 1.5 | 0.5 | 50 | 4 | 2.0 |" in lines
    assert "| ours ¹ | 4.0 | 2.00 | 1.0 | 2.00 | 1.5 | 0.5 | 50 | 4 | 2.0 |" in lines
    assert lines[-2] == "¹ ours: scaled."
    assert lines[-1] == "broken is refused. first load: 3 rows stored, 3 of them different, 4 expected."
    assert "| broken" not in text


def test_the_picture_shows_the_quicker_way_of_two(results: report.Results) -> None:
    whole = msgspec.json.decode(results.as_json())
    assert drawings.quickest(whole["runs"]["first load"]).keys() == {"floor", "ours", "dlt, delete-insert csv"}
    assert drawings.load(whole).startswith(PNG)


def test_growth_is_drawn() -> None:
    whole = grown()
    text = performance.growth(whole)
    assert "| 1,000,000 | 120.0 | 40.0 | 90.0 | 8,300 | 90 | 700 | 3,000 | 55 | 20 | 10 |" in text
    assert "takes 1.10 of one with the least" in text
    assert "| 13 | 2.6 | 200 | 2.6 | 200 | 1.0 | 2.0 | 60 | 52 | 20 |" in text
    assert "| tick of history | 15 |" in text
    assert drawings.growth(whole).startswith(PNG)
    # As it is kept in a file.
    assert performance.growth(msgspec.json.decode(msgspec.json.encode(whole), type=Grown)) == text


def test_latency_is_drawn_with_the_night_in_the_middle() -> None:
    text = performance.latency(nights())
    assert text.startswith(
        "Future events of scale estate: 20 events, 1,000 registrations; 0.7 s a call, 2 in flight; medians of 3 repetitions. "
    )
    assert "| as planned | 12 | 4.2 | 5.0 | 1.190 | 0.1 | 0.3 | 0.4 | 0.5 |" in text


def large_race() -> LargeRace:
    return LargeRace(0.5, 20, 4, 2.0, wall=[2.5, 2.2, 2.1], cpu=[0.5, 0.4, 0.3], postgres_cpu=[1.0, 0.9, 0.8])


def test_the_large_race_is_drawn_with_medians() -> None:
    text = performance.race_at_latency(large_race())
    assert text.startswith("0.5 s a call, one at a time; medians of 3 repetitions. ")
    assert "| 20 registrations | 4 | 2.0 | 2.2 | 1.100 | 0.4 | 0.9 |" in text


def test_the_watch_is_drawn() -> None:
    found = watched()
    text = performance.watch(found)
    assert "bibs at random moments of 60 s, not one is missing." in text
    assert "| 16 | 1 | 20 | 40 | 10.0 | 20.0 | 20.5 | 2.0 | 3.0 | 4.0 |" in text
    assert drawings.watch(found).startswith(PNG)
    found.watched[0].missing.append("bib 7 of registration 8")
    assert found.missing == ["1 races, 5 s: bib 7 of registration 8"]
    assert "1 are missing" in performance.watch(found)


def test_each_part_is_drawn_from_its_file(results: report.Results) -> None:
    # Once each: it contains the machine's load.
    file, night, size, look, race = results.as_json(), nights(), grown(), watched(), large_race()
    text, picture = performance.PARTS["compare"](file)
    assert text == performance.beside(msgspec.json.decode(file))
    assert picture is not None
    assert performance.PARTS["full_sync"](file) == (text, None)
    for name, whole, drawn in (
        ("latency", night, performance.latency(night)),
        ("large_race", race, performance.race_at_latency(race)),
        ("growth", size, performance.growth(size)),
        ("watch", look, performance.watch(look)),
    ):
        text, picture = performance.PARTS[name](report.as_json(whole))
        assert text == drawn
        assert (picture is not None) == (name in performance.PICTURES)


def test_a_part_is_put_between_its_marks_and_nowhere_else() -> None:
    page = "a\n<!-- drawn: compare -->\nold\n<!-- end of compare -->\nb\n<!-- drawn: growth -->\n\n<!-- end of growth -->\n"
    drawn = performance.put(page, "compare", r"new \1")
    assert drawn == page.replace("old", r"new \1")
    assert performance.put(drawn, "growth", "g").endswith("<!-- drawn: growth -->\ng\n<!-- end of growth -->\n")
    with pytest.raises(ValueError, match="no part"):
        performance.put(page, "history", "")


def test_the_page_has_every_part_and_every_picture() -> None:
    page = performance.PAGE.read_text(encoding="utf-8")
    for name in performance.PARTS:
        performance.put(page, name, "")
    for name in performance.PICTURES.values():
        assert f"(images/performance-{name}.png)" in page
        assert (performance.IMAGES / f"performance-{name}.png").read_bytes().startswith(PNG)
