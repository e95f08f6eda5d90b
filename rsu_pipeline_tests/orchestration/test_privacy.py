"""Contact data of what is over is purged at night, if that is set."""

import datetime as dt

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline_tests.hub import Hub

CONTACTS = (
    "SELECT count(*) FROM runsignup_participants p JOIN runsignup_events e USING (event_id)"
    " WHERE num_nonnulls(email, phone, dob) > 0 AND (e.start_time < now() - interval '100 days') = %s"
)


@pytest.fixture
def old_hub(hub: Hub) -> Hub:
    """Provide a hub whose first partner's events were over a year ago, but for one."""
    hub.sync(1)
    hub.execute(
        "UPDATE runsignup_events SET start_time = now() - interval '400 days', end_time = NULL"
        " WHERE event_id <> (SELECT max(event_id) FROM runsignup_participants)"
    )
    assert hub.value(CONTACTS, True) > 0 and hub.value(CONTACTS, False) > 0
    return hub


def night(instance: dg.DagsterInstance) -> dict[str, object]:
    """Run the nightly job, and return what it reported."""
    installation.current.cache_clear()
    outcome = build_definitions().resolve_job_def("retention").execute_in_process(instance=instance)
    assert outcome.success
    (event,) = [one for one in outcome.all_events if one.is_successful_output]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def test_nothing_goes_unless_it_is_asked_for(old_hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    before = old_hub.value(CONTACTS, True)
    assert not [name for name in night(hub_instance) if name.startswith("contact_data")]
    assert old_hub.value(CONTACTS, True) == before
    assert old_hub.value("SELECT count(*) FROM privacy_log") == 0


def test_what_is_over_for_so_many_days_loses_its_contact_data(
    old_hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSU_CONTACT_RETENTION_DAYS", "401")
    assert night(hub_instance)["contact_data_runsignup_participants"] == 0
    kept = old_hub.value(CONTACTS, False)
    monkeypatch.setenv("RSU_CONTACT_RETENTION_DAYS", "300")
    told = night(hub_instance)
    assert (
        isinstance(told["contact_data_runsignup_participants"], int) and told["contact_data_runsignup_participants"] > 0
    )
    assert (old_hub.value(CONTACTS, True), old_hub.value(CONTACTS, False)) == (0, kept)
    (_, row) = old_hub.rows("SELECT who, before FROM privacy_log ORDER BY privacy_log_id")
    assert row["who"] == "nightly_retention"
    assert abs(row["before"] - (dt.datetime.now(dt.UTC).date() - dt.timedelta(days=300))) <= dt.timedelta(days=1)
    assert night(hub_instance)["contact_data_runsignup_participants"] == 0
