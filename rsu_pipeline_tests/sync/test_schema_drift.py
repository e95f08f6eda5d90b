"""Fields that RunSignup adds or changes are counted by name, reported, and never lost."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from rsu_pipeline.runsignup.payload_decoding import decode_registration
from rsu_pipeline.warehouse import database, schema_drift
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(registrations=10)
ROW: dict[str, Any] = {
    "user": {"user_id": 1, "first_name": "Ada", "address": {"city": "Harwick"}},
    "registration_id": 5,
    "event_id": 7,
    "last_modified": 1790937669,
    "bib_num": None,
}


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    made = make_hub(spec=SPEC, seed=7)
    made.environment["RSU_INCLUDE"] = "all"
    return made


def drift(hub: Hub, *, recent: bool = False) -> dict[str, tuple[str, int]]:
    with database.session(hub.url, purpose="tests") as conn:
        return {one.field: (one.kind, one.occurrences) for one in schema_drift.read_drift(conn, 1, recent=recent)}


def keys(hub: Hub) -> list[int]:
    return sorted(row["registration_id"] for row in hub.sandbox.admin.truth(1)["active"])


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, ()),
        ({"pronouns": "they"}, (("unknown", "pronouns"),)),
        ({"user": ROW["user"] | {"is_anonymous": "T"}}, ()),
        ({"user": ROW["user"] | {"nickname": "Sparrow"}}, (("unknown", "user.nickname"),)),
        ({"user": ROW["user"] | {"address": "4 Elm Ct"}}, (("type", "user.address"),)),
        ({"bib_num": [118]}, (("type", "bib_num"),)),
        ({"bib_num": "118"}, ()),
        ({"age": "forty"}, ()),
        ({"user": [], "bib_num": ""}, ()),
        ({"corral": {"corral_name": "A"}, "question_responses": []}, ()),
    ],
)
def test_a_field_is_unknown_or_has_another_type_or_neither(changed: dict[str, Any], found: tuple[Any, ...]) -> None:
    assert decode_registration(json.dumps(ROW | changed).encode()).drift == found


def test_unknown_fields_are_counted_with_first_and_last_occurrence(hub: Hub) -> None:
    hub.sync()
    assert drift(hub) == {}
    one, other, *_ = keys(hub)
    for key in (one, other):
        hub.sandbox.admin.edit(key, extra={"pronouns": "they", "age_band": {"low": 30}})
    hub.sync(full=True)
    assert drift(hub) == {"pronouns": ("unknown", 2), "age_band": ("unknown", 2)}
    (first,) = hub.rows("SELECT first_seen_at, last_seen_at FROM schema_drift WHERE field = 'pronouns'")
    hub.sync(full=True)
    (second,) = hub.rows("SELECT first_seen_at, last_seen_at FROM schema_drift WHERE field = 'pronouns'")
    assert drift(hub)["pronouns"] == ("unknown", 4)
    assert second["first_seen_at"] == first["first_seen_at"] and second["last_seen_at"] > first["last_seen_at"]
    payload = hub.value("SELECT payload FROM runsignup_participants WHERE registration_id = %s", one)
    assert (payload["pronouns"], payload["age_band"]) == ("they", {"low": 30})
    hub.assert_equal()


def test_a_known_field_that_changes_its_type_is_an_error_and_its_row_is_stored(hub: Hub) -> None:
    hub.sandbox.admin.edit(keys(hub)[0], {"chip_num": {"number": "C17"}, "question_responses": "yes"})
    hub.sync()
    with database.session(hub.url, purpose="tests") as conn:
        found = {one.field: one.is_error for one in schema_drift.read_drift(conn, 1, recent=True)}
    assert found == {"chip_num": True, "question_responses": True}
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE removed_at IS NULL") == 10


def test_an_optional_field_whose_form_is_not_known_is_reported(hub: Hub) -> None:
    hub.sandbox.admin.edit(keys(hub)[0], {"est_finish_time": "about two hours"})
    hub.sync()
    assert drift(hub) == {"est_finish_time": ("form", 1)}


def test_an_accepted_or_old_field_is_not_reported_and_still_counted(hub: Hub) -> None:
    hub.sandbox.admin.edit(keys(hub)[0], extra={"pronouns": "they", "age_band": 3})
    hub.sync()
    with database.session(hub.url, purpose="tests") as conn:
        assert schema_drift.accept(conn, ["pronouns", "never_read"]) == ["never_read"]
    assert set(drift(hub, recent=True)) == {"age_band"} and len(drift(hub)) == 2
    hub.execute(
        "UPDATE schema_drift SET last_seen_at = now() - interval '8 days', first_seen_at = now() - interval '9 days'"
    )
    assert drift(hub, recent=True) == {} and len(drift(hub)) == 2


def test_a_name_that_is_no_identifier_is_not_stored(hub: Hub) -> None:
    hub.sandbox.admin.edit(keys(hub)[0], extra={"Ottoline Pryce, 555-0142": 1, "x" * 500: 2})
    hub.sync()
    assert drift(hub) == {schema_drift.OTHER: ("unknown", 2)}


def test_many_unknown_fields_cost_one_statement_and_few_rows(hub: Hub) -> None:
    hub.sandbox.admin.edit(keys(hub)[0], extra={f"field_{number}": number for number in range(400)})
    hub.sync()
    assert len(drift(hub)) == schema_drift.MAX_FIELDS_PER_PAGE
