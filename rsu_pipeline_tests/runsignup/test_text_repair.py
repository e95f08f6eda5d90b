"""Characters that are none are replaced, all others are left alone."""

import json

from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.runsignup.text_repair import repair_json, replace_lone_surrogates

ESCAPED = st.text(st.characters(max_codepoint=0x1FFFF, codec="utf-16"))
"""Any text, halves of surrogate pairs included: json.dumps escapes what the codec would not take."""
PIECES = st.sampled_from(
    ["\ud800", "\udbff", "\udc00", "\udfff", "\\", "u", "d800", '"', "a", "é", "😀", "\ufffd", "/"]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_halves_are_replaced_and_nothing_else(text: str) -> None:
    # Two halves that happen to meet are a pair: JSON cannot distinguish them.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    sent = json.dumps(text).encode()
    expected = "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in text)
    assert json.loads(replace_lone_surrogates(sent)) == expected
    assert len(replace_lone_surrogates(sent)) == len(sent)


@given(ESCAPED)
def test_whole_text_is_left_as_it_is(text: str) -> None:
    for sent in (json.dumps(text).encode(), json.dumps(text, ensure_ascii=False).encode()):
        assert repair_json(sent) == (sent, [])


@given(st.binary(max_size=60))
def test_any_bytes_become_utf_8_and_what_was_replaced_is_named(sent: bytes) -> None:
    whole, faults = repair_json(sent)
    whole.decode()
    assert (whole == sent) == (not faults)
    assert repair_json(whole) == (whole, [])


def test_both_kinds_are_named() -> None:
    whole, faults = repair_json(rb'"\uDBFF' + b'\xff"')
    assert whole == rb'"\ufffd' + '\ufffd"'.encode()
    assert faults == ["bytes that are not UTF-8 were replaced", "half of a surrogate pair was replaced"]
