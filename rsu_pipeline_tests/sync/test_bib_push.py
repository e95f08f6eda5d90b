"""Bibs given here are sent to RunSignup where that is allowed, replace nothing there, and count once a read has them."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rsu_pipeline.sync import bib_push
from rsu_pipeline.sync.bib_push import PushReport, push_bibs
from rsu_pipeline.warehouse import bib_pushes
from rsu_pipeline.warehouse.bib_pushes import BibPushError
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(events=2, registrations=12, start_in_hours=30)


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    """Provide a hub synced once, whose first event has no bibs."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sandbox.admin.clock(rate=0)
    for key in registrations(hub):
        hub.sandbox.admin.bib(key, None)
    hub.sync()
    hub.sandbox.admin.clock(advance=60)
    return hub


def event(hub: Hub) -> int:
    return min(row["event_id"] for row in hub.sandbox.admin.truth(1)["active"])


def registrations(hub: Hub) -> list[int]:
    """Return the registrations of the first event."""
    rows = hub.sandbox.admin.truth(1)["active"]
    first = min(row["event_id"] for row in rows)
    return sorted(row["registration_id"] for row in rows if row["event_id"] == first)


def give(hub: Hub, registration: int, bib: str | None) -> None:
    hub.execute("UPDATE runsignup_participants SET local_bib = %s WHERE registration_id = %s", bib, registration)


def allow(hub: Hub) -> None:
    with hub.partner_session() as session:
        bib_pushes.allow(session.conn, bib_pushes.find_event(session.conn, event(hub)), "tests")
        session.conn.commit()


def push(hub: Hub, **options: Any) -> PushReport:
    hub.sandbox.admin.clock(advance=60)
    with hub.partner_session(run_id="push") as session:
        return push_bibs(session, bib_pushes.find_event(session.conn, event(hub)), who="tests", **options)


def bibs_there(hub: Hub) -> dict[int, int]:
    """Return the bibs that RunSignup has in the first event, by registration."""
    ours = set(registrations(hub))
    rows = hub.sandbox.admin.truth(1)["active"]
    return {
        r["registration_id"]: r["bib_num"] for r in rows if r["registration_id"] in ours and r["bib_num"] is not None
    }


def log(hub: Hub) -> list[tuple[int, str | None, str | None, str]]:
    rows = hub.rows("SELECT * FROM runsignup_bib_changes ORDER BY bib_change_id")
    return [(row["registration_id"], row["old_bib"], row["new_bib"], row["source"]) for row in rows]


def outcomes(hub: Hub) -> dict[int, tuple[str | None, str | None]]:
    rows = hub.rows("SELECT registration_id, outcome, answer FROM bib_pushes ORDER BY bib_push_id")
    return {row["registration_id"]: (row["outcome"], row["answer"]) for row in rows}


def edits(hub: Hub) -> list[dict[str, Any]]:
    return [call for call in hub.sandbox.admin.stats()["log"] if call["endpoint"] == "edit"]


def test_nothing_is_sent_unless_the_event_allows_it(hub: Hub) -> None:
    give(hub, registrations(hub)[0], "101")
    with pytest.raises(BibPushError, match="may not be sent to RunSignup"):
        push(hub)
    assert (edits(hub), bibs_there(hub), outcomes(hub)) == ([], {}, {})


def test_sent_bibs_are_at_runsignup_in_the_log_with_their_source_and_confirmed(hub: Hub) -> None:
    allow(hub)
    one, two, three = registrations(hub)[:3]
    give(hub, one, "101")
    give(hub, two, " 102 ")
    hub.sandbox.admin.bib(three, 7)
    report = push(hub)
    assert report.is_complete
    assert report.confirmed == [one, two]
    assert bibs_there(hub) == {one: 101, two: 102, three: 7}
    assert sorted(log(hub)) == [(one, None, "101", "hub"), (two, None, "102", "hub"), (three, None, "7", "runsignup")]
    assert outcomes(hub) == {one: ("confirmed", "accepted"), two: ("confirmed", "accepted")}
    assert hub.value("SELECT count(*) FROM bib_pushes u JOIN runsignup_bib_changes b USING (bib_change_id)"
                     " WHERE u.registration_id = b.registration_id AND u.bib = b.new_bib") == 2  # fmt: skip
    hub.assert_equal()
    hub.assert_bib_log_replays()
    again = push(hub)
    assert again.is_complete
    assert len(edits(hub)) == 1, "what RunSignup has is sent again"


def test_a_write_changes_nothing_but_the_bib(hub: Hub) -> None:
    allow(hub)
    before = {row["registration_id"]: row for row in hub.sandbox.admin.truth(1)["active"]}
    give(hub, registrations(hub)[0], "101")
    push(hub)
    after = {row["registration_id"]: row for row in hub.sandbox.admin.truth(1)["active"]}
    changed = {(key, name) for key, row in after.items() for name in row if row[name] != before[key][name]}
    # The sandbox's chips follow its bibs.
    assert {name for _, name in changed} - {"chip_num"} == {"bib_num", "last_modified"}
    assert {key for key, _ in changed} == {registrations(hub)[0]}


def test_what_changed_at_runsignup_since_it_was_read_is_not_written_and_reported(hub: Hub) -> None:
    allow(hub)
    one, two, three = registrations(hub)[:3]
    for number, key in enumerate((one, two, three)):
        give(hub, key, str(101 + number))
    hub.sandbox.admin.bib(one, 55)
    hub.sandbox.admin.remove(two, "cleared")
    report = push(hub)
    assert bibs_there(hub) == {one: 55, three: 103}
    assert [(item.registration_id, item.reason) for item in report.problems] == [
        (one, "RunSignup has bib 55, given since it was read"),
        (two, "the registration was removed at RunSignup since it was read"),
    ]
    assert not report.is_complete
    assert (one, None, "55", "runsignup") in log(hub)


def test_a_bib_that_runsignup_has_is_never_replaced(hub: Hub) -> None:
    allow(hub)
    one = registrations(hub)[0]
    hub.sandbox.admin.bib(one, 55)
    hub.sync()
    give(hub, one, "101")
    (problem,) = push(hub).problems
    assert problem.reason == "RunSignup has bib 55"
    assert (bibs_there(hub), edits(hub)) == ({one: 55}, [])


def test_a_bib_that_runsignup_cannot_have_and_one_given_twice_are_not_sent(hub: Hub) -> None:
    allow(hub)
    keys = registrations(hub)
    given = {
        keys[0]: "A12",
        keys[1]: "007",
        keys[2]: "0",
        keys[3]: "9999999999",
        keys[4]: "12",
        keys[5]: "12",
        keys[6]: "8",
    }
    for key, bib in given.items():
        give(hub, key, bib)
    report = push(hub)
    assert bibs_there(hub) == {keys[6]: 8}
    assert [item.registration_id for item in report.problems] == keys[:6]
    assert report.problems[4].reason == f"registration {keys[5]} has the same bib"


def test_an_answer_is_not_believed(hub: Hub) -> None:
    allow(hub)
    one = registrations(hub)[0]
    give(hub, one, "101")
    hub.sandbox.admin.switch(ignores_edits=True)
    report = push(hub)
    assert (report.unconfirmed, report.is_complete) == ([one], False)
    assert outcomes(hub) == {one: (None, "accepted")}
    assert log(hub) == []
    hub.sandbox.admin.switch(ignores_edits=False)
    assert push(hub).confirmed == [one]
    assert outcomes(hub) == {one: ("confirmed", "accepted")}
    assert log(hub) == [(one, None, "101", "hub")]


def test_a_write_that_becomes_visible_later_is_confirmed_by_a_later_read(hub: Hub) -> None:
    allow(hub)
    one = registrations(hub)[0]
    give(hub, one, "101")
    hub.sandbox.admin.switch(visibility_delay=300)
    assert push(hub).unconfirmed == [one]
    hub.sandbox.admin.clock(advance=400)
    hub.sync(full=True)
    assert log(hub) == [(one, None, "101", "hub")]
    assert outcomes(hub)[one][0] == "confirmed"


@pytest.mark.parametrize("kind", ["timeout", "reset", "closed", "short_body", "http_500", "html_522"])
def test_a_call_without_an_answer_is_made_once_and_the_next_read_shows_what_it_did(hub: Hub, kind: str) -> None:
    allow(hub)
    one = registrations(hub)[0]
    give(hub, one, "101")
    hub.environment["RSU_READ_TIMEOUT"] = "0.5"
    hub.sandbox.admin.fault(kind, endpoint="edit", seconds=1)
    report = push(hub)
    assert len(edits(hub)) == 1
    stored = bibs_there(hub) == {one: 101}
    assert stored == (kind == "short_body"), "only here was the call done"
    assert report.confirmed == ([one] if stored else [])
    assert report.failure is not None
    assert log(hub) == ([(one, None, "101", "hub")] if stored else [])
    assert push(hub).is_complete
    assert log(hub) == [(one, None, "101", "hub")]
    hub.assert_bib_log_replays()


def test_one_refused_bib_does_not_keep_the_others(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(hub)
    keys = registrations(hub)
    for number, key in enumerate(keys[:9]):
        give(hub, key, str(101 + number))
    monkeypatch.setattr(bib_push, "plan_pushes", refused_one(keys[4]))
    report = push(hub)
    assert report.failure is None
    assert bibs_there(hub) == {key: 101 + number for number, key in enumerate(keys[:9]) if key != keys[4]}
    assert report.unconfirmed == [keys[4]]
    assert outcomes(hub)[keys[4]][0] == "refused"
    assert "115" in str(outcomes(hub)[keys[4]][1])
    assert len(edits(hub)) <= 10


def refused_one(registration: int) -> Callable[..., Any]:
    """Return a plan in which one bib is one that RunSignup refuses, which the plan itself never has."""
    plan = bib_push.plan_pushes

    def planned(*arguments: Any, **options: Any) -> Any:
        found = plan(*arguments, **options)
        return [replace(item, number=-5) if item.registration_id == registration else item for item in found]

    return planned


def test_a_refused_credential_stops_at_once(hub: Hub) -> None:
    allow(hub)
    for number, key in enumerate(registrations(hub)[:3]):
        give(hub, key, str(101 + number))
    hub.sandbox.admin.fault("error_code", endpoint="edit", code=7, message="Permission Denied", times=0)
    report = push(hub)
    assert len(edits(hub)) == 1
    assert "no access" in str(report.failure)
    assert bibs_there(hub) == {}


def test_a_read_that_is_too_old_is_repeated_before_the_write(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(hub)
    one = registrations(hub)[0]
    give(hub, one, "101")
    times = iter([1.0, bib_push.MAX_SECONDS_AFTER_READ + 2])
    real = bib_push.time.monotonic

    class Clock:
        def monotonic(self) -> float:
            return next(times, None) or real()

    monkeypatch.setattr(bib_push, "time", Clock())
    report = push(hub)
    assert report.confirmed == [one]
    assert len(edits(hub)) == 1
    assert outcomes(hub) == {one: ("confirmed", "accepted")}
    assert hub.value("SELECT attempts FROM bib_pushes") == 2


def test_only_the_named_registrations_are_sent(hub: Hub) -> None:
    allow(hub)
    one, two = registrations(hub)[:2]
    give(hub, one, "101")
    give(hub, two, "102")
    assert push(hub, only={two}).confirmed == [two]
    assert bibs_there(hub) == {two: 102}


def test_nothing_is_sent_if_the_race_cannot_be_read(hub: Hub) -> None:
    allow(hub)
    give(hub, registrations(hub)[0], "101")
    hub.sandbox.admin.fault("http_500", endpoint="participants", times=0)
    with pytest.raises(BibPushError, match="Nothing was sent, because race"):
        push(hub)
    assert edits(hub) == []


def test_a_push_that_was_overtaken_is_settled_and_the_log_names_who_gave_the_bib(hub: Hub) -> None:
    allow(hub)
    one = registrations(hub)[0]
    give(hub, one, "101")
    hub.sandbox.admin.switch(ignores_edits=True)
    push(hub)
    hub.sandbox.admin.bib(one, 7)
    hub.sandbox.admin.clock(advance=60)
    hub.sync()
    assert outcomes(hub)[one][0] == "overtaken"
    assert log(hub) == [(one, None, "7", "runsignup")]


def test_calls_of_a_push_are_in_the_ledger_and_need_a_slot(hub: Hub) -> None:
    allow(hub)
    give(hub, registrations(hub)[0], "101")
    push(hub)
    (call,) = hub.rows("SELECT * FROM api_calls WHERE endpoint = 'set-bibs'")
    assert (call["lane"], call["status"], call["error"]) == ("routine", 200, None)
    assert call["settled_at"] > call["granted_at"] > dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    assert hub.sandbox.admin.stats()["violations"] == 0


def test_a_used_up_budget_sends_nothing(hub: Hub) -> None:
    allow(hub)
    give(hub, registrations(hub)[0], "101")
    hub.environment["RSU_CALLS_PER_HOUR"] = str(hub.value("SELECT count(*) FROM api_calls"))
    with pytest.raises(BibPushError, match="the call budget is used up"):
        push(hub)
    assert (edits(hub), outcomes(hub)) == ([], {})


def test_no_secret_is_in_what_a_failed_write_reports(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(hub)
    give(hub, registrations(hub)[0], "101")
    (partner,) = hub.sandbox.admin.partners()
    hub.sandbox.admin.fault(
        "error_code", endpoint="edit", code=3, message=f"bad {partner['secret']} {partner['key']}", times=1
    )
    report = push(hub)
    shown = f"{report} {outcomes(hub)}"
    assert partner["secret"] not in shown
    assert partner["key"] not in shown
