"""Answer as RunSignup, by a script: races, events and rows exactly as a test wrote them, and answers of the test's own.

It runs in a process of its own. A test talks to it through `RunSignup` (see scripted.py). This module is only what answers.
It adds nothing to a row and takes nothing away, so a test can send any layout.
"""

import email.utils
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Row = dict[str, Any]
FEEDS = ("participants", "removed-participants")


class Script:
    """What the test wrote last, and what was asked since."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.world: Row = {"races": [], "rows": {}, "removed": {}, "answers": [], "max_rows": {}, "clock": None}
        self.calls: list[Row] = []

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer to one call."""
        found = re.search(r"/race/(\d+)", path)
        race = int(found[1]) if found else None
        feed = path.rsplit("/", 1)[1] if path.endswith(FEEDS) else "race" if race else "races"
        events = [int(number) for number in query.get("event_id", "").split(",") if number]
        with self.lock:
            self.calls.append({"feed": feed, "race": race, "events": events, "query": query})
            for own in self.world["answers"]:
                if self._fits(own, feed, race, events):
                    if own["times"] is not None:
                        own["times"] -= 1
                    return own["status"], own["headers"], own["body"].encode("latin-1")
            return 200, {}, json.dumps(self._truth(feed, race, events, query)).encode()

    @staticmethod
    def _fits(own: Row, feed: str, race: int | None, events: list[int]) -> bool:
        return (
            own["times"] != 0
            and own["feed"] == feed
            and own["race"] in (None, race)
            and (own["event"] is None or own["event"] in events)
        )

    def _truth(self, feed: str, race: int | None, events: list[int], query: dict[str, str]) -> object:
        if feed == "races":
            seen = [one for one in self.world["races"] if one["key"] in (None, query.get("api_key"))]
            page, size = int(query.get("page", 1)), self._size(feed, query, 50)
            return {"races": [{"race": one["listed"]} for one in seen[(page - 1) * size : page * size]]}
        own = next((one for one in self.world["races"] if int(one["listed"]["race_id"]) == race), None)
        if own is None:
            return _error(201, "Race not found.")
        if feed == "race":
            return {"race": own["detail"]}
        known = {str(event["event_id"]) for event in own["detail"]["events"]}
        if not {str(event) for event in events} <= known:
            return _error(301, "Event not found.")
        if own["key"] not in (None, query.get("api_key")):
            return _error(7, "Permission Denied")
        return self._page(feed, events, query)

    def _page(self, feed: str, events: list[int], query: dict[str, str]) -> list[Row]:
        stamp = "last_modified" if feed == "participants" else "last_modified_ts"
        held = self.world["rows" if feed == "participants" else "removed"]
        rows = [(event, row) for event in events for row in held.get(str(event), [])]
        rows.sort(key=lambda pair: int(pair[1]["registration_id"]))
        after, since = int(query.get("after_registration_id", 0)), int(query.get("modified_after_timestamp", 0))
        rows = [
            pair for pair in rows if int(pair[1]["registration_id"]) > after and _stamp(pair[1].get(stamp)) >= since
        ]
        rows = rows[: self._size(feed, query, 2500)]
        if feed == "participants":
            elements: list[Row] = [{"event": {"event_id": event, "participants": []}} for event in events]
            if rows:
                elements[-1]["participants"] = [row for _, row in rows]
            return elements
        return [
            {"event": {"event_id": event, "participants": [row for its, row in rows if its == event]}}
            for event in events
        ]

    def _size(self, feed: str, query: dict[str, str], default: int) -> int:
        return min(int(query.get("results_per_page", default)), self.world["max_rows"].get(feed, 10**6))


def _stamp(value: object) -> int:
    """Return the Unix seconds of a stamp.

    A stamp that a test wrote in words counts as the present, so that it is always sent.
    """
    return value if isinstance(value, int) else int(time.time())


def _error(code: int, message: str) -> Row:
    return {"error": {"error_code": code, "error_msg": message}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script = Script()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/calls":
            with self.script.lock:
                calls, self.script.calls = self.script.calls, []
            self._send(200, {}, json.dumps(calls).encode())
            return
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        self._send(*self.script.answer(url.path, query))

    def do_PUT(self) -> None:
        """Take over what the test wrote."""
        world = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.script.lock:
            self.script.world = world
        self._send(200, {}, b"{}")

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        clock = self.script.world["clock"]
        headers = {"Date": email.utils.formatdate(time.time() if clock is None else clock, usegmt=True), **headers}
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing: the test reads the calls."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    # Ends with the test that holds the other end.
    sys.stdin.read()


if __name__ == "__main__":
    main()
