"""What RunSignup has not documented: for each open question the tolerance, tested end to end."""

from collections.abc import Callable

import pytest

from rsu_pipeline.errors import SettingsError
from rsu_pipeline.runsignup.api_errors import Cause
from rsu_pipeline.settings import load_settings
from rsu_pipeline.sync import access
from rsu_pipeline.warehouse import credentials, database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

MakeHub = Callable[..., Hub]
SPEC = estate(events=2, registrations=10, start_in_hours=4000)


def calls(hub: Hub, *endpoints: str) -> list[dict[str, str]]:
    return [call["query"] for call in hub.sandbox.admin.stats()["log"] if call["endpoint"] in endpoints]


def test_page_sizes_are_always_sent_and_never_above_the_maximum(make_hub: MakeHub) -> None:
    """Question: the default page size, and what happens above the maximum."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    hub.sync()
    sizes = {int(query["results_per_page"]) for query in calls(hub, "races", "participants", "removed")}
    assert sizes <= {1, 1000, 2500}
    with pytest.raises(SettingsError, match="RSU_PAGE_SIZE"):
        load_settings({"RSU_PAGE_SIZE": "2501"})


@pytest.mark.parametrize("code", [3, 223, 11, 15, 999])
def test_any_error_object_fails_the_race_by_name(make_hub: MakeHub, code: int) -> None:
    """Question: the error for a missing or malformed event_id."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sandbox.admin.fault("error_code", 0, endpoint="participants", after_page=True, code=code, message="odd")
    hub.environment["RSU_PAGE_SIZE"] = "7"
    (failure,) = hub.sync().failures
    assert Cause.REFUSED.value in failure and f"code {code}" in failure


@pytest.mark.parametrize("layout", ["last", "first", "own"])
def test_rows_are_read_from_every_element(make_hub: MakeHub, layout: str) -> None:
    """Question: which element has the rows when several events are requested, and the exact empty shape."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sandbox.admin.switch(layout=layout)
    hub.sync()
    hub.assert_equal()
    assert hub.sync().counts.read == 0, "an incremental read with nothing to report is empty, not an error"


def test_modified_after_is_only_ever_sent_as_an_integer(make_hub: MakeHub) -> None:
    """Question: the effect of a value that is no integer."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    hub.sandbox.admin.reset_stats()
    hub.sync()
    sent = [query["modified_after_timestamp"] for query in calls(hub, "participants", "removed")]
    assert len(sent) == 2 and all(value.isdigit() for value in sent)


def test_members_of_unknown_shape_are_kept_as_sent(make_hub: MakeHub) -> None:
    """Question: the shapes of optional blocks."""
    hub = make_hub(spec=SPEC, seed=7)
    key = hub.sandbox.admin.truth(1)["active"][0]["registration_id"]
    block = {"corral": {"name": "A", "wave": [1, {"gun": "07:30"}]}, "checkin": None}
    hub.sandbox.admin.edit(key, {}, extra=block)
    hub.sync()
    payload = hub.value("SELECT payload FROM runsignup_participants WHERE registration_id = %s", key)
    assert {name: payload[name] for name in block} == block
    hub.sandbox.admin.edit(key, {}, extra={"checkin": 1791112325})
    assert hub.sync().counts.updated == 1, "a change in an unknown member is a change"


@pytest.mark.parametrize("kind", ["throttle_200", "throttle_429", "http_503"])
def test_throttling_in_any_form_is_waited_out(make_hub: MakeHub, kind: str) -> None:
    """Question: status and headers of a throttled call."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sandbox.admin.fault(kind, 1, endpoint="participants", after_page=False)
    assert not hub.sync().failures
    hub.assert_equal()
    errors = hub.rows("SELECT error FROM api_calls WHERE error IS NOT NULL")
    assert len(errors) == 1, "the attempt that was refused is counted too"


def test_an_edit_that_does_not_bump_last_modified_is_found_by_the_next_full_read(make_hub: MakeHub) -> None:
    """Question: whether profile edits or check-in bump last_modified."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    row = hub.sandbox.admin.truth(1)["active"][0]
    hub.sandbox.admin.edit(row["registration_id"], {"first_name": "Unbumped"}, last_modified=row["last_modified"])
    assert hub.sync().counts.updated == 0
    hub.sandbox.admin.clock(advance=8 * 86400)
    outcome = hub.sync()
    assert (outcome.reads[0].read.mode, outcome.counts.updated) == ("full", 1)
    hub.assert_equal()


@pytest.mark.parametrize("reason", ["cleared", "removed", "void"])
def test_every_reason_of_removal_means_inactive(make_hub: MakeHub, reason: str) -> None:
    """Question: what cleared and removed mean exactly. The set is open."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    key = min(hub.stored())
    hub.sandbox.admin.remove(key, reason)
    hub.sync()
    assert hub.stored(active=False).keys() == {key}
    assert hub.value("SELECT count(*) FROM unified_participants") == 19


def test_a_wrong_key_that_races_ignores_is_found_out_by_reading_a_race(make_hub: MakeHub) -> None:
    """Question: whether wrong keys are ignored on /races."""
    hub = make_hub(scale="small", seed=7)
    with database.session(hub.url, purpose="test") as conn:
        partner_id = credentials.add(conn, hub.secret_box, name="Wrong", principal="nobody", secret="nothing")
        hub.partners[partner_id] = credentials.ensure_key(conn, partner_id)
        conn.commit()
    with hub.partner_session(partner_id) as session:
        assert session.client.races_page(1).races, "the public list came back"
        assert access.check_access(session) is access.Verdict.REJECTED
    with hub.partner_session(1) as session:
        assert access.check_access(session) is access.Verdict.WORKS


def test_keys_of_the_newer_scheme_work_by_setting_the_credential_type(make_hub: MakeHub) -> None:
    """Question: whether v2 keys are issued to timers."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.execute("UPDATE partner_provider_credentials SET credential_type = 'rsu_api_key'")
    assert not hub.sync().failures
    hub.assert_equal()


def test_an_event_that_suddenly_answers_with_nothing_is_not_emptied(make_hub: MakeHub) -> None:
    """Question: how the one-year rule shows, by an error or by emptiness."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    for key in hub.stored():
        hub.sandbox.admin.remove(key, silent=True)
    assert "removals pending confirmation" in hub.sync(full=True).failures[0]
    assert len(hub.stored()) == 20


def test_a_removal_seen_once_stays_after_it_is_listed_no_more(make_hub: MakeHub) -> None:
    """Question: whether a removed row stays listed without limit."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    key = min(hub.stored())
    hub.sandbox.admin.remove(key, "cleared")
    hub.sync()
    hub.sandbox.admin.clock(advance=3 * 86400)  # the cursor is past it: the feed has it no more
    hub.sync()
    hub.sync(full=True)
    assert hub.value("SELECT removed_reason FROM runsignup_participants WHERE registration_id = %s", key) == "cleared"
