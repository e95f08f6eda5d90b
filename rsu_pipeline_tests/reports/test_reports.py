"""Reports: figures worked out from rows, pictures small and plain, a page that runs nothing and names nobody."""

import datetime as dt
import math
import re
from typing import Any

import pytest

from rsu_pipeline.reports import frames, page, plots

TODAY = dt.date(2026, 10, 3)
DAY = dt.timedelta(days=1)
SCRIPT = "<script>alert(1)</script>"


def entrant(number: int, event_id: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "registration_id": number,
        "event_id": event_id,
        "race": "Fun Run",
        "event": f"Event {event_id}",
        "registered_on": TODAY - 10 * DAY,
        "first_seen_on": TODAY - 5 * DAY,
        "came_with_bib": False,
        "has_bib": False,
        "amount_paid": None,
        **more,
    }


def change(number: int, days_ago: int, by: int) -> dict[str, Any]:
    return {"registration_id": number, "day": TODAY - days_ago * DAY, "change": by}


def test_an_amount_that_is_absent_is_missing_and_not_0() -> None:
    rows = [
        entrant(1, 1), entrant(2, 1),
        entrant(3, 2, amount_paid=0.0), entrant(4, 2), entrant(5, 2, amount_paid=10.1), entrant(6, 2, amount_paid=20.2),
    ]  # fmt: skip
    events = frames.summarize_by_event(rows)
    assert math.isnan(events["amount_paid"][1]) and events["amount_paid"][2] == 30.3
    assert list(events["priced"]) == [0, 3] and list(events["entrants"]) == [2, 4]
    assert page.format_amount(events["amount_paid"][1]) == "–"


def test_registrations_add_up_day_by_day_and_event_by_event() -> None:
    rows = [
        entrant(1),
        entrant(2),
        entrant(3, registered_on=TODAY - 7 * DAY),
        entrant(4, 2, registered_on=TODAY - 8 * DAY),
    ]
    by_day = frames.count_registrations_by_day([*rows, entrant(5, registered_on=None)])
    assert list(by_day[1]) == [2, 2, 2, 3] and list(by_day[2]) == [0, 0, 1, 1]


def test_bib_coverage_comes_from_the_first_bib_and_the_log_and_ends_at_todays() -> None:
    rows = [
        entrant(1, came_with_bib=True, has_bib=True),
        entrant(2, came_with_bib=True, has_bib=False),
        entrant(3, first_seen_on=TODAY - 3 * DAY, has_bib=True),
        entrant(4, first_seen_on=TODAY - DAY, has_bib=True),
    ]
    log = [change(2, 2, -1), change(3, 0, 1), change(4, 9, 1), change(99, 2, 1)]
    coverage = frames.compute_bib_coverage(rows, log, TODAY)
    assert list(coverage["entrants"]) == [2, 2, 3, 3, 4, 4]
    assert list(coverage["with_bib"]) == [2, 2, 2, 1, 2, 3]
    assert coverage["with_bib"].iloc[-1] == sum(row["has_bib"] for row in rows)


def test_a_clock_that_is_ahead_counts_as_today() -> None:
    coverage = frames.compute_bib_coverage([entrant(1, has_bib=True)], [change(1, -1, 1)], TODAY)
    assert (coverage["with_bib"].iloc[-1], coverage.index[-1].date()) == (1, TODAY)


def test_without_registrations_there_is_a_page_all_the_same() -> None:
    made = page.build_report("Acme", [], [], TODAY)
    assert made.pictures == {} and made.rows() == []
    assert "No registrations of upcoming events" in page.render_html([made], dt.datetime(2026, 10, 3, tzinfo=dt.UTC))


@pytest.mark.filterwarnings("error")
def test_pictures_are_small_whatever_events_are_called() -> None:
    names = [SCRIPT, "$x^2", "_hidden", "李 😀", "a" * 300, "", "$$", "8", "nine", "two\nlines"]
    rows = [
        entrant(100 * event + number, event, event=name, has_bib=number % 2 == 0, came_with_bib=number % 2 == 0,
                registered_on=TODAY - (number * 7 % 365) * DAY, amount_paid=None if event == 3 else 25.0)
        for event, name in enumerate(names)
        for number in range(60)
    ]  # fmt: skip
    made = page.build_report("Acme", rows, [], TODAY)
    assert list(made.pictures) == [
        "Registrations so far, by event",
        "Entrants with a bib, over time",
        "Amount paid, by event",
    ]
    for title, png in made.pictures.items():
        assert png.startswith(b"\x89PNG") and len(plots.encode_data_uri(png)) < 60_000, title


def test_the_page_escapes_every_name_and_needs_nothing_else() -> None:
    made = page.build_report(
        SCRIPT, [entrant(1, race=SCRIPT, event='"><img src=x onerror=y>', amount_paid=5.0)], [], TODAY
    )
    text = page.render_html([made], dt.datetime(2026, 10, 3, 12, 0, tzinfo=dt.UTC))
    assert "<script" not in text and "<img src=x" not in text
    assert text.count("&lt;script&gt;") == 2
    assert not re.search(r"""(?:src|href)=["'](?!data:image/png;base64,)""", text) and "http" not in text.replace(
        "http-equiv", ""
    )
    assert len(re.findall("<img alt=", text)) == 3
