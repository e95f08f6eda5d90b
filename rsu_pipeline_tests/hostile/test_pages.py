"""Pages that no JSON library of RunSignup's would write, through the client into PostgreSQL.

Rows that can be read are stored, the rest is quarantined with a reason, or the race fails alone.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline.sync.sync_outcome import SyncOutcome
from rsu_pipeline_tests.hub import Hub, Row

NUMBER = 91_900_000
"""Above every registration of the sandbox's."""


@pytest.fixture
def quiet(shared: Hub) -> Iterator[Hub]:
    """Provide the module's hub, and remove what a test put into it."""
    before = dict(shared.environment)
    yield shared
    shared.environment = before
    shared.sandbox.admin.clear_faults()
    shared.sandbox.admin.switch(repeat_page=False)
    shared.execute("DELETE FROM quarantined_rows")
    shared.execute("DELETE FROM runsignup_participants WHERE registration_id >= %s", NUMBER)


def events(hub: Hub) -> list[tuple[int, int]]:
    """Return (race, event) of both races."""
    return [
        (row["race_id"], row["event_id"])
        for row in hub.rows("SELECT race_id, event_id FROM future_events ORDER BY race_id")
    ]


def row(event_id: int, number: int = NUMBER, **members: Any) -> Row:
    return {
        "registration_id": number,
        "event_id": event_id,
        "user": {"first_name": "Ann", "last_name": "Lowe"},
        "bib_num": None,
        "last_modified": 1_790_000_000,
    } | members


def answer(event_id: int, *rows: Row | bytes) -> bytes:
    sent = b",".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in rows)
    return b'[{"event":{"event_id":%d},"participants":[%b]}]' % (event_id, sent)


def play(hub: Hub, body: bytes, **more: Any) -> SyncOutcome:
    """Sync with this as the answer for the changed registrations of the first race."""
    race_id, _ = events(hub)[0]
    hub.sandbox.admin.fault(
        "raw", 1, endpoint="participants", race_id=race_id, body=base64.b64encode(body).decode(), **more
    )
    outcome = hub.sync()
    assert not hub.sandbox.admin.stats()["violations"]
    return outcome


def stored(hub: Hub, number: int = NUMBER) -> Row:
    (found,) = hub.rows("SELECT * FROM runsignup_participants WHERE registration_id = %s", number)
    return found


def held_back(hub: Hub) -> list[tuple[int | None, str]]:
    rows = hub.rows(
        "SELECT registration_id, reason FROM quarantined_rows WHERE NOT is_stored ORDER BY 1 NULLS FIRST, 2"
    )
    return [(one["registration_id"], one["reason"]) for one in rows]


# A row, and the reason for which it is quarantined. %d is its event.
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "a number beyond int64": (b'{"registration_id":9223372036854775808,"event_id":%d}', "is out of range"),
    "a number of 5,000 digits": (b'{"registration_id":' + b"9" * 5000 + b',"event_id":%d}', "cannot be read"),
    "a negative number": (b'{"registration_id":-17,"event_id":%d}', "-17 is out of range"),
    "number 0": (b'{"registration_id":0,"event_id":%d}', "0 is out of range"),
    "a broken number": (b'{"registration_id":5.5,"event_id":%d}', "cannot be read"),
    "no number": (b'{"event_id":%d}', "registration_id is missing"),
    "a number in words": (b'{"registration_id":"x","event_id":%d}', "cannot be read"),
    "an event in words": (b'{"registration_id":91900001,"event_id":"%dx"}', "event_id cannot be read"),
    "a negative event": (b'{"registration_id":91900001,"event_id":-%d}', "was not requested"),
    "500 levels": (
        b'{"registration_id":91900001,"event_id":%d,"x":' + b"[" * 500 + b"]" * 500 + b"}",
        "deeper than 200",
    ),
    "more than PostgreSQL's numbers": (
        b'{"registration_id":91900001,"event_id":%d,"multi_race_bundle":{"x":1e200000}}',
        "PostgreSQL: ",
    ),
    "no object": (b"[%d]", "not an object"),
    "a text": (b'"%d"', "not an object"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_row_that_cannot_be_read_is_held_back_and_the_rows_beside_it_stored(quiet: Hub, what: str) -> None:
    _, event_id = events(quiet)[0]
    bad, reason = UNREADABLE[what]
    outcome = play(quiet, answer(event_id, row(event_id), bad % event_id, row(event_id, NUMBER + 2)))
    assert not outcome.failures
    assert (outcome.counts.inserted, outcome.counts.quarantined) == (2, 1)
    ((_, told),) = held_back(quiet)
    assert reason in told
    assert stored(quiet)["last_name"] == stored(quiet, NUMBER + 2)["last_name"] == "Lowe"


READABLE: dict[str, tuple[bytes, Row]] = {
    "members twice": (
        b'{"registration_id":5,"registration_id":91900000,"event_id":%d,"bib_num":1,"bib_num":2}',
        {"bib_num": "2"},
    ),
    "a person twice": (
        b'{"registration_id":91900000,"event_id":%d,"user":{"last_name":"Old","first_name":"A"},"user":{"last_name":"New"}}',
        {"last_name": "New", "first_name": None},
    ),
    "numbers as text": (b'{"registration_id":"91900000","event_id":"%d","age":"33"}', {"age": 33}),
    "whole floats": (b'{"registration_id":91900000.0,"event_id":%d.0,"age":33.0}', {"age": 33}),
    "bytes that are not UTF-8": (b'{"registration_id":91900000,"event_id":%d,"user":{"last_name":"a\xff\xfeb"}}', {}),
    "halves of pairs": (rb'{"registration_id":91900000,"event_id":%d,"user":{"last_name":"a\ud83d\udfffb\udc00"}}', {}),
    "a NUL in a member's name": (rb'{"registration_id":91900000,"event_id":%d,"a\u0000b":1}', {}),
    "a member beyond PostgreSQL's numbers": (b'{"registration_id":91900000,"event_id":%d,"x":1e200000}', {}),
    "1e300": (b'{"registration_id":91900000,"event_id":%d,"x":1e300}', {}),
    "a member without a name": (b'{"registration_id":91900000,"event_id":%d,"":{"":[]}}', {}),
}


@pytest.mark.parametrize("what", READABLE)
def test_what_is_odd_but_says_whose_it_is_is_stored(quiet: Hub, what: str) -> None:
    _, event_id = events(quiet)[0]
    sent, columns = READABLE[what]
    outcome = play(quiet, answer(event_id, sent % event_id, row(event_id, NUMBER + 2)))
    assert not outcome.failures and not held_back(quiet)
    assert outcome.counts.inserted == 2
    found = stored(quiet)
    assert {name: found[name] for name in columns} == columns
    # What the columns hold is what the payload holds: of members sent twice both keep the last.
    assert found["payload"].get("bib_num") in (None, 2)
    assert found["payload"]["registration_id"] in (NUMBER, str(NUMBER), float(NUMBER))


# A whole answer, and the reason.
REFUSED: dict[str, tuple[bytes, str]] = {
    "10,000 levels in a row": (
        answer(1, b'{"registration_id":1,"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
        "nested too deeply",
    ),
    "10,000 levels": (b"[" * 10_000 + b"]" * 10_000, "unknown shape"),
    "NaN": (answer(1, b'{"registration_id":1,"x":NaN}'), "malformed JSON"),
    "Infinity": (answer(1, b'{"registration_id":1,"x":-Infinity}'), "malformed JSON"),
    "a comma too many": (answer(1, b'{"registration_id":1},'), "malformed JSON"),
    "a comment": (answer(1, b"{} /* all of them */"), "malformed JSON"),
    "JSON and more": (answer(1) + b"<script>", "malformed JSON"),
    "a page for people": (b"<!DOCTYPE html><html><script>alert(1)</script></html>", "answer is not JSON (HTML)"),
    "UTF-16": (answer(1).decode().encode("utf-16"), "answer is not JSON"),
    "nothing": (b"", "empty body"),
    "an error of 10,000 levels": (
        b'{"error":{"error_code":3,"error_msg":' + b"[" * 10_000 + b"]" * 10_000 + b"}}",
        "deep",
    ),
    "an error of 900 levels": (b'{"error":{"error_code":3,"error_msg":' + b"[" * 900 + b"]" * 900 + b"}}", "code"),
    "an error with script": (
        b'{"error":{"error_code":3,"error_msg":"<img src=x onerror=alert(1)>[x](http://x)\\u001b[2J\\n- ERROR forged"}}',
        "code 3: ‹img src=x onerror=alert(1)›(x)(http://x)",
    ),
    "an error code of 5,000 digits": (
        b'{"error":{"error_code":' + b"9" * 5000 + b',"error_msg":"x"}}',
        "an error object",
    ),
    "an error of a megabyte": (b'{"error":{"error_code":3,"error_msg":"' + b"x" * (1 << 20) + b'"}}', "code 3: xxx"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_answer_that_cannot_be_read_fails_its_race_alone_with_one_sentence(shared: Hub, what: str) -> None:
    body, said = REFUSED[what]
    race_id, _ = events(shared)[0]
    shared.sandbox.admin.fault("raw", 0, endpoint="participants", race_id=race_id, body=base64.b64encode(body).decode())
    outcome = shared.sync(full=True)
    shared.sandbox.admin.clear_faults()
    (sentence,) = outcome.failures
    assert sentence.startswith(f"race {race_id}: participants of race {race_id}: ")
    assert said in sentence
    assert sentence.isprintable() and len(sentence) < 450 and not set(sentence) & set("<>[]`")
    assert [read.error is None for read in outcome.reads].count(True) == 1
    assert not shared.sync(full=True).failures
    shared.assert_equal()


def test_rows_of_other_events_and_of_other_races_are_held_back(quiet: Hub) -> None:
    (_, event_id), (_, other) = events(quiet)
    before = quiet.stored()
    outcome = play(quiet, answer(event_id, row(other, min(before)), row(other), row(event_id, NUMBER + 2)))
    assert not outcome.failures
    assert (outcome.counts.inserted, outcome.counts.quarantined) == (1, 2)
    assert [reason for _, reason in held_back(quiet)] == [f"event {other} was not requested"] * 2
    assert {key: row for key, row in quiet.stored().items() if key in before} == before


def test_of_a_registration_sent_twice_the_newer_stays_and_each_bib_is_logged_once(hub: Hub) -> None:
    _, event_id = events(hub)[0]
    newer, older = row(event_id, bib_num=8, last_modified=1_790_000_500), row(event_id, bib_num=7)
    outcome = play(hub, answer(event_id, newer, older, newer))
    assert not outcome.failures and outcome.counts.inserted == 1
    assert stored(hub)["bib_num"] == "8"
    hub.assert_bib_log_replays()


def test_a_page_with_more_rows_than_asked_for_is_stored_unless_there_is_no_end_to_them(quiet: Hub) -> None:
    _, event_id = events(quiet)[0]
    quiet.environment["RSU_PAGE_SIZE"] = "10"
    many = [row(event_id, NUMBER + number) for number in range(500)]
    outcome = play(quiet, answer(event_id, *many))
    assert not outcome.failures and outcome.counts.inserted == 500
    junk = play(quiet, answer(event_id, *[b"1"] * 10_001))
    assert "10,001 rows where 10 were requested" in junk.failures[0]
    assert not held_back(quiet)


def test_a_page_that_comes_again_for_ever_fails_its_race_and_is_read_once_more_when_it_is_over(quiet: Hub) -> None:
    quiet.environment["RSU_PAGE_SIZE"] = "5"
    quiet.sandbox.admin.switch(repeat_page=True)
    quiet.sandbox.admin.reset_stats()
    outcome = quiet.sync(full=True)
    assert len(outcome.failures) == 2
    assert all("again on the page after" in sentence for sentence in outcome.failures)
    assert quiet.sandbox.admin.stats()["by_endpoint"]["participants"] == 4
    quiet.sandbox.admin.switch(repeat_page=False)
    assert not quiet.sync(full=True).failures
    quiet.assert_equal()


def test_a_listing_that_comes_again_for_ever_ends_at_its_second_page(quiet: Hub) -> None:
    races = [{"race": {"race_id": 500_000 + number, "name": "Run"}} for number in range(1000)]
    body = base64.b64encode(json.dumps({"races": races}).encode()).decode()
    quiet.sandbox.admin.fault("raw", 0, endpoint="races", body=body)
    quiet.sandbox.admin.reset_stats()
    with pytest.raises(ApiError) as caught:
        quiet.sync()
    assert caught.value.cause is Cause.UNKNOWN_SHAPE
    assert str(caught.value).endswith("(page 2 has no race that was not listed before)")
    assert quiet.sandbox.admin.stats()["by_endpoint"]["races"] == 2
    assert quiet.value("SELECT count(*) FROM runsignup_races") == 2


@pytest.mark.parametrize("kind", ["bomb", "endless"])
def test_a_bomb_fails_its_race_alone(quiet: Hub, kind: str) -> None:
    race_id, _ = events(quiet)[0]
    quiet.sandbox.admin.fault(
        kind, 0, endpoint="participants", race_id=race_id, size=200 << 20 if kind == "bomb" else 0
    )
    (sentence,) = quiet.sync(full=True).failures
    assert sentence.startswith(f"race {race_id}: ") and "answer larger than 64 MiB" in sentence
    quiet.sandbox.admin.clear_faults()
    assert not quiet.sync(full=True).failures
    quiet.assert_equal()
