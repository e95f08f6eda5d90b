"""A server in RunSignup's place: a process of its own, below HTTP, so that it can break every rule.

The first segment of the path names what it plays, so that one process serves every test. `/heads` returns what it was sent.
"""

import argparse
import gzip
import json
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import requests

from rsu_pipeline_tests.servers import serving

Play = Callable[[str], Iterator[bytes]]
MIB = 1 << 20
PAUSE = 0.05
"""Seconds between two bytes of an answer that dribbles."""
FORGED = b'HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{"race":{"race_id":7,"name":1}}'
_heads: list[str] = []


def _whole(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers])
    return head.encode("latin-1") + b"\r\n\r\n" + body


def _dribble(data: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    for piece in data():
        yield piece
        time.sleep(PAUSE)


def _for_ever(piece: bytes, first: bytes = b"") -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        yield first
        while True:
            yield piece

    return pieces


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def slow_status(head: str) -> Iterator[bytes]:
    """Yield a status line of a byte at a time, without end."""
    return _dribble(_for_ever(b"x", b"HTTP/1.1 200 "))


def slow_header(head: str) -> Iterator[bytes]:
    return _dribble(_for_ever(b"x", OK + b"X-Slow: "))


def slow_headers(head: str) -> Iterator[bytes]:
    return _dribble(_for_ever(b"X: y\r\n", OK))


def slow_body(head: str) -> Iterator[bytes]:
    return _dribble(_for_ever(b" ", OK + b"Content-Length: 1000000\r\n\r\n"))


def slow_chunk_line(head: str) -> Iterator[bytes]:
    return _dribble(_for_ever(b"0", CHUNKED))


def slow_trailers(head: str) -> Iterator[bytes]:
    return _dribble(_for_ever(b"X: y\r\n", CHUNKED + b"2\r\n[]\r\n0\r\n"))


def slow_gzip(head: str) -> Iterator[bytes]:
    """Yield compressed bytes that contain nothing: one empty member after the other."""
    return _dribble(_for_ever(gzip.compress(b""), OK + b"Content-Encoding: gzip\r\n\r\n"))


def slow_continue(head: str) -> Iterator[bytes]:
    return _dribble(_for_ever(b"HTTP/1.1 100 Continue\r\n\r\n"))


def flood_continue(head: str) -> Iterator[bytes]:
    return _for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000)()


def flood_body(head: str) -> Iterator[bytes]:
    return _for_ever(b" " * 65536, OK + b"\r\n")()


def flood_chunk_line(head: str) -> Iterator[bytes]:
    return _for_ever(b"0" * 65536, CHUNKED)()


def flood_chunks(head: str) -> Iterator[bytes]:
    return _for_ever((b"20\r\n" + b" " * 32 + b"\r\n") * 2000, CHUNKED)()


def flood_headers(head: str) -> Iterator[bytes]:
    return _for_ever(b"X: y\r\n" * 9000, OK)()


def flood_header(head: str) -> Iterator[bytes]:
    return _for_ever(b"x" * 65536, OK + b"X: ")()


def flood_gzip(head: str) -> Iterator[bytes]:
    return _for_ever(gzip.compress(b"") * 3000, OK + b"Content-Encoding: gzip\r\n\r\n")()


@cache
def _spaces(mebibytes: int) -> bytes:
    return gzip.compress(b'{"races":[]}' + b" " * (mebibytes * MIB), 9)


def bomb(head: str) -> Iterator[bytes]:
    yield _whole(_spaces(200), "Content-Encoding: gzip", "Connection: close")


def bomb_in_bomb(head: str) -> Iterator[bytes]:
    yield _whole(gzip.compress(_spaces(200)), "Content-Encoding: gzip, gzip", "Connection: close")


def many_members(head: str) -> Iterator[bytes]:
    """Yield bytes that are few on the line and some millions of objects in memory."""
    body = b'[{"event":{"event_id":1},"participants":[' + b"1," * (25 * MIB) + b"1]}]"
    yield _whole(gzip.compress(body, 1), "Content-Encoding: gzip", "Connection: close")


def many_keys(head: str) -> Iterator[bytes]:
    body = b"{" + b",".join(b'"%d":1' % number for number in range(4_000_000)) + b"}"
    yield _whole(gzip.compress(body, 1), "Content-Encoding: gzip", "Connection: close")


def commas_in_strings(head: str) -> Iterator[bytes]:
    """Yield three runners whose names are a megabyte of commas: no reason to refuse the page."""
    rows = ",".join(
        f'{{"registration_id":{number},"event_id":1,"user":{{"last_name":"{"," * MIB}"}}}}' for number in (1, 2, 3)
    )
    yield _whole(f'[{{"event":{{"event_id":1}},"participants":[{rows}]}}]'.encode())


def longer(head: str) -> Iterator[bytes]:
    """Yield more than Content-Length: the rest would count as the next answer."""
    yield OK + b"Content-Length: 22\r\n\r\n" + b'{"race":{"race_id":7}}' + FORGED


def shorter(head: str) -> Iterator[bytes]:
    yield OK + b"Content-Length: 1000\r\n\r\n" + b'{"race":{"race_id":7}}'


def two_lengths(head: str) -> Iterator[bytes]:
    yield OK + b"Content-Length: 2\r\nContent-Length: 22\r\n\r\n" + b'{"race":{"race_id":7}}'


def cookies(head: str) -> Iterator[bytes]:
    yield _whole(b'{"race":{"race_id":7}}', *(f"Set-Cookie: c{number}={'x' * 4000}; Path=/" for number in range(50)))


def page(head: str) -> Iterator[bytes]:
    yield _whole(b"<!DOCTYPE html><html><script>alert(1)</script></html>", "Content-Type: application/json")


def text(head: str) -> Iterator[bytes]:
    """Yield what was requested, with a type of its own."""
    yield _whole(b'{"race":{"race_id":7}}', "Content-Type: text/html; charset=utf-7")


def utf16(head: str) -> Iterator[bytes]:
    yield _whole('{"race":{"race_id":7}}'.encode("utf-16"))


def dated(head: str) -> Iterator[bytes]:
    """Yield the Date header that the path names."""
    yield _whole(b"[]", f"Date: {unquote(head.split()[1].split('/')[2])}")


def redirect(head: str) -> Iterator[bytes]:
    """Yield a redirect with the status and to the address that the path names."""
    _, _, status, location, *_ = head.split()[1].split("/")
    yield _whole(b"moved", f"Location: {unquote(location)}", status=f"{status} Moved")


def elsewhere(head: str) -> Iterator[bytes]:
    yield _whole(b'{"race":{"race_id":7}}')


def heads(head: str) -> Iterator[bytes]:
    told = json.dumps(_heads).encode()
    _heads.clear()
    yield _whole(told, "Connection: close")


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while True:
            lines = []
            while (line := self.rfile.readline()).strip():
                lines.append(line.decode("latin-1").strip())
            if not lines:
                return
            head = "\n".join(lines)
            name = head.split()[1].split("/")[1].partition("?")[0]
            if name != "heads":
                _heads.append(head)
            play: Play = globals()[name]
            try:
                for piece in play(head):
                    self.wfile.write(piece)
            except OSError:
                return
            if name in ("shorter", "heads"):
                return


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    context: ssl.SSLContext | None = None

    def get_request(self) -> Any:
        link, address = super().get_request()
        if self.context is not None:
            # The handshake is made by the first read, in the handler's thread.
            link = self.context.wrap_socket(link, server_side=True, do_handshake_on_connect=False)
        return link, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that hangs up, which is expected here."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate", type=Path)
    certificate = parser.parse_args().certificate
    with _Server(("127.0.0.1", 0), _Handler) as server:
        if certificate is not None:
            server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.context.load_cert_chain(certificate)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}", flush=True)
        sys.stdin.read()


@dataclass(frozen=True)
class HostileServer:
    """A running one."""

    url: str

    def playing(self, name: str, *more: str) -> str:
        """Return the base address below which it plays this."""
        return "/".join((self.url, name, *more))

    def heads(self) -> list[str]:
        """Return the heads of the requests that came since the last time this was asked."""
        found: list[str] = requests.get(f"{self.url}/heads", timeout=10).json()
        return found


@contextmanager
def hostile_server(certificate: Path | None = None) -> Iterator[HostileServer]:
    """Provide a server that ends with the block."""
    options = ["--certificate", str(certificate)] if certificate else []
    with serving(sys.executable, "-m", "rsu_pipeline_tests.hostile.server", *options) as url:
        yield HostileServer(url)


if __name__ == "__main__":
    main()
