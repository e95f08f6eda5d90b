"""`rsu bibs`: what is allowed, what would be sent, and what became of it."""

import json
from collections.abc import Callable

import pytest

from rsu_pipeline_tests.cli.shell import Done, refusal, rsu
from rsu_pipeline_tests.hub import Hub

SPEC = {"partners": 1, "races_per_partner": 1, "events_per_race": 1, "registrations_per_event": 5, "start_in_hours": 30}


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    """Provide a synced hub with a local bib of the first registration."""
    hub = make_hub(spec=SPEC, seed=7)
    for row in hub.sandbox.admin.truth(1)["active"]:
        hub.sandbox.admin.bib(row["registration_id"], None)
    hub.sync()
    hub.execute("UPDATE runsignup_participants SET local_bib = '101' WHERE registration_id = %s", min(hub.stored()))
    return hub


def bibs(hub: Hub, *arguments: str) -> Done:
    return rsu("bibs", *arguments, settings=hub.environment)


def event(hub: Hub) -> str:
    return str(hub.value("SELECT min(event_id) FROM future_events"))


def test_an_event_is_allowed_previewed_sent_and_forbidden(hub: Hub) -> None:
    number, registration = event(hub), min(hub.stored())
    assert bibs(hub, "list").stdout == "No event allows it. `rsu bibs allow EVENT` does.\n"
    preview = bibs(hub, "push", number, "--dry-run")
    assert "would be sent" in preview.stdout
    assert "1 would be sent, 0 not confirmed, 0 with a problem, 0 at RunSignup already." in preview.stdout
    assert f"`rsu bibs allow {number}` allows it" in preview.stdout
    assert f"`rsu bibs allow {number}` allows it" in refusal(bibs(hub, "push", number))

    allowed = bibs(hub, "allow", number)
    assert allowed.returncode == 0
    assert "was not tried against RunSignup itself" in allowed.stdout
    (listed,) = json.loads(bibs(hub, "list", "--json").stdout)
    assert (listed["event_id"], listed["to_send"], listed["confirmed"]) == (int(number), 1, 0)

    done = bibs(hub, "push", number, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bibs"] == [{"registration_id": registration, "bib": "101", "state": "confirmed"}]
    again = bibs(hub, "push", number)
    assert again.returncode == 0
    assert again.stdout == "0 sent and confirmed, 0 not confirmed, 0 with a problem, 1 at RunSignup already.\n"
    assert " 1 " in bibs(hub, "list").stdout

    assert bibs(hub, "forbid", number).returncode == 0
    assert json.loads(bibs(hub, "list", "--json").stdout) == []


def test_a_dry_run_makes_no_call_and_writes_nothing(hub: Hub) -> None:
    bibs(hub, "allow", event(hub))
    before = hub.value("SELECT count(*) FROM api_calls")
    done = bibs(hub, "push", event(hub), "--dry-run", "--json")
    answer = json.loads(done.stdout)
    assert (answer["is_allowed"], answer["dry_run"], answer["bibs"][0]["state"]) == (True, True, "would be sent")
    assert hub.value("SELECT count(*) FROM api_calls") == before
    assert hub.value("SELECT count(*) FROM bib_pushes") == 0


def test_what_was_not_sent_is_named_and_the_exit_code_is_1(hub: Hub) -> None:
    bibs(hub, "allow", event(hub))
    hub.sandbox.admin.bib(min(hub.stored()), 55)
    done = bibs(hub, "push", event(hub))
    assert done.returncode == 1
    assert "RunSignup has bib 55" in done.stdout
    assert "0 sent and confirmed, 0 not confirmed, 1 with a problem" in done.stdout


def test_a_registration_without_a_bib_given_here_is_refused_before_any_call(hub: Hub) -> None:
    bibs(hub, "allow", event(hub))
    before = hub.value("SELECT count(*) FROM api_calls")
    done = bibs(hub, "push", event(hub), "--registration", str(min(hub.stored())), "--registration", "4711")
    assert refusal(done) == f"Event {event(hub)} has no bib given here for registration 4711."
    assert hub.value("SELECT count(*) FROM api_calls") == before


def test_a_bib_given_at_check_in_is_on_the_start_list_at_once_without_a_call(hub: Hub) -> None:
    first, second, *_ = sorted(hub.stored())
    calls = hub.value("SELECT count(*) FROM api_calls")
    name = hub.value("SELECT name FROM partner_entrants WHERE registration_id = %s", second)
    done = bibs(hub, "give", str(second), "204")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Gave bib 204 to {name} (registration {second}, ")
    assert done.stdout.count("\n") == 1
    listed = json.loads(rsu("start-list", event(hub), "--json", settings=hub.environment).stdout)["entries"]
    shown = {item["registration_id"]: (item["bib"], item["bib_source"]) for item in listed}
    assert (shown[first], shown[second]) == (("101", "local"), ("204", "local"))

    taken = bibs(hub, "give", str(second), "101")
    assert f"Bib 101 is taken in event {event(hub)}, by registration {first} (" in refusal(taken)
    assert hub.value("SELECT local_bib FROM runsignup_participants WHERE registration_id = %s", second) == "204"
    forced = bibs(hub, "give", str(second), "101", "--even-if-taken")
    assert "It replaces bib 204, which was given here before.\n" in forced.stdout
    assert f"Registration {first} (" in forced.stdout
    assert "Problems on the start list: duplicate bib.\n" in forced.stdout

    back = bibs(hub, "take", str(second), "--json")
    assert (json.loads(back.stdout)["previous"], json.loads(back.stdout)["bib"]) == ("101", None)
    listed = json.loads(rsu("start-list", event(hub), "--json", settings=hub.environment).stdout)["entries"]
    assert {item["registration_id"]: item["bib"] for item in listed}[second] is None
    assert hub.value("SELECT count(*) FROM api_calls") == calls


def test_a_bib_that_cannot_be_given_is_one_sentence(hub: Hub) -> None:
    assert "There is no registration 4711." in refusal(bibs(hub, "give", "4711", "7"))
    assert "The bib is empty." in refusal(bibs(hub, "give", str(min(hub.stored())), " "))
    assert "'1 2' is no bib" in refusal(bibs(hub, "give", str(min(hub.stored())), "1 2"))
    assert "has no bib that was given here" in refusal(bibs(hub, "take", str(max(hub.stored()))))
    assert "There is no partner 'nobody'" in refusal(bibs(hub, "take", "4711", "--partner", "nobody"))


def test_the_bib_that_runsignup_has_is_reported_as_the_one_that_counts(hub: Hub) -> None:
    one = max(hub.stored())
    hub.sandbox.admin.bib(one, 55)
    hub.sync()
    done = bibs(hub, "give", str(one), "300")
    assert done.stdout.endswith("RunSignup has bib 55 for the entrant, and that one counts.\n")


def test_an_unknown_event_is_one_sentence(hub: Hub) -> None:
    assert "There is no event 4711" in refusal(bibs(hub, "allow", "4711"))
    assert "There is no event 4711" in refusal(bibs(hub, "push", "4711", "--dry-run"))
