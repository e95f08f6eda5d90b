"""Webhooks: signed, at least once, in order per registration, whatever happens to receivers, sessions and the worker."""

import os
import random
import re
import signal
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.webhook_receiver import PATH_CANARY, SECRET, Receiver
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.webhooks.conftest import Outbox


def test_without_a_webhook_nothing_is_queued(outbox: Outbox) -> None:
    outbox.change_bib(101, "7")
    outbox.rows("UPDATE runsignup_participants SET removed_at = now(), removed_reason = 'removed'")
    assert outbox.value("SELECT count(*) FROM webhook_messages") == 0


def test_what_is_rolled_back_is_not_queued(outbox: Outbox, receiver: Receiver) -> None:
    outbox.add(receiver)
    with database.session(outbox.url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute("UPDATE runsignup_participants SET removed_at = now(), removed_reason = 'removed'")
        cur.execute("SELECT count(*) FROM webhook_messages")
        assert cur.fetchone() == (10,)
        conn.rollback()
    assert outbox.value("SELECT count(*) FROM webhook_messages") == 0


def test_each_kind_of_change_is_delivered_signed(outbox: Outbox, receiver: Receiver) -> None:
    outbox.add(receiver)
    outbox.start_worker()
    outbox.change_bib(101, "7")
    for change in (
        "removed_at = now(), removed_reason = 'cleared'",
        "removed_reason = 'transferred', new_registration_id = 109",
        "removed_at = NULL, removed_reason = NULL, new_registration_id = NULL",
    ):
        outbox.rows(f"UPDATE runsignup_participants SET {change} WHERE registration_id = 102")
    outbox.rows(
        "INSERT INTO start_lists (timing_partner_id, event_id, race_id, entrants, with_bib, without_bib, duplicate_bibs,"
        " bibs_in_other_events, out_of_range, in_two_events) VALUES (1, 11, 1, 10, 1, 9, 0, 0, 0, 0)"
    )
    found = {item.kind: item.data for item in receiver.wait_for(5)}
    its = {"partner": 1, "race": 1, "event": 11}
    of_102 = its | {"registration": 102}
    assert receiver.forged == []
    assert found == {
        "bib.changed": its | {"registration": 101, "change": 1, "kind": "assigned", "old": None, "new": "7"},
        "registration.removed": of_102 | {"reason": "cleared", "new_registration": None},
        "registration.transferred": of_102 | {"reason": "transferred", "new_registration": 109},
        "registration.restored": of_102 | {"reason": None, "new_registration": None},
        "start_list.rebuilt": its | {"entrants": 10, "with_bib": 1, "without_bib": 9, "duplicate_bibs": 0},
    }


def test_a_webhook_of_a_partner_or_of_a_kind_gets_nothing_else(outbox: Outbox, receiver: Receiver) -> None:
    first = outbox.add(receiver, partner=1)
    second = outbox.add(receiver, partner=2, kinds=("registration.removed",))
    outbox.change_bib(101, "7")
    outbox.change_bib(101, "8", partner=2)
    outbox.rows(
        "UPDATE runsignup_participants SET removed_at = now(), removed_reason = 'removed' WHERE registration_id = 103"
    )
    found = outbox.rows("SELECT webhook_id, kind FROM webhook_messages ORDER BY message_id")
    assert [tuple(row.values()) for row in found] == [(first, "bib.changed"), (first, "registration.removed")]
    assert outbox.value("SELECT count(*) FROM webhook_messages WHERE webhook_id = %s", second) == 0


def test_messages_of_a_registration_arrive_in_order_over_failures(outbox: Outbox, receiver: Receiver) -> None:
    chance = random.Random(7)
    guard = threading.Lock()

    def answer(message: dict[str, Any]) -> int:
        with guard:
            draw = chance.random()
        time.sleep(draw / 50)
        return 500 if draw < 0.05 else 0 if draw < 0.1 else 204

    receiver.answer = answer
    outbox.add(receiver)
    for number in range(40):
        outbox.change_bib(101 + number % 4, str(number))
    outbox.start_worker()
    outbox.wait_for_delivery(60)
    firsts: dict[int, list[int]] = defaultdict(list)
    for item in receiver.received:
        if int(item.data["new"]) not in firsts[item.data["registration"]]:
            firsts[item.data["registration"]].append(int(item.data["new"]))
    assert sum(map(len, firsts.values())) == 40
    assert all(numbers == sorted(numbers) for numbers in firsts.values()), firsts
    assert len(receiver.tries) > 40
    assert receiver.forged == []


def test_nothing_is_lost_when_the_worker_is_killed(outbox: Outbox, receiver: Receiver) -> None:
    receiver.answer = lambda message: (time.sleep(0.02), 204)[1]
    outbox.add(receiver)
    sent = 0
    for _ in range(6):
        worker = outbox.start_worker()
        before = len(receiver.received)
        for _ in range(20):
            outbox.change_bib(101 + sent % 10, str(sent))
            sent += 1
        receiver.wait_for(before + 5)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(60)
    outbox.start_worker()
    outbox.wait_for_delivery()
    arrived: dict[int, list[int]] = defaultdict(list)
    for item in receiver.received:
        if int(item.data["new"]) not in arrived[item.data["registration"]]:
            arrived[item.data["registration"]].append(int(item.data["new"]))
    assert sorted(number for numbers in arrived.values() for number in numbers) == list(range(sent))
    assert all(numbers == sorted(numbers) for numbers in arrived.values())
    # What arrives twice has the same webhook-id.
    by_number = defaultdict(set)
    for item in receiver.received:
        by_number[item.data["new"]].add(item.key)
    assert all(len(keys) == 1 for keys in by_number.values())


def test_a_session_that_is_cut_is_opened_again(outbox: Outbox, receiver: Receiver) -> None:
    outbox.add(receiver)
    outbox.start_worker()
    outbox.change_bib(101, "1")
    receiver.wait_for(1)
    assert outbox.value(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'rsu webhooks%%'"
        " AND datname = current_database()"
    )
    outbox.change_bib(101, "2")
    outbox.wait_for_delivery()
    assert list(dict.fromkeys(receiver.numbers())) == ["1", "2"]


def test_another_worker_waits_and_takes_over(outbox: Outbox, receiver: Receiver) -> None:
    outbox.add(receiver)
    first = outbox.start_worker()
    outbox.change_bib(101, "1")
    receiver.wait_for(1)
    outbox.start_worker()
    outbox.change_bib(101, "2")
    receiver.wait_for(2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(60)
    outbox.change_bib(101, "3")
    outbox.wait_for_delivery()
    # What the killed one had sent and not recorded arrives again.
    assert list(dict.fromkeys(receiver.numbers())) == ["1", "2", "3"]


def test_a_message_that_the_receiver_cannot_take_keeps_only_its_registration(
    outbox: Outbox, receiver: Receiver
) -> None:
    receiver.answer = lambda message: 422 if message["data"]["registration"] == 101 else 204
    outbox.add(receiver)
    for number in range(10):
        outbox.change_bib(101 + number, str(number))
    outbox.change_bib(101, "later")
    outbox.start_worker()
    receiver.wait_for(9)
    assert sorted(receiver.numbers()) == [str(number) for number in range(1, 10)]
    receiver.answer = lambda message: 204
    receiver.wait_for(11)
    assert receiver.numbers()[-2:] == ["0", "later"]


def test_a_receiver_that_hangs_delays_no_other(outbox: Outbox, receiver: Receiver) -> None:
    receiver.answer = lambda message: (time.sleep(8), 204)[1] if message["data"]["partner"] == 2 else 204
    outbox.add(receiver, partner=1)
    outbox.add(receiver, partner=2)
    for number in range(20):
        outbox.change_bib(101 + number, str(number), partner=2)
    outbox.start_worker()
    while len(receiver.tries) < 16:
        time.sleep(0.01)
    began = time.monotonic()
    outbox.change_bib(101, "quick")
    receiver.wait_for(1)
    assert time.monotonic() - began < 2
    assert receiver.numbers() == ["quick"]


def test_a_message_is_given_up_after_a_day_and_delivered_again_on_request(outbox: Outbox, receiver: Receiver) -> None:
    receiver.answer = lambda message: 500
    number = outbox.add(receiver)
    outbox.change_bib(101, "1")
    outbox.change_bib(101, "2")
    first = outbox.value("SELECT min(message_id) FROM webhook_messages")
    outbox.rows(
        "UPDATE webhook_messages SET attempts = 8, first_tried_at = now() - interval '25 hours' WHERE message_id = %s",
        first,
    )
    worker = outbox.start_worker()
    deadline = time.monotonic() + 20
    while not outbox.value("SELECT count(*) FROM webhook_messages WHERE dead_at IS NOT NULL"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert outbox.value("SELECT message_id FROM webhook_messages WHERE dead_at IS NOT NULL") == first
    receiver.answer = lambda message: 204
    receiver.wait_for(1)
    assert receiver.numbers() == ["2"]
    listed = outbox.rsu("webhooks", "list", "--json")
    assert '"dead": 1' in listed.stdout and '"pending": 0' in listed.stdout
    alerts = outbox.rsu("health", "--only", "delivery")
    assert alerts.returncode == 1
    assert f"Given up after a day: 1 message to webhook {number} (127.0.0.1:{receiver.port})." in alerts.stdout
    done = outbox.rsu("webhooks", "redeliver", str(number))
    assert done.stdout == "Queued again: 1 message.\n"
    receiver.wait_for(2)
    assert receiver.numbers() == ["2", "1"]
    assert outbox.rsu("health", "--only", "delivery").stdout == "Healthy: delivery.\n"
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(10) == 0


def test_a_receiver_that_is_gone_ends_its_webhook(outbox: Outbox, receiver: Receiver) -> None:
    receiver.answer = lambda message: 410
    number = outbox.add(receiver)
    outbox.change_bib(101, "1")
    outbox.start_worker()
    deadline = time.monotonic() + 20
    while outbox.value("SELECT disabled_at IS NULL FROM webhooks"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    outbox.change_bib(101, "2")
    assert outbox.value("SELECT count(*) FROM webhook_messages") == 1
    assert f"with `rsu webhooks redeliver {number}`" in outbox.rsu("health", "--only", "delivery").stdout


def test_a_redirect_is_refused(outbox: Outbox, receiver: Receiver) -> None:
    receiver.answer = lambda message: 302
    receiver.headers["location"] = f"https://127.0.0.1:{receiver.port}/elsewhere"
    outbox.add(receiver)
    outbox.change_bib(101, "1")
    outbox.start_worker()
    deadline = time.monotonic() + 20
    while not (error := outbox.value("SELECT last_error FROM webhooks")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert error == f"127.0.0.1:{receiver.port}: HTTP 302, a redirect, which is not followed"
    assert len(set(receiver.tries)) == 1


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        (
            "RSU_WEBHOOK_NETWORKS",
            "10.0.0.0/8",
            "127.0.0.1 is no public address (RSU_WEBHOOK_NETWORKS can allow its network)",
        ),
        ("SSL_CERT_FILE", "", "the certificate is not accepted (self-signed certificate)"),
    ],
)
def test_an_address_that_is_private_or_not_certified_is_refused(
    outbox: Outbox, receiver: Receiver, setting: str, value: str, reason: str
) -> None:
    outbox.settings |= {setting: value}
    number = outbox.add(receiver)
    done = outbox.rsu("webhooks", "test", str(number))
    assert (done.returncode, done.stderr) == (
        1,
        f"The message was not accepted: 127.0.0.1:{receiver.port}: {reason}.\n",
    )
    assert receiver.tries == []


def test_a_worker_that_does_not_run_is_noticed_where_there_are_webhooks(outbox: Outbox, receiver: Receiver) -> None:
    assert outbox.rsu("health", "--only", "delivery").returncode == 0
    outbox.add(receiver)
    assert outbox.rsu("health", "--only", "delivery").returncode == 0
    outbox.rows("UPDATE webhooks SET created_at = now() - interval '61 seconds'")
    done = outbox.rsu("health", "--only", "delivery")
    assert done.returncode == 1
    assert re.match(r"No process has delivered webhooks for 6\d s\.", done.stdout)
    outbox.start_worker()
    deadline = time.monotonic() + 20
    while outbox.rsu("health", "--only", "delivery").returncode:
        assert time.monotonic() < deadline


def test_a_worker_that_does_not_run_is_noticed_where_a_folder_of_start_lists_is_set(
    outbox: Outbox, tmp_path: Path
) -> None:
    outbox.settings["RSU_START_LIST_DIR"] = str(tmp_path / "lists")
    done = outbox.rsu("health", "--only", "delivery")
    assert done.returncode == 1
    assert done.stdout.startswith("No process has delivered webhooks on this database yet.")
    outbox.rows(
        "INSERT INTO start_lists (timing_partner_id, event_id, race_id, entrants, with_bib, without_bib, duplicate_bibs,"
        " bibs_in_other_events, out_of_range, in_two_events) VALUES (1, 11, 1, 0, 0, 0, 0, 0, 0, 0)"
    )
    outbox.start_worker()
    deadline = time.monotonic() + 20
    while not (tmp_path / "lists" / "1-11.csv").exists() or outbox.rsu("health", "--only", "delivery").returncode:
        assert time.monotonic() < deadline


def test_secrets_and_addresses_are_not_shown(outbox: Outbox, receiver: Receiver) -> None:
    receiver.answer = lambda message: 500
    outbox.settings["RSU_WEBHOOK_SECRET"] = SECRET
    shown = [outbox.rsu("webhooks", "add", receiver.url, "--partner", "1")]
    outbox.change_bib(101, "1")
    outbox.start_worker()
    while len(receiver.tries) < 2:
        time.sleep(0.01)
    shown += [outbox.rsu("webhooks", *rest.split()) for rest in ("list", "list --json", "test 1", "redeliver 1")]
    shown.append(outbox.rsu("health", "--only", "delivery"))
    texts = [text for done in shown for text in (done.stdout, done.stderr)]
    texts += [
        outbox.log.read_text(),
        str(outbox.rows("SELECT * FROM webhooks")),
        str(outbox.rows("SELECT * FROM webhook_messages")),
    ]
    for text in texts:
        assert SECRET not in text and SECRET.removeprefix("whsec_") not in text
        assert PATH_CANARY not in text
    assert [done.returncode for done in shown[:3]] == [0, 0, 0]
    assert "webhook 1, message" in outbox.log.read_text()
