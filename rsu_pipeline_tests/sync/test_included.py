"""The optional fields of a registration: requested by a setting, stored in columns and typed views, equal as every other field."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg2.errors
import pytest

from rsu_pipeline.included_fields import FLAGS, format_include, parse_include
from rsu_pipeline.sync import read_plan
from rsu_pipeline.warehouse import credentials, database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.optional_fields import assert_included, optional, view
from rsu_pipeline_tests.specs import estate
from runsignup_sandbox.included import FLAGS as SANDBOX_FLAGS

SPEC = estate(partners=2, events=2, registrations=20)

VIEWS = ("answers", "addons", "memberships")


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    made = make_hub(spec=SPEC, seed=7)
    made.environment["RSU_INCLUDE"] = "all"
    return made


def first(hub: Hub) -> int:
    return min(optional(hub))


def test_all_fields_are_stored_typed_and_reconciled(hub: Hub) -> None:
    hub.sandbox.admin.check_in(first(hub))
    outcome = hub.sync()
    assert (outcome.failures, outcome.counts.with_faults) == ([], 0)
    assert_included(hub)
    hub.assert_equal()
    hub.assert_proved_equal()
    assert view(hub, "answers", "answer", 1) and view(hub, "addons", "addon", 1) and view(hub, "memberships", "1", 1)
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE estimated_finish > '20 minutes'") > 10
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE payload -> 'corral' IS NOT NULL") == 40


def test_nothing_is_requested_unless_it_is_included(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_INCLUDE"] = "none"
    hub.sync()
    empty = "num_nonnulls(corral, wave, estimated_finish, checked_in_at, coupon_code, answers, addons, memberships) = 0"
    assert hub.value(f"SELECT bool_and({empty}) FROM runsignup_participants")
    hub.environment["RSU_INCLUDE"] = "corrals"
    hub.sync()
    assert hub.value("SELECT count(corral) > 0 AND count(answers) = 0 FROM runsignup_participants")


def test_a_change_of_the_included_fields_reads_upcoming_races_in_full_once(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    for include in ("all", "corrals,checkin", "none"):
        hub.environment["RSU_INCLUDE"] = include
        (read,) = hub.sync().reads
        assert (read.read.mode, read.read.reason) == ("full", read_plan.OTHER_FIELDS)
        (read,) = hub.sync().reads
        assert read.read.mode == "incremental"
        hub.assert_proved_equal()
    assert hub.value("SELECT count(corral) FROM runsignup_participants") == 0


def test_a_partner_has_its_own_included_fields(hub: Hub) -> None:
    with database.session(hub.url, purpose="tests") as conn:
        credentials.set_include(conn, 2, ["corrals"])
    hub.sync(1)
    hub.sync(2)
    assert_included(hub, 1)
    counts = "SELECT count(corral) > 0, count(answers) FROM runsignup_participants WHERE timing_partner_id = 2"
    assert list(hub.rows(counts)[0].values()) == [True, 0]
    with database.session(hub.url, purpose="tests") as conn:
        credentials.set_include(conn, 2, None)
    hub.sync(2)
    assert_included(hub, 2)


def test_a_partner_entered_by_sql_has_no_unknown_fields(hub: Hub) -> None:
    for name in (*FLAGS, "all", "none", ",".join(FLAGS)):
        hub.execute("UPDATE timing_partners SET include = %s", name)
    for name in ("", "corral", "corrals,", "corrals, questions"):
        with pytest.raises(psycopg2.errors.CheckViolation):
            hub.execute("UPDATE timing_partners SET include = %s", name)


@pytest.mark.parametrize("full", [True, False])
def test_a_changed_answer_is_noticed_and_an_unchanged_row_is_not_written(hub: Hub, full: bool) -> None:
    hub.sync()
    key, before = first(hub), hub.rows("SELECT registration_id, ctid::text FROM runsignup_participants ORDER BY 1")
    answers = optional(hub)[key]["question_responses"]
    answers[0] = answers[0] | {"response": "Ottoline Pryce"}
    hub.sandbox.admin.clock(advance=5)
    hub.sandbox.admin.edit(key, {"question_responses": answers})
    outcome = hub.sync(full=full)
    assert (outcome.counts.updated, outcome.counts.inserted) == (1, 0)
    after = hub.rows("SELECT registration_id, ctid::text FROM runsignup_participants ORDER BY 1")
    assert [row["registration_id"] for row, was in zip(after, before, strict=True) if row != was] == [key]
    assert hub.value("SELECT answer FROM participant_answers WHERE registration_id = %s AND position = 1", key) == (
        "Ottoline Pryce"
    )
    assert_included(hub)
    hub.assert_proved_equal()


def test_a_full_read_notices_a_check_in_that_moved_no_stamp(hub: Hub) -> None:
    hub.sync()
    hub.sandbox.admin.check_in(first(hub))
    assert hub.sync(full=True).counts.updated == 1
    assert_included(hub)


def test_what_is_altered_here_is_found_and_repaired(hub: Hub) -> None:
    hub.sync()
    key = first(hub)
    hub.execute(
        "UPDATE runsignup_participants SET answers = '[]', corral = 'Z', estimated_finish = '1 hour' WHERE registration_id = %s",
        key,
    )
    assert hub.sync(full=True).counts.updated == 1
    assert_included(hub)
    hub.assert_proved_equal()


def test_a_removed_registration_keeps_its_answers_beside_it(hub: Hub) -> None:
    hub.sync()
    key = first(hub)
    hub.sandbox.admin.remove(key, "cleared")
    hub.sync(full=True)
    shown = hub.rows(
        "SELECT bool_and(removed_at IS NOT NULL) AS removed FROM participant_answers WHERE registration_id = %s", key
    )
    assert shown == [{"removed": True}]
    assert_included(hub)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("est_finish_time", "about two hours"),
        ("corral", [["A"], ["B"]]),
        ("checkin_ts", {"checkin_ts": {"at": 5}}),
        ("coupon_details", {"coupon_code": "X", "coupon_discount": "a tenth"}),
        ("memberships", "USATF"),
        ("question_responses", "yes"),
        ("question_responses", [{"question_id": 10**25, "question_text": "?", "response": "x"}]),
        ("participant_addons", [{"addon_id": 1, "addon_name": "Tent", "quantity": "many", "amount": "$1.00"}]),
    ],
)
def test_a_form_that_is_not_known_stays_in_the_payload(hub: Hub, member: str, value: Any) -> None:
    key = first(hub)
    hub.sandbox.admin.edit(key, {member: value})
    outcome = hub.sync()
    assert (outcome.failures, outcome.counts.quarantined) == ([], 0)
    assert (
        hub.value(f"SELECT payload -> '{member}' FROM runsignup_participants WHERE registration_id = %s", key) == value
    )
    hub.assert_equal()
    hub.assert_proved_equal()


def test_likely_forms_of_optional_members_are_read(hub: Hub) -> None:
    one, other, *_ = sorted(optional(hub))
    hub.sandbox.admin.edit(
        one,
        dict.fromkeys(("corral", "est_finish_time", "coupon_details", "corp_team_name", "registration_notes")),
        extra={
            "corral_name": "Elite",
            "wave": 3,
            "est_finish": 5400,
            "checkin_data": {"checkin_ts": "1790937669"},
            "coupon": {"code": "VIP", "amount": "($5.00)"},
            "corp_team": {"corp_team_name": "Ellery Ferries"},
            "notes": "Row 1",
            "question_responses": {"3": {"question_id": "7", "question_text": "Caf\u00e9?", "response": True}},
            "participant_addons": [{"addon_id": "8", "addon_name": "Tent", "quantity": 2, "amount": "1,234.50"}],
            "memberships": [{"name": "Trail Alliance", "member_id": 77, "expires": "12/31/2027"}],
        },
    )
    hub.sandbox.admin.edit(other, {"corral": None, "question_responses": [], "participant_addons": None})
    assert hub.sync().counts.with_faults == 0
    (row,) = hub.rows("SELECT * FROM runsignup_participants WHERE registration_id = %s", one)
    assert (row["corral"], row["wave"], row["estimated_finish"]) == ("Elite", "3", dt.timedelta(minutes=90))
    assert row["checked_in_at"] == dt.datetime.fromtimestamp(1790937669, dt.UTC)
    assert (row["coupon_code"], row["coupon_discount"]) == ("VIP", Decimal("-5.00"))
    assert (row["corporate_team"], row["registration_notes"]) == ("Ellery Ferries", "Row 1")
    views = {name: hub.rows(f"SELECT * FROM participant_{name} WHERE registration_id = %s", one) for name in VIEWS}
    assert [(r["question_id"], r["question"], r["answer"]) for r in views["answers"]] == [(7, "Café?", "true")]
    assert [(r["addon_id"], r["quantity"], r["amount"]) for r in views["addons"]] == [(8, 2, Decimal("1234.50"))]
    assert [(r["membership"], r["member_number"], str(r["expires_on"])) for r in views["memberships"]] == [
        ("Trail Alliance", "77", "2027-12-31")
    ]
    assert (
        hub.value(
            "SELECT num_nonnulls(corral, answers, addons) FROM runsignup_participants WHERE registration_id = %s", other
        )
        == 0
    )
    hub.assert_proved_equal()


def test_a_pass_under_way_is_not_resumed_with_other_fields(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "5"
    hub.sandbox.admin.fault("http_500", 0, endpoint="participants", after_page=True)
    assert hub.sync().failures
    assert hub.value("SELECT pages FROM read_passes") == 1
    hub.sandbox.admin.clear_faults()
    hub.environment["RSU_INCLUDE"] = "all"
    outcome = hub.sync()
    assert (outcome.failures, [read.is_resumed for read in outcome.reads]) == ([], [False])
    assert_included(hub)


def test_the_sandbox_knows_every_flag() -> None:
    assert set(SANDBOX_FLAGS) == set(FLAGS.values())


def test_names_of_included_fields_are_read_as_written() -> None:
    assert parse_include(" Corrals,questions ") == ("questions", "corrals")
    assert parse_include("all") == tuple(FLAGS) and parse_include("none") == () == parse_include(" ")
    assert parse_include(format_include(())) == ()
    with pytest.raises(ValueError, match=r"^shoes$"):
        parse_include("corrals,shoes")
