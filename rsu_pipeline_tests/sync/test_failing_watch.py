"""Which failed polls show that the watch goes on, and the sentence about each cause."""

import datetime as dt

import pytest

from rsu_pipeline.settings import load_settings
from rsu_pipeline.sync.failing_watch import describe_failing_poll, select_going_on
from rsu_pipeline.warehouse.failed_polls import FailedPoll

NOW = dt.datetime(2026, 6, 13, 12, 0, tzinfo=dt.UTC)
ALLOWED = dict.fromkeys((1, 2), dt.timedelta(seconds=60))


def poll(race_id: int, ago: float, *, budget: int = 1, cause: str = "no complete answer in time") -> FailedPoll:
    return FailedPoll(1, race_id, budget, cause, NOW - dt.timedelta(seconds=ago))


def going_on(*polls: FailedPoll, **environment: str) -> set[int]:
    return {race_id for _, race_id in select_going_on(polls, ALLOWED, NOW, load_settings(environment))}


def test_failed_polls_show_that_the_watch_goes_on_while_they_are_recorded() -> None:
    assert going_on(poll(1, 119)) == {1}
    assert going_on(poll(1, 121)) == set()


def test_races_that_do_not_answer_are_polled_one_after_another() -> None:
    assert going_on(*(poll(race, 60 * race) for race in range(1, 11))) == set(range(1, 11))
    # Once the newest poll is old, none goes on.
    assert going_on(*(poll(race, 60 * race + 62) for race in range(1, 11))) == set()


def test_a_shard_that_goes_on_does_not_speak_for_one_that_has_stopped() -> None:
    polls = poll(1, 5, budget=1), poll(2, 130, budget=2)
    assert going_on(*polls) == {1, 2}
    assert going_on(*polls, RSU_WATCH_SHARDS="2") == {1}


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("no complete answer in time", "RunSignup has not answered race 7 since 2026-06-13 11:58 UTC"),
        ("connection failed", "check RunSignup's status and the network"),
        ("server error", "RunSignup has answered race 7 with errors since 2026-06-13 11:58 UTC (server error)"),
        (
            "call budget used up",
            "because its API key has no call left in this hour. The watch polls it as calls become free",
        ),
        ("request refused", "`rsu log --failed` shows the error"),
    ],
)
def test_the_cause_decides_the_sentence(cause: str, words: str) -> None:
    sentence = describe_failing_poll(poll(7, 5, cause=cause), NOW - dt.timedelta(minutes=2))
    assert words in sentence and ("The watch goes on polling" in sentence) == (cause != "call budget used up")
    assert ("nothing to do here" in sentence) == (cause not in ("request refused", "call budget used up"))
