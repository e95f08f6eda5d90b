"""What is odd but can mean one thing only is read. What could mean two is kept as text or reported, never guessed."""

import datetime as dt
import json
from typing import Any

from rsu_pipeline_tests.field.scripted import Field


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc,arg-type]


def test_lists_may_come_as_objects_with_numeric_keys(field: Field) -> None:
    events = [field.runsignup.event(101), field.runsignup.event(102)]
    rows = [
        {"registration_id": number, "event_id": 101 + number % 2, "user": {"last_name": "A"}} for number in (20, 21, 22)
    ]
    detail = {
        "race_id": 1,
        "name": "R",
        "timezone": "UTC",
        "next_date": "12/20/2027",
        "events": {"0": events[0], "3": events[1]},
    }
    field.runsignup.race(1, *events)
    field.runsignup.answer("races", {"races": {"1": {"race": detail}}})
    field.runsignup.answer("race", {"race": detail})
    page = {
        "0": {"event": {"event_id": 101, "participants": []}, "participants": {"0": rows[0], "2": rows[2]}},
        "1": {"event": {"event_id": 102, "participants": {"7": rows[1]}}},
    }
    field.runsignup.answer("participants", page)
    assert not field.sync().failures
    assert {number: row["event_id"] for number, row in field.registrations().items()} == {20: 101, 21: 102, 22: 101}


def test_an_empty_object_is_no_page_without_rows(field: Field) -> None:
    for race in (1, 2, 3):
        field.runsignup.race(race, field.runsignup.event(race * 100))
    field.sync()
    field.runsignup.answer("participants", [], race=1)
    field.runsignup.answer("participants", {}, race=2)
    field.runsignup.answer("participants", [{"event": {"event_id": 300}, "participants": {}}], race=3)
    # PHP sends an empty list as a list: of an object without any member nothing is known.
    failures = " ".join(field.full_sync().failures)
    assert "race 1" not in failures and "race 2" in failures and "race 3" in failures


def test_a_byte_order_mark_is_not_part_of_an_answer(field: Field) -> None:
    marks = {2: b"\xef\xbb\xbf", 3: b"\xef\xbb\xbf\xef\xbb\xbf", 4: b"\r\n \xef\xbb\xbf\n"}
    field.runsignup.race(1, field.runsignup.event(100))
    field.runsignup.enter(100, 10)
    for race, mark in marks.items():
        field.runsignup.race(race, field.runsignup.event(race * 100))
        row = {"registration_id": race * 10, "event_id": race * 100, "user": {}}
        page = [{"event": {"event_id": race * 100}, "participants": [row]}]
        field.runsignup.answer("participants", mark + json.dumps(page).encode(), race=race)
    assert not field.sync().failures
    assert field.registrations().keys() == {10, 20, 30, 40}


def test_an_error_behind_a_byte_order_mark_is_an_error(field: Field) -> None:
    field.runsignup.race(1, field.runsignup.event(101))
    field.sync()
    field.runsignup.answer("participants", '\ufeff{"error": {"error_code": 8, "error_msg": "Not implemented"}}')
    (failure,) = field.sync().failures
    assert "code 8" in failure


TIMES = {
    "12/20/2027 7:30 AM": utc(2027, 12, 20, 12, 30),
    "12/20/2027 07:30pm": utc(2027, 12, 21, 0, 30),
    "12/20/2027, 7:30:00\u202fa.m.": utc(2027, 12, 20, 12, 30),
    "12/20/2027 12:00 AM": utc(2027, 12, 20, 5),
    "12/20/2027 12 PM": utc(2027, 12, 20, 17),
    "12/20/2027 24:00": utc(2027, 12, 21, 5),
    "12/20/27 7:30": utc(2027, 12, 20, 12, 30),
    " 12/20/2027 07:30\u00a0": utc(2027, 12, 20, 12, 30),
    "12&#x2F;20&#47;2027 07&#58;30": utc(2027, 12, 20, 12, 30),
    "\uff11\uff12/20/2027 07:30": utc(2027, 12, 20, 12, 30),
    "2027-12-20T07:30:00-05:00": utc(2027, 12, 20, 12, 30),
    "2027-12-20T12:30:00.000Z": utc(2027, 12, 20, 12, 30),
    "2027-12-20 06:30 CST": utc(2027, 12, 20, 12, 30),
    "2027/12/20 7:30:00": utc(2027, 12, 20, 12, 30),
    1829305800: utc(2027, 12, 20, 12, 30),
}


def test_a_start_is_read_in_any_form_that_means_one_moment(field: Field) -> None:
    events = [field.runsignup.event(number, start_time=text) for number, text in enumerate(TIMES, start=101)]
    field.runsignup.race(1, *events)
    field.sync()
    stored = {row["event_id"]: row for row in field.rows("SELECT * FROM runsignup_events")}
    for number, (text, moment) in enumerate(TIMES.items(), start=101):
        assert stored[number]["starts_at"] == moment, text
        # The wall time is the race's, whatever offset was sent.
        assert stored[number]["start_time"] == (moment - dt.timedelta(hours=5)).replace(tzinfo=None), text
    assert field.value("SELECT count(*) FROM future_events WHERE tier <> 'undated'") == len(TIMES)
    assert field.reported() == "listing"


def test_a_start_that_could_mean_anything_is_reported(field: Field) -> None:
    texts = ["20/12/2027 07:30", "12/20/2027 13:30 AM", "Sunday", "12-20-2027", "12/20/2027 7"]
    field.runsignup.race(
        1, *(field.runsignup.event(place, start_time=text) for place, text in enumerate(texts, start=101))
    )
    field.sync()
    assert field.value("SELECT count(*) FROM runsignup_events WHERE starts_at IS NULL") == len(texts)
    for event_id in range(101, 101 + len(texts)):
        assert f"event {event_id}: start_time:" in field.reported()


def test_a_date_of_zeros_is_no_date(field: Field) -> None:
    zeros: list[Any] = ["0000-00-00 00:00:00", "0000-00-00", "00/00/0000", ""]
    events = [
        field.runsignup.event(place, end_time=zero, age_calc_base_date=zero)
        for place, zero in enumerate(zeros, start=101)
    ]
    field.runsignup.race(1, *events)
    for place, zero in enumerate(zeros, start=20):
        field.runsignup.enter(101, place, user={"dob": zero})
    field.sync()
    assert field.value(
        "SELECT count(*) FROM runsignup_events WHERE num_nonnulls(end_time, age_calc_base_date) = 0"
    ) == len(zeros)
    assert {row["dob"] for row in field.registrations().values()} == {None}
    assert (field.reported(), field.reasons()) == ("listing", {})


def test_a_race_without_a_zone_is_reported(field: Field) -> None:
    field.runsignup.race(1, field.runsignup.event(101, start_time="12/20/2027 07:30"), without=["timezone"])
    field.runsignup.race(2, field.runsignup.event(201, start_time="2027-12-20T07:30:00-08:00"), timezone=None)
    field.runsignup.race(3, field.runsignup.event(301, start_time="12/20/2027 07:30"), timezone="america/los angeles")
    field.sync()
    assert "race 1: timezone: missing; US Eastern is used" in field.reported()
    assert "race 2" not in field.reported() and "race 3" not in field.reported()
    stored = {row["event_id"]: row for row in field.rows("SELECT * FROM runsignup_events")}
    assert {number: row["starts_at"].hour for number, row in stored.items()} == {101: 12, 201: 15, 301: 15}
    # As written: nobody knows in which zone the race counts.
    assert stored[201]["start_time"] == dt.datetime(2027, 12, 20, 7, 30)


AMOUNTS: dict[str, tuple[Any, Any]] = {
    "spaces": (" $1,234.50 ", 1234.5),
    "code before": ("USD 12.00", 12),
    "code behind": ("12.00 USD", 12),
    "US$": ("US$12.00", 12),
    "an entity": ("&#36;12.00", 12),
    "brackets": ("($5.00)", -5),
    "minus sign": ("\u2212$5.00", -5),
    "a number": (12.5, 12.5),
    "Canadian": ("CA$12.00", "CA$12.00"),
    "euros": ("€1.234,50", "€1.234,50"),
    "euros behind": ("1.234,50 EUR", "1.234,50 EUR"),
    "pounds": ("£12.00", "£12.00"),
    "no amount": ("1.234,50", None),
}


def test_amounts_in_other_currencies_are_kept_as_text_with_the_reason(field: Field) -> None:
    field.runsignup.race(1, field.runsignup.event(101))
    for number, (sent, _) in enumerate(AMOUNTS.values(), start=20):
        field.runsignup.enter(101, number, amount_paid=sent)
    assert not field.sync().unequal_events
    stored, reasons = field.registrations(), field.reasons()
    for number, (what, (_, expected)) in enumerate(AMOUNTS.items(), start=20):
        assert stored[number]["payment_info"]["amount_paid"] == expected, what
        if isinstance(expected, str):
            assert reasons[number] == "amount_paid: amount of money in another currency, kept as text"
        else:
            assert (number in reasons) == (expected is None), what
    # Nobody adds them up as dollars.
    (total,) = field.rows("SELECT sum((payment_info ->> 'amount_paid')::numeric) FROM runsignup_participants"
        " WHERE jsonb_typeof(payment_info -> 'amount_paid') = 'number'")  # fmt: skip
    assert float(total["sum"]) == sum(value for _, value in AMOUNTS.values() if isinstance(value, int | float))


def test_numbers_may_come_as_text_floats_or_nothing(field: Field) -> None:
    field.runsignup.race(
        1, field.runsignup.event(101, event_id="101", race_event_days_id=" 7 ", volunteer="f"), race_id="1"
    )
    field.runsignup.enter(
        101, 20, registration_id=" 20", event_id="101", bib_num=" 118 ", age="40.0", user={"user_id": "5"}
    )
    field.runsignup.enter(
        101, 21, registration_id=21.0, bib_num=119.0, age="", user={"user_id": "", "address": []}, team_id=""
    )
    field.runsignup.enter(101, 22, bib_num="\uff11\uff12\uff10", last_modified="1790937669", age="&nbsp;37")
    field.runsignup.enter(
        101, 23, bib_num="121.0", registration_date="2026-08-14T21:07:00Z", last_modified="8/14/2026 9:07 PM"
    )
    assert not field.sync().failures
    rows = field.registrations()
    assert {number: (row["bib_num"], row["age"], row["user_id"]) for number, row in rows.items()} == {
        20: ("118", 40, 5),
        21: ("119", None, None),
        22: ("120", 37, 220),
        23: ("121", 36, 230),
    }
    assert rows[22]["last_modified_epoch"] == 1790937669
    assert rows[23]["registration_date"] == dt.datetime(2026, 8, 14, 17, 7)
    assert rows[23]["last_modified"] == dt.datetime(2026, 8, 14, 21, 7)
    assert field.reasons() == {}
    assert field.rows("SELECT volunteer, race_event_days_id FROM runsignup_events") == [
        {"volunteer": False, "race_event_days_id": 7}
    ]


def test_the_events_of_a_bundle_are_read_in_any_form_of_a_list(field: Field) -> None:
    forms: list[Any] = [[101, 102], ["101", "102"], {"0": 101, "2": "102"}, "101, 102"]
    bundles = [field.runsignup.event(place, sub_event_ids=parts) for place, parts in enumerate(forms, start=103)]
    field.runsignup.race(1, field.runsignup.event(101), field.runsignup.event(102), *bundles)
    field.sync()
    found = field.rows("SELECT sub_event_ids FROM runsignup_events WHERE is_bundle")
    assert [row["sub_event_ids"] for row in found] == [[101, 102]] * len(forms)
    assert field.reported() == "listing"


def test_a_birth_date_whose_century_is_a_guess_is_not_guessed(field: Field) -> None:
    field.runsignup.race(1, field.runsignup.event(101))
    field.runsignup.enter(101, 20, user={"dob": "2/17/27"})
    field.sync()
    assert field.registrations()[20]["dob"] is None
    assert "either century" in field.reasons()[20]
