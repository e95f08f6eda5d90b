"""A notifier: an HTTP server that takes messages as apprise's json:// sends them, can refuse them, or keep them waiting."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CANARY = "canary-in-the-address-7f3a"


@dataclass
class Notifier:
    """A notifier. `messages` are those accepted, as (title, text). `status` is its answer, after `wait` seconds."""

    port: int = 0
    status: int = 200
    wait: float = 0.0
    asked: int = 0
    messages: list[tuple[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"json://user:{CANARY}@127.0.0.1:{self.port}/{CANARY}?+X-Token={CANARY}"

    def take(self) -> list[tuple[str, str]]:
        """Return the messages since the last call."""
        taken = list(self.messages)
        self.messages.clear()
        return taken


@contextmanager
def running_notifier() -> Iterator[Notifier]:
    notifier = Notifier()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            notifier.asked += 1
            time.sleep(notifier.wait)
            if notifier.status == 200:
                notifier.messages.append((body["title"], body["message"]))
            self.send_response(notifier.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    notifier.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield notifier
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
