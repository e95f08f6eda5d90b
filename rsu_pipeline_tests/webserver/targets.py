"""Where the attacks go: a web UI, directly or through the proxy. Every byte of a request is the table's."""

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from websockets.exceptions import InvalidHandshake, WebSocketException
from websockets.sync.client import connect

from rsu_pipeline_tests.webserver.attacks import REVEALING, Attack

TIMEOUT_SECONDS = 20.0
QUIET_SECONDS = 0.5
"""A websocket that sends nothing for so long after its first message sends no more."""


@dataclass(frozen=True)
class Answer:
    """What came back: an HTTP status (101 for a websocket that was opened) and all bytes after it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reveals(self) -> bool:
        return any(mark in self.body for mark in REVEALING)


@dataclass(frozen=True)
class Target:
    """A web UI as a browser finds it. `password` is one that the browser remembers and sends by itself."""

    port: int
    host: str
    tls: bool = False
    password: str | None = None

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def send(self, attack: Attack, **ids: str) -> Answer:
        """Send an attack, `$SENSOR` and the like in it replaced."""
        names = {
            "$HOST": self.host,
            "$ORIGIN": self.origin,
            "$SCHEME": "https" if self.tls else "http",
            "$OTHERSCHEME": "http" if self.tls else "https",
            **{f"${name}": value for name, value in ids.items()},
        }

        def fill(text: str) -> str:
            for name, value in names.items():
                text = text.replace(name, value)
            return text

        headers = [(name, fill(value)) for name, value in attack.headers]
        if self.password is not None:
            headers.append(("Authorization", f"Basic {base64.b64encode(self.password.encode()).decode()}"))
        if attack.is_websocket:
            messages = [fill(one) if isinstance(one, str) else one for one in attack.messages]
            return self._open(fill(attack.host), headers, messages)
        return self._request(attack.method, fill(attack.path), fill(attack.host), headers, fill(attack.body))

    def query(self, document: str, **variables: object) -> dict[str, object]:
        """Ask as the UI's page does."""
        text = json.dumps({"query": document, "variables": variables})
        headers = [("Content-Type", "application/json"), ("Origin", self.origin), ("Sec-Fetch-Site", "same-origin")]
        answer = self.send(Attack("", "reads", headers=tuple(headers), body=text))
        assert answer.status == 200, answer
        found: dict[str, object] = json.loads(answer.body)["data"]
        return found

    def _request(self, method: str, path: str, host: str, headers: list[tuple[str, str]], body: str) -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)) as connection:
            connection.sock = self._socket()
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host)
            for name, value in headers:
                connection.putheader(name, value)
            if body or method == "POST":
                connection.putheader("Content-Length", str(len(body.encode())))
            connection.endheaders(body.encode() or None)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def _open(self, host: str, headers: list[tuple[str, str]], messages: list[str | bytes]) -> Answer:
        received = b""
        try:
            with connect(
                f"ws://{host}/graphql",
                sock=self._socket(),
                additional_headers=headers,
                subprotocols=["graphql-ws"],  # type: ignore[list-item]
                open_timeout=TIMEOUT_SECONDS,
                proxy=None,
            ) as opened:
                try:
                    for message in messages:
                        opened.send(message)
                    while True:
                        wait = QUIET_SECONDS if received else TIMEOUT_SECONDS
                        received += str(opened.recv(wait)).encode()
                except (TimeoutError, WebSocketException):
                    pass
        except InvalidHandshake as error:
            response = getattr(error, "response", None)
            return Answer(response.status_code if response else 400, {}, b"")
        return Answer(101, {}, received)

    def _socket(self) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_SECONDS)
        if not self.tls:
            return plain
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(plain, server_hostname=self.host.partition(":")[0])
