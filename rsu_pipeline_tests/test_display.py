"""Text from outside as part of a sentence: short, printable, on one line, no markup."""

from zoneinfo import ZoneInfo

import pytest

from rsu_pipeline import settings
from rsu_pipeline.display import MAX_NAME_CHARS, make_printable, put_on_one_line, sanitize_for_display, show_times_in
from rsu_pipeline.errors import SettingsError


def test_it_is_cut_with_a_mark() -> None:
    assert sanitize_for_display("x" * 100, 10) == "x" * 9 + "…"
    assert sanitize_for_display("x" * 10, 10) == "x" * 10


@pytest.mark.parametrize("name", ["\U0001f3c3\u200d\u2640\ufe0f", "\u0645\u06cc\u200c\u0631\u0648"])
def test_a_name_keeps_the_joiners_that_are_part_of_its_spelling(name: str) -> None:
    assert sanitize_for_display(name, 10) == make_printable(name) == put_on_one_line(name) == name


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\x1b[31mb", "a\x00b", "a\u202eb", "<b>a</b>", "[a](b)", "`a`"])
def test_nothing_of_it_steers_a_terminal_or_a_page(text: str) -> None:
    shown = sanitize_for_display(text, 100)
    assert shown.isprintable() and not set("<>[]`") & set(shown)
    assert len(shown) == len(text)


def test_a_setting_that_cannot_be_used_is_repeated_short() -> None:
    for name in ("RSU_TIMEZONE", "RSU_UI_PORT", "RSU_BIB_POLL", "RSU_IN_FLIGHT_SCOPE"):
        with pytest.raises(SettingsError) as caught:
            settings.load_settings({name: "<\x1b" + "9" * 500})
        assert "9" * MAX_NAME_CHARS not in str(caught.value)
        assert "\x1b" not in str(caught.value) and "<" not in str(caught.value)


def test_times_in_utc_that_a_sentence_names_are_shown_in_the_zone_of_the_hub() -> None:
    text = "late since 2026-03-08 07:05 UTC, and at 2026-11-30 16:50:07 UTC; 2026-11-30 16:50 stays"
    assert show_times_in(ZoneInfo("America/Denver"), text) == (
        "late since 2026-03-08 00:05 MST, and at 2026-11-30 09:50 MST; 2026-11-30 16:50 stays"
    )
