"""Text from outside as part of a sentence: short, printable, on one line, no markup."""

import pytest

from rsu_pipeline import settings
from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.errors import SettingsError


def test_it_is_cut_with_a_mark() -> None:
    assert sanitize_for_display("x" * 100, 10) == "x" * 9 + "…"
    assert sanitize_for_display("x" * 10, 10) == "x" * 10


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
