"""What the client sends, and what it makes of answers that are no faults."""

import email.utils
import gzip
import os
import signal
import time
from collections.abc import Iterator
from math import ceil
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.runsignup import transport
from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline.runsignup.client import Client, Credential
from rsu_pipeline.runsignup.pages import Page
from rsu_pipeline_tests.runsignup.conftest import Api
from rsu_pipeline_tests.runsignup.tools import (
    KEY,
    REGISTRATION,
    REGISTRATION_SECRET,
    SECRET,
    CountingLedger,
    Sleeps,
    client,
    http,
    raw_server,
)

RACE = b'{"race":{"race_id":7}}'


def sent(head: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return path, parameters and headers (lower case) of a request."""
    first, *lines = head.splitlines()
    address = urlsplit(first.split()[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return address.path, dict(parse_qsl(address.query, keep_blank_values=True)), headers


def answer_all(head: str) -> list[bytes]:
    path, _, _ = sent(head)
    if path.endswith("participants"):
        return [http(b"[]")]
    return [http(b'{"races":[]}' if path.endswith("races") else RACE)]


def four_calls(calls: Client) -> None:
    calls.races_page(3)
    calls.race(7)
    calls.participants_page(7, [1, 2], after=50, size=2500, modified_after=1_790_000_000)
    calls.removed_page(7, [1, 2], after=0)


def requests_of(credential: Credential, **options: Any) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    with raw_server(answer_all) as server:
        four_calls(client(server.url, CountingLedger(), credential, **options))
    return [sent(head) for head in server.heads]


def test_each_call_asks_for_what_its_page_of_the_documentation_says() -> None:
    races, race, participants, removed = requests_of(Credential(KEY, SECRET))
    access = {"format": "json", "api_key": KEY, "api_secret": SECRET}
    assert races[:2] == (
        "/races",
        access
        | {"events": "T", "start_date": "1990-01-01", "page": "3", "results_per_page": "1000", "sort": "name ASC"},
    )
    assert race[:2] == ("/race/7", access)
    people = access | {"supports_nb": "T", "sort": "registration_id ASC", "event_id": "1,2"}
    assert participants[:2] == (
        "/race/7/participants",
        people | {"results_per_page": "2500", "after_registration_id": "50", "modified_after_timestamp": "1790000000"},
    )
    assert removed[:2] == ("/race/7/removed-participants", people | {"results_per_page": "1000"})


@pytest.mark.parametrize("scheme", ["rsu_api_key", "sp_api_key"])
@pytest.mark.parametrize("secret", [SECRET, "schlüssel-ключ-鍵"])
def test_a_header_scheme_sends_the_secret_in_the_header_only(scheme: str, secret: str) -> None:
    for path, query, headers in requests_of(Credential(KEY, secret, scheme)):
        assert query[scheme] == KEY
        assert secret not in path
        assert secret not in query.values()
        assert "api_secret" not in query
        assert headers["x-rsu-api-secret"].encode("latin-1").decode() == secret
        assert query["format"] == "json"


def test_the_plain_scheme_sends_no_secret_header() -> None:
    for _, _, headers in requests_of(Credential(KEY, SECRET)):
        assert not [name for name in headers if name.startswith("x-rsu")]


def test_a_caller_registration_goes_along_with_every_call() -> None:
    options = {"registration": REGISTRATION, "registration_secret": REGISTRATION_SECRET}
    for scheme in ("api_key", "rsu_api_key"):
        for path, query, headers in requests_of(Credential(KEY, SECRET, scheme), **options):
            assert query["rsu_api_reg"] == REGISTRATION
            assert headers["x-rsu-api-reg-secret"] == REGISTRATION_SECRET
            assert REGISTRATION_SECRET not in f"{path} {query}"


def test_a_registration_that_runsignup_demands_is_accepted_and_its_lack_a_configuration_fault(api: Api) -> None:
    api.admin.switch(registration_required=True)
    with pytest.raises(ApiError) as caught:
        client(api.url, CountingLedger(), api.credential).race(api.race_id)
    assert (caught.value.cause, caught.value.code) == (Cause.REGISTRATION_REFUSED, 17)
    registration, secret = api.admin.caller_registration()
    options = {"registration": registration, "registration_secret": secret}
    race, _ = client(api.url, CountingLedger(), api.credential, **options).race(api.race_id)
    assert race.race_id == api.race_id


def test_a_key_in_the_header_scheme_reads_registrations(api: Api) -> None:
    credential = Credential(api.credential.key, api.credential.secret, "rsu_api_key")
    page = client(api.url, CountingLedger(), credential).participants_page(api.race_id, api.event_ids, after=0, size=50)
    assert tuple(row.registration_id for row in page.rows) == api.ids


def read_all(calls: Client, api: Api, size: int) -> list[Page]:
    pages, after = [], 0
    while True:
        page = calls.participants_page(api.race_id, api.event_ids, after=after, size=size)
        pages.append(page)
        if page.next.covered_to is None:
            return pages
        after = page.next.covered_to


@pytest.mark.parametrize("layout", ["last", "own", "first"])
@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"ints_as_strings": True, "pretty": True},
        {"template_row": True},
        {"duplicate_row": True},
    ],
)
def test_every_layout_and_spelling_gives_every_registration_at_any_page_size(
    api: Api, layout: str, switches: dict[str, Any]
) -> None:
    api.admin.switch(layout=layout, **switches)
    for size in (1, 7, 23, 24):
        api.admin.reset_stats()
        pages = read_all(client(api.url, CountingLedger(), api.credential), api, size)
        rows = [row for page in pages for row in page.rows]
        assert sorted({row.registration_id for row in rows}) == list(api.ids)
        assert {row.event_id for row in rows} == set(api.event_ids)
        assert [page.unreadable for page in pages] == [[] for _ in pages]
        if "duplicate_row" not in switches:
            assert len(rows) == len(api.ids)
            assert len(pages) == api.admin.stats()["calls"] == ceil(len(api.ids) / size) + 1


@pytest.mark.parametrize("switch", ["repeat_page", "unsorted"])
def test_a_page_sent_again_or_out_of_order_ends_the_pass(api: Api, switch: str) -> None:
    api.admin.switch(**{switch: True})
    with pytest.raises(ApiError) as caught:
        read_all(client(api.url, CountingLedger(), api.credential), api, 9)
    assert caught.value.cause is Cause.UNKNOWN_SHAPE
    assert caught.value.where == f"participants of race {api.race_id}"


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize("mangled", [False, True])
def test_removed_rows_are_read_from_either_place_once(api: Api, mangled: bool, pretty: bool) -> None:
    api.admin.switch(mangle_removed_shape=mangled, pretty=pretty)
    page = client(api.url, CountingLedger(), api.credential).removed_page(api.race_id, api.event_ids, after=0)
    # One element for each event, so the ids rise within an event only.
    assert sorted(row.registration_id for row in page.rows) == sorted(api.removed)
    assert {row.event_id for row in page.rows} <= set(api.event_ids)
    assert {row.removed_reason for row in page.rows} == {"cleared"}
    assert page.next.is_short and not page.next.is_last


def test_an_unreadable_row_is_handed_over_as_sent_and_the_rest_of_its_page_read() -> None:
    bad = [b'{"registration_id":"x","event_id":1}', b'{"registration_id":6,"event_id":"y"}', b"17", b'"\\ud800"']
    good = [b'{"registration_id":%d,"event_id":1}' % number for number in (5, 7, 8)]
    body = b'[{"event":{"event_id":1},"participants":[%b]}]' % b",".join((*good[:2], *bad, good[2]))
    with raw_server(lambda head: [http(body)]) as server:
        page = client(server.url, CountingLedger()).participants_page(7, [1], after=0, size=100)
    assert [row.registration_id for row in page.rows] == [5, 7, 8]
    assert [row.raw for row in page.unreadable] == bad
    assert [row.registration_id for row in page.unreadable] == [None, 6, None, None]
    assert all(row.reason for row in page.unreadable)


def test_an_unreadable_race_is_handed_over_as_sent_and_the_rest_of_the_listing_read() -> None:
    body = b'{"races":[{"race":{"race_id":1}},{"race":{"race_id":null}},{"race":[]},{"race":{"race_id":2}}]}'
    with raw_server(lambda head: [http(body)]) as server:
        page = client(server.url, CountingLedger()).races_page(1)
    assert [race.race_id for race in page.races] == [1, 2] and page.is_short
    assert [row.raw for row in page.unreadable] == [b'{"race_id":null}', b"[]"]
    assert not page.is_last


def test_another_race_than_the_one_asked_for_is_refused() -> None:
    with raw_server(lambda head: [http(RACE)]) as server, pytest.raises(ApiError) as caught:
        client(server.url, CountingLedger()).race(8)
    assert caught.value.cause is Cause.UNKNOWN_SHAPE


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ("204 No Content", Cause.REFUSED),
        ("400 Bad", Cause.REFUSED),
        ("401 Who", Cause.SERVER),
        ("403 No", Cause.SERVER),
        ("404 Where", Cause.REFUSED),
        ("408 Slow", Cause.TIMEOUT),
        ("429 Many", Cause.THROTTLED),
        ("500 Oops", Cause.SERVER),
        ("502 Gateway", Cause.SERVER),
        ("503 Busy", Cause.SERVER),
        ("504 Gateway", Cause.SERVER),
        ("522 Edge", Cause.SERVER),
        ("599 Edge", Cause.SERVER),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"races":[]}', b'{"error":"odd"}'])
def test_a_status_without_an_error_object_is_told_by_itself(status: str, cause: Cause, body: bytes) -> None:
    body = b"" if status.startswith("204") else body
    with raw_server(lambda head: [http(body, status)]) as server, pytest.raises(ApiError) as caught:
        client(server.url, CountingLedger(), attempts=1).races_page(1)
    assert caught.value.cause is cause
    assert status[:3] in str(caught.value)


@pytest.mark.parametrize("status", ["400 Bad", "429 Many", "500 Oops"])
def test_an_error_object_says_more_than_its_status(status: str) -> None:
    body = b'{"error":{"error_code":"301","error_msg":"Event not found."},"error_details":[{"error_msg":"x"}]}'
    with raw_server(lambda head: [http(body, status)]) as server, pytest.raises(ApiError) as caught:
        client(server.url, CountingLedger()).races_page(1)
    assert caught.value.cause is Cause.EVENT_NOT_FOUND


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 8),
        ("2.5", 2.5, 3.5),
        ("100000", 60, 61),
        ("-4", 0, 1),
        ("nan", 0, 1),
        ("inf", 60, 61),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0, 1),
        ("soon", 0, 1),
    ],
)
@pytest.mark.parametrize("status", ["200 OK", "429 Many", "503 Busy"])
def test_a_pause_asked_for_is_made_within_reason_at_any_status(
    header: str, least: float, most: float, status: str
) -> None:
    body = b'{"error":{"error_code":14,"error_msg":"Request throttled."}}'
    sleeps = Sleeps()
    with raw_server(lambda head: [http(body, status, f"Retry-After: {header}")]) as server, pytest.raises(ApiError):
        client(server.url, CountingLedger(), attempts=2, sleep=sleeps, backoff=0).races_page(1)
    (pause,) = sleeps.seconds
    assert least <= pause <= most


def test_the_servers_clock_is_read_from_its_answer() -> None:
    with raw_server(lambda head: [http(b"[]", "200 OK", "Date: Sat, 03 Oct 2026 21:25:50 GMT")]) as server:
        page = client(server.url, CountingLedger()).participants_page(7, [1], after=0, size=10)
    assert page.server_time == 1_791_062_750


@given(st.one_of(st.text(max_size=60), st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} [\d:]{5,9} ?\S*")))
def test_a_date_that_cannot_be_read_is_replaced_by_our_own_clock(header: str) -> None:
    before = int(time.time())
    told = transport.server_time(header)
    try:
        parsed = int(email.utils.parsedate_to_datetime(header).timestamp())
    except (TypeError, ValueError, OverflowError):
        parsed = -1
    if 0 <= parsed <= before + transport.MAX_CLOCK_SKEW_SECONDS:
        assert told == parsed
    else:
        assert before <= told <= int(time.time())


@given(st.text(max_size=30))
def test_a_pause_that_cannot_be_read_is_none(header: str) -> None:
    pause = transport.retry_after(header)
    assert pause is None or pause >= 0


def test_an_answer_that_dribbles_is_cut_off_long_before_its_end() -> None:
    pieces: list[int] = []

    def dribble(head: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        for number in range(3000):
            pieces.append(number)
            time.sleep(0.01)
            yield b" "

    ledger = CountingLedger()
    with raw_server(dribble) as server:
        with pytest.raises(ApiError) as caught:
            client(server.url, ledger, attempts=1, total_timeout=0.3).races_page(1)
        assert len(pieces) < 1500
    assert caught.value.cause is Cause.TIMEOUT
    assert [one.error for one in ledger.outcomes] == [Cause.TIMEOUT.value]


@pytest.mark.parametrize(("retries", "calls"), [(True, 3), (False, 1)])
def test_a_time_out_is_repeated_unless_the_next_poll_is_the_repetition(retries: bool, calls: int) -> None:
    def hang(head: str) -> Iterator[bytes]:
        time.sleep(0.5)
        yield b""

    ledger = CountingLedger()
    with raw_server(hang) as server, pytest.raises(ApiError):
        client(server.url, ledger, attempts=3, total_timeout=0.1, retries_timeouts=lambda: retries).races_page(1)
    assert len(ledger.outcomes) == calls


@pytest.mark.parametrize("framing", ["plain", "gzip", "chunked", "until closed"])
def test_a_body_is_read_whole_however_it_is_framed_and_cut(framing: str) -> None:
    rows = b",".join(b'{"registration_id":%d,"event_id":1}' % number for number in range(1, 5001))
    body = b'[{"event":{"event_id":1},"participants":[%b]}]' % rows

    def answer(head: str) -> Iterator[bytes]:
        packed = gzip.compress(body) if framing == "gzip" else body
        yield b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
        if framing == "gzip":
            yield b"Content-Encoding: gzip\r\n"
        if framing == "chunked":
            yield b"Transfer-Encoding: chunked\r\n\r\n"
        elif framing == "until closed":
            yield b"\r\n"
        else:
            yield b"Content-Length: %d\r\n\r\n" % len(packed)
        for start in range(0, len(packed), 7001):
            piece = packed[start : start + 7001]
            yield b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece
        if framing == "chunked":
            yield b"0\r\n\r\n"

    ledger = CountingLedger()
    with raw_server(answer) as server:
        page = client(server.url, ledger).participants_page(7, [1], after=0, size=10_000)
    assert [row.registration_id for row in page.rows] == list(range(1, 5001))
    (outcome,) = ledger.outcomes
    assert (outcome.status, outcome.error, outcome.size, outcome.rows) == (200, None, len(body), 5000)


def test_a_chunked_body_that_breaks_off_is_a_broken_connection() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n"
    with raw_server(lambda head: [answer]) as server, pytest.raises(ApiError) as caught:
        client(server.url, CountingLedger(), attempts=1).participants_page(7, [1], after=0, size=10)
    assert caught.value.cause is Cause.CONNECTION


def test_an_answer_beyond_all_measure_is_not_taken_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_BODY_BYTES", 1 << 20)
    bomb = http(gzip.compress(b" " * (20 << 20)), "200 OK", "Content-Encoding: gzip")
    ledger = CountingLedger()
    with raw_server(lambda head: [bomb]) as server, pytest.raises(ApiError) as caught:
        client(server.url, ledger).races_page(1)
    assert caught.value.cause is Cause.UNKNOWN_SHAPE
    assert len(ledger.outcomes) == 1


def test_a_call_that_the_operator_interrupts_is_settled_as_such() -> None:
    def interrupt(head: str) -> list[bytes]:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        return []

    ledger = CountingLedger()
    with raw_server(interrupt) as server, pytest.raises(KeyboardInterrupt):
        client(server.url, ledger).races_page(1)
    assert [(one.status, one.error) for one in ledger.outcomes] == [(None, "interrupted")]


def test_after_close_no_connection_is_left(api: Api) -> None:
    calls = client(api.url, CountingLedger(), api.credential)
    calls.race(api.race_id)
    pool = calls._session.get_adapter(api.url).poolmanager  # type: ignore[attr-defined]
    assert len(pool.pools) == 1
    calls.close()
    assert len(pool.pools) == 0
