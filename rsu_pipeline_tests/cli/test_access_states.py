"""Access as a state of its own: lost one race, lost all, never had any, got them back."""

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest

from rsu_pipeline.alerts import rules
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.cli.shell import rsu
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate
from runsignup_sandbox.process import SandboxProcess

SPEC = estate(partners=2, races=3, registrations=3, start_in_hours=300)


@pytest.fixture
def two(database_url: str, tmp_path: Any) -> Iterator[Hub]:
    """Provide a hub with two partners with three upcoming races each, of which nothing was read."""
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        yield Hub(database_url, sandbox, tmp_path)


def access(hub: Hub, partner: int = 1) -> dict[str, Any]:
    """Return what `rsu status --json` shows of a partner's access."""
    done = rsu("status", "--json", settings=hub.environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    found: dict[str, Any] = json.loads(done.stdout)[partner - 1]
    return found["access"] | {"credential": found["credential"]}


def alerts(hub: Hub) -> dict[str, str]:
    """Return the sentences of the alerts about access that are open, by kind."""
    with database.session(hub.url, purpose="tests") as conn:
        found = rules.find_problems(conn, hub.settings, dt.datetime.now(dt.UTC))
    kinds = ("access_lost", "access_denied", "credential_rejected")
    return {problem.kind: problem.sentence for problem in found if problem.kind in kinds}


def races(hub: Hub, partner: int = 1) -> list[int]:
    return [
        row["race_id"]
        for row in hub.rows("SELECT race_id FROM partner_races WHERE timing_partner_id = %s ORDER BY 1", partner)
    ]


def test_access_to_one_race_is_lost_and_comes_back(two: Hub) -> None:
    assert access(two)["state"] == "not tried yet"
    two.sync(1)
    assert access(two)["state"] == "works" and alerts(two) == {}
    lost = races(two)[0]
    two.sandbox.admin.revoke(1, lost)
    two.sync(1)
    two.sync(1)
    found = access(two)
    assert (found["state"], found["races_lost"], found["credential"]) == ("lost some", [lost], "works")
    shown = rsu("status", settings=two.environment).stdout
    assert "lost 1 of 3" in shown and f"lost access to race {lost} (of 3). The key is fine" in shown
    assert alerts(two).keys() == {"access_lost"} and f"race {lost}" in alerts(two)["access_lost"]
    check = rsu("partners", "check", "1", settings=two.environment)
    assert check.returncode == 1 and "The key is fine" in check.stderr and "works" in check.stderr

    two.sandbox.admin.grant(1, lost)
    two.sync(1)
    assert access(two)["state"] == "works" and alerts(two) == {}
    two.execute(
        "INSERT INTO alerts (kind, cause, partner, sentence, first_seen_at, last_seen_at, cleared_at)"
        " VALUES ('access_lost', '1', %s, 'x', now(), now(), now())",
        two.partners[1],
    )
    assert "has access to 3 races, lost ones are back since" in rsu("status", settings=two.environment).stdout
    assert rsu("partners", "check", "1", settings=two.environment).returncode == 0


def test_a_partner_that_lost_all_its_races_is_shown_so_and_its_key_is_not_called_rejected(two: Hub) -> None:
    two.sync(1)
    for race in races(two):
        two.sandbox.admin.revoke(1, race)
    two.sync(1)
    two.sync(1)
    found = access(two)
    assert (found["state"], found["races"], found["races_known"]) == ("no races any more", 0, 3)
    assert found["credential"] == "works"
    assert alerts(two).keys() == {"access_lost"}
    assert "RunSignup lists no race any more, had 3. The key is fine." in alerts(two)["access_lost"]
    check = rsu("partners", "check", "1", settings=two.environment)
    assert check.returncode == 1 and "lists no race any more, had 3. The key is fine." in check.stderr
    for race in races(two):
        two.sandbox.admin.grant(1, race)
    two.sync(1)
    assert access(two)["state"] == "works" and alerts(two) == {}


def test_a_partner_that_never_had_a_race_was_tried_and_has_a_key_that_is_fine(two: Hub) -> None:
    for race in {row["_race_id"] for row in two.sandbox.admin.truth(1)["active"]}:
        two.sandbox.admin.revoke(1, race)
    check = rsu("partners", "check", "1", settings=two.environment)
    assert check.returncode == 0 and "RunSignup accepts the key and lists no race" in check.stdout, check
    assert access(two)["state"] == "not verified"
    two.sync(1)
    found = access(two)
    assert (found["state"], found["credential"], found["races_known"]) == ("no races yet", "works", 0)
    assert alerts(two) == {}
    shown = rsu("status", settings=two.environment).stdout
    assert "RunSignup lists no race yet. The key is fine." in shown and "not tried yet" in shown
    for race in {row["_race_id"] for row in two.sandbox.admin.truth(1)["active"]}:
        two.sandbox.admin.grant(1, race)
    two.sync(1)
    assert access(two)["state"] == "works"


def test_a_race_handed_to_another_partner_of_the_hub_is_no_loss(two: Hub) -> None:
    two.sync(1)
    race = races(two)[0]
    two.sandbox.admin.grant(2, race)
    two.sync(2)
    two.sandbox.admin.revoke(1, race)
    two.sync(1)
    two.sync(1)
    assert access(two)["state"] == "works" and alerts(two) == {}
