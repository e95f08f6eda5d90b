"""The shapes, errors and formats of the endpoints, over real HTTP."""

from email.utils import parsedate_to_datetime
from xml.etree import ElementTree

import pytest
import requests

from rsu_pipeline_tests.sandbox.conftest import Caller, caller, code
from runsignup_sandbox.process import SandboxProcess

Fresh = tuple[int, list[int]]


def test_errors_are_http_200_with_an_error_object(api: Caller) -> None:
    response = api.get("/race/1/participants", {"event_id": 5})
    assert response.status_code == 200
    assert response.json() == {"error": {"error_code": 201, "error_msg": "Race not found."}}


def test_checks_come_in_the_order_race_event_permission(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (event, _) = fresh
    stranger = Caller(api.base, "wrong", "wrong")
    assert code(stranger.participants(1, event)) == 201
    assert code(stranger.participants(race, 1)) == 301
    assert code(stranger.participants(race, event)) == 7
    assert code(caller(sandbox, 3).participants(race, event)) == 7
    sandbox.admin.switch(wrong_key_code=6)
    assert code(stranger.participants(race, event)) == 6


@pytest.mark.parametrize(("event_id", "expected"), [("", 3), ("abc", 223), ("1,,2", 223), ("-4", 223)])
def test_bad_event_ids(api: Caller, fresh: Fresh, event_id: str, expected: int) -> None:
    assert code(api.participants(fresh[0], event_id)) == expected
    assert code(api.json(f"/race/{fresh[0]}/removed-participants", event_id=event_id)) == expected


def test_unknown_methods_and_wrong_verbs(api: Caller, fresh: Fresh) -> None:
    race, (event, _) = fresh
    assert code(api.json("/raffles")) == 1
    assert code(api.json(f"/race/{race}/switch-participant-events")) == 2
    assert code(api.json(f"/race/{race}/delete-participants")) == 2
    assert code(api.json(f"/race/{race}/participant-counts", event_id=event)) == 8
    posted = requests.post(f"{api.base}/races?format=json", timeout=10)
    assert code(posted.json()) == 2


@pytest.mark.parametrize("prefix", ["Rest", "rest", "REST"])
def test_three_spellings_of_the_first_segment(sandbox: SandboxProcess, prefix: str) -> None:
    answer = requests.get(f"{sandbox.base_url}/{prefix}/races?format=json", timeout=10).json()
    assert "races" in answer


def test_header_key_and_entity(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (event, _) = fresh
    headers = {"X-RSU-API-SECRET": api.secret}
    query = f"format=json&rsu_api_key={api.key}&event_id={event}"
    answer = requests.get(f"{api.base}/race/{race}/participants?{query}", headers=headers, timeout=10)
    assert isinstance(answer.json(), list)
    entity = requests.get(
        f"{api.base}/v2/auth-info/entity-info.json?rsu_api_key={api.key}", headers=headers, timeout=10
    ).json()
    assert entity["entity_type"] == "partner"
    assert entity["entity_name"] == sandbox.admin.partners()[0]["name"]
    assert code(api.json("/v2/auth-info/entity-info.json")) == 7


def test_an_unknown_bearer_token_is_error_6(api: Caller) -> None:
    response = requests.get(f"{api.base}/races?format=json", headers={"Authorization": "Bearer nope"}, timeout=10)
    assert code(response.json()) == 6


def test_caller_registration(sandbox: SandboxProcess, api: Caller) -> None:
    bad = api.get("/races", {"rsu_api_reg": "1.x"})
    assert bad.status_code == 400
    assert code(bad.json()) == 17
    assert bad.json()["error_details"]
    sandbox.admin.switch(registration_required=True)
    assert api.get("/races").status_code == 400
    name, secret = sandbox.admin.caller_registration()
    good = api.get("/races", {"rsu_api_reg": name}, headers={"X-RSU-API-REG-SECRET": secret})
    assert good.status_code == 200
    assert "races" in good.json()


def test_xml_comes_when_format_is_missing(api: Caller) -> None:
    response = api.get("/races", {"format": None})
    assert response.headers["Content-Type"].startswith("text/xml")
    assert ElementTree.fromstring(response.content).find("races") is not None  # noqa: S314 - our own body


def test_headers_hold_the_simulated_date_once_and_no_caching(sandbox: SandboxProcess, api: Caller) -> None:
    sandbox.admin.clock(set=1_800_000_000, skew=30)
    try:
        response = api.get("/races", stream=True)
        dates = response.raw.headers.getlist("Date")
        assert len(dates) == 1
        assert 30 <= parsedate_to_datetime(dates[0]).timestamp() - 1_800_000_000 < 40
        assert not {"ETag", "Last-Modified", "Cache-Control", "Retry-After", "Expires"} & set(response.headers)
    finally:
        sandbox.admin.clock(set=1_790_000_000, skew=0)


def test_slashes_are_escaped_and_text_is_ascii(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    sandbox.admin.register(fresh[1][0], {"first_name": "Zoë 🏃", "last_name": "A/B"})
    body = api.get(f"/race/{fresh[0]}/participants", {"event_id": fresh[1][0]}).content
    assert body.isascii()
    assert b"A\\/B" in body
    assert b"/" not in body.replace(b"\\/", b"")


def test_participants_envelope(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (one, two) = fresh
    assert api.participants(race, one) == [{"event": {"event_id": one, "participants": []}}]
    first = sandbox.admin.register(one, count=2) + sandbox.admin.register(two)
    ids = f"{one},{two}"

    def shape() -> list[list[int] | None]:
        answer = api.participants(race, ids)
        assert [element["event"] for element in answer] == [
            {"event_id": one, "participants": []},
            {"event_id": two, "participants": []},
        ]
        return [
            [row["registration_id"] for row in element["participants"]] if "participants" in element else None
            for element in answer
        ]

    assert shape() == [None, first]
    sandbox.admin.switch(layout="first")
    assert shape() == [first, None]
    sandbox.admin.switch(layout="own")
    assert shape() == [first[:2], first[2:]]
    assert [row["event_id"] for row in api.rows(race, ids)] == [one, one, two]


def test_removed_envelope_and_dates(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (one, two) = fresh
    (gone,) = sandbox.admin.register(one)
    sandbox.admin.remove(gone, "cleared")
    answer = api.json(f"/race/{race}/removed-participants", event_id=f"{one},{two}")
    assert [set(element) for element in answer] == [{"event"}, {"event"}]
    assert answer[1]["event"] == {"event_id": two, "participants": []}
    (row,) = answer[0]["event"]["participants"]
    assert "event_id" not in row
    assert row["removed_reason"] == "cleared"
    assert row["last_modified"].startswith("2026-09-21 ")
    assert isinstance(row["last_modified_ts"], int)
    assert api.rows(race, one) == []
    (short,) = api.removed(race, one, condensed_format="T")
    assert "user" not in short
    sandbox.admin.switch(mangle_removed_shape=True)
    answer = api.json(f"/race/{race}/removed-participants", event_id=one)
    assert answer[0]["participants"] == answer[0]["event"]["participants"] == [row]


def test_rows_have_every_field_and_dates_are_eastern(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    stamp = int(sandbox.admin.clock())
    sandbox.admin.register(fresh[1][0])
    (row,) = api.rows(fresh[0], fresh[1][0])
    assert len(row) == 30
    assert len(row["user"]) == 10
    assert 0 <= row["last_modified"] - stamp <= 2
    assert row["registration_date"].startswith("9/21/2026 ")


def test_gender_x_only_for_those_who_ask(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (event, _) = fresh
    (id,) = sandbox.admin.register(event, {"gender": "X"})
    assert api.rows(race, event)[0]["user"]["gender"] is None
    assert api.rows(race, event, supports_nb="T")[0]["user"]["gender"] == "X"
    sandbox.admin.remove(id)
    assert api.removed(race, event)[0]["user"]["gender"] is None
    assert api.removed(race, event, supports_nb="T")[0]["user"]["gender"] == "X"


def test_modified_after_is_inclusive_and_needs_an_integer(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (event, _) = fresh
    first, second = sandbox.admin.register(event, count=2)
    sandbox.admin.edit(first, last_modified=1000)
    sandbox.admin.edit(second, last_modified=1001)

    def since(value: object) -> list[int]:
        return [row["registration_id"] for row in api.rows(race, event, modified_after_timestamp=value)]

    assert since(1000) == [first, second]
    assert since(1001) == [second]
    assert since(1002) == []
    assert since("2026-01-01 00:00:00") == []
    sandbox.admin.edit(first, last_modified=1002)
    assert since(1001) == [first, second]


def test_keyset_pages_and_order(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (one, two) = fresh
    ids = sorted(sandbox.admin.register(one, count=3) + sandbox.admin.register(two, count=3))
    both = f"{one},{two}"

    def read(**params: object) -> list[int]:
        return [row["registration_id"] for row in api.rows(race, both, **params)]

    assert read(sort="registration_id ASC") == ids
    assert read(sort="registration_id DESC", results_per_page=2) == ids[:-3:-1]
    assert read(after_registration_id=ids[0], results_per_page=2) == ids[1:3]
    assert read(before_registration_id=ids[2]) == ids[:2]
    assert read(page=2, results_per_page=4) == ids[4:]
    assert read(page=9) == []
    assert len(read(sort="name DESC")) == len(read(sort="bib_num")) == len(read(sort="age")) == 6
    assert read(search_bib=1) == []
    assert code(api.participants(race, both, sort="last_modified ASC")) == 3
    sandbox.admin.switch(unknown_sort="ignore")
    assert read(sort="last_modified ASC") == ids
    assert code(api.participants(race, both, results_per_page="x")) == 3


def test_page_sizes_are_clamped(sandbox: SandboxProcess, api: Caller) -> None:
    race, (event,) = sandbox.admin.add_race(1, [{"name": "Big", "start_in_hours": 5}])
    ids = sandbox.admin.register(event, count=2600)
    assert len(api.rows(race, event)) == 250
    assert len(api.rows(race, event, results_per_page=9999)) == 2500
    for id in ids[:1010]:
        sandbox.admin.remove(id)
    assert len(api.removed(race, event, results_per_page=9999)) == 1000
    assert [row["registration_id"] for row in api.removed(race, event, after_registration_id=ids[1005])] == ids[
        1006:1010
    ]


def test_removed_may_be_sorted_by_change(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (event, _) = fresh
    first, second = sandbox.admin.register(event, count=2)
    sandbox.admin.remove(second)
    sandbox.admin.clock(advance=60)
    sandbox.admin.remove(first)
    found = [row["registration_id"] for row in api.removed(race, event, sort="last_modified ASC")]
    assert found == [second, first]
    later = api.removed(race, event, sort="last_modified DESC")[0]["last_modified_ts"]
    assert len(api.removed(race, event, modified_after_timestamp=later)) == 1


def test_gzip_when_accepted(api: Caller) -> None:
    packed = api.get("/races", headers={"Accept-Encoding": "gzip"})
    plain = api.get("/races", headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.json() == plain.json()


def test_styles(sandbox: SandboxProcess, api: Caller, fresh: Fresh) -> None:
    race, (event, _) = fresh
    ids = sandbox.admin.register(event, count=3)
    sandbox.admin.switch(ints_as_strings=True, pretty=True)
    assert b"\n" in api.get("/races").content
    assert api.rows(race, event)[0]["registration_id"] == str(ids[0])
    sandbox.admin.switch(ints_as_strings=False, pretty=False, template_row=True)
    assert [row["registration_id"] for row in api.rows(race, event)] == [-1, *ids]
    sandbox.admin.switch(template_row=False, duplicate_row=True)
    assert [row["registration_id"] for row in api.rows(race, event)] == [*ids, ids[-1]]
    page = api.rows(race, event, results_per_page=2, after_registration_id=0)
    assert [row["registration_id"] for row in page] == [ids[0], ids[0]]
    sandbox.admin.switch(duplicate_row=False, repeat_page=True)
    assert len(api.rows(race, event, after_registration_id=ids[-1])) == 3
    sandbox.admin.switch(repeat_page=False, unsorted=True)
    found = [row["registration_id"] for row in api.rows(race, event)]
    assert sorted(found) == ids
    assert found != ids
