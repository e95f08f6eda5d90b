"""A watch whose polls RunSignup does not answer is distinguished from a watch that has stopped, by recorded polls."""

import base64
import datetime as dt
import json
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from rsu_pipeline.alerts import rules
from rsu_pipeline.alerts.alert_store import Problem
from rsu_pipeline.sync import partner_sync
from rsu_pipeline.sync.race_day_board import read_board
from rsu_pipeline.sync.watch import Watch
from rsu_pipeline.warehouse import call_ledger, database
from rsu_pipeline_tests.hub import Hub

SPEC = {"partners": 1, "races_per_partner": 1, "events_per_race": 1, "registrations_per_event": 3, "start_in_hours": 2}


@pytest.fixture
def silent(make_hub: Callable[..., Hub]) -> Iterator[Hub]:
    """Provide a hub that has read the one race in its window 90 s ago, and whose RunSignup has not answered since."""
    hub = make_hub(spec=SPEC, seed=3)
    hub.environment |= {"RSU_RACE_DAY_TIMEOUT": "2", "RSU_WATCH_INTERVAL": "1", "RSU_CALL_ATTEMPTS": "1"}
    hub.sync()
    hub.execute("UPDATE event_cursors SET last_read_at = now() - interval '90 seconds'")
    hub.execute("UPDATE sync_history SET finished_at = finished_at - interval '100 seconds'")
    os.kill(hub.sandbox.process.pid, signal.SIGSTOP)
    try:
        yield hub
    finally:
        os.kill(hub.sandbox.process.pid, signal.SIGCONT)


def watch(hub: Hub) -> None:
    Watch(hub.url, hub.secret_box, hub.settings, run_id="watch", log=lambda line: None).run(1)


def problems(hub: Hub) -> list[Problem]:
    with database.session(hub.url, purpose="tests") as conn:
        found = rules.find_standstills(conn, hub.settings, dt.datetime.now(dt.UTC))
        conn.rollback()
    return [problem for problem in found if rules.HEALTH_CHECKS[problem.kind] == "watch"]


def on_board(hub: Hub) -> list[tuple[str, str]]:
    with database.session(hub.url, purpose="tests") as conn:
        (row,) = read_board(conn, dt.datetime.now(dt.UTC), hub.settings)
    return [(problem.short, problem.sentence) for problem in row.problems if problem.urgency == 0]


def test_polls_that_runsignup_does_not_answer_are_named_as_that_and_not_as_a_dead_watch(silent: Hub) -> None:
    watch(silent)
    (problem,) = problems(silent)
    race_id = silent.value("SELECT race_id FROM partner_races")
    assert (problem.kind, problem.key) == ("polls_failing", f"1:{race_id}")
    assert f"RunSignup has not answered race {race_id} since " in problem.sentence
    assert "(no complete answer in time). The watch goes on polling. There is nothing to do here" in problem.sentence
    assert "rsu sync" not in problem.sentence
    ((short, sentence),) = on_board(silent)
    assert short == "read fails" and problem.sentence.endswith(f"{sentence}.")


def test_a_watch_that_ended_while_runsignup_did_not_answer_is_dead(silent: Hub) -> None:
    watch(silent)
    for table, column in (
        ("api_calls", "settled_at"),
        ("sync_history", "finished_at"),
        ("event_cursors", "last_read_at"),
    ):
        silent.execute(f"UPDATE {table} SET {column} = {column} - interval '10 minutes'")
    silent.execute("UPDATE api_calls SET granted_at = granted_at - interval '10 minutes'")
    assert [problem.kind for problem in problems(silent)] == ["dead_watch"]
    assert "not polled" in dict(on_board(silent))


def test_a_sync_that_fails_does_not_show_that_the_watch_polls(silent: Hub) -> None:
    os.kill(silent.sandbox.process.pid, signal.SIGCONT)
    with silent.partner_session(1, run_id="sync") as session:
        os.kill(silent.sandbox.process.pid, signal.SIGSTOP)
        outcome = partner_sync.sync_participants(session, partner_sync.make_plan(session, force_full=True))
    assert outcome.failures
    assert [problem.kind for problem in problems(silent)] == ["dead_watch"]
    assert "not polled" in dict(on_board(silent))


def test_polls_whose_answers_cannot_be_used_are_named_as_that_and_not_as_a_dead_watch(silent: Hub) -> None:
    os.kill(silent.sandbox.process.pid, signal.SIGCONT)
    event_id = silent.value("SELECT event_id FROM event_cursors")
    rows = [
        {"registration_id": number, "event_id": event_id, "user": {"first_name": "Ann"}, "last_modified": 1_790_000_000}
        for number in (900_000_002, 900_000_001)
    ]
    body = json.dumps([{"event": {"event_id": event_id}, "participants": rows}]).encode()
    silent.sandbox.admin.fault("raw", 0, endpoint="participants", body=base64.b64encode(body).decode())
    watch(silent)
    assert silent.value("SELECT count(*) FROM api_calls WHERE lane = 'race_day' AND error IS NOT NULL") == 0
    (problem,) = problems(silent)
    assert problem.kind == "polls_failing" and not problem.is_at_runsignup
    assert (
        "(answer has an unknown shape). The watch goes on polling. `rsu log --failed` shows the error"
        in problem.sentence
    )
    assert "read fails" in dict(on_board(silent))


def test_polls_without_a_call_left_are_named_as_that_and_not_as_a_dead_watch(silent: Hub) -> None:
    limit = 1000
    silent.environment["RSU_CALLS_PER_HOUR"] = str(limit)
    silent.execute(
        "INSERT INTO api_calls (credential_id, api_key_id, lane, endpoint, granted_at, settled_at)"
        " SELECT partner_provider_credential_id, api_key_id, 'race_day', 'participants', now() - interval '30 minutes', now()"
        " FROM partner_provider_credentials, generate_series(1, %s)",
        limit,
    )
    watch(silent)
    assert (
        silent.value(
            "SELECT count(*) FROM api_calls WHERE lane = 'race_day' AND granted_at > now() - interval '1 minute'"
        )
        == 0
    )
    (problem,) = problems(silent)
    race_id = silent.value("SELECT race_id FROM partner_races")
    assert problem.kind == "polls_failing" and not problem.is_at_runsignup
    assert f"race {race_id} has not been polled since 2" in problem.sentence
    assert "because its API key has no call left in this hour" in problem.sentence
    assert "no calls left" in dict(on_board(silent))
    # Calls are free for longer than a race may wait: the watch would have used them.
    silent.execute("UPDATE api_calls SET granted_at = now() - interval '70 minutes' WHERE lane = 'race_day'")
    assert [problem.kind for problem in problems(silent)] == ["dead_watch"]
    assert "not polled" in dict(on_board(silent))


def test_calls_are_used_up_while_the_newest_hour_is_full_and_until_its_first_call_is_an_hour_old(silent: Hub) -> None:
    key = silent.value("SELECT api_key_id FROM partner_provider_credentials")
    minute = dt.timedelta(minutes=1)

    def used_up(*ago: float) -> bool:
        silent.execute("DELETE FROM api_calls")
        for minutes in ago:
            silent.execute(
                "INSERT INTO api_calls (credential_id, api_key_id, lane, endpoint, granted_at, settled_at) SELECT"
                " partner_provider_credential_id, api_key_id, 'race_day', 'participants', now() - %s, now()"
                " FROM partner_provider_credentials",
                minutes * minute,
            )
        with database.session(silent.url, purpose="tests") as conn:
            return call_ledger.find_used_up(conn, {key: minute}, 3) == {key}

    assert used_up(59, 30, 1) and used_up(60.5, 30, 1)
    # Full until more than a minute ago, never full, and three calls in more than an hour.
    assert not used_up(61.5, 30, 5) and not used_up(30, 1) and not used_up(60.9, 60.8, 0.5)


def test_a_race_that_is_read_again_is_named_no_more(silent: Hub) -> None:
    watch(silent)
    os.kill(silent.sandbox.process.pid, signal.SIGCONT)
    silent.sync()
    assert problems(silent) == [] == on_board(silent)
