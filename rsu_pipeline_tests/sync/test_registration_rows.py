"""What RunSignup sends, as PostgreSQL then holds it: every row is staged, whatever its members are like."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rsu_pipeline.runsignup.payload_decoding import decode_registration
from rsu_pipeline.runsignup.payloads import Registration
from rsu_pipeline.sync.registration_rows import MAX_INDEXED_BYTES
from rsu_pipeline.warehouse.registration_columns import CONTENT, MONEY, Kind, Parser, field_name, members_of
from rsu_pipeline.warehouse.staging import INCLUDED_COLUMNS
from rsu_pipeline_tests.sync.stage import RACE, TEXT, VALUES, Row, Stage, without_nul

BASE: Row = {"registration_id": 91000017, "event_id": 880101, "user": {"first_name": "Ines"}}


def test_a_whole_row_comes_out_as_it_went_in(stage: Stage) -> None:
    sent = {
        "user": {
            "user_id": 5550101,
            "first_name": "Ines",
            "middle_name": None,
            "last_name": "Okafor",
            "email": "ines.okafor@example.test",
            "address": {"street": None, "city": "Harwick", "zipcode": "00900"},
            "dob": "1991-02-17",
            "gender": "X",
            "phone": "312-555-0142",
            "profile_image_url": None,
        },
        "registration_id": 91000017,
        "event_id": 880101,
        "rsu_transaction_id": 77000210,
        "transaction_id": "ay_0000000001_0",
        "bib_num": 118,
        "chip_num": "0A7",
        "age": 35,
        "registration_date": "8/14/2026 21:07",
        "team_id": None,
        "team_name": "Mill \\ Pond\tTeam",
        "last_modified": 1790937669,
        "imported": "F",
        "race_fee": "$1,234.50",
        "partner_fee": "-$5.00",
        "extra_fees": None,
        "usatf_discount_amount_in_cents": "$2.00",
        "giveaway": "Adult M",
        "new_thing": {"a": [1, 2]},
    }
    got, faults = stage.one(sent)
    assert faults == []
    assert got == {
        **dict.fromkeys(INCLUDED_COLUMNS),
        "race_id": RACE,
        "event_id": 880101,
        "registration_id": 91000017,
        **{name: sent["user"][name] for name in ("user_id", "first_name", "middle_name", "last_name", "email")},
        **{name: sent["user"][name] for name in ("gender", "phone", "profile_image_url", "address")},
        "dob": dt.date(1991, 2, 17),
        "bib_num": "118",
        "chip_num": "0A7",
        "age": 35,
        "registration_date": dt.datetime(2026, 8, 14, 21, 7),
        "last_modified_epoch": 1790937669,
        "team_info": {"team_id": None, "team_name": "Mill \\ Pond\tTeam"},
        "payment_info": {
            "race_fee": Decimal("1234.50"),
            "partner_fee": Decimal("-5.00"),
            "extra_fees": None,
            "rsu_transaction_id": 77000210,
            "transaction_id": "ay_0000000001_0",
        },
        "additional_data": {"usatf_discount_amount_in_cents": Decimal("2.00"), "giveaway": "Adult M", "imported": "F"},
        "payload": sent,
        "removed_reason": None,
        "removed_epoch": None,
        "new_registration_id": None,
    }


def test_a_removed_row_carries_its_reason_and_the_epoch_of_its_removal(stage: Stage) -> None:
    sent = BASE | {
        "registration_date": "2026-09-20 11:30:00",
        "last_modified": "2026-10-03 17:20:11",
        "last_modified_ts": 1791062411,
        "removed_reason": "transferred",
        "new_registration_id": 91000243,
    }
    got, faults = stage.one(sent)
    assert faults == []
    assert (got["removed_reason"], got["removed_epoch"], got["new_registration_id"]) == (
        "transferred",
        1791062411,
        91000243,
    )
    assert str(got["registration_date"]) == "2026-09-20 11:30:00"
    # Without the epoch field the Eastern text gives the same.
    del sent["last_modified_ts"]
    got, faults = stage.one(sent)
    assert (got["removed_epoch"], got["last_modified_epoch"], faults) == (1791062411, 1791062411, [])


@pytest.mark.parametrize("text", ["9999-12-31 23:59:59", "soon", "2026-02-30 00:00:00", "", "1" * 5000])
def test_a_removal_without_readable_time_is_staged_without_one(stage: Stage, text: str) -> None:
    got, faults = stage.one(BASE | {"last_modified": text}, removed=True)
    assert (got["removed_reason"], got["removed_epoch"], got["last_modified_epoch"]) == ("removed", None, None)
    assert [fault.split(":")[0] for fault in faults] == ["last_modified"]


MEMBERS = [
    field_name(column)
    for column in CONTENT
    if column.source.startswith("user.") and column.parser in (Parser.TEXT, Parser.EMAIL)
]
PAYMENTS = members_of("payment_info", Kind.AMOUNT)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def encodings(sent: Row) -> list[bytes]:
    """Return the same row as different servers may spell it."""
    plain = json.dumps(sent).encode()
    return [
        plain,
        plain.replace(b"/", b"\\/"),
        json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode(),
        json.dumps(sent, indent=4).encode(),
    ]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(dict.fromkeys(MEMBERS, TEXT)),
    st.dictionaries(TEXT, JSON, max_size=3),
    TEXT,
    TEXT,
    st.dictionaries(TEXT, JSON, max_size=2),
)
@example(dict.fromkeys(MEMBERS, r"\N"), {}, r"\.", "\\", {"\\\x00": "\\u0000"})
def test_any_text_comes_out_as_it_went_in(
    stage: Stage, person: dict[str, str], address: Row, bib: str, team: str, unknown: Row
) -> None:
    names = {name for name in unknown if name in Registration.__struct_fields__}
    sent = {name: value for name, value in unknown.items() if name not in names} | BASE
    sent |= {"user": person | {"address": address}, "bib_num": bib, "chip_num": bib, "team_name": team}
    sent |= {"giveaway": team, "transaction_id": team}
    rows = [decode_registration(raw) for raw in encodings(sent)]
    got, faults = stage.copy(*rows)
    expected = without_nul(sent)
    for row, wrong in zip(got, faults, strict=True):
        for name in MEMBERS:
            assert row[name] == expected["user"][name]
        # A blank bib is none; one in the digits of another script is that number.
        assert (
            row["bib_num"] == (expected["bib_num"] if expected["bib_num"].strip() else None) or row["bib_num"].isdigit()
        )
        assert row["chip_num"] == expected["chip_num"]
        assert row["address"] == expected["user"]["address"]
        assert row["team_info"] == {"team_name": expected["team_name"]}
        assert row["additional_data"] == {"giveaway": expected["giveaway"]}
        assert row["payment_info"] == {"transaction_id": expected["transaction_id"]}
        assert row["payload"] == expected
        assert wrong == (["a NUL character was replaced"] if sent != expected else [])


def test_a_name_of_a_megabyte_is_kept(stage: Stage) -> None:
    name = "Ω\\\t" * 350_000
    got, faults = stage.one(BASE | {"user": {"first_name": name}})
    assert got["first_name"] == name == got["payload"]["user"]["first_name"]
    assert faults == []


@pytest.mark.parametrize("half", [r"\ud800", r"\udc00", r"\uDBFF\uDBFF", r"\ud83dx"])
def test_half_a_surrogate_pair_is_replaced_and_named(stage: Stage, half: str) -> None:
    raw = json.dumps(BASE | {"chip_num": "HALF", "other": ["HALF"], "giveaway": "HALF"}).replace("HALF", half)
    expected = json.loads(f'"{half}"').encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    got, faults = stage.one(raw.encode())
    assert got["chip_num"] == got["payload"]["other"][0] == got["additional_data"]["giveaway"]
    assert set(got["chip_num"]) <= {"\ufffd", "x"}
    assert "\ufffd" in expected
    assert faults == ["half of a surrogate pair was replaced"]


def test_bytes_that_are_not_utf_8_are_replaced_and_named(stage: Stage) -> None:
    raw = (
        json.dumps(BASE | {"bib_num": "118", "other": "here"})
        .encode()
        .replace(b"Ines", b"In\xe9s")
        .replace(b"here", b"\xff")
    )
    got, faults = stage.one(raw)
    assert (got["first_name"], got["bib_num"], got["payload"]["other"]) == ("In\ufffds", "118", "\ufffd")
    assert faults == ["bytes that are not UTF-8 were replaced"]


@pytest.mark.parametrize(
    ("members", "column", "fault"),
    [
        ({"user": {"user_id": 2**63}}, "user_id", "user_id"),
        ({"user": {"user_id": -(10**40)}}, "user_id", "user_id"),
        ({"event_id": 2**63}, "event_id", "event_id"),
        ({"new_registration_id": 10**30}, "new_registration_id", "new_registration_id"),
        ({"age": 2**31}, "age", "age"),
        ({"age": 10**30}, "age", "age"),
        ({"age": -1}, "age", "age"),
        ({"age": -(2**31)}, "age", "age"),
        ({"age": "old"}, "age", "age"),
        ({"user": {"dob": "1991-02-30"}}, "dob", "dob"),
        ({"user": {"dob": "0000-01-00"}}, "dob", "dob"),
        ({"user": {"dob": "XXXX-XX-XX"}}, "dob", "dob"),
        ({"user": {"dob": 19910217}}, "dob", "user.dob"),
        ({"registration_date": "13/45/2026 99:99"}, "registration_date", "registration_date"),
        ({"registration_date": "yesterday"}, "registration_date", "registration_date"),
        ({"last_modified": -1}, "last_modified_epoch", "last_modified"),
        ({"last_modified": 10**15}, "last_modified_epoch", "last_modified"),
        ({"last_modified": "9" * 5000}, "last_modified_epoch", "last_modified"),
        ({"last_modified": "2026-10-33 17:20:11"}, "last_modified_epoch", "last_modified"),
        ({"last_modified": "-3"}, "last_modified_epoch", "last_modified"),
        ({"user": {"email": "a" * (MAX_INDEXED_BYTES + 1)}}, "email", "email"),
        ({"bib_num": "1" * (MAX_INDEXED_BYTES + 1)}, "bib_num", "bib_num"),
        ({"user": {"address": "4 Elm Ct"}}, "address", "user.address"),
    ],
)
def test_a_member_that_does_not_fit_is_null_and_named_and_its_row_staged(
    stage: Stage, members: Row, column: str, fault: str
) -> None:
    sent = BASE | {"chip_num": "C7"} | members
    got, faults = stage.one(sent)
    assert got[column] is None
    assert [text.split(":")[0] for text in faults] == [fault]
    assert (got["registration_id"], got["chip_num"]) == (BASE["registration_id"], "C7")
    assert got["payload"] == sent


@pytest.mark.parametrize(("member", "most"), [("email", "é😀"), ("bib_num", "😀")])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_index_refuses_what_is_staged(stage: Stage, member: str, most: str, data: st.DataObject) -> None:
    """Text that does not compress, of up to four bytes a character."""
    size = data.draw(st.integers(200, 1200))
    text = "".join(chr(0x10000 + (number * 7919 + ord(most[0])) % 50_000) for number in range(size))
    sent = BASE | ({"user": {"email": text}} if member == "email" else {"bib_num": text})
    got, faults = stage.one(sent)
    fits = len(text.encode()) <= MAX_INDEXED_BYTES
    assert got[member] == (text if fits else None)
    assert bool(faults) != fits


@pytest.mark.parametrize("name", MONEY)
def test_an_amount_a_null_and_an_absence_are_four_different_inputs(stage: Stage, name: str) -> None:
    column = "payment_info" if name in PAYMENTS else "additional_data"
    inputs: list[tuple[Row, Row]] = [
        ({name: "$1,234.50"}, {name: Decimal("1234.50")}),
        ({name: "-$5.00"}, {name: Decimal("-5.00")}),
        ({name: None}, {name: None}),
        ({}, {}),
        ({name: "$0.00"}, {name: Decimal("0.00")}),
        ({name: 5}, {name: 5}),
    ]
    for sent, expected in inputs:
        got, faults = stage.one(BASE | sent)
        assert (got[column], faults) == (expected, [])


@pytest.mark.parametrize(
    "amount",
    [
        "",
        "free",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "$1,23.00",
        "$-",
        "9" * 5000,
        "0." + "1" * 20_000,
        1e30,
        True,
        {},
    ],
)
def test_a_malformed_amount_is_null_and_named(stage: Stage, amount: Any) -> None:
    sent = BASE | {"race_fee": amount, "amount_paid": "$7.25"}
    got, faults = stage.one(sent)
    # One that cannot even be decoded is as if absent.
    assert got["payment_info"].get("race_fee") is None
    assert got["payment_info"]["amount_paid"] == Decimal("7.25")
    assert [text.split(":")[0] for text in faults] == ["race_fee"]
    stored = got["payload"]["race_fee"]
    assert float(stored) == pytest.approx(amount) if isinstance(amount, float) else stored == amount


def test_an_amount_too_large_for_any_number_is_null_and_named(stage: Stage) -> None:
    got, faults = stage.one(json.dumps(BASE | {"race_fee": "X"}).encode().replace(b'"X"', b"1e400"))
    assert got["payment_info"] == {}
    assert [text.split(":")[0] for text in faults] == ["race_fee"]
    assert got["payload"]["race_fee"] == 10**400


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.decimals(-(10**9), 10**9, allow_nan=False, places=2), min_size=1, max_size=9))
def test_amounts_are_exact_to_the_cent(stage: Stage, amounts: list[Decimal]) -> None:
    sent = {
        name: f"{'-' if amount < 0 else ''}${abs(amount):,.2f}" for name, amount in zip(PAYMENTS, amounts, strict=False)
    }
    got, faults = stage.one(BASE | sent)
    assert got["payment_info"] == dict(zip(PAYMENTS, amounts, strict=False))
    assert faults == []


def test_a_bib_of_no_characters_is_none(stage: Stage) -> None:
    for value in ("", None):
        got, faults = stage.one(BASE | {"bib_num": value})
        assert (got["bib_num"], faults) == (None, [])
    assert stage.one(BASE | {"bib_num": 0})[0]["bib_num"] == "0"
    assert stage.one(BASE | {"bib_num": "0118"})[0]["bib_num"] == "0118"


def test_unknown_members_may_be_nested(stage: Stage) -> None:
    deep: Any = "ground"
    for level in range(90):
        deep = [deep] if level % 2 else {"a": deep}
    sent = BASE | {"corral": deep, "multi_race_bundle": deep, "user": {"address": {"x": deep}}}
    got, faults = stage.one(sent)
    assert (got["payload"], got["additional_data"], faults) == (sent, {"multi_race_bundle": deep}, [])
    assert got["address"] == {"x": deep}


FIELDS = [name for name in Registration.__struct_fields__ if name not in ("registration_id", "event_id", "user")]
PERSON = st.dictionaries(
    st.sampled_from(["user_id", "email", "dob", "address", "first_name", "gender"]), VALUES, max_size=4
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6), PERSON), min_size=1, max_size=6)
)
def test_postgresql_takes_whatever_is_staged(stage: Stage, rows: list[tuple[Row, Row]]) -> None:
    sent = [
        members | BASE | {"registration_id": number, "user": user} for number, (members, user) in enumerate(rows, 1)
    ]
    decoded = [decode_registration(json.dumps(row).encode()) for row in sent]
    got, faults = stage.copy(*decoded)
    assert [row["registration_id"] for row in got] == [row["registration_id"] for row in sent]
    for row, wrong, original in zip(got, faults, sent, strict=True):
        for column, value in (("bib_num", original.get("bib_num")), ("age", original.get("age"))):
            if value is not None and str(value).strip() and row[column] is None:
                assert [text for text in wrong if text.startswith(f"{column}:")], f"{column} is lost in silence"
