"""The receiver in docs/webhooks.md takes what the hub sends, and refuses what is forged."""

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.webhook_receiver import SECRET, Receiver
from rsu_pipeline.setting_values import parse_networks
from rsu_pipeline.webhooks import endpoint, signatures
from rsu_pipeline_tests.webhooks.conftest import Outbox
from tools.pages import PROJECT, blocks

PAGE = PROJECT / "docs" / "webhooks.md"


@pytest.fixture
def port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def printed(outbox: Outbox, receiver: Receiver, port: int, tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """Provide the page's receiver, with the secret that `rsu webhooks add` made for it."""
    secret = tmp_path / "scoring.secret"
    added = outbox.rsu("webhooks", "add", f"https://127.0.0.1:{port}/rsu", "--new-secret", str(secret))
    assert added.returncode == 0, added.stderr
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    (block,) = (block for block in blocks(PAGE) if block.language == "python")
    (tmp_path / "page.py").write_text(block.text)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "page.py")],
        env={
            "PATH": os.environ["PATH"],
            "WEBHOOK_SECRET": secret.read_text().strip(),
            "PORT": str(port),
            "CERTIFICATE": str(receiver.certificate),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 20
    while outbox.rsu("webhooks", "test", "1").returncode:
        assert process.poll() is None and time.monotonic() < deadline
    yield process
    process.kill()
    process.communicate(timeout=60)


def test_the_receiver_of_the_page_prints_what_is_sent_and_refuses_what_is_forged(
    outbox: Outbox,
    receiver: Receiver,
    printed: "subprocess.Popen[str]",
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert printed.stdout is not None
    assert printed.stdout.readline() == "webhook.test {}\n"
    outbox.start_worker()
    outbox.change_bib(101, "118")
    assert printed.stdout.readline() == (
        'bib.changed {"partner": 1, "race": 1, "event": 11, "registration": 101, "change": 1, "kind": "assigned",'
        ' "old": null, "new": "118"}\n'
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(receiver.certificate))
    monkeypatch.setattr(endpoint, "_context", endpoint._context.__wrapped__)
    forger = endpoint.Endpoint(f"https://127.0.0.1:{port}/rsu", parse_networks("127.0.0.0/8"))
    body = b'{"type": "bib.changed", "data": {}}'
    forged = signatures.sign(SECRET, "key", int(time.time()), body)
    assert forger.send(forged, body).error == f"127.0.0.1:{port}: HTTP 400"
