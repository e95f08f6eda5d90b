"""Every wrapper RunSignup is known or feared to send.

Anything else is an error, never "no rows".
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.runsignup import envelopes
from rsu_pipeline.runsignup.api_errors import ApiError, Cause

A, B = {"registration_id": 1, "event_id": 10, "odd": {"kept": [1, "2"]}}, {"registration_id": 2, "event_id": 20}


def read(value: Any) -> list[tuple[int | None, list[Any]]]:
    """Return the event id and rows of each element, the rows parsed by another parser."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return [(element.event_id, [json.loads(row) for row in element.rows]) for element in envelopes.participants(body)]


def wrapper(event_id: int, *inside: Any) -> dict[str, Any]:
    return {"event_id": event_id, "participants": list(inside)}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # Rows on the last, the first, their own element; beside the event or inside it, or both.
        ([{"event": wrapper(10)}, {"event": wrapper(20), "participants": [A, B]}], [(10, []), (20, [A, B])]),
        ([{"event": wrapper(10), "participants": [A, B]}, {"event": wrapper(20)}], [(10, [A, B]), (20, [])]),
        (
            [{"event": wrapper(10), "participants": [A]}, {"event": wrapper(20), "participants": [B]}],
            [(10, [A]), (20, [B])],
        ),
        ([{"event": wrapper(10, A)}, {"event": wrapper(20, B)}], [(10, [A]), (20, [B])]),
        ([{"event": wrapper(10, A), "participants": [A]}], [(10, [A])]),
        ([{"event": wrapper(10, A, B), "participants": [A]}], [(10, [A, B])]),
        ([{"event": wrapper(10, B), "participants": [A]}], [(10, [A, B])]),
        # Nobody to report.
        ([{"event": {"event_id": 10}}], [(10, [])]),
        ([{"event": wrapper(10)}], [(10, [])]),
        ([{"event": {"event_id": 10, "participants": None}}], [(10, [])]),
        ([{"event": {"event_id": 10}, "participants": None}], [(10, [])]),
        ([{"event": {"event_id": 10}, "participants": []}], [(10, [])]),
        ([], []),
        # As the documentation prints it: one element, bare.
        ({"event": wrapper(10), "participants": [A]}, [(10, [A])]),
        ({"event": wrapper(10)}, [(10, [])]),
        # Spellings.
        ([{"event": {"event_id": "10"}, "participants": [A]}], [(10, [A])]),
        ([{"event": {"event_id": None}, "participants": [A]}], [(None, [A])]),
        ([{"event": {"name": "x"}, "participants": [A], "more": {"of": "it"}}], [(None, [A])]),
        (b' \n[{"event": {"event_id": 10},\n "participants": [\n]}]\r\n', [(10, [])]),
    ],
)
def test_every_known_layout_is_read(value: Any, expected: list[tuple[int | None, list[Any]]]) -> None:
    assert read(value) == expected


def test_indented_rows_in_both_places_are_taken_once() -> None:
    body = json.dumps([{"event": wrapper(10, A, B), "participants": [A, B]}], indent=4).encode()
    assert read(body) == [(10, [A, B])]


def test_rows_are_handed_on_as_sent() -> None:
    row = b'{"registration_id":1, "event_id": 10,\t"z":"\\/ \\u00e9 \xc3\xa9","new member":{"a":[null]}}'
    (element,) = envelopes.participants(b'[{"event":{"event_id":10},"participants":[%b]}]' % row)
    assert element.rows == [row]


def test_half_a_surrogate_pair_in_one_row_costs_neither_the_page_nor_the_rows_own_bytes() -> None:
    names = [rb"\ud800", rb"\ufffd", rb"\\ud800 \ud83d\ude00", rb"\uDFFFx"]
    rows = [b'{"registration_id":%d,"name":"%b"}' % (number, name) for number, name in enumerate(names)]
    body = rb'[{"event":{"event_id":10},"participants":[%b]}]' % b",".join(rows)
    (element,) = envelopes.participants(body)
    assert element.rows == rows
    listing = rb'{"races":[%b]}' % b",".join(b'{"race":%b}' % row for row in rows)
    assert envelopes.races(listing) == rows
    assert envelopes.race(rb'{"race":{"x":"\udc00"}}') == rb'{"x":"\udc00"}'


UNKNOWN = [
    b"{}",
    b'{"hello":1}',
    b"[1,2]",
    b'["a"]',
    b"[null]",
    b"[[]]",
    b"[{}]",
    b'[{"event":null}]',
    b'[{"event":[]}]',
    b'[{"event":{"event_id":"ten"}}]',
    b'[{"participants":[{"registration_id":1}]}]',
    b'{"participants":[]}',
    b'[{"event":{"event_id":10},"participants":{}}]',
    b'[{"event":{"event_id":10},"participants":{"0":{"registration_id":1},"first":{"registration_id":2}}}]',
    b'[{"event":{"event_id":10},"participants":"none"}]',
    b'[{"event":{"event_id":10,"participants":7}}]',
    b'[{"event":{"event_id":10},"participants":[]},{"error":{"error_code":5}}]',
    b'[{"error":{"error_code":7,"error_msg":"x"}}]',
    b'{"error":null}',
    b'{"error":"denied"}',
    b'{"error":[]}',
    b'{"error":{"error_code":"seven"}}',
    b'[{"event":{"event_id":10,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}}]",
]


@pytest.mark.parametrize("body", UNKNOWN)
def test_an_unknown_shape_of_registrations_is_an_error(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        envelopes.participants(body)
    assert caught.value.cause is Cause.UNKNOWN_SHAPE


NOT_JSON = [
    (b"", "empty body"),
    (b" \r\n", "empty body"),
    (b'<?xml version="1.0"?><response/>', "XML"),
    (b"  <!DOCTYPE html><html></html>", "HTML"),
    (b"null", "something else"),
    (b"true", "something else"),
    (b"Service busy", "something else"),
    (b"\xef\xbb\xbf[]", "something else"),
    (b"\xff\xfe", "something else"),
    (b'{"\xff":1}', "malformed"),
]


@pytest.mark.parametrize(("body", "what"), NOT_JSON)
def test_what_is_not_json_is_named(body: bytes, what: str) -> None:
    for parse in (envelopes.participants, envelopes.races, envelopes.race):
        with pytest.raises(ApiError) as caught:
            parse(body)
        assert caught.value.cause is Cause.NOT_JSON
        assert what in caught.value.detail


PAGE = json.dumps([{"event": wrapper(10), "participants": [A, B]}, {"event": wrapper(20, A)}]).encode()
LISTING = json.dumps({"races": [{"race": {"race_id": 1}}, {"race": {"race_id": 2}}]}).encode()


def test_json_cut_anywhere_is_not_json() -> None:
    for end in range(1, len(PAGE)):
        with pytest.raises(ApiError) as caught:
            envelopes.participants(PAGE[:end])
        assert caught.value.cause is Cause.NOT_JSON, PAGE[:end]
    for parse in (envelopes.races, envelopes.race):
        for end in range(1, len(LISTING)):
            with pytest.raises(ApiError) as caught:
                parse(LISTING[:end])
            assert caught.value.cause is Cause.NOT_JSON, LISTING[:end]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"races":[]}', []),
        (b'{"races": null}', []),
        (b"{}", []),
        (b"{ }\n", []),
        (b'{\n    "races": [\n    ]\n}', []),
        (b'{"races":[{"race":{"race_id":1}},{"race":{"race_id":2},"x":1}],"more":1}', [{"race_id": 1}, {"race_id": 2}]),
    ],
)
def test_a_listing_of_races_is_unwrapped(body: bytes, expected: list[Any]) -> None:
    assert [json.loads(race) for race in envelopes.races(body)] == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"hello":1}',
        b"[]",
        b"[1,2]",
        b'{"races":{}}',
        b'{"races":"x"}',
        b'{"races":[null]}',
        b'{"races":[{"race_id":1}]}',
        b'{"races":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)
def test_an_unknown_shape_of_a_listing_is_an_error(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        envelopes.races(body)
    assert caught.value.cause is Cause.UNKNOWN_SHAPE


@pytest.mark.parametrize("body", [b"{}", b'{"hello":1}', b"[]", b"[1,2]", b'{"races":[]}'])
def test_an_unknown_shape_of_a_race_is_an_error(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        envelopes.race(body)
    assert caught.value.cause is Cause.UNKNOWN_SHAPE


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ({"error_code": 7, "error_msg": "Permission Denied"}, 7, "Permission Denied"),
        ({"error_code": "7", "error_msg": "Permission Denied", "more": [1]}, 7, "Permission Denied"),
        ({"error_code": 7}, 7, "no message"),
        ({"error_code": 7, "error_msg": None}, 7, "no message"),
        ({"error_code": 7, "error_msg": {"text": "x"}}, 7, "{'text': 'x'}"),
        ({"error_msg": "without code"}, None, "without code"),
    ],
)
def test_an_error_object_is_an_error_on_every_call(error: dict[str, Any], code: int | None, message: str) -> None:
    bodies = [json.dumps({"error": error} | more).encode() for more in ({}, {"races": []}, {"event": wrapper(10)})]
    for body in bodies:
        for parse in (envelopes.participants, envelopes.races, envelopes.race):
            with pytest.raises(ApiError) as caught:
                parse(body)
            assert caught.value.code == code
            assert caught.value.detail == f"code {code}: {message}"


def test_an_error_whose_text_is_no_unicode_keeps_its_code() -> None:
    for message in (b"\xff", rb"\ud800"):
        found = envelopes.find_error(b'{"error":{"error_code":201,"error_msg":"a%b"}}' % message)
        assert found is not None
        assert (found.cause, found.detail) == (Cause.RACE_NOT_FOUND, "code 201: a\ufffd")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"races":[]}', b'{"error":1}', b'{"error":', b"{"])
def test_no_error_is_found_where_none_is(body: bytes) -> None:
    assert envelopes.find_error(body) is None


SNIPPETS = st.sampled_from(
    [
        b'"event"',
        b'"participants"',
        b'"error"',
        b'"races"',
        b":",
        b",",
        b"{",
        b"}",
        b"[",
        b"]",
        b"null",
        b'"\xff"',
        rb'"\ud800"',
        b"1e400",
        b"9" * 30,
        b'"error_code"',
        b" ",
        b"\x00",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["event", "participants", "error", "error_code", "error_msg", "event_id", "races", "race"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(
    st.binary(max_size=40) | st.lists(SNIPPETS, max_size=14).map(b"".join) | JSON.map(lambda v: json.dumps(v).encode())
)
def test_whatever_comes_is_rows_or_an_api_error(body: bytes) -> None:
    for parse in (envelopes.participants, envelopes.races, envelopes.race):
        try:
            parse(body)
        except ApiError as error:
            assert error.detail


@given(JSON)
def test_no_rows_are_found_only_where_the_wrapper_says_so(value: Any) -> None:
    body = json.dumps(value).encode()
    try:
        elements = envelopes.participants(body)
    except ApiError:
        return
    plain = value if isinstance(value, list) else [value]
    assert len(elements) == len(plain)
    for element, item in zip(elements, plain, strict=True):
        assert isinstance(item["event"], dict)
        if not element.rows:
            assert item.get("participants") in (None, [])
            assert item["event"].get("participants") in (None, [])
