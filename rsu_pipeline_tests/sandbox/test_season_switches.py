"""What a season needs of the sandbox: events and races that move or go, feeds that forget, stamps that stay, odd `Date`s."""

import pytest
import requests

from runsignup_sandbox.process import AdminError, SandboxProcess


@pytest.fixture
def sandbox(session_sandbox: SandboxProcess) -> SandboxProcess:
    return session_sandbox


def get(sandbox: SandboxProcess, path: str, **query: object) -> requests.Response:
    (partner,) = sandbox.admin.partners()[:1]
    credential = {"api_key": partner["key"], "api_secret": partner["secret"], "format": "json"}
    return requests.get(f"{sandbox.api_url}{path}", params={**credential, **query}, timeout=10)


def test_an_event_moves_to_another_race_with_its_registrations(sandbox: SandboxProcess) -> None:
    admin = sandbox.admin
    first, (event_id,) = admin.add_race(1, [{"name": "5K", "start_in_hours": 50}])
    second, _ = admin.add_race(1, [])
    (registration,) = admin.register(event_id)
    admin.move_to_race(event_id, second)
    answer = get(sandbox, f"/race/{second}/participants", event_id=event_id).json()
    assert [row["registration_id"] for row in answer[0]["participants"]] == [registration]
    assert get(sandbox, f"/race/{first}/participants", event_id=event_id).json()["error"]["error_code"] == 301
    with pytest.raises(AdminError, match="already"):
        admin.move_to_race(event_id, second)


def test_a_deleted_race_is_unknown(sandbox: SandboxProcess) -> None:
    race_id, event_ids = sandbox.admin.add_race(1, [{"name": "5K", "start_in_hours": 50}])
    sandbox.admin.register(event_ids[0])
    sandbox.admin.delete_race(race_id)
    assert get(sandbox, f"/race/{race_id}").json()["error"]["error_code"] == 201
    assert race_id not in [race["race_id"] for race in sandbox.admin.truth(1)["races"]]


def test_the_removed_feed_forgets_and_a_reactivation_may_keep_its_stamp(sandbox: SandboxProcess) -> None:
    admin = sandbox.admin
    race_id, (event_id,) = admin.add_race(1, [{"name": "5K", "start_in_hours": 50}])
    forgotten, back = admin.register(event_id, count=2)
    admin.remove(forgotten)
    admin.remove(back)
    admin.reactivate(back, last_modified=1_700_000_000)
    admin.forget_removed(race_id)
    removed = get(sandbox, f"/race/{race_id}/removed-participants", event_id=event_id).json()
    assert removed[0]["event"]["participants"] == []
    (row,) = get(sandbox, f"/race/{race_id}/participants", event_id=event_id).json()[0]["participants"]
    assert (row["registration_id"], row["last_modified"]) == (back, 1_700_000_000)


def test_answers_may_come_without_a_date_or_with_a_senseless_one(sandbox: SandboxProcess) -> None:
    try:
        sandbox.admin.switch(date_header="absent")
        assert "Date" not in get(sandbox, "/races").headers
        sandbox.admin.switch(date_header="senseless")
        assert get(sandbox, "/races").headers["Date"] == "yesterday noon"
    finally:
        sandbox.admin.switch(date_header="true")


def test_one_answer_may_have_few_rows_until_a_time(sandbox: SandboxProcess) -> None:
    admin = sandbox.admin
    race_id, (event_id,) = admin.add_race(1, [{"name": "5K", "start_in_hours": 50}])
    registrations = admin.register(event_id, count=3)
    admin.remove(registrations.pop())

    def rows(feed: str) -> int:
        (element,) = get(
            sandbox, f"/race/{race_id}/{feed}-participants".replace("active-", ""), event_id=event_id
        ).json()
        return len(element.get("participants") or element["event"]["participants"])

    admin.fault("few_rows", 2, endpoint="participants", race_id=race_id, size=1, until=admin.clock() + 3600)
    admin.fault("few_rows", endpoint="removed", race_id=race_id)
    assert [rows("active"), rows("removed"), rows("removed")] == [1, 0, 1]
    admin.clock(advance=3601)
    assert rows("active") == 2
    admin.clear_faults()
    admin.fault("few_rows", endpoint="races", size=1)
    assert len(get(sandbox, "/races", start_date="2020-01-01").json()["races"]) == 1
