"""No key, secret or query string in a text, a log or a traceback, whatever goes wrong."""

import logging
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline.runsignup.client import MAX_DETAIL_CHARS, Client, Credential
from rsu_pipeline_tests.runsignup.conftest import Api
from rsu_pipeline_tests.runsignup.test_faults import FAULTS, SLOW_FAULTS
from rsu_pipeline_tests.runsignup.tools import (
    CREDENTIAL,
    KEY,
    REGISTRATION,
    REGISTRATION_SECRET,
    SECRET,
    CountingLedger,
    client,
    http,
    raw_server,
)

HEADER_CREDENTIAL = Credential(KEY, SECRET, "rsu_api_key")
QUERY = re.compile(r"[?&]\w+=|api_key=|api_secret|rsu_api_reg=|results_per_page")
WITH_REGISTRATION = {"registration": REGISTRATION, "registration_secret": REGISTRATION_SECRET}


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Provide everything that is logged, the root logger and those of the HTTP libraries at DEBUG."""
    names = ["urllib3", "urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry", "requests"]
    levels = {name: logging.getLogger(name).level for name in names}
    caplog.set_level(logging.DEBUG)
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield caplog
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the exception and its causes, suppressed contexts too."""
    if error is not None:
        yield error
        yield from chain(error.__cause__)
        if error.__context__ is not error.__cause__:
            yield from chain(error.__context__)


def assert_silent(error: ApiError, told: pytest.LogCaptureFixture, ledger: CountingLedger, calls: Client) -> None:
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    texts = [str(error), repr(error), error.detail, error.where, repr(error.args), repr(calls), repr(vars(error))]
    texts += traceback.format_exception(error)
    texts += [f"{one!r} {one}" for one in chain(error)]
    texts += [formatter.format(record) for record in told.records]
    texts += [str(outcome) for outcome in ledger.outcomes]
    for text in texts:
        assert not QUERY.search(text), text
        for secret in (KEY, SECRET, REGISTRATION, REGISTRATION_SECRET):
            assert secret not in text
            assert secret.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D") not in text


@pytest.mark.parametrize("scheme", ["api_key", "rsu_api_key"])
@pytest.mark.parametrize("kind", [fault[0] for fault in FAULTS + SLOW_FAULTS])
def test_no_fault_makes_the_client_tell_a_secret(
    api: Api, told: pytest.LogCaptureFixture, kind: str, scheme: str
) -> None:
    api.admin.fault(kind, 0, seconds=5)
    ledger = CountingLedger()
    told.clear()
    credential = Credential(KEY, SECRET, scheme)
    options = {"attempts": 2, "read_timeout": 0.2, "total_timeout": 0.2, **WITH_REGISTRATION}
    calls = client(api.url, ledger, credential, **options)
    with pytest.raises(ApiError) as caught:
        calls.participants_page(api.race_id, api.event_ids, after=0, size=100)
    # What the test's own admin client logs is another matter.
    told.records[:] = [record for record in told.records if "/admin/" not in record.getMessage()]
    assert_silent(caught.value, told, ledger, calls)


@pytest.mark.parametrize("where", ["http://127.0.0.1:9", "https://no-such-host.invalid", "http://[", "ftp://127.0.0.1"])
def test_a_server_that_cannot_be_reached_makes_no_secret_known(told: pytest.LogCaptureFixture, where: str) -> None:
    ledger = CountingLedger()
    calls = client(where, ledger, attempts=2, **WITH_REGISTRATION)
    with pytest.raises(ApiError) as caught:
        calls.race(7)
    assert caught.value.cause in (Cause.CONNECTION, Cause.REFUSED)
    assert_silent(caught.value, told, ledger, calls)


def test_an_address_that_no_call_can_be_made_to_is_not_tried_again() -> None:
    ledger = CountingLedger()
    with pytest.raises(ApiError) as caught:
        client("ftp://127.0.0.1", ledger).race(7)
    assert caught.value.cause is Cause.REFUSED
    assert len(ledger.outcomes) == 1


def test_a_failed_tls_handshake_makes_no_secret_known(api: Api, told: pytest.LogCaptureFixture) -> None:
    ledger = CountingLedger()
    calls = client(api.url.replace("http:", "https:"), ledger, attempts=1, **WITH_REGISTRATION)
    told.clear()
    with pytest.raises(ApiError) as caught:
        calls.race(7)
    assert caught.value.cause is Cause.CONNECTION
    assert "SSLError" in caught.value.detail
    assert_silent(caught.value, told, ledger, calls)


@pytest.mark.parametrize(
    "answer",
    [
        # The first of these makes urllib3 warn, with the whole address.
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno colon here\r\n\r\n{}",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnogz",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_server_that_breaks_the_protocol_makes_no_secret_known(told: pytest.LogCaptureFixture, answer: bytes) -> None:
    with raw_server(lambda head: [answer]) as server:
        ledger = CountingLedger()
        calls = client(server.url, ledger, attempts=1, **WITH_REGISTRATION)
        with pytest.raises(ApiError) as caught:
            calls.race(7)
    assert_silent(caught.value, told, ledger, calls)


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "500 Oops"])
def test_a_server_that_repeats_what_it_was_sent_is_redacted(told: pytest.LogCaptureFixture, status: str) -> None:
    def echo(head: str) -> list[bytes]:
        # The address as it came, the secrets as they are; slashes escaped as PHP does.
        said = f"denied: {head} {SECRET} {KEY} {REGISTRATION}".replace('"', "").replace("\n", " ").replace("/", "\\/")
        return [http(f'{{"error":{{"error_code":7,"error_msg":"{said}"}}}}'.encode(), status)]

    with raw_server(echo) as server:
        ledger = CountingLedger()
        calls = client(server.url, ledger, HEADER_CREDENTIAL, **WITH_REGISTRATION)
        with pytest.raises(ApiError) as caught:
            calls.race(7)
    text = f"{caught.value} {caught.value!r} {ledger.outcomes}"
    assert caught.value.cause is Cause.NO_ACCESS
    assert "•••" in text
    for secret in (KEY, SECRET, REGISTRATION, REGISTRATION_SECRET, "canary%2Fsecret%2B42%3D"):
        assert secret not in text
    assert not told.records


def test_a_long_message_is_not_cut_in_the_middle_of_a_secret() -> None:
    pads = iter(range(MAX_DETAIL_CHARS - 60, MAX_DETAIL_CHARS + 5))

    def echo(head: str) -> list[bytes]:
        return [http(b'{"error":{"error_code":3,"error_msg":"%b%b"}}' % (b"x" * next(pads), SECRET.encode()))]

    with raw_server(echo) as server:
        calls = client(server.url, CountingLedger())
        for _ in range(65):
            with pytest.raises(ApiError) as caught:
                calls.race(7)
            assert "canary" not in str(caught.value)
            assert len(caught.value.detail) <= MAX_DETAIL_CHARS


def test_a_secret_that_begins_with_the_key_is_redacted_whole() -> None:
    answer = http(b'{"error":{"error_code":3,"error_msg":"abcdef-tail"}}')
    with raw_server(lambda head: [answer]) as server, pytest.raises(ApiError) as caught:
        client(server.url, CountingLedger(), Credential("abcdef", "abcdef-tail")).race(7)
    assert "tail" not in str(caught.value)


def test_a_message_over_many_lines_becomes_one_line() -> None:
    answer = http(rb'{"error":{"error_code":3,"error_msg":"one\r\n\ttwo\u0000"}}')
    with raw_server(lambda head: [answer]) as server, pytest.raises(ApiError) as caught:
        client(server.url, CountingLedger()).race(7)
    assert "one two" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_credential_shows_neither_key_nor_secret() -> None:
    assert repr(CREDENTIAL) == str(CREDENTIAL) == "Credential(scheme='api_key')"


def test_a_redirect_is_not_followed_with_the_credentials() -> None:
    with raw_server(lambda head: [http(b'{"race":{"race_id":7}}')]) as elsewhere:
        location = f"Location: {elsewhere.url}/rest/race/7"
        for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"):
            answer = http(b"", status, location)
            with raw_server(lambda head, answer=answer: [answer]) as server, pytest.raises(ApiError) as caught:
                client(server.url, CountingLedger()).race(7)
            assert caught.value.cause is Cause.REDIRECT
        assert elsewhere.heads == []


def test_neither_proxies_nor_netrc_of_the_environment_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other-password\n")
    netrc.chmod(0o600)
    with raw_server(lambda head: [http(b"{}")]) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NETRC", str(netrc))
        with raw_server(lambda head: [http(b'{"race":{"race_id":7}}')]) as server:
            race, _ = client(server.url, CountingLedger()).race(7)
        assert race.race_id == 7
        assert proxy.heads == []
    assert "authorization" not in server.head.lower()


class BrokenLedger(CountingLedger):
    """A ledger that fails as nobody foresaw, in one of its two methods."""

    def __init__(self, door: str) -> None:
        super().__init__()
        self._door = door

    def acquire(self, *, endpoint: str, race_id: int | None) -> int:
        if self._door == "acquire":
            raise RuntimeError("unforeseen")
        return super().acquire(endpoint=endpoint, race_id=race_id)

    def settle(self, grant: int, *, status: int | None, error: str | None, size: int, rows: int) -> None:
        if self._door == "settle":
            raise RuntimeError("unforeseen")
        super().settle(grant, status=status, error=error, size=size, rows=rows)


@pytest.mark.parametrize("scheme", ["api_key", "rsu_api_key"])
@pytest.mark.parametrize(("door", "answer"), [("", b"garbage\r\n\r\n"), ("acquire", b""), ("settle", http(b"{}"))])
def test_a_traceback_with_its_local_variables_tells_no_secret(door: str, answer: bytes, scheme: str) -> None:
    """As reporters of errors collect them: every variable of every frame of the project and of the HTTP libraries."""
    with raw_server(lambda head: [answer]) as server:
        calls = client(server.url, BrokenLedger(door), Credential(KEY, SECRET, scheme), attempts=1, **WITH_REGISTRATION)
        with pytest.raises((ApiError, RuntimeError)) as caught:
            calls.race(7)
    shown = [
        f"{frame.filename} {frame.name} {name}={value}"
        for error in chain(caught.value)
        for frame in traceback.TracebackException.from_exception(error, capture_locals=True).stack
        if "rsu_pipeline_tests" not in frame.filename
        for name, value in (frame.locals or {}).items()
    ]
    assert shown
    secrets = (KEY, SECRET, REGISTRATION, REGISTRATION_SECRET)
    forms = {*secrets, *(quote(secret, safe="") for secret in secrets)}
    assert [line for line in shown if any(form in line for form in forms)] == []
