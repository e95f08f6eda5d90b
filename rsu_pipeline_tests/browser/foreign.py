"""A page of another site, as an operator may have it open beside the UI."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!doctype html><title>A stranger's page</title><body>Nothing to see here."


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextmanager
def serving() -> Iterator[int]:
    """Serve the page under any name, on the port that is provided."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


ATTACK = """
async ([ui, stop, launch]) => {
    const seen = {};
    const attempt = async (name, act) => {
        try { seen[name] = await act(); } catch (error) { seen[name] = `refused: ${error.name}`; }
    };
    const until = (make) => new Promise((resolve) => { make(resolve); setTimeout(() => resolve('silence'), 4000); });
    const graphql = `${ui}/graphql`;
    const url = (text) => `${graphql}?query=${encodeURIComponent(text)}`;

    for (const [kind, text] of [['stop', stop], ['launch', launch]]) {
        const json = JSON.stringify({query: text});
        await attempt(`${kind}: GET without CORS`, async () => (await fetch(url(text), {mode: 'no-cors'})).type);
        await attempt(`${kind}: GET`, async () => (await fetch(url(text))).status);
        await attempt(`${kind}: plain text`, async () =>
            (await fetch(url(text), {method: 'POST', mode: 'no-cors', body: json})).type);
        await attempt(`${kind}: form`, async () =>
            (await fetch(url(text), {method: 'POST', mode: 'no-cors', body: new URLSearchParams({query: text})})).type);
        await attempt(`${kind}: form with files`, async () =>
            (await fetch(url(text), {method: 'POST', mode: 'no-cors', body: new FormData()})).type);
        await attempt(`${kind}: text that names JSON`, async () =>
            (await fetch(graphql, {method: 'POST', mode: 'no-cors', body: json,
                                   headers: {'Content-Type': 'text/plain; application/json'}})).type);
        await attempt(`${kind}: JSON`, async () =>
            (await fetch(graphql, {method: 'POST', body: json, headers: {'Content-Type': 'application/json'}})).status);
        await attempt(`${kind}: beacon`, async () => navigator.sendBeacon(url(text), json));
        await attempt(`${kind}: image`, () => until((done) => {
            const image = new Image();
            image.onload = () => done('loaded');
            image.onerror = () => done('refused');
            image.src = url(text);
        }));
        await attempt(`${kind}: form in a frame`, () => until((done) => {
            const frame = document.createElement('iframe');
            frame.name = `frame-${kind}`;
            const form = document.createElement('form');
            form.method = 'post';
            form.action = url(text);
            form.target = frame.name;
            document.body.append(frame, form);
            frame.onload = () => done('answered');
            form.submit();
        }));
        await attempt(`${kind}: websocket`, () => until((done) => {
            const socket = new WebSocket(graphql.replace('http', 'ws'), 'graphql-ws');
            socket.onopen = () => {
                socket.send(JSON.stringify({type: 'connection_init'}));
                socket.send(JSON.stringify({id: '1', type: 'start', payload: {query: text}}));
            };
            socket.onmessage = () => done('message');
            socket.onerror = () => done('refused');
        }));
    }
    await attempt('report', async () =>
        (await fetch(`${ui}/report_asset_materialization/fleet_health`, {method: 'POST', mode: 'no-cors'})).type);
    await attempt('read: question', async () => (await fetch(url('{ version }'))).text());
    await attempt('read: versions', async () => (await fetch(`${ui}/server_info`)).text());
    await attempt('read: script', () => until((done) => {
        const script = document.createElement('script');
        script.onload = () => done('loaded');
        script.onerror = () => done('refused');
        script.src = `${ui}/server_info`;
        document.body.append(script);
    }));
    await attempt('read: frame', () => until((done) => {
        const frame = document.createElement('iframe');
        frame.onload = () => { try { done(frame.contentDocument ? 'ours' : 'closed'); } catch { done('closed'); } };
        frame.src = ui;
        document.body.append(frame);
    }));
    return seen;
}
"""
"""What it tries with the UI of the operator's machine; what the page saw of each attempt."""
