"""An answer without end, in time or in size, ends: with one sentence, and soon."""

import time

import pytest

from rsu_pipeline.runsignup import transport
from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline_tests.hostile.server import HostileServer
from rsu_pipeline_tests.runsignup.tools import CountingLedger, client

SLOW = "slow_status slow_header slow_headers slow_body slow_chunk_line slow_trailers slow_gzip slow_continue".split()
FLOODS = {
    "flood_continue": "answer larger than 2 MiB",
    "flood_body": "answer larger than 2 MiB",
    "flood_chunks": "answer larger than 2 MiB",
    "flood_gzip": "answer larger than 2 MiB",
    "flood_chunk_line": "",
    "flood_headers": "",
    "flood_header": "",
    "bomb": "answer larger than 2 MiB",
    "bomb_in_bomb": "answer larger than 2 MiB",
}


@pytest.mark.parametrize("name", SLOW)
def test_bytes_that_come_one_by_one_do_not_stretch_the_total_time_out(hostile: HostileServer, name: str) -> None:
    ledger = CountingLedger()
    # No single wait is longer than the server's pause, which is far below the read time-out.
    calls = client(hostile.playing(name), ledger, attempts=1, read_timeout=5, total_timeout=0.4)
    began = time.monotonic()
    with pytest.raises(ApiError) as caught:
        calls.participants_page(7, [1], after=0, size=10)
    assert time.monotonic() - began < 5
    assert (caught.value.cause, caught.value.detail) == (Cause.TIMEOUT, "answer not complete after 0.4 s")
    assert [one.error for one in ledger.outcomes] == [Cause.TIMEOUT.value]


@pytest.mark.parametrize("name", FLOODS)
def test_an_endless_or_exploding_answer_is_cut_off_at_the_cap(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(transport, "MAX_BODY_BYTES", 2 << 20)
    ledger = CountingLedger()
    calls = client(hostile.playing(name), ledger, attempts=1, total_timeout=30)
    began = time.monotonic()
    with pytest.raises(ApiError) as caught:
        calls.races_page(1)
    assert time.monotonic() - began < 15
    assert caught.value.cause is (Cause.UNKNOWN_SHAPE if FLOODS[name] else Cause.CONNECTION)
    assert FLOODS[name] in caught.value.detail
    assert len(ledger.outcomes) == 1


def test_a_call_that_was_cut_off_leaves_the_client_fit_for_the_next(hostile: HostileServer) -> None:
    calls = client(hostile.playing("slow_body"), CountingLedger(), attempts=1, total_timeout=0.3)
    for _ in range(2):
        with pytest.raises(ApiError):
            calls.race(7)
    # One answer's bounds are not the next one's, also on a connection kept alive.
    calls._base_url = hostile.playing("elsewhere")
    hostile.heads()
    for _ in range(3):
        assert calls.race(7)[0].race_id == 7
        time.sleep(0.2)
    assert len(hostile.heads()) == 3


def test_names_of_commas_do_not_count_as_members(hostile: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    page = client(hostile.playing("commas_in_strings"), CountingLedger()).participants_page(7, [1], after=0, size=10)
    assert [row.registration_id for row in page.rows] == [1, 2, 3]
    assert not page.unreadable
