"""A receiver of webhooks: an HTTPS server that verifies signatures by itself, and can refuse, redirect, hang or cut."""

import base64
import datetime as dt
import hashlib
import hmac
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes !!!").decode()
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
PATH_CANARY = "canary-in-the-path-41d8"


@dataclass(frozen=True)
class Received:
    """A message that was accepted: its webhook-id, its content, and when it arrived, Unix seconds."""

    key: str
    message: dict[str, Any]
    at: float

    @property
    def kind(self) -> str:
        return str(self.message["type"])

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = self.message["data"]
        return found


@dataclass
class Receiver:
    """A receiver. `answer` returns the status for a message and may wait. `tries` are all webhook-ids that were sent."""

    port: int = 0
    certificate: Path = Path()
    answer: Callable[[dict[str, Any]], int] = lambda message: 204
    headers: dict[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    tries: list[str] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/{PATH_CANARY}"

    def wait_for(self, count: int, seconds: float = 20.0) -> list[Received]:
        """Return what was received once it is at least this number."""
        deadline = time.monotonic() + seconds
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} of {count} messages arrived"
            time.sleep(0.01)
        return list(self.received)

    def numbers(self, name: str = "new") -> list[str]:
        return [str(item.data[name]) for item in self.received]


def is_genuine(headers: Any, body: bytes) -> bool:
    """Return whether a request is signed with SECRET, by the text of the specification."""
    key, at = headers["webhook-id"], headers["webhook-timestamp"]
    digest = hmac.new(KEY, f"{key}.{at}.".encode() + body, hashlib.sha256).digest()
    wanted = "v1," + base64.b64encode(digest).decode()
    return abs(time.time() - int(at)) < 300 and wanted in headers["webhook-signature"].split()


def make_certificate(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1 with its key into one file, and return its path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("receiver.test")]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    path = folder / "receiver.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return path


@contextmanager
def running_receiver(folder: Path) -> Iterator[Receiver]:
    receiver = Receiver(certificate=make_certificate(folder))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            key, message = self.headers["webhook-id"], json.loads(body)
            with lock:
                receiver.tries.append(key)
                if not is_genuine(self.headers, body):
                    receiver.forged.append(key)
            status = receiver.answer(message)
            if status == 0:  # a cut connection
                self.close_connection = True
                return
            if 200 <= status < 300:
                with lock:
                    receiver.received.append(Received(key, message, time.time()))
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # clients that were killed

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(receiver.certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
