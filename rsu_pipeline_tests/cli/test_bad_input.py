"""What cannot be used is refused with one sentence and exit code 2, and nothing is half-written."""

import re
from pathlib import Path

import pytest
import sqlalchemy.exc
from sqlalchemy import create_engine

from rsu_pipeline.orchestration.storage import sqlalchemy_url
from rsu_pipeline.warehouse.database import describe_database_error
from rsu_pipeline_tests.cli.shell import refusal, rows, rsu

Settings = dict[str, str]
PASSWORD = "tops3cret"
SETTINGS = [
    ("RSU_DATABASE_URL", f"mysql://u:{PASSWORD}@h/d", "RSU_DATABASE_URL must start with postgresql://"),
    ("RSU_DATABASE_URL", f"postgresql://u:{PASSWORD}%@h/d", "RSU_DATABASE_URL cannot be read as a PostgreSQL address"),
    (
        "RSU_DATABASE_URL",
        f"postgresql://u:{PASSWORD}@127.0.0.1:1/hub",
        "Cannot use PostgreSQL at 127.0.0.1:1/hub: .*refused",
    ),
    ("RSU_SECRET_KEY", "s3cret-too-short", "RSU_SECRET_KEY does not hold Fernet keys"),
    ("RSU_CALLS_PER_HOUR", "-1", "RSU_CALLS_PER_HOUR is -1, but must be from 1 to 1e"),
    ("RSU_CALLS_PER_HOUR", "0", "RSU_CALLS_PER_HOUR is 0, but must be from 1"),
    ("RSU_CALLS_PER_HOUR", "many", "RSU_CALLS_PER_HOUR is 'many', but must be a number"),
    ("RSU_CALLS_PER_HOUR", "nan", "RSU_CALLS_PER_HOUR is nan, but must be from"),
    ("RSU_MAX_IN_FLIGHT", "0", "RSU_MAX_IN_FLIGHT is 0"),
    ("RSU_MAX_IN_FLIGHT", "1.5", "RSU_MAX_IN_FLIGHT is 1.5, but must be a whole number"),
    ("RSU_IN_FLIGHT_SCOPE", "some", "RSU_IN_FLIGHT_SCOPE is 'some', but must be 'all' or 'credential'"),
    ("RSU_INCREMENTAL_DAYS", "-7", "RSU_INCREMENTAL_DAYS is -7"),
    ("RSU_TIMEZONE", "Mars/Olympus", "RSU_TIMEZONE is 'Mars/Olympus', but must be a time zone"),
    ("RSU_API_BASE_URL", "http://api.example.test/rest", "RSU_API_BASE_URL uses http://"),
    ("RSU_API_BASE_URL", f"https://u:{PASSWORD}@api.example.test", "RSU_API_BASE_URL must be a plain https:// address"),
]


@pytest.mark.parametrize(("name", "value", "said"), SETTINGS)
def test_a_setting_that_cannot_be_used_is_named(untouched: Settings, name: str, value: str, said: str) -> None:
    command = ("partners", "add", "Juniper Timing", "--key", "k", "--no-check")
    text = refusal(rsu(*command, settings=untouched | {name: value}, stdin="s\n"))
    assert re.match(said, text), text
    assert PASSWORD not in text and "s3cret" not in text
    assert rows(untouched, "SELECT count(*) FROM timing_partners") == [(0,)]
    assert not Path(untouched["RSU_HOME"]).exists()


def test_a_wrong_password_or_a_missing_database_is_told_without_the_password(untouched: Settings) -> None:
    address = untouched["RSU_DATABASE_URL"]
    head, tail = address.split("@", 1)
    password = head.rsplit(":", 1)[1]
    wrong = address.replace(password, PASSWORD)
    assert wrong != address
    text = refusal(rsu("status", settings=untouched | {"RSU_DATABASE_URL": wrong}))
    assert f"Cannot use PostgreSQL at {tail}: " in text and "authentication failed" in text
    assert PASSWORD not in text
    text = refusal(rsu("sync", settings=untouched | {"RSU_DATABASE_URL": address.rsplit("/", 1)[0] + "/nowhere"}))
    assert 'database "nowhere" does not exist' in text
    assert password not in text


def test_a_key_that_no_longer_fits_is_told_without_trying_runsignup(settings: Settings) -> None:
    add = ("partners", "add", "Juniper Timing", "--key", "k", "--no-check")
    assert rsu(*add, settings=settings, stdin="s\n").returncode == 0
    other = rsu("secrets", "new-key", settings={}).stdout.strip()
    text = refusal(rsu("partners", "check", "1", settings=settings | {"RSU_SECRET_KEY": other}))
    assert text.startswith("A stored secret opens with no key of RSU_SECRET_KEY")
    assert other not in text
    assert rows(settings, "SELECT count(*) FROM api_calls") == [(0,)]


def test_an_unknown_partner_is_told(untouched: Settings) -> None:
    for command in (
        ("sync", "--partner", "77"),
        ("partners", "check", "77"),
        ("partners", "disable", "77"),
        ("partners", "enable", "77"),
    ):
        text = refusal(rsu(*command, settings=untouched))
        assert text == "There is no partner '77': `rsu partners list` shows them."


def test_a_sync_without_any_partner_is_told(untouched: Settings) -> None:
    assert refusal(rsu("sync", settings=untouched)).startswith(
        "There is no partner to sync. Add one with `rsu partners add NAME`"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sync", "--race", "5"], "--race needs exactly one --partner."),
        (["sync", "--race", "five", "--partner", "1"], "Invalid value for '--race': 'five' is not a valid integer."),
        (["sync", "--incremental-days", "-1"], "Invalid value for '--incremental-days'"),
        (["sync", "--incremental-days", "soon"], "Invalid value for '--incremental-days'"),
        (["sync", "--incremental-days", "nan"], "--incremental-days must be a number of days."),
        (["sync", "--fast"], "No such option"),
        (["status", "--xml"], "No such option"),
        (["partners", "add"], "Missing argument 'NAME'."),
        (["partners", "add", "X", "--scheme", "oauth", "--key", "k"], "Invalid value for '--scheme'"),
        (["partner"], "No such command 'partner'"),
    ],
)
def test_what_cannot_be_understood_is_told(untouched: Settings, arguments: list[str], said: str) -> None:
    assert refusal(rsu(*arguments, settings=untouched)).startswith(said)


@pytest.mark.parametrize(
    ("name", "key", "secret", "said"),
    [
        ("  ", "k", "s", "The name must not be empty."),
        ("X", "  ", "s", "The key must not be empty."),
        ("X", "", "s", "No key. Give --key or set RSU_PARTNER_KEY"),
        ("X", "k", " \n", "The secret must not be empty."),
        ("X", "k", "", "The secret must not be empty."),
        ("X", "k", "a\0b\n", "The secret has characters that do not print."),
        ("X", "k", b"s\xff\n", "The secret has characters that do not print."),
        ("X\nY", "k", "s", "The name has characters that do not print."),
        ("\udcff", "k", "s", "The name has characters that do not print."),
        ("x" * 256, "k", "s", "A partner's name has at most 255 characters, this one has 256."),
    ],
)
def test_what_cannot_be_entered_is_refused_and_nothing_is_stored(
    untouched: Settings, name: str, key: str, secret: str | bytes, said: str
) -> None:
    text = refusal(rsu("partners", "add", name, "--key", key, settings=untouched, stdin=secret))
    assert text.startswith(said)
    assert rows(untouched, "SELECT count(*) FROM timing_partners") == [(0,)]


def test_a_lost_database_is_one_sentence_also_through_other_libraries() -> None:
    engine = create_engine(sqlalchemy_url(f"postgresql://u:{PASSWORD}@127.0.0.1:1/hub"))
    with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
        engine.connect()
    text = describe_database_error(caught.value)
    assert text is not None
    assert "Cannot use PostgreSQL at 127.0.0.1:1/hub: Connection refused" in text
    assert PASSWORD not in text
    assert describe_database_error(ValueError("of ours")) is None
