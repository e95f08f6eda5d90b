"""Rows as RunSignup sends them: read leniently, nothing dropped in silence, and never anything but RowUnreadable."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from rsu_pipeline.runsignup.payload_decoding import (
    MAX_NESTING,
    decode_event,
    decode_events,
    decode_race,
    decode_registration,
)
from rsu_pipeline.runsignup.payloads import Registration, RowUnreadable, User


def decode(row: dict[str, Any], **options: Any) -> Registration:
    return decode_registration(json.dumps(row).encode(), **options)


def user(row: Registration) -> User:
    assert row.user is not None
    return row.user


FULL: dict[str, Any] = {
    "user": {
        "user_id": 5550101,
        "first_name": "Ines",
        "middle_name": None,
        "last_name": "Okafor",
        "email": "ines.okafor@example.test",
        "address": {"street": "4 Elm Ct", "city": "Harwick", "zipcode": "60900"},
        "dob": "1991-02-17",
        "gender": "X",
        "phone": "312-555-0142",
        "profile_image_url": None,
    },
    "registration_id": 91000017,
    "event_id": 880101,
    "bib_num": 118,
    "chip_num": None,
    "age": 35,
    "registration_date": "8/14/2026 21:07",
    "last_modified": 1790937669,
    "imported": "F",
    "race_fee": "$75.00",
    "amount_paid": "$1,080.50",
}


def test_a_full_row_is_read_member_by_member() -> None:
    row = decode(FULL)
    assert (row.registration_id, row.event_id, row.bib_num, row.age) == (91000017, 880101, 118, 35)
    assert (user(row).first_name, user(row).middle_name, user(row).gender) == ("Ines", None, "X")
    assert user(row).address == FULL["user"]["address"]
    assert (row.race_fee, row.amount_paid, row.last_modified) == ("$75.00", "$1,080.50", 1790937669)
    assert row.faults == []
    assert json.loads(row.raw) == FULL


def test_numbers_may_come_as_text() -> None:
    def as_text(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: as_text(member) for key, member in value.items()}
        return str(value) if isinstance(value, int) else value

    row = decode(as_text(FULL))
    assert (row.registration_id, row.event_id, row.age, user(row).user_id) == (91000017, 880101, 35, 5550101)
    assert str(row.bib_num) == "118"
    assert str(row.last_modified) == "1790937669"
    assert row.faults == []


@pytest.mark.parametrize("word", ["null", "true", "false", "NaN", "007", "1.0", "1e3", " 7", ""])
def test_text_that_looks_like_something_else_stays_text(word: str) -> None:
    row = decode({"registration_id": 1, "event_id": 2, "bib_num": word, "user": {"last_name": word, "phone": word}})
    assert (row.bib_num, user(row).last_name, user(row).phone) == (word, word, word)
    assert row.faults == []


def test_unknown_members_are_kept_as_sent() -> None:
    raw = b'{"registration_id":1,"event_id":2,"user":null, "corral": {"x":[1.50,"\\/"]},"raw":5,"faults":"mine"}'
    row = decode_registration(raw)
    assert row.raw == raw
    assert row.faults == ["user: missing"]


@pytest.mark.parametrize(
    "missing", ["email", "gender", "phone", "dob", "address", "user_id", "first_name", "last_name"]
)
def test_a_key_that_is_missing_is_no_fault(missing: str) -> None:
    person = {key: value for key, value in FULL["user"].items() if key != missing}
    row = decode(FULL | {"user": person})
    assert getattr(user(row), missing) is None
    assert row.faults == []


@pytest.mark.parametrize("value", [None, "absent"])
def test_a_row_without_user_is_read_and_says_so(value: str | None) -> None:
    row = decode({key: member for key, member in FULL.items() if key != "user"} | ({} if value else {"user": None}))
    assert row.user is None
    assert row.bib_num == 118
    assert row.faults == ["user: missing"]


@pytest.mark.parametrize("value", [[], "Ines", 7, True])
def test_a_user_that_is_no_object_costs_the_user_only(value: Any) -> None:
    row = decode(FULL | {"user": value})
    assert row.user is None
    assert row.bib_num == 118
    assert any(fault.startswith("user: ") for fault in row.faults)


def test_an_amount_that_is_null_is_not_one_that_is_absent() -> None:
    row = decode(FULL | {"race_fee": None, "partner_fee": 5, "extra_fees": -1.5})
    assert row.race_fee is None
    assert row.affiliate_profit is UNSET
    assert (row.partner_fee, row.extra_fees) == (5, -1.5)


@pytest.mark.parametrize(
    ("member", "value", "fault"),
    [
        ("age", "thirty", "age: "),
        ("age", 35.5, "age: "),
        ("age", [], "age: "),
        ("age", {"a": 1}, "age: "),
        ("team_id", "none", "team_id: "),
        ("bib_num", True, "bib_num: "),
        ("bib_num", [118], "bib_num: "),
        ("registration_date", [20260814], "registration_date: "),
        ("race_fee", {"amount": 1}, "race_fee: "),
        ("chip_num", ["a"], "chip_num: "),
        ("last_modified_ts", "soon", "last_modified_ts: "),
    ],
)
def test_a_member_that_cannot_be_read_costs_itself_only(member: str, value: Any, fault: str) -> None:
    row = decode(FULL | {member: value})
    assert getattr(row, member) in (None, UNSET)
    assert [text[: len(fault)] for text in row.faults] == [fault]
    assert user(row).first_name == "Ines"
    whole = decode(FULL)
    for name in ("bib_num", "age", "registration_date", "last_modified", "race_fee", "amount_paid", "imported"):
        if name != member:
            assert getattr(row, name) == getattr(whole, name)


def test_a_member_of_the_user_that_cannot_be_read_is_named_with_its_place() -> None:
    row = decode(FULL | {"user": FULL["user"] | {"user_id": "x", "address": "4 Elm Ct", "dob": 19910217}})
    assert sorted(fault.split(":")[0] for fault in row.faults) == ["user.address", "user.dob", "user.user_id"]
    assert user(row).email == "ines.okafor@example.test"


@pytest.mark.parametrize("number", [b"1e400", b"-1e999", b"9" * 5000])
@pytest.mark.parametrize("place", ["age", "unknown", "address"])
def test_a_number_no_computer_holds_costs_its_member_only(number: bytes, place: str) -> None:
    raw = json.dumps(FULL | {"unknown": 0}).encode()
    if place == "address":
        raw = raw.replace(b'"4 Elm Ct"', number)
    else:
        raw = raw.replace(
            b'"%b": %d' % (place.encode(), 35 if place == "age" else 0), b'"%b": %b' % (place.encode(), number)
        )
    assert number in raw
    row = decode_registration(raw)
    assert (row.registration_id, row.bib_num, user(row).first_name) == (91000017, 118, "Ines")
    assert row.raw == raw
    assert len(row.faults) == (place != "unknown")


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", rb"\ud800", rb"\udfff\udfff"])
@pytest.mark.parametrize("place", [b"Ines", b"Harwick", b"F", b"unknown"])
def test_characters_that_are_none_are_replaced_and_named(bad: bytes, place: bytes) -> None:
    raw = json.dumps(FULL | {"imported": "F", "later": "unknown"}).encode().replace(b'"%b"' % place, b'"a%bz"' % bad)
    row = decode_registration(raw)
    assert (row.registration_id, row.bib_num, user(row).last_name) == (91000017, 118, "Okafor")
    assert len(row.faults) == 1
    assert "replaced" in row.faults[0]
    text = json.loads(row.raw)
    spoilt = {b"Ines": text["user"]["first_name"], b"Harwick": text["user"]["address"]["city"]}
    spoilt |= {b"F": text["imported"], b"unknown": text["later"]}
    assert set(spoilt[place].strip("az")) == {"\ufffd"}
    if place == b"Ines":
        assert user(row).first_name == spoilt[place]


def test_an_event_id_of_the_envelope_stands_in_for_one_that_is_missing() -> None:
    for row in ({"registration_id": 1}, {"registration_id": 1, "event_id": None}):
        assert decode(row, event_id=7).event_id == 7
    assert decode({"registration_id": 1, "event_id": 2}, event_id=7).event_id == 2


def test_the_template_row_is_read_so_that_it_can_be_dropped() -> None:
    assert decode({"registration_id": -1, "event_id": 7}).registration_id == -1


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"null",
        b"7",
        b'"row"',
        b"[]",
        b"{}",
        b"{",
        b'{"registration_id":1',
        b'{"registration_id":1}}',
        b"\xff",
    ]
    + [b'{"event_id":2}']
    + [
        b'{"registration_id":%b,"event_id":2}' % value
        for value in (b"null", b'""', b'"x"', b"true", b"[]", b"1.5", b"NaN")
    ]
    + [
        b'{"registration_id":%b,"event_id":2}' % value
        for value in (b"0", b"-2", b"-5", b"9223372036854775808", b"9" * 5000)
    ]
    + [b'{"registration_id":1e400,"event_id":2}', b'{"registration_id":1,"event_id":2,"race_fee":Infinity}'],
)
def test_a_row_without_readable_identity_is_unreadable(raw: bytes) -> None:
    with pytest.raises(RowUnreadable) as caught:
        decode_registration(raw, event_id=2)
    assert str(caught.value)
    assert caught.value.identity is None


@pytest.mark.parametrize("event_id", ['"x"', "[]", "1.5", '""', "9" * 5000])
def test_a_row_of_an_event_that_cannot_be_read_is_not_taken_for_the_envelopes(event_id: str) -> None:
    with pytest.raises(RowUnreadable) as caught:
        decode_registration(f'{{"registration_id":12,"event_id":{event_id}}}'.encode(), event_id=7)
    assert caught.value.identity == 12


def test_a_row_of_no_event_is_unreadable_but_known() -> None:
    with pytest.raises(RowUnreadable) as caught:
        decode({"registration_id": 12})
    assert caught.value.identity == 12


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("place", [b'"x":', b'"user":{"address":{"a":', b'"multi_race_bundle":', b'"age":'])
def test_nesting_is_read_to_a_fixed_depth_and_no_deeper(opening: bytes, closing: bytes, place: bytes) -> None:
    def row(levels: int) -> bytes:
        inner = opening * levels + b"1" + closing * levels
        return b'{"registration_id":1,"event_id":2,%b%b%b' % (place, inner, b"}" * (place.count(b"{") + 1))

    around = place.count(b"{") + 1
    assert decode_registration(row(MAX_NESTING - around)).registration_id == 1
    for levels in (MAX_NESTING - around + 1, 1000, 100_000):
        with pytest.raises(RowUnreadable):
            decode_registration(row(levels))


def test_brackets_in_text_are_no_nesting() -> None:
    text = '[{"\\' * 2000
    row = decode({"registration_id": 1, "event_id": 2, "user": {"first_name": text}, "wide": [[]] * 3000})
    assert user(row).first_name == text


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["T", "$5.00", "1/2/2026 07:30", "2026-02-30", "12", "\x00", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*Registration.__struct_fields__, "other"])
PEOPLE = st.dictionaries(st.sampled_from([*User.__struct_fields__, "other"]), VALUES, max_size=5)
ROWS = st.builds(
    lambda identity, members, person: identity | members | person,
    st.fixed_dictionaries({}, optional={"registration_id": st.integers(1, 2**63), "event_id": st.integers(1, 2**63)}),
    st.dictionaries(NAMES, VALUES, max_size=6),
    st.fixed_dictionaries({}, optional={"user": PEOPLE}),
)


@given(
    st.binary(max_size=60)
    | ROWS.map(lambda row: json.dumps(row).encode())
    | st.builds(lambda row, cut: json.dumps(row).encode()[:cut], ROWS, st.integers(0, 200))
    | st.builds(lambda row, junk: json.dumps(row).encode().replace(b'"', junk, 3), ROWS, st.binary(max_size=3)),
    st.none() | st.integers(1, 9),
)
def test_whatever_comes_is_a_row_or_unreadable(raw: bytes, event_id: int | None) -> None:
    try:
        row = decode_registration(raw, event_id=event_id)
    except RowUnreadable as error:
        assert str(error)
        return
    assert row.event_id is not None
    assert 0 < row.registration_id < 2**63 or row.registration_id == -1
    row.raw.decode()
    sent = json.loads(row.raw)
    assert int(sent["registration_id"]) == row.registration_id
    assert bool(row.faults) or isinstance(sent["user"], dict)


@given(st.binary(max_size=60) | ROWS.map(lambda row: json.dumps(row | {"race_id": 1, "events": []}).encode()))
def test_whatever_comes_is_a_race_or_unreadable(raw: bytes) -> None:
    for decoder in (decode_race, decode_event):
        try:
            assert decoder(raw).raw.decode()
        except RowUnreadable as error:
            assert str(error)


def test_a_race_whose_events_are_no_list_is_unreadable_lest_all_of_them_seem_gone() -> None:
    for events in (b"{}", b'"abc"', b"7", b"false"):
        with pytest.raises(RowUnreadable):
            decode_race(b'{"race_id":1,"events":%b}' % events)
    for events in (b"null", b"[]"):
        assert decode_events(decode_race(b'{"race_id":1,"events":%b}' % events)) == ([], [])
    assert decode_events(decode_race(b'{"race_id":1}')) == ([], [])


def test_an_event_that_cannot_be_read_costs_itself_only_and_is_named() -> None:
    race = decode_race(
        b'{"race_id":"1","timezone":7,"events":[{"event_id":5},{"event_id":null},8,{"event_id":"6","name":7}]}'
    )
    events, unreadable = decode_events(race)
    assert [event.event_id for event in events] == [5, 6]
    assert events[1].name == 7
    assert len(unreadable) == 2
    assert all("race 1" in text for text in unreadable)
    assert [fault.split(":")[0] for fault in race.faults] == ["timezone"]


def test_a_race_keeps_its_bytes() -> None:
    raw = b'{"race_id":1, "name":"  \\"Larkspur\\" Falls", "new":{"x":1.50}}'
    race = decode_race(raw)
    assert (race.name, race.raw, race.faults) == ('  "Larkspur" Falls', raw, [])
