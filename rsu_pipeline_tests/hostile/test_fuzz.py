"""Whatever an answer's bytes, decoding gives rows or one of the foreseen errors, and rows can be staged.

RSU_FUZZ_EXAMPLES is how many bodies of each kind are tried: 200 unless set. 50,000 take a quarter of an hour.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsu_pipeline.runsignup import envelopes
from rsu_pipeline.runsignup.api_errors import ApiError
from rsu_pipeline.runsignup.client import _parse
from rsu_pipeline.runsignup.payload_decoding import decode_events, decode_race, decode_registration
from rsu_pipeline.runsignup.payloads import RowUnreadable
from rsu_pipeline.runsignup.transport import Response
from rsu_pipeline.sync.race_rows import event_row, race_row
from rsu_pipeline.sync.registration_rows import stage_registration
from rsu_pipeline_tests.runsignup.tools import CountingLedger, RawServer, client, raw_server
from runsignup_sandbox.process import SandboxProcess

EXAMPLES = int(os.environ.get("RSU_FUZZ_EXAMPLES", "200"))
STATUSES = st.sampled_from([200] * 8 + [204, 302, 400, 401, 414, 429, 500])

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20)
    | st.sampled_from(
        [0, -1, 2**63, -(2**63) - 1, 2**31, "$1,234.50", "1/2/2026 07:30", "12/31/9999 23:59", "0000-00-00"]
    )
    | st.sampled_from(
        ["T", "F", "", " ", "NaN", "-Infinity", "1e400", "\x00", "\ud800", "=1", "9" * 4400, "@" + "9" * 4400, "007"]
    )
)
NAMES = st.sampled_from(
    "event event_id participants races race race_id events registration_id user address dob bib_num age last_modified"
    " last_modified_ts registration_date race_fee team_id sub_event_ids start_time timezone error error_code error_msg"
    " removed_reason new_registration_id multi_race_bundle name raw faults".split()
) | st.text(st.characters(exclude_categories=()), max_size=6)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=15
)
TOKENS = st.sampled_from(
    [
        *(
            b"null",
            b"NaN",
            b"-Infinity",
            b"1e999",
            b"9" * 4400,
            b'"\\ud800"',
            b'"\\udc00\\u0000"',
            b"\xff",
            b"\xc3",
            b"\x00",
        ),
        *(
            b'"',
            b"\\",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"[" * 300,
            b'{"a":' * 300,
            b'"registration_id":',
            b"-",
            b"0",
        ),
        b"\xef\xbb\xbf",
    ]
)


def read_registrations(body: bytes) -> None:
    for element in envelopes.participants(body):
        for raw in element.rows:
            row = decode_registration(raw, event_id=element.event_id)
            line, faults = stage_registration(row, 1)
            row.removed_reason = "removed"
            removed, _ = stage_registration(row, 1)
            assert b"\n" not in line + removed and line.count(b"\t") == removed.count(b"\t")
            assert all(fault.isprintable() and len(fault) < 300 for fault in faults), faults


def read_races(body: bytes) -> None:
    read_each(envelopes.races(body))


def read_race(body: bytes) -> None:
    read_each([envelopes.race(body)])


def read_each(raws: Sequence[bytes]) -> None:
    for raw in raws:
        race = decode_race(raw)
        row, faults = race_row(race)
        json.dumps(row)
        events, unreadable = decode_events(race)
        for event in events:
            row, wrong = event_row(event, race, assumed_hours=6)
            json.dumps(row)
            faults += wrong
        assert all(text.isprintable() and len(text) < 300 for text in faults + unreadable), faults + unreadable


READERS: list[Callable[[bytes], None]] = [read_registrations, read_races, read_race]


def take(body: bytes, status: int) -> None:
    """Read an answer with each of the client's readers. Any other exception than the two is a failure."""
    for read in READERS:
        try:
            _parse(Response(status, body, 0, None), read)
        except ApiError as error:
            assert str(error)
        except RowUnreadable as error:
            assert str(error).isprintable()


@pytest.fixture(scope="module")
def bodies(session_sandbox: SandboxProcess) -> list[bytes]:
    """Answer as they are, of each endpoint."""
    admin = session_sandbox.admin
    race_id, events = admin.add_race(1, [{"name": "One", "start_in_hours": 30}, {"name": "Two", "start_in_hours": 31}])
    numbers = [number for event_id in events for number in admin.register(event_id, count=2)]
    admin.bib(numbers[0], 17)
    admin.remove(numbers[-1], "cleared")
    key = admin.partners()[0]
    access = {"format": "json", "api_key": key["key"], "api_secret": key["secret"], "events": "T"}
    people = access | {"event_id": ",".join(map(str, events)), "sort": "registration_id ASC"}
    paths = {
        "races": access | {"name": "Added", "start_date": "1990-01-01", "results_per_page": "2"},
        f"race/{race_id}": access,
        f"race/{race_id}/participants": people,
        f"race/{race_id}/removed-participants": people,
        f"race/{race_id}/unknown": access,
    }
    found = [
        requests.get(f"{session_sandbox.api_url}/{path}", params, timeout=10).content for path, params in paths.items()
    ]
    for body in found[:-1]:
        take(body, 200)
    read_registrations(found[2])
    return found


def replaced(value: Any, path: Sequence[int], new: Any) -> Any:
    """Return `value` with one thing somewhere in it replaced, at the place that the numbers of `path` give."""
    if not path or not isinstance(value, dict | list) or not value:
        return new
    place, *rest = path
    if isinstance(value, list):
        place %= len(value)
        return [*value[:place], replaced(value[place], rest, new), *value[place + 1 :]]
    name = list(value)[place % len(value)]
    return value | {name: replaced(value[name], rest, new)}


FUZZ = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))


@FUZZ
@given(VALUES, STATUSES)
def test_any_json(value: Any, status: int) -> None:
    take(_dumped(value), status)


@FUZZ
@given(st.binary(max_size=200) | st.lists(TOKENS | st.binary(max_size=3), max_size=30).map(b"".join), STATUSES)
def test_any_bytes(body: bytes, status: int) -> None:
    take(body, status)


@FUZZ
@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.lists(st.integers(0, 40), min_size=1, max_size=6), VALUES), min_size=1, max_size=4),
    STATUSES,
)
def test_an_answer_with_other_values_in_it(bodies: list[bytes], which: int, changes: Any, status: int) -> None:
    value = json.loads(bodies[which])
    for path, new in changes:
        value = replaced(value, path, new)
    take(_dumped(value), status)


@FUZZ
@given(
    st.integers(0, 4),
    st.lists(
        st.tuples(st.integers(0, 10**5), st.integers(0, 40), TOKENS | st.binary(max_size=4)), min_size=1, max_size=5
    ),
)
def test_an_answer_with_other_bytes_in_it(bodies: list[bytes], which: int, cuts: Any) -> None:
    body = bodies[which]
    for place, length, new in cuts:
        place %= len(body) or 1
        body = body[:place] + new + body[place + length :]
    take(body, 200)


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[RawServer, list[bytes]]]:
    """Provide a server, and the answers that it gives."""
    answer: list[bytes] = []
    with raw_server(lambda head: list(answer)) as server:
        yield server, answer


@settings(max_examples=min(EXAMPLES, 3000), suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(["Date", "Retry-After", "Content-Encoding", "Content-Type", "Set-Cookie", "Location"])),
    st.binary(max_size=40)
    | st.from_regex(rb"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,25} \d\d:\d\d:\d\d [+-]\d{1,30}"),
)
def test_any_headers(echo: tuple[RawServer, list[bytes]], names: list[str], value: bytes) -> None:
    """The whole client against a server that sends them."""
    server, answer = echo
    line = re.sub(rb"[\r\n]", b" ", value)
    heads = b"".join(b"%b: %b\r\n" % (name.encode(), line) for name in names)
    answer[:] = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n" + heads + b"\r\n[]"]
    try:
        page = client(server.url, CountingLedger(), attempts=1).participants_page(7, [1], after=0, size=10)
        assert page.server_time >= 0
    except ApiError as error:
        assert str(error)


def _dumped(value: Any) -> bytes:
    """Return JSON of anything, with numbers of thousands of digits in place of texts that begin with @."""
    return re.sub(rb'"@(\d+)"', rb"\1", json.dumps(value).encode())
