"""Answers that break HTTP's rules, or have another type than their header."""

import pytest

from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline_tests.hostile.server import HostileServer
from rsu_pipeline_tests.runsignup.tools import CountingLedger, client

# What is played, why the call fails (None: it does not), and the words for it.
ANSWERS: dict[str, tuple[Cause | None, str]] = {
    "shorter": (Cause.CONNECTION, "ProtocolError"),
    "two_lengths": (Cause.REFUSED, "InvalidHeader"),
    "page": (Cause.NOT_JSON, "HTML"),
    "utf16": (Cause.NOT_JSON, "bytes of something else"),
    "text": (None, ""),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_what_it_holds_and_not_what_it_says(hostile: HostileServer, name: str) -> None:
    cause, said = ANSWERS[name]
    calls = client(hostile.playing(name), CountingLedger(), attempts=1)
    if cause is None:
        assert calls.race(7)[0].race_id == 7
        return
    with pytest.raises(ApiError) as caught:
        calls.race(7)
    assert (caught.value.cause, said in caught.value.detail) == (cause, True)


def test_what_comes_after_an_answer_is_never_taken_for_the_next(hostile: HostileServer) -> None:
    """More than Content-Length, and the rest is an answer of its own for the next call."""
    calls = client(hostile.playing("longer"), CountingLedger(), attempts=1)
    hostile.heads()
    for _ in range(3):
        race, _ = calls.race(7)
        assert race.name is None, "the forged answer"
    assert len(hostile.heads()) == 3
