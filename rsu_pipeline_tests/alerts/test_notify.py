"""Sending: who took the message, within a time, and nothing of an address shown by whatever goes wrong."""

import logging
import time

import pytest

from rsu_pipeline.alerts.notify import Delivery, scheme_of, send
from rsu_pipeline_tests.alerts.notifier import CANARY, Notifier


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("json://127.0.0.1", "json"),
        ("JSONS://127.0.0.1", "jsons"),
        ("mailto://a:b@example.com", "mailto"),
        ("slack://a/b/c", "slack"),
        (f"{CANARY}://x", "unknown"),
        (CANARY, "unknown"),
    ],
)
def test_a_kind_is_told_when_it_is_one(url: str, scheme: str) -> None:
    assert scheme_of(url) == scheme


def test_every_address_gets_the_message_and_nothing_of_them_is_shown(
    notifier: Notifier, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("apprise", "urllib3.connectionpool"):
        caplog.set_level(logging.DEBUG, logger=name)
    urls = [
        notifier.url,
        f"json://user:{CANARY}@127.0.0.1:9/{CANARY}",
        f"nonsense://{CANARY}",
        f"json://:{CANARY}",
        f"{CANARY}://{CANARY}",
        f"mailto://user:{CANARY}@127.0.0.1:9?smtp=127.0.0.1&to={CANARY}@example.com",
    ]
    sent = send(urls, "Title", "Text")
    assert [(one.scheme, one.is_accepted) for one in sent] == [
        ("json", True),
        ("json", False),
        ("unknown", False),
        ("json", False),
        ("unknown", False),
        ("mailto", False),
    ]
    assert notifier.take() == [("Title", "Text")]
    shown = capfd.readouterr()
    assert CANARY not in repr(sent) + caplog.text + shown.out + shown.err


def test_a_notifier_that_hangs_is_left_behind(notifier: Notifier) -> None:
    notifier.wait = 3
    began = time.monotonic()
    assert send([notifier.url], "Title", "Text", timeout=0.5) == [Delivery("json", False)]
    assert time.monotonic() - began < 2


def test_whatever_a_notifier_raises_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.custom_json import NotifyJSON

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(NotifyJSON, "send", fail)
    assert send([f"json://127.0.0.1:9/{CANARY}"], "Title", "Text") == [Delivery("json", False)]


def test_no_address_is_no_message() -> None:
    assert send([], "Title", "Text") == []
