"""What the client's tests work with: a ledger that counts in memory, a server that sends any bytes, a client to hand."""

import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rsu_pipeline.runsignup.api_errors import BudgetExhausted
from rsu_pipeline.runsignup.client import Client, Credential

KEY, SECRET = "canary-key-41", "canary/secret+42="
REGISTRATION, REGISTRATION_SECRET = "4711.canary-registration", "canary-registration-secret"
CREDENTIAL = Credential(KEY, SECRET)


@dataclass
class Settled:
    """One outcome as the client reported it."""

    status: int | None
    error: str | None
    size: int
    rows: int


@dataclass
class CountingLedger:
    """Grants `limit` calls and keeps what became of each."""

    limit: int = 1_000_000
    taken: list[tuple[str, int | None]] = field(default_factory=list)
    settled: dict[int, Settled] = field(default_factory=dict)
    most_in_flight: int = 0

    def acquire(self, *, endpoint: str, race_id: int | None) -> int:
        if len(self.taken) >= self.limit:
            raise BudgetExhausted(12.0, lane="routine")
        self.taken.append((endpoint, race_id))
        self.most_in_flight = max(self.most_in_flight, len(self.taken) - len(self.settled))
        return len(self.taken)

    def settle(self, grant: int, *, status: int | None, error: str | None, size: int, rows: int) -> None:
        assert 1 <= grant <= len(self.taken), f"grant {grant} was never taken"
        assert grant not in self.settled, f"grant {grant} is settled twice"
        self.settled[grant] = Settled(status, error, size, rows)

    @property
    def outcomes(self) -> list[Settled]:
        """The outcomes in order. It is an AssertionError unless every call taken is settled."""
        assert sorted(self.settled) == list(range(1, len(self.taken) + 1)), "a call that was taken is not settled"
        assert self.most_in_flight <= 1
        return [self.settled[grant] for grant in sorted(self.settled)]


@dataclass
class Sleeps:
    """Pauses that were requested and not made."""

    seconds: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def client(base_url: str, ledger: CountingLedger, credential: Credential = CREDENTIAL, **options: Any) -> Client:
    """Return a client that does not pause between attempts."""
    return Client(credential, ledger, base_url=base_url, **{"sleep": lambda seconds: None, "backoff": 0.01} | options)


@dataclass
class RawServer:
    """`url` and the head of every request that came."""

    url: str
    heads: list[str]

    @property
    def head(self) -> str:
        (head,) = self.heads
        return head


@contextmanager
def raw_server(answer: Callable[[str], Iterable[bytes]]) -> Iterator[RawServer]:
    """Provide a server on loopback that sends, for each request, the pieces `answer` gives for its head, then hangs up."""
    heads: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            lines = []
            while (line := self.rfile.readline()).strip():
                lines.append(line.decode("latin-1").strip())
            if not lines:
                return
            heads.append("\n".join(lines))
            try:
                for piece in answer(heads[-1]):
                    self.wfile.write(piece)
                    self.wfile.flush()
            except OSError:
                return

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        # A handler may be dribbling to a client that has long gone.
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield RawServer(f"http://127.0.0.1:{server.server_address[1]}", heads)
        server.shutdown()
        thread.join()


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Build a whole HTTP answer."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body
