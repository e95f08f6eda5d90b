"""`rsu privacy` on a hub with registrations in it."""

import datetime as dt
from collections.abc import Callable

import pytest

from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(registrations=8, start_in_hours=300)
TODAY = dt.datetime.now(dt.UTC).date()


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    """Provide a partner whose one event was over a week ago when its copy is read."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    hub.execute("UPDATE runsignup_events SET start_time = now() - interval '7 days'")
    return hub


def contacts(hub: Hub) -> int:
    return int(hub.value("SELECT count(*) FROM runsignup_participants WHERE num_nonnulls(email, phone, dob) > 0"))


def test_a_purge_is_rehearsed_done_and_then_done_already(hub: Hub) -> None:
    command = ("privacy", "purge", "--before", str(TODAY))
    rehearsed = rsu(*command, "--dry-run", settings=hub.environment)
    assert (rehearsed.returncode, rehearsed.stdout) == (0, "Would change 8 registrations.\n"), rehearsed.stderr
    assert contacts(hub) > 0
    assert hub.rows("SELECT * FROM privacy_log") == []
    assert rsu(*command, settings=hub.environment).stdout == "Changed 8 registrations.\n"
    assert contacts(hub) == 0
    assert rsu(*command, settings=hub.environment).stdout == "Changed nothing, it was already done.\n"
    assert hub.value("SELECT count(*) FROM privacy_log WHERE who ~ '@'") == 2


def test_an_event_that_was_not_over_keeps_its_contact_data(hub: Hub) -> None:
    before = str(TODAY - dt.timedelta(days=30))
    assert "nothing" in rsu("privacy", "purge", "--before", before, settings=hub.environment).stdout
    assert contacts(hub) > 0


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", str(TODAY + dt.timedelta(days=30))])
def test_a_day_that_is_none_or_yet_to_come_is_refused(hub: Hub, text: str) -> None:
    refusal(rsu("privacy", "purge", "--before", text, settings=hub.environment))
    assert contacts(hub) > 0


def test_a_person_is_erased_once_it_is_meant(hub: Hub) -> None:
    user = hub.value("SELECT min(user_id) FROM runsignup_participants")
    command = ("privacy", "erase", "--user", str(user))
    asked = rsu(*command, settings=hub.environment, stdin="n\n")
    assert asked.returncode == 130 and hub.value("SELECT count(*) FROM erased_users") == 0
    assert "Would change 1 registrations" in rsu(*command, "--dry-run", settings=hub.environment).stdout
    done = rsu(*command, "--yes", settings=hub.environment)
    assert (done.returncode, done.stdout) == (0, "Changed 1 registrations.\n"), done.stderr
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE user_id = %s", user) == 0


@pytest.mark.parametrize(
    "arguments", [(), ("--user", "1", "--registration", "2"), ("--user", "x"), ("--user", "0"), ("--user", str(2**63))]
)
def test_who_is_to_be_erased_is_said_once_and_as_a_number(hub: Hub, arguments: tuple[str, ...]) -> None:
    refusal(rsu("privacy", "erase", "--yes", *arguments, settings=hub.environment))
    assert hub.rows("SELECT * FROM privacy_log") == []


def test_a_partner_that_is_none_is_refused(hub: Hub) -> None:
    said = refusal(rsu("privacy", "erase", "--yes", "--user", "1", "--partner", "77", settings=hub.environment))
    assert said.startswith("There is no partner '77'")
    assert hub.value("SELECT count(*) FROM erased_users") == 0
