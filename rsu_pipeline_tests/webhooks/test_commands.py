"""`rsu webhooks`: what it refuses, what it shows, and that a new key still opens what it stored."""

import ipaddress
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from benchmarks.webhook_receiver import SECRET, Receiver
from rsu_pipeline.warehouse.webhook_store import WebhookError
from rsu_pipeline.webhooks.endpoint import parse_url, refuse_unreachable
from rsu_pipeline_tests.cli.shell import refusal
from rsu_pipeline_tests.hub import SECRET_KEY
from rsu_pipeline_tests.webhooks.conftest import Outbox

URL = "https://scoring.example.com/rsu"


@pytest.mark.parametrize(
    ("arguments", "secret", "said"),
    [
        (("add", "http://scoring.example.com/"), SECRET, "The address of a webhook must be a plain https:// address"),
        (
            ("add", "https://me:word@scoring.example.com/"),
            SECRET,
            "The address of a webhook must be a plain https:// address",
        ),
        (("add", URL), "secret", "The secret must be whsec_ and the base64 form of 24 to 64 bytes."),
        (("add", URL, "--partner", "77"), SECRET, "There is no partner '77'"),
        (("add", URL, "--kind", "bib.lost"), SECRET, "Invalid value for '--kind'"),
        (("test", "5"), "", "There is no webhook 5: `rsu webhooks list` shows them."),
        (("remove", "5"), "", "There is no webhook 5: `rsu webhooks list` shows them."),
        (("redeliver", "5"), "", "There is no webhook 5: `rsu webhooks list` shows them."),
        (("redeliver", "five"), "", "Invalid value for 'WEBHOOK'"),
    ],
)
def test_bad_input_is_one_sentence(outbox: Outbox, arguments: tuple[str, ...], secret: str, said: str) -> None:
    done = outbox.rsu("webhooks", *arguments, stdin=f"{secret}\n")
    assert refusal(done).startswith(said)
    assert "me:word" not in done.stderr and SECRET not in done.stderr
    assert outbox.value("SELECT count(*) FROM webhooks") == 0


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("169.254.169.254", "169.254.169.254"),
        ("[::1]:8443", "::1"),
        ("[::ffff:10.0.0.1]", "::ffff:10.0.0.1"),
        ("[::ffff:a00:1]", "::ffff:10.0.0.1"),
        ("[64:ff9b::a00:1]", "64:ff9b::a00:1"),
        ("167772161", "10.0.0.1"),
        ("0xa000001", "10.0.0.1"),
        ("012.0.0.1", "10.0.0.1"),
        ("10.1", "10.0.0.1"),
        ("localhost", "127.0.0.1"),
    ],
)
def test_an_address_that_nothing_would_be_sent_to_is_not_added(host: str, address: str) -> None:
    target = parse_url(f"https://{host}/rsu")
    with pytest.raises(WebhookError) as refused:
        refuse_unreachable(target, ())
    assert str(refused.value) == (
        f"No message can be sent to {host}: {ipaddress.ip_address(address)} is no public address"
        " (RSU_WEBHOOK_NETWORKS can allow its network)."
    )


def test_adding_a_private_address_is_refused_and_a_network_that_is_allowed_is_not(outbox: Outbox) -> None:
    add = ("webhooks", "add", "https://10.20.0.1/rsu")
    assert refusal(outbox.rsu(*add, stdin=f"{SECRET}\n")) == (
        "No message can be sent to 10.20.0.1: 10.20.0.1 is no public address (RSU_WEBHOOK_NETWORKS can allow its network)."
    )
    assert outbox.value("SELECT count(*) FROM webhooks") == 0
    outbox.settings["RSU_WEBHOOK_NETWORKS"] = "10.20.0.0/16"
    assert outbox.rsu(*add, stdin=f"{SECRET}\n").returncode == 0


def test_a_secret_file_that_exists_is_kept(outbox: Outbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("precious")
    text = refusal(outbox.rsu("webhooks", "add", URL, "--new-secret", str(tmp_path / "secret")))
    assert text == f"{tmp_path / 'secret'} cannot be written (File exists): name another new file."
    assert (tmp_path / "secret").read_text() == "precious"
    assert outbox.value("SELECT count(*) FROM webhooks") == 0


def test_a_webhook_is_added_listed_and_removed_with_its_messages(outbox: Outbox) -> None:
    assert "No webhook yet." in outbox.rsu("webhooks", "list").stdout
    done = outbox.rsu("webhooks", "add", URL, "--partner", "1-acme", "--kind", "bib.changed", stdin=f"{SECRET}\n")
    assert done.stdout.splitlines() == [
        "Added webhook 1 at scoring.example.com. It is sent what is stored from now on.",
        "Check the receiver with `rsu webhooks test 1`.",
    ]
    outbox.change_bib(101, "7")
    (line,) = outbox.rsu("webhooks", "list").stdout.splitlines()[1:]
    assert line.split() == "1 1-acme scoring.example.com bib.changed nothing sent yet never 1 0".split()
    status = outbox.rsu("status").stdout
    assert "webhook 1 (scoring.example.com): nothing sent yet, 1 message pending, 0 given up" in status
    assert outbox.rsu("webhooks", "remove", "1").stdout == "Removed webhook 1 (scoring.example.com).\n"
    assert outbox.value("SELECT count(*) FROM webhook_messages") == 0


def test_messages_are_signed_as_before_after_the_key_was_rotated(outbox: Outbox, receiver: Receiver) -> None:
    number = outbox.add(receiver)
    before = outbox.rows("SELECT url, secret FROM webhooks")
    outbox.settings["RSU_SECRET_KEY"] = f"{Fernet.generate_key().decode()},{SECRET_KEY}"
    assert outbox.rsu("secrets", "rotate", "--finish").returncode == 0
    assert outbox.rows("SELECT url, secret FROM webhooks") != before
    outbox.settings["RSU_SECRET_KEY"] = outbox.settings["RSU_SECRET_KEY"].split(",")[0]
    assert outbox.rsu("webhooks", "test", str(number)).returncode == 0
    assert [item.kind for item in receiver.received] == ["webhook.test"] and receiver.forged == []


def test_a_webhook_that_no_key_opens_is_named(outbox: Outbox, receiver: Receiver) -> None:
    number = outbox.add(receiver)
    outbox.settings["RSU_SECRET_KEY"] = Fernet.generate_key().decode()
    done = outbox.rsu("secrets", "rotate", "--finish")
    assert done.returncode == 1 and f"No key decrypts webhook {number}." in done.stderr
