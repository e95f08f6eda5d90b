"""`rsu alerts`: a test message, and what is open."""

import json
from collections.abc import Iterator

import pytest

from rsu_pipeline_tests.alerts.notifier import CANARY, Notifier, running_notifier
from rsu_pipeline_tests.cli.shell import refusal, rows, rsu


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    with running_notifier() as running:
        yield running


def test_a_test_message_goes_to_every_address(settings: dict[str, str], notifier: Notifier) -> None:
    done = rsu("alerts", "test", settings=settings | {"RSU_ALERT_URLS": f"{notifier.url}, {notifier.url}"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "json: accepted the message\n" * 2, "")
    assert [title for title, _ in notifier.take()] == ["RunSignup hub: a test"] * 2


def test_a_service_that_failed_is_told_by_its_kind_only(settings: dict[str, str], notifier: Notifier) -> None:
    urls = f"json://user:{CANARY}@127.0.0.1:9/{CANARY} {notifier.url} {CANARY}://{CANARY}"
    done = rsu("alerts", "test", settings=settings | {"RSU_ALERT_URLS": urls})
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "json: failed\njson: accepted the message\nunknown: failed\n"
    assert len(notifier.take()) == 1


def test_without_an_address_it_says_so(settings: dict[str, str]) -> None:
    assert "RSU_ALERT_URLS" in refusal(rsu("alerts", "test", settings=settings))


def test_an_address_that_is_none_is_refused_without_being_repeated(settings: dict[str, str]) -> None:
    done = rsu("alerts", "test", settings=settings | {"RSU_ALERT_URLS": CANARY})
    assert "RSU_ALERT_URLS" in refusal(done)
    assert CANARY not in done.stdout + done.stderr


def test_open_alerts_are_listed(settings: dict[str, str]) -> None:
    done = rsu("alerts", "list", settings=settings)
    assert (done.returncode, done.stdout) == (0, "No open alerts.\n")
    assert json.loads(rsu("alerts", "list", "--json", settings=settings).stdout) == []
    rows(
        settings,
        "INSERT INTO alerts (kind, cause, partner, sentence, first_seen_at, last_seen_at, told_at, cleared_at) VALUES"
        " ('dead_watch', '1:5', '1-acme', '1-acme: race 5 is in its window.', '2026-10-03 12:00Z', '2026-10-03 12:05Z',"
        " '2026-10-03 12:01Z', NULL),"
        " ('dead_watch', '1:6', '1-acme', 'race 6', '2026-10-03 12:00Z', '2026-10-03 12:05Z', NULL, now())",
    )
    shown = rsu("alerts", "list", settings=settings).stdout
    assert "dead_watch" in shown
    assert "1-acme: race 5 is in its window." in shown
    assert "2026-10-03 08:01 EDT" in shown
    assert "race 6" not in shown
    (alert,) = json.loads(rsu("alerts", "list", "--json", settings=settings).stdout)
    assert (alert["kind"], alert["cause"], alert["partner"], alert["run_id"]) == ("dead_watch", "1:5", "1-acme", None)
