"""`rsu status` and `rsu log`: true figures, on a terminal of 80 x 24 as well."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.cli.terminal import on_a_terminal
from rsu_pipeline_tests.hub import Hub
from runsignup_sandbox.process import SandboxProcess

SPEC = {"partners": 2, "races_per_partner": 1, "events_per_race": 1, "registrations_per_event": 3, "start_in_hours": 2}
LONG = "RunSignup returned HTTP 503 to each of four attempts, so that nothing of this race was stored. It is tried again soon."


@pytest.fixture(scope="module")
def synced(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Provide a hub of two partners with a race each in its window, synced a moment ago."""
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        hub = Hub(module_database, sandbox, tmp_path_factory.mktemp("status"), RSU_TIMEZONE="America/Denver")
        for partner in (1, 2):
            hub.sync(partner)
        yield hub


def status_of(hub: Hub, partner: int) -> dict[str, Any]:
    done = rsu("status", "--json", settings=hub.environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    found: dict[str, Any] = json.loads(done.stdout)[partner - 1]
    return found


def test_a_poll_that_found_nothing_is_the_last_read_of_its_partner(synced: Hub) -> None:
    synced.execute("UPDATE sync_history SET finished_at = now() - interval '11 minutes'")
    synced.execute("UPDATE event_cursors SET last_read_at = now() - interval '2 seconds' WHERE timing_partner_id = 1")
    line = next(
        line for line in rsu("status", settings=synced.environment).stdout.splitlines() if synced.partners[1] in line
    )
    assert re.search(r" \d+ s ago +\d+ s ago ", line), line
    assert status_of(synced, 1)["last_sync"] == str(
        synced.value("SELECT max(last_read_at) FROM event_cursors WHERE timing_partner_id = 1").isoformat()
    )


def test_a_partner_is_as_fresh_as_its_stalest_due_event(synced: Hub) -> None:
    synced.execute("UPDATE event_cursors SET last_read_at = now() - interval '3 hours' WHERE timing_partner_id = 2")
    found = status_of(synced, 2)
    assert found["minutes_overdue"] > 60 and found["stalest_event"] is not None
    shown = rsu("status", settings=synced.environment).stdout
    assert re.search(rf"{synced.partners[2]}.* 3 h ago, late ", shown), shown
    assert re.search(
        rf"{synced.partners[2]}: event {found['stalest_event']} of race \d+ is late by \d+ (min|h)", shown
    ), shown
    assert status_of(synced, 1)["minutes_overdue"] == 0
    synced.execute("UPDATE event_cursors SET last_read_at = now() WHERE timing_partner_id = 2")


def test_status_fits_80_columns_with_no_figure_and_no_word_of_an_error_cut(synced: Hub) -> None:
    key = "2-the-extraordinarily-long-named-timing-company"
    kept = synced.partners[2]
    synced.execute("UPDATE timing_partners SET partition_key = %s WHERE timing_partner_id = 2", key)
    synced.execute(
        "INSERT INTO sync_history (timing_partner_id, race_id, operation_type, status, reason)"
        " VALUES (2, 4711, 'full', 'failed', %s)",
        LONG,
    )
    try:
        shown, code = on_a_terminal(synced.environment, "status")
        wide = rsu("status", settings=synced.environment).stdout
    finally:
        synced.execute("UPDATE timing_partners SET partition_key = %s WHERE timing_partner_id = 2", kept)
        synced.execute("DELETE FROM sync_history WHERE race_id = 4711")
    assert code == 0 and len(shown.splitlines()) <= 24, shown
    table = shown.split("Not shown")[0].split(f"{key}: ")[0].splitlines()
    assert all(len(line) <= 80 for line in table), table
    assert shown.count(key) >= 2 and "works" in shown and "3" in shown
    assert LONG in " ".join(shown.split()) and LONG in wide
    assert re.search(r"failed at \d{4}-\d\d-\d\d \d\d:\d\d M[SD]T:\s", shown), shown


def test_the_log_shows_what_was_read_when_why_and_what_it_changed(synced: Hub) -> None:
    done = rsu("log", "--json", settings=synced.environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == synced.value("SELECT count(*) FROM sync_history") >= 4
    read = next(row for row in found if row["race_id"] is not None and row["key"] == synced.partners[1])
    assert read["counts"]["inserted"] == 3 and read["why"] == "first read" and read["seconds"] >= 0
    shown = rsu("log", "--race", str(read["race_id"]), settings=synced.environment).stdout
    assert "3 new" in shown and "first read" in shown and re.search(r"^when \(M[SD]T\)", shown), shown
    assert (
        len(json.loads(rsu("log", "--json", "--partner", "2", "--limit", "1", settings=synced.environment).stdout)) == 1
    )
    assert json.loads(rsu("log", "--json", "--failed", settings=synced.environment).stdout) == []
    changed = json.loads(
        rsu("log", "--json", "--changed", "--race", str(read["race_id"]), settings=synced.environment).stdout
    )
    assert [row["counts"]["inserted"] for row in changed] == [3]
    assert "no such row" in rsu("log", "--failed", settings=synced.environment).stdout
    assert "no partner" in refusal(rsu("log", "--partner", "99", settings=synced.environment)).lower()


def test_the_log_fits_80_columns_and_names_what_it_leaves_out(synced: Hub) -> None:
    synced.execute("UPDATE runsignup_races SET name = 'The Extraordinarily Long-Named Half Marathon of the Lake'")
    shown, code = on_a_terminal(synced.environment, "log", "--limit", "3")
    assert code == 0 and all(len(line.rstrip()) <= 80 for line in shown.splitlines()), shown
    words = " ".join(shown.split())
    assert synced.partners[1] in words and "listing" in words and "Extraordinarily" in words


def test_a_start_list_fits_80_columns_and_names_the_zone_of_its_race(synced: Hub) -> None:
    from rsu_pipeline.sync import start_list_rebuild

    with synced.partner_session(1) as session:
        start_list_rebuild.rebuild_start_lists(session, anyway=True)
    event = synced.value("SELECT min(event_id) FROM start_lists WHERE timing_partner_id = 1")
    synced.execute(
        "UPDATE start_list_entries SET city = 'Llanfairpwllgwyngyll', team = 'The Very Long Name of a Running Club'"
    )
    synced.execute("UPDATE runsignup_races SET timezone = 'America/Chicago'")
    shown, code = on_a_terminal(synced.environment, "start-list", str(event))
    _, *table = shown.splitlines()
    assert code == 0 and re.search(r"\d\d:\d\d C[SD]T\)", shown), shown
    assert all(len(line.rstrip()) <= 80 for line in table[1:]), shown
    for row in synced.rows("SELECT registration_id, last_name FROM start_list_entries WHERE event_id = %s", event):
        assert str(row["registration_id"]) in shown and row["last_name"] in shown
    assert "Not shown in 80 columns: " in shown and "`--csv` has them" in shown
