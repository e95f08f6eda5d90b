"""What the admin actions do, and what the API then shows."""

import json
from collections.abc import Callable

import pytest
import requests

from rsu_pipeline_tests.sandbox.conftest import Caller, caller, code
from runsignup_sandbox.process import AdminError, SandboxProcess

Fresh = tuple[int, list[int]]


def test_every_change_stamps_the_simulated_second(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (event, _) = fresh
    (id,) = sandbox.admin.register(event)
    changes: list[Callable[[], None]] = [
        lambda: sandbox.admin.bib(id, 12),
        lambda: sandbox.admin.edit(id, {"city": "Elsewhere"}),
    ]
    for change in changes:
        now = int(sandbox.admin.clock(advance=500))
        change()
        (row,) = api.rows(race, event)
        assert 0 <= row["last_modified"] - now <= 2
    assert row["bib_num"] == 12
    assert row["user"]["address"]["city"] == "Elsewhere"
    sandbox.admin.bib(id, None)
    assert api.rows(race, event)[0]["bib_num"] is None


def test_swapped_bibs_change_in_one_second(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    a, b = sandbox.admin.register(fresh[1][0], count=2)
    sandbox.admin.bib(a, 1)
    sandbox.admin.bib(b, 2)
    sandbox.admin.swap_bibs(a, b)
    rows = api.rows(fresh[0], fresh[1][0])
    assert [row["bib_num"] for row in rows] == [2, 1]


def test_malformed_rows(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    (id,) = sandbox.admin.register(fresh[1][0])
    fields = {"race_fee": "abc", "dob": "1990-02-31", "age": "12", "registration_id": str(id)}
    sandbox.admin.edit(id, fields, drop=["email", "phone"], extra={"novelty": {"a": 1}})
    (row,) = api.rows(fresh[0], fresh[1][0])
    assert (row["race_fee"], row["age"], row["registration_id"], row["novelty"]) == ("abc", "12", str(id), {"a": 1})
    assert not {"email", "phone"} & set(row["user"])
    assert row["user"]["dob"] == "1990-02-31"
    sandbox.admin.edit(id, drop=["user"])
    assert "user" not in api.rows(fresh[0], fresh[1][0])[0]


def test_a_transfer_makes_a_new_registration(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (one, two) = fresh
    (old,) = sandbox.admin.register(one, {"bib_num": 44, "first_name": "Ines"})
    new = sandbox.admin.transfer(old, two)
    assert new != old
    assert api.rows(race, one) == []
    (row,) = api.rows(race, two)
    assert (row["registration_id"], row["bib_num"], row["user"]["first_name"]) == (new, 44, "Ines")
    (gone,) = api.removed(race, one)
    assert (gone["removed_reason"], gone["new_registration_id"]) == ("transferred", new)
    third = sandbox.admin.transfer(new, one, transfer_bib=False)
    assert api.rows(race, one)[0]["bib_num"] is None
    assert api.removed(race, two)[0]["new_registration_id"] == third


@pytest.mark.parametrize("hide", ["new", "removed"])
def test_a_transfer_may_show_on_one_feed_first(sandbox: SandboxProcess, api: Caller, fresh: Fresh, hide: str) -> None:
    race, (one, two) = fresh
    (old,) = sandbox.admin.register(one)
    sandbox.admin.transfer(old, two, hide=hide, hide_seconds=60)
    shown = (len(api.rows(race, two)), len(api.removed(race, one)))
    assert shown == ((0, 1) if hide == "new" else (1, 0))
    sandbox.admin.clock(advance=61)
    assert (len(api.rows(race, two)), len(api.removed(race, one))) == (1, 1)


def test_removal_and_return(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (event, _) = fresh
    first, second = sandbox.admin.register(event, count=2)
    sandbox.admin.remove(first, "deferred")
    sandbox.admin.remove(second, silent=True)
    assert api.rows(race, event) == []
    assert [row["registration_id"] for row in api.removed(race, event)] == [first]
    sandbox.admin.reactivate(first)
    assert [row["registration_id"] for row in api.rows(race, event)] == [first]
    assert api.removed(race, event) == []


def test_visibility_delay_hides_a_change_that_is_already_stamped(
    sandbox: SandboxProcess, api: Caller, fresh: Fresh
) -> None:
    race, (event, _) = fresh
    (id,) = sandbox.admin.register(event)
    sandbox.admin.switch(visibility_delay=30)
    stamp = int(sandbox.admin.clock(advance=100))
    sandbox.admin.bib(id, 9)
    assert api.rows(race, event)[0]["bib_num"] is None
    assert [row["bib_num"] for row in sandbox.admin.truth(1)["active"] if row["registration_id"] == id] == [9]
    sandbox.admin.clock(advance=31)
    (row,) = api.rows(race, event)
    assert row["bib_num"] == 9
    assert row["last_modified"] - stamp <= 2


def test_a_change_seen_at_once_is_not_undone_by_an_earlier_one_that_was_hidden(
    sandbox: SandboxProcess, api: Caller, fresh: Fresh
) -> None:
    race, (event, _) = fresh
    (id,) = sandbox.admin.register(event)
    sandbox.admin.switch(visibility_delay=30)
    sandbox.admin.bib(id, 9)
    sandbox.admin.clock(advance=31)
    sandbox.admin.switch(visibility_delay=0)
    sandbox.admin.bib(id, 10)
    assert api.rows(race, event)[0]["bib_num"] == 10


def test_a_bundle_has_twin_rows_with_the_same_bib(sandbox: SandboxProcess) -> None:
    third = caller(sandbox, 3)
    race = next(race for race in sandbox.admin.truth(3)["races"] if race["name"] == "Three Mills Double")
    (bundle,) = [event for event in race["events"] if event["sub_event_ids"]]
    buyers = third.rows(race["race_id"], bundle["event_id"])
    assert len(buyers) == 10
    for sub in bundle["sub_event_ids"]:
        rows = {row["user"]["user_id"]: row["bib_num"] for row in third.rows(race["race_id"], sub)}
        assert all(rows[row["user"]["user_id"]] == row["bib_num"] for row in buyers)
        assert len(third.rows(race["race_id"], sub, exclude_registrations_via_super_event="T")) == 12
    assert len(sandbox.admin.register(bundle["event_id"])) == 3


def test_switch_and_delete_by_the_api(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (one, two) = fresh
    first, second = sandbox.admin.register(one, count=2)
    sandbox.admin.bib(first, 5)

    def post(method: str, request: object, **params: str) -> object:
        query = {"format": "json", "api_key": api.key, "api_secret": api.secret, **params}
        form = {"request_format": "json", "request": json.dumps(request)}
        return requests.post(f"{api.base}/race/{race}/{method}", params=query, data=form, timeout=10).json()

    moved = {"registrations": [{"registration_id": first, "new_event_id": two}]}
    answer = post("switch-participant-events", moved, transfer_bibs="T")
    (row,) = api.rows(race, two)
    assert answer == {"participants": [{"registration_id": row["registration_id"]}]}
    assert row["bib_num"] == 5
    assert code(post("switch-participant-events", moved)) == 15
    assert code(post("switch-participant-events", "x")) == 11
    gone = {"registrations": [{"registration_id": second}]}
    assert code(post("delete-participants", gone)) == 3
    assert "participants" in post("delete-participants", gone, allow_non_imports="T")  # type: ignore[operator]
    assert api.rows(race, one) == []


def test_check_ins(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (event, _) = fresh
    (id,) = sandbox.admin.register(event)
    before = api.rows(race, event)
    sandbox.admin.clock(advance=50)
    sandbox.admin.check_in(id)
    answer = api.json("/v2/participants/checkin-timestamps.json", race_id=race)
    (entry,) = answer["checkin_timestamps"]
    assert entry["registration_id"] == id
    assert api.rows(race, event) == before
    later = entry["checkin_ts"] + 1
    assert api.json("/v2/participants/checkin-timestamps.json", race_id=race, min_checkin_ts=later) == {
        "checkin_timestamps": []
    }


def test_the_truth_is_what_the_api_serves(sandbox: SandboxProcess) -> None:
    for partner in (1, 2, 3):
        served = caller(sandbox, partner)
        truth = sandbox.admin.truth(partner)
        active, removed = [], []
        for race in truth["races"]:
            for event in race["events"]:
                ids = race["race_id"], event["event_id"]
                own = served.rows(*ids, supports_nb="T", results_per_page=2500)
                active += [row | {"_race_id": race["race_id"]} for row in own]
                mark = {"_race_id": race["race_id"], "_event_id": event["event_id"]}
                removed += [row | mark for row in served.removed(*ids, supports_nb="T", results_per_page=1000)]
        assert truth["active"] == active
        assert truth["removed"] == removed


def test_the_clock(sandbox: SandboxProcess) -> None:
    before = sandbox.admin.clock()
    assert sandbox.admin.clock(advance=1000) - before == pytest.approx(1000, abs=2)
    sandbox.admin.clock(rate=0)
    assert sandbox.admin.clock() == sandbox.admin.clock()
    sandbox.admin.clock(set=before, rate=1)


def test_bad_admin_requests_say_why(sandbox: SandboxProcess) -> None:
    with pytest.raises(AdminError, match="no active registration 5"):
        sandbox.admin.bib(5, 1)
    with pytest.raises(AdminError, match="Invalid enum value"):
        sandbox.admin.fault("nonsense")
    with pytest.raises(AdminError, match="nonsense"):
        sandbox.admin.switch(nonsense=1)
