"""An evaluation: messages grouped by kind, notifiers that fail, reminders, and the table afterwards."""

import datetime as dt
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given
from hypothesis import settings as examples

from rsu_pipeline.alerts import alert_store
from rsu_pipeline.alerts.alert_store import Alert, Problem
from rsu_pipeline.alerts.evaluate import MAX_LINES, AlertEvaluation, evaluate_alerts
from rsu_pipeline.alerts.notify import Delivery
from rsu_pipeline.service_settings import AlertSettings
from rsu_pipeline_tests.alerts.notifier import CANARY, Notifier
from rsu_pipeline_tests.alerts.test_transitions import LOOKS, MINUTE, problem, told_rightly
from rsu_pipeline_tests.warehouse.fleet_rows import NOW, Fleet

DAY = dt.timedelta(days=1)


def watch_dead(*races: int) -> list[Problem]:
    return [Problem("dead_watch", f"1:{race}", "1-acme", f"race {race} is not read") for race in races]


def at_look(
    put: Fleet, problems: list[Problem], *urls: str, now: dt.datetime = NOW
) -> tuple[AlertEvaluation, list[str]]:
    said: list[str] = []
    settings = AlertSettings(urls=urls, link="https://hub.example.com")
    return evaluate_alerts(put.conn, problems, settings, now, said.append, zone=dt.UTC), said


def test_causes_of_one_kind_are_one_message_and_a_run_has_a_link(put: Fleet, notifier: Notifier) -> None:
    failed = Problem("run_failed", "watch:", None, "job watch failed.", "ab-12")
    done, _ = at_look(put, [*watch_dead(5, 6, 7), failed], notifier.url)
    assert (done.wrong, done.notified, done.sent) == (4, 4, 2)
    assert notifier.take() == [
        ("RunSignup hub: a run failed", "job watch failed. https://hub.example.com/runs/ab-12"),
        (
            "RunSignup hub: a race in its window is not watched",
            "race 5 is not read\nrace 6 is not read\nrace 7 is not read",
        ),
    ]
    at_look(put, [], notifier.url)
    at_look(put, [], notifier.url)
    assert [title for title, _ in notifier.take()] == [
        "Resolved: a run failed",
        "Resolved: a race in its window is not watched",
    ]


def test_messages_have_times_in_the_zone_of_the_hub_and_the_table_has_them_in_utc(
    put: Fleet, notifier: Notifier
) -> None:
    sentence = "race 5 has not been read since 2026-10-03 11:58 UTC."
    dead = Problem("dead_watch", "1:5", "1-acme", sentence)
    settings = AlertSettings(urls=(notifier.url,))
    for problems in ([dead], [], []):
        evaluate_alerts(put.conn, problems, settings, NOW, lambda _: None, zone=ZoneInfo("America/Denver"))
    shown = "race 5 has not been read since 2026-10-03 05:58 MDT."
    assert [text for _, text in notifier.take()] == [shown, f"Resolved. Since 2026-10-03 06:00 MDT: {shown}"]
    with put.conn.cursor() as cur:
        cur.execute("SELECT sentence FROM alerts")
        assert cur.fetchall() == [(sentence,)]


def test_a_message_about_many_names_some(put: Fleet, notifier: Notifier) -> None:
    at_look(put, watch_dead(*range(MAX_LINES + 5)), notifier.url)
    ((_, text),) = notifier.take()
    assert len(text.splitlines()) == MAX_LINES + 1
    assert "and 5 more" in text
    assert at_look(put, watch_dead(*range(MAX_LINES + 5)), notifier.url)[0].notified == 0


def test_a_notifier_that_is_down_is_told_later_and_nothing_fails(put: Fleet, notifier: Notifier) -> None:
    notifier.status = 500
    done, said = at_look(put, watch_dead(5), notifier.url)
    assert (done.notified, done.sent, done.unsent, done.failing) == (0, 0, 1, {"json"})
    assert said == ["the notifier of kind json did not accept a message"]
    at_look(put, watch_dead(5), notifier.url)
    (alert,) = alert_store.read_open_alerts(put.conn)
    assert (alert.told_at, alert.failed_sends) == (None, 2)

    notifier.status = 200
    assert at_look(put, watch_dead(5), notifier.url)[0].notified == 1
    assert len(notifier.take()) == 1
    assert at_look(put, watch_dead(5), notifier.url)[0].sent == 0


def test_what_came_and_went_while_no_notifier_worked_is_told_when_one_does(put: Fleet, notifier: Notifier) -> None:
    notifier.status = 503
    at_look(put, watch_dead(5), notifier.url)
    for _ in range(3):
        at_look(put, [], notifier.url)
    assert alert_store.read_open_alerts(put.conn) == []
    notifier.status = 200
    done, _ = at_look(put, [], notifier.url)
    assert done.cleared == 1
    ((title, text),) = notifier.take()
    assert title.startswith("Resolved: ")
    assert "No notification could be sent while it lasted" in text
    assert at_look(put, [], notifier.url)[0].sent == 0


def test_a_cause_is_told_by_the_notifiers_that_work(put: Fleet, notifier: Notifier) -> None:
    done, said = at_look(put, watch_dead(5), f"json://127.0.0.1:9/{CANARY}", notifier.url)
    assert (done.notified, done.failing, len(said)) == (1, {"json"}, 1)
    assert len(notifier.take()) == 1
    assert at_look(put, watch_dead(5), f"json://127.0.0.1:9/{CANARY}", notifier.url)[0].sent == 0


def test_people_are_reminded_after_a_day(put: Fleet, notifier: Notifier) -> None:
    at_look(put, watch_dead(5), notifier.url)
    notifier.take()
    at_look(put, watch_dead(5), notifier.url, now=NOW + DAY - dt.timedelta(minutes=1))
    assert notifier.take() == []
    at_look(put, watch_dead(5), notifier.url, now=NOW + DAY)
    assert [text for _, text in notifier.take()] == ["Still: race 5 is not read"]


def test_without_notifiers_the_table_is_kept_and_what_is_open_is_told_once_there_is_one(
    put: Fleet, notifier: Notifier
) -> None:
    at_look(put, watch_dead(5, 6))
    at_look(put, watch_dead(5))
    done, _ = at_look(put, watch_dead(5))
    assert (done.wrong, done.sent, done.unsent) == (1, 0, 0)
    (alert,) = alert_store.read_open_alerts(put.conn)
    assert (alert.key, alert.told_at, alert.failed_sends) == ("1:5", None, 0)
    at_look(put, watch_dead(5), notifier.url)
    ((_, text),) = notifier.take()
    assert text == "race 5 is not read"


def test_alerts_cleared_long_ago_are_deleted(put: Fleet) -> None:
    for now in (NOW, NOW + 91 * DAY):
        at_look(put, watch_dead(5), now=now)
        at_look(put, [], now=now)
        at_look(put, [], now=now)
    with put.conn.cursor() as cur:
        cur.execute("SELECT first_seen_at FROM alerts")
        assert cur.fetchall() == [(NOW + 91 * DAY,)]


@examples(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LOOKS)
def test_whatever_comes_and_goes_the_table_remembers_what_was_told(
    put: Fleet, looks: list[tuple[set[tuple[str, str]], bool, int]]
) -> None:
    put.sql("TRUNCATE alerts RESTART IDENTITY")
    now, works = NOW, True
    said: list[tuple[str, tuple[str, str], dt.datetime]] = []
    settings = AlertSettings(urls=("json://127.0.0.1",))

    def send(_: Sequence[str], title: str, body: str) -> list[Delivery]:
        if works:
            for line in body.splitlines():
                kind, key = line.removesuffix(" (No notification could be sent while it lasted.)").split(" ")[-2:]
                said.append(("cleared" if title.startswith("Resolved") else "told", (kind, key), now))
        return [Delivery("json", works)]

    for causes, works, minutes in [*looks, *[(set[tuple[str, str]](), True, 1)] * 3]:  # noqa: B007 - send reads it
        now += minutes * MINUTE
        evaluate_alerts(
            put.conn,
            [problem(*cause) for cause in sorted(causes)],
            settings,
            now,
            lambda _: None,
            zone=dt.UTC,
            send=send,
        )
    with put.conn.cursor() as cur:
        cur.execute("SELECT * FROM alerts ORDER BY alert_id")
        rows = [Alert(*row) for row in cur.fetchall()]
    told_rightly(said, rows, {cause for causes, _, _ in looks for cause in causes})
