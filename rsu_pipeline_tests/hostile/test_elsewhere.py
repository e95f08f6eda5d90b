"""Credentials go to the address that is set, over TLS that holds, and nowhere else."""

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rsu_pipeline.errors import SettingsError
from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline.runsignup.client import Client, Credential
from rsu_pipeline.settings import load_settings
from rsu_pipeline_tests.hostile.server import HostileServer, hostile_server
from rsu_pipeline_tests.runsignup.tools import (
    KEY,
    REGISTRATION,
    REGISTRATION_SECRET,
    SECRET,
    CountingLedger,
    client,
)

REGISTERED = {"registration": REGISTRATION, "registration_secret": REGISTRATION_SECRET}
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def stranger() -> Iterator[HostileServer]:
    """Provide another server, where nothing must arrive."""
    with hostile_server() as server:
        yield server


@pytest.mark.parametrize("scheme", ["api_key", "rsu_api_key", "sp_api_key"])
@pytest.mark.parametrize("status", ["301", "302", "303", "307", "308"])
def test_a_redirect_is_refused_and_sends_nothing_anywhere(
    hostile: HostileServer, stranger: HostileServer, status: str, scheme: str
) -> None:
    for target in (stranger.playing("elsewhere"), hostile.playing("elsewhere"), "//localhost:1/", "/elsewhere", ""):
        hostile.heads()
        base = hostile.playing("redirect", status, quote(target, safe=""))
        with pytest.raises(ApiError) as caught:
            client(base, CountingLedger(), Credential(KEY, SECRET, scheme), **REGISTERED).race(7)
        assert caught.value.cause is Cause.REDIRECT
        assert "check RSU_API_BASE_URL" in str(caught.value)
        assert target == "" or target not in str(caught.value)
        # The one call that was meant, with what it needs; no second one, on the same host either.
        (head,) = hostile.heads()
        assert KEY in head and REGISTRATION in head
    assert stranger.heads() == []


def test_a_servers_cookies_are_not_kept(hostile: HostileServer) -> None:
    calls = client(hostile.playing("cookies"), CountingLedger())
    hostile.heads()
    for _ in range(2):
        assert calls.race(7)[0].race_id == 7
    heads = hostile.heads()
    assert len(heads) == 2 and not [head for head in heads if "\nCookie:" in head]


def certificate(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    days: int = 1,
    is_authority: bool = False,
) -> tuple[Path, tuple[x509.Certificate, ec.EllipticCurvePrivateKey]]:
    """Return a file with a key and its certificate, and both. It is self-signed unless an issuer signs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=30))
        .not_valid_after(NOW + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .sign(key if issuer is None else issuer[1], hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path = folder / f"{host}-{days}-{is_authority}.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path, (made, key)


def over_tls(base: str, trusted: Path | None) -> Client:
    calls = client(base, CountingLedger(), attempts=1)
    if trusted is not None:
        calls._session.verify = str(trusted)
    return calls


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, tuple[x509.Certificate, ec.EllipticCurvePrivateKey]]:
    return certificate(tmp_path, host="authority.test", is_authority=True)


@pytest.mark.parametrize("what", ["nobody's", "another host's", "expired"])
def test_a_wrong_certificate_is_refused_before_anything_is_sent(
    tmp_path: Path, authority: tuple[Path, tuple[x509.Certificate, ec.EllipticCurvePrivateKey]], what: str
) -> None:
    trusted, issuer = authority
    makers: dict[str, Callable[[], Path]] = {
        "nobody's": lambda: certificate(tmp_path)[0],
        "another host's": lambda: certificate(tmp_path, host="api.example.test", issuer=issuer)[0],
        "expired": lambda: certificate(tmp_path, issuer=issuer, days=-1)[0],
        "right": lambda: certificate(tmp_path, issuer=issuer)[0],
    }
    with hostile_server(makers[what]()) as server, pytest.raises(ApiError) as caught:
        over_tls(server.playing("elsewhere"), trusted).race(7)
    assert caught.value.cause is Cause.CONNECTION
    assert "a certificate that is not to be trusted" in str(caught.value)
    # The same server with the right one is believed: it was the certificate.
    with hostile_server(makers["right"]()) as server:
        assert over_tls(server.playing("elsewhere"), trusted).race(7)[0].race_id == 7


def test_certificates_are_checked_without_being_asked_to(tmp_path: Path) -> None:
    with hostile_server(certificate(tmp_path)[0]) as server, pytest.raises(ApiError) as caught:
        over_tls(server.playing("elsewhere"), None).race(7)
    assert "SSLError" in str(caught.value)


def test_the_total_time_out_holds_over_tls(
    tmp_path: Path, authority: tuple[Path, tuple[x509.Certificate, ec.EllipticCurvePrivateKey]]
) -> None:
    trusted, issuer = authority
    with hostile_server(certificate(tmp_path, issuer=issuer)[0]) as server:
        for name in ("slow_header", "slow_body"):
            calls = client(server.playing(name), CountingLedger(), attempts=1, total_timeout=0.4)
            calls._session.verify = str(trusted)
            with pytest.raises(ApiError) as caught:
                calls.race(7)
            assert caught.value.detail == "answer not complete after 0.4 s"


@pytest.mark.parametrize(
    "address",
    [
        "http://api.runsignup.com/rest",
        "HTTP://api.runsignup.com/rest",
        "http://127.0.0.1.example.test/rest",
        "http://localhost.example.test",
        "http://127.0.0.2.test",
        "http://2130706433",
        "http://0.0.0.0",
        "http://[::ffff:1.2.3.4]",
        "http://user@127.0.0.1/",
        "http://127.0.0.1@example.test/",
        "http://127.0.0.1#@example.test/",
        "http://127.0.0.1\\@example.test/",
        "file:///etc/passwd",
        "ftp://127.0.0.1",
    ],
)
def test_an_address_that_would_send_secrets_in_the_clear_is_no_setting(address: str) -> None:
    with pytest.raises(SettingsError):
        load_settings({"RSU_API_BASE_URL": address})


@pytest.mark.parametrize("address", ["http://127.0.0.1:8080/rest", "http://localhost/rest", "http://[::1]:81/rest"])
def test_on_loopback_there_is_nobody_to_listen(address: str) -> None:
    assert load_settings({"RSU_API_BASE_URL": address}).api.base_url == address
