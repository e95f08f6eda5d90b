"""Single values: what is read is what was written, and what cannot be read is a ValueError, never a guess."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rsu_pipeline.runsignup import values

ANYTHING = st.text(max_size=30) | st.text("0123456789/-: T$,.", max_size=24)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$1,234.50", "1234.50"),
        ("-$5.00", "-5.00"),
        ("$-5.00", "-5.00"),
        ("$0.00", "0"),
        ("-$0.00", "0"),
        ("55", "55"),
        ("55.5", "55.5"),
        ("$.50", "0.50"),
        (" $7.00 ", "7.00"),
        ("$1,234,567.89", "1234567.89"),
        ("$1234567.89", "1234567.89"),
        ("$0.001", "0.001"),
        ("$999,999,999,999.99", "999999999999.99"),
        ("(5.00)", "-5"),
        ("($5.00)", "-5"),
        ("+5", "5"),
        ("$5.00 USD", "5"),
        ("USD 5", "5"),
        ("\u2212$5.00", "-5"),
        ("\u0663", "3"),
        ("\uff15", "5"),
        ("&#36;5", "5"),
    ],
)
def test_money_is_exact(text: str, amount: str) -> None:
    assert values.money(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "$",
        "-",
        "-$",
        ".",
        "1.",
        "--5",
        "-$-5",
        "(-5)",
        "(5",
        "USD 1,23",
        "1.234,50",
        "1,23",
        "12,34.00",
        ",123",
        "$1,2345",
        "5 0",
        "€5",
        "5€",
        "free",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "1e3",
        "0x10",
        "1_000",
        "$1,000,000,000,000.00",
        "9" * 5000,
        "0." + "1" * 20_000,
        "$5.00\n$6.00",
        "T",
        "null",
    ],
)
def test_what_is_no_money_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="money"):
        values.money(text)


@pytest.mark.parametrize(
    "text", ["€5", "5€", "CA$12.00", "€1.234,50", "1.234,50 EUR", "£12", "kr 12,50", "R$5", "&euro;5"]
)
def test_an_amount_in_another_currency_is_no_amount_and_said_to_be_one(text: str) -> None:
    with pytest.raises(values.OtherCurrencyError):
        values.money(text)


@given(st.decimals(-(10**12) + 1, 10**12 - 1, allow_nan=False, places=2), st.booleans(), st.booleans())
@example(Decimal("-0.01"), True, True)
def test_every_amount_comes_back_as_it_was_written(amount: Decimal, commas: bool, dollar: bool) -> None:
    digits = f"{abs(amount):,.2f}" if commas else f"{abs(amount):.2f}"
    assert values.money(f"{'-' if amount < 0 else ''}{'$' if dollar else ''}{digits}") == amount


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000, places=30))
def test_an_amount_of_many_digits_is_not_rounded(amount: Decimal) -> None:
    assert f"{values.money(f'{amount:f}'):f}" == f"{amount:f}"


def test_flags_are_t_and_f() -> None:
    assert values.flag("T") is True
    assert values.flag("F") is False
    assert all(values.flag(text) for text in ("t", "True", "1", "Y", " T", "yes"))
    assert not any(values.flag(text) for text in ("f", "false", "0", "N", "no"))
    for text in ("", "2", "TF", "null", "maybe"):
        with pytest.raises(ValueError, match="not T or F"):
            values.flag(text)


MINUTES = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)).map(
    lambda t: t.replace(second=0, microsecond=0)
)
SECONDS = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)).map(lambda t: t.replace(microsecond=0))


@given(MINUTES)
def test_all_forms_of_a_minute_mean_the_same(moment: dt.datetime) -> None:
    unpadded = f"{moment.month}/{moment.day}/{moment.year:04} {moment:%H:%M}"
    padded = f"{moment.month:02}/{moment.day:02}/{moment.year:04} {moment:%H:%M}"
    iso = f"{moment.date().isoformat()} {moment:%H:%M:%S}"
    for text in (unpadded, padded, iso, iso.replace(" ", "T")):
        assert values.wall_time(text) == moment


@given(SECONDS)
def test_a_second_comes_back_as_it_was_written(moment: dt.datetime) -> None:
    assert values.wall_time(moment.isoformat(" ")) == moment


@given(st.dates())
def test_all_forms_of_a_day_mean_the_same(day: dt.date) -> None:
    for text in (f"{day.month}/{day.day}/{day.year:04}", f"{day.month:02}/{day.day:02}/{day.year:04}", day.isoformat()):
        assert values.date(text) == day
        assert values.wall_time(text) == dt.datetime(day.year, day.month, day.day)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0000-00-00",
        "0/0/0000",
        "13/1/2026",
        "2/30/2026",
        "2/29/2026",
        "2026-02-29",
        "2026-13-01",
        "1/1/2026 7:5",
        "1/1/2026 07:60",
        "2026-01-01 07:30:61",
        "today",
        "XXXX-XX-XX",
        "1/1/2026 25:00",
        "1/1/2026 24:01",
        "1/1/2026 13:30 AM",
        "1/1/2026 0:30 PM",
        "1/1/2026 7",
        "12/31/9999 24:00",
        "20/12/2026",
        "1-2-2026",
        "2026/01-01",
        "2026-01-01T00:00:00+99:00",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    for read in (values.wall_time, values.date, values.eastern_time):
        with pytest.raises(ValueError, match=r"\w"):
            read(text)


@pytest.mark.parametrize(
    ("text", "wall"),
    [
        ("1/1/2026 07:30 AM", dt.datetime(2026, 1, 1, 7, 30)),
        ("1/1/2026 12:00am", dt.datetime(2026, 1, 1)),
        ("1/1/2026, 1:05:09 p.m.", dt.datetime(2026, 1, 1, 13, 5, 9)),
        ("1/1/2026 13:05 PM", dt.datetime(2026, 1, 1, 13, 5)),
        ("1/1/2026 24:00", dt.datetime(2026, 1, 2)),
        ("1/1/26", dt.datetime(2026, 1, 1)),
        ("2026-1-1", dt.datetime(2026, 1, 1)),
        (" 1/1/2026\n", dt.datetime(2026, 1, 1)),
        ("\u0661/1/2026", dt.datetime(2026, 1, 1)),
        ("2026-01-01T07:30:00.250-05:00", dt.datetime(2026, 1, 1, 7, 30)),
    ],
)
def test_odd_forms_of_a_time_are_read(text: str, wall: dt.datetime) -> None:
    assert values.wall_time(text) == wall


@pytest.mark.parametrize(
    "text",
    ["1793509200", "2026-11-01T05:00:00Z", "2026-11-01 05:00 GMT", "2026-11-01T00:00:00-05:00", "10/31/2026 10 PM PDT"],
)
def test_a_time_with_an_offset_is_its_own_instant(text: str) -> None:
    assert values.eastern_time(text) == dt.datetime(2026, 11, 1, 5, tzinfo=dt.UTC)
    assert values.wall_time(text, values.EASTERN) == dt.datetime(2026, 11, 1, 1)


def test_the_century_of_a_calendar_date_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="either century"):
        values.date("2/17/91")


@given(ANYTHING)
def test_garbage_raises_value_errors_only(text: str) -> None:
    for read in (values.money, values.flag, values.wall_time, values.date, values.eastern_time):
        try:
            read(text)
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("2026-10-02 06:41:09", 1_790_937_669),
        ("10/3/2026 17:25", 1_791_062_725),
        ("2026-10-03 17:20:11", 1_791_062_411),
        # The clocks go back at 02:00: of the hour that comes twice, the first.
        ("2026-11-01 00:59:59", 1_793_509_199),
        ("2026-11-01 01:00:00", 1_793_509_200),
        ("2026-11-01 01:59:59", 1_793_512_799),
        ("2026-11-01 02:00:00", 1_793_516_400),
        # The clocks go forward at 02:00: the hour that is left out counts on from before it.
        ("2026-03-08 01:59:59", 1_772_953_199),
        ("2026-03-08 02:30:00", 1_772_955_000),
        ("2026-03-08 03:00:00", 1_772_953_200),
    ],
)
def test_eastern_wall_times_are_instants(text: str, epoch: int) -> None:
    told = values.eastern_time(text)
    assert told.utcoffset() == dt.timedelta(0)
    assert told.timestamp() == epoch - (epoch % 60 if text.count(":") == 1 else 0)


@given(
    st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2100, 1, 1)).map(
        lambda t: t.replace(microsecond=0, tzinfo=dt.UTC)
    )
)
def test_an_instant_written_in_eastern_time_comes_back_but_for_the_hour_that_comes_twice(moment: dt.datetime) -> None:
    local = moment.astimezone(values.EASTERN)
    told = values.eastern_time(f"{local:%Y-%m-%d %H:%M:%S}")
    assert told == moment - dt.timedelta(hours=local.fold)


@pytest.mark.parametrize("text", ["9999-12-31 23:59:59", "12/31/9999 20:00"])
def test_an_instant_beyond_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        values.eastern_time(text)


@pytest.mark.parametrize("name", ["America/New_York", "America/Chicago", "Pacific/Honolulu", "America/Phoenix", "UTC"])
def test_known_zones_are_found(name: str) -> None:
    zone = values.zone(name)
    assert zone is not None
    assert zone.key == name


@pytest.mark.parametrize(
    "name", [None, "", "Nowhere/Town", "America", "../../etc/passwd", "/etc/passwd", "a\0b", "x" * 5000]
)
def test_an_unknown_zone_is_none(name: str | None) -> None:
    assert values.zone(name) is None


@given(st.text(max_size=30))
def test_no_name_of_a_zone_raises(name: str) -> None:
    zone = values.zone(name)
    assert zone is None or zone.key.lower() == values.plain(name).replace(" ", "_").lower()
