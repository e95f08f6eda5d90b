"""Purges and erasures cover the optional fields: answers, notes and memberships go with contact data, the rest with the person."""

from collections.abc import Callable

from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.warehouse.personal import (
    assert_gone,
    assert_proved,
    erase,
    everything,
    hub_with_past,
    people,
    purge,
    read_all_again,
    somebody,
)

SECRETS = {
    "question_responses": [{"question_id": 1, "question_text": "Physician?", "response": "Doctor Isolde Quarrington"}],
    "memberships": [{"membership_name": "Club", "member_number": "M-QUARRINGTON"}],
    "registration_notes": "Ask Quarrington",
}
MORE = {
    "participant_addons": [{"addon_id": 1, "addon_name": "Tent of Quarrington", "quantity": 1, "amount": "$5.00"}],
    "coupon_details": {"coupon_code": "QUARRINGTON", "coupon_discount": "$1.00"},
    "corp_team_name": "Quarrington & Sons",
    "est_finish_time": "9:59:58",
}


def hub_with_answers(make_hub: Callable[..., Hub]) -> Hub:
    def with_all(**options: object) -> Hub:
        made = make_hub(**options)
        made.environment["RSU_INCLUDE"] = "all"
        return made

    return hub_with_past(with_all)


def test_a_purge_removes_answers_memberships_and_notes_of_past_events(make_hub: Callable[..., Hub]) -> None:
    hub = hub_with_answers(make_hub)
    key = min(row["registration_id"] for row in people(hub, past=True))
    hub.sandbox.admin.edit(key, SECRETS | MORE)
    assert hub.history(reload=True).finished
    assert everything(hub).upper().count("QUARRINGTON") > 5
    purge(hub)
    (row,) = hub.rows("SELECT * FROM runsignup_participants WHERE registration_id = %s", key)
    assert [row[name] for name in ("answers", "memberships", "registration_notes")] == [None, None, None]
    assert (row["corporate_team"], row["coupon_code"]) == ("Quarrington & Sons", "QUARRINGTON")
    assert hub.value("SELECT count(*) FROM participant_addons WHERE registration_id = %s", key) == 1
    text = everything(hub)
    assert [value for value in ("Isolde", "M-QUARRINGTON", "Ask Quarrington") if value in text] == []
    over = (
        "SELECT count(*) FROM participant_answers JOIN runsignup_events e USING (event_id) WHERE e.start_time < now()"
    )
    assert hub.value(over) == 0
    assert hub.value("SELECT count(*) FROM participant_answers") > 0, "those of upcoming events are needed"
    assert_proved(hub)
    assert read_all_again(hub)[1] == 0, "a later read brings nothing back"
    assert hub.value(over) == 0


def test_an_erasure_removes_every_optional_field_of_the_person(make_hub: Callable[..., Hub]) -> None:
    hub = hub_with_answers(make_hub)
    person = somebody(hub)
    for key in (person["coming"], person["old"]):
        hub.sandbox.admin.edit(key, SECRETS | MORE)
    hub.sync(1)
    hub.history(reload=True)
    assert everything(hub).upper().count("QUARRINGTON") > 10
    erase(hub, user_id=person["user_id"])
    assert_gone(hub, person)
    for _ in range(2):
        assert "QUARRINGTON" not in everything(hub).upper()
        rows = hub.rows(
            "SELECT corral, estimated_finish, checked_in_at, coupon_code, corporate_team, registration_notes, answers, addons,"
            " memberships FROM runsignup_participants WHERE registration_id IN (%s, %s)",
            person["coming"],
            person["old"],
        )
        assert [value for row in rows for name, value in row.items() if name != "corral" and value is not None] == []
        assert_proved(hub)
        read_all_again(hub)
