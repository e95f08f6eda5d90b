"""The list of races and one race: dates, editions, access."""

from datetime import datetime
from zoneinfo import ZoneInfo

from rsu_pipeline_tests.sandbox.conftest import NOW, Caller, caller, code
from runsignup_sandbox.process import SandboxProcess


def _names(api: Caller, **params: object) -> list[str]:
    return [row["race"]["name"] for row in api.json("/races", **params)["races"]]


def test_the_list_hides_past_races_unless_asked(sandbox: SandboxProcess) -> None:
    third = caller(sandbox, 3)
    assert "Old Sawyer Farewell 5K" not in _names(third)
    assert "Old Sawyer Farewell 5K" in _names(third, start_date="2020-01-01")
    assert _names(third, start_date="2020-01-01", end_date="2020-12-31") == []
    assert code(third.json("/races", start_date="soon")) == 9


def test_a_key_sees_its_own_races_and_a_wrong_one_the_public_list(sandbox: SandboxProcess, api: Caller) -> None:
    own = _names(api, results_per_page=1000)
    assert "Founders' Staff Run" in own
    assert "Hale Moana Beach Mile" not in own
    public = _names(Caller(api.base, "wrong", "wrong"), results_per_page=1000)
    assert "Hale Moana Beach Mile" in public
    assert "Founders' Staff Run" not in public
    assert "Port Ellery Bridge Run" in own
    assert "Port Ellery Bridge Run" in _names(caller(sandbox, 2))


def test_pages_and_sorts(sandbox: SandboxProcess, api: Caller) -> None:
    names = _names(api, sort="name ASC", results_per_page=1000)
    assert names == sorted(names, key=str.casefold)
    assert _names(api, sort="name ASC", results_per_page=2, page=2) == names[2:4]
    assert _names(api, page=50) == []
    assert _names(api, sort="date ASC")[0] == "Mill Pond Half & 5K"
    assert code(api.json("/races", sort="last_modified ASC")) == 3


def test_events_of_the_list_are_the_current_edition_only(api: Caller) -> None:
    rows = api.json("/races", events="T")["races"]
    assert all(set(row) == {"race"} for row in rows)
    race = rows[0]["race"]
    assert "can_use_registration_api" not in race
    alone = api.json(f"/race/{race['race_id']}")["race"]
    assert alone["can_use_registration_api"] == "T"
    assert len(alone["events"]) == 4
    assert len({event["race_event_days_id"] for event in alone["events"]}) == 2
    newest = max(event["race_event_days_id"] for event in alone["events"])
    assert {event["race_event_days_id"] for event in race["events"]} == {newest}
    assert api.json(f"/race/{race['race_id']}", future_events_only="T")["race"]["events"] == race["events"]
    assert api.json(f"/race/{race['race_id']}", most_recent_events_only="T")["race"]["events"] == race["events"]
    assert "events" not in api.json("/races")["races"][0]["race"]


def test_dates_and_times(sandbox: SandboxProcess) -> None:
    race = caller(sandbox, 2).json("/races", events="T", sort="name ASC", name="Hale Moana")["races"][0]["race"]
    assert race["timezone"] == "Pacific/Honolulu"
    start = datetime.strptime(race["events"][0]["start_time"], "%m/%d/%Y %H:%M").replace(
        tzinfo=ZoneInfo("Pacific/Honolulu")
    )
    assert abs(start.timestamp() - NOW - 16 * 86400) < 120
    assert race["next_date"] == start.strftime("%m/%d/%Y")
    assert race["events"][0]["start_time"] == f"{start.month}/{start.day}/{start.year} {start:%H:%M}"


def test_only_private_races_need_access_alone(sandbox: SandboxProcess, api: Caller) -> None:
    stranger = Caller(api.base, "wrong", "wrong")
    races = {race["name"]: race["race_id"] for race in sandbox.admin.truth(1)["races"]}
    private = races["Founders' Staff Run"]
    assert code(stranger.json(f"/race/{private}")) == 7
    assert "race" in api.json(f"/race/{private}")
    assert "race" in stranger.json(f"/race/{races['Mill Pond Half & 5K']}")
    assert code(api.json("/race/5")) == 201


def test_modified_since_follows_changes_of_the_race(sandbox: SandboxProcess, api: Caller) -> None:
    race, _ = sandbox.admin.add_race(1, [{"name": "5K", "start_in_hours": 400}], name="Changing")
    sandbox.admin.clock(advance=3600)
    since = int(sandbox.admin.clock())
    assert "Changing" not in _names(api, modified_since=since)
    event = sandbox.admin.add_event(race, "10K", start_time="12/1/2026 09:00")
    assert _names(api, modified_since=since) == ["Changing"]
    sandbox.admin.edit_race(race, {"name": "Changed", "timezone": "America/Denver", "description": None})
    sandbox.admin.move_event(event, start_in_hours=2)
    alone = api.json(f"/race/{race}")["race"]
    assert (alone["name"], alone["timezone"], len(alone["events"])) == ("Changed", "America/Denver", 2)
    sandbox.admin.delete_event(event)
    assert code(api.participants(race, event)) == 301
    assert len(api.json(f"/race/{race}")["race"]["events"]) == 1


def test_access_can_be_lost_and_regained(sandbox: SandboxProcess) -> None:
    race, (event,) = sandbox.admin.add_race(2, [{"name": "5K", "start_in_hours": 40}], name="Lost and Found")
    second = caller(sandbox, 2)
    sandbox.admin.revoke(2, race)
    assert code(second.participants(race, event)) == 7
    assert "Lost and Found" not in _names(second)
    assert [one["access"] for one in sandbox.admin.truth(2)["races"] if one["race_id"] == race] == [False]
    sandbox.admin.grant(2, race)
    assert second.rows(race, event) == []
    sandbox.admin.revoke(2)
    assert code(second.participants(race, event)) == 7
    assert "Hale Moana Beach Mile" in _names(second)
    sandbox.admin.grant(2)
    sandbox.admin.new_key(2)
    assert code(second.participants(race, event)) == 7
    assert caller(sandbox, 2).rows(race, event) == []
