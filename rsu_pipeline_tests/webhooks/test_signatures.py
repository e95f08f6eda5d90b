"""Signatures are those of Standard Webhooks, and addresses that are not public are refused."""

import ipaddress
import socket

import pytest

from benchmarks.webhook_receiver import SECRET
from rsu_pipeline.setting_values import parse_networks
from rsu_pipeline.warehouse.webhook_store import WebhookError
from rsu_pipeline.webhooks import endpoint, signatures
from rsu_pipeline.webhooks.delivery import MAX_BACKOFF_SECONDS, backoff


def test_a_signature_is_that_of_the_specifications_libraries() -> None:
    headers = signatures.sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_secret_that_is_made_is_accepted_and_others_are_refused() -> None:
    signatures.check_secret(signatures.generate_secret())
    signatures.check_secret(SECRET)
    for secret in ("", "whsec_", "whsec_c2hvcnQ=", SECRET.removeprefix("whsec_"), "whsec_%%%", "whsec_" + "A" * 100):
        with pytest.raises(WebhookError) as refused:
            signatures.check_secret(secret)
        assert len(secret) < 10 or secret not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 255.255.255.255 240.0.0.1 ::1 ::"
    " fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 2002:7f00:1:: 2002:a00:1:: 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe"
    " 64:ff9b:1::1 2001:db8::1".split(),
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert endpoint.find_refusal(ipaddress.ip_address(address), ()) is not None


@pytest.mark.parametrize("address", "1.1.1.1 93.184.216.34 2606:4700::1111 ::ffff:1.1.1.1 64:ff9b::101:101".split())
def test_a_public_address_is_sent_to(address: str) -> None:
    assert endpoint.find_refusal(ipaddress.ip_address(address), ()) is None


def test_a_network_that_a_setting_allows_is_sent_to() -> None:
    allowed = parse_networks("10.20.0.0/16, fd00::/8")
    assert endpoint.find_refusal(ipaddress.ip_address("10.20.1.1"), allowed) is None
    assert endpoint.find_refusal(ipaddress.ip_address("::ffff:10.20.1.1"), allowed) is None
    assert endpoint.find_refusal(ipaddress.ip_address("fd00::5"), allowed) is None
    assert endpoint.find_refusal(ipaddress.ip_address("10.21.1.1"), allowed) is not None


def test_a_name_leads_only_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers with a public address first and a private one then reaches nothing private."""
    answers = iter(["203.0.114.9", "127.0.0.1"])
    opened: list[str] = []

    def resolve(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def connect(address: tuple[str, int], timeout: float | None = None) -> socket.socket:
        opened.append(address[0])
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(endpoint.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(endpoint.socket, "create_connection", connect)
    target = endpoint.Endpoint("https://rebound.example/hook", ())
    assert target.send({}, b"{}").error == "rebound.example: no connection (Connection refused)"
    assert target.send({}, b"{}").error == (
        "rebound.example: 127.0.0.1 is no public address (RSU_WEBHOOK_NETWORKS can allow its network)"
    )
    assert opened == ["203.0.114.9"]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://",
        "https://user:password@example.com/",
        "https://example.com/#part",
        "https://example.com:99999/",
        "ftp://example.com/",
        "https://exa mple.com/",
        "https://[::1/",
        "example.com",
    ],
)
def test_an_address_that_is_no_plain_https_is_refused(url: str) -> None:
    with pytest.raises(WebhookError, match="must be a plain https:// address") as refused:
        endpoint.parse_url(url)
    assert "user:password" not in str(refused.value)


def test_a_webhook_that_fails_is_left_alone_for_longer_and_never_for_more_than_a_minute_or_so() -> None:
    waits = [backoff(failures) for failures in range(20)]
    assert waits[0] < 1 < waits[3] < waits[5]
    assert max(waits) <= MAX_BACKOFF_SECONDS * 1.2
