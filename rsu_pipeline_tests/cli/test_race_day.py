"""`rsu race-day`: on a hub that has read two races in their window, one of which then goes wrong."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from rsu_pipeline.sync import start_list_rebuild
from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.cli.terminal import on_a_terminal
from rsu_pipeline_tests.hub import Hub
from runsignup_sandbox.process import SandboxProcess

SPEC = {"partners": 2, "races_per_partner": 1, "events_per_race": 1, "registrations_per_event": 3, "start_in_hours": 2}
Board = list[dict[str, Any]]
SESSIONS_STATE = (
    "SELECT state FROM pg_stat_activity WHERE application_name LIKE 'rsu race-day%%' AND datname = current_database()"
)


@pytest.fixture
def near(database_url: str, tmp_path: Any) -> Iterator[Hub]:
    """Provide a hub with two partners, each with a race that starts in two hours and three entrants, read a moment ago."""
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        hub = Hub(database_url, sandbox, tmp_path)
        for partner in (1, 2):
            read(hub, partner)
        yield hub


def read(hub: Hub, partner: int) -> None:
    """Sync a partner and rebuild its start lists, as every run does."""
    hub.sync(partner)
    with hub.partner_session(partner) as session:
        start_list_rebuild.rebuild_start_lists(session, anyway=True)


def entrants(hub: Hub, partner: int) -> list[int]:
    return sorted(row["registration_id"] for row in hub.sandbox.admin.truth(partner)["active"])


def board(hub: Hub, *arguments: str) -> Board:
    done = rsu("race-day", "--json", *arguments, settings=hub.environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    found: Board = json.loads(done.stdout)
    return found


def test_the_board_says_whether_each_race_is_in_sync_and_which_bib_came_last(near: Hub) -> None:
    first, second, third = entrants(near, 1)
    for number, row in enumerate((first, second, third)):
        near.sandbox.admin.bib(row, 100 + number)
    read(near, 1)
    near.sandbox.admin.bib(third, 777)
    read(near, 1)
    one = next(row for row in board(near) if row["partner"] == near.partners[1])
    assert (one["entrants"], one["with_bib"], one["without_bib"]) == (3, 3, 0)
    assert (one["last_bib"], one["last_bib_kind"]) == ("777", "changed")
    assert one["urgency"] == "well" and one["problems"] == [] and one["is_in_window"]
    assert one["seconds_since_read"] < 30 and 110 <= one["minutes_to_start"] <= 120
    assert one["last_bib_modified_at"] <= one["last_bib_recorded_at"]
    assert board(near, "--partner", "1") == [
        one | {"seconds_since_read": pytest.approx(one["seconds_since_read"], abs=30)}
    ]


def test_what_blocks_bibs_comes_first(near: Hub) -> None:
    race_id = near.sandbox.admin.truth(2)["races"][0]["race_id"]
    near.execute("UPDATE event_cursors SET last_read_at = now() - interval '10 minutes' WHERE timing_partner_id = 2")
    rows = board(near)
    assert [row["partner"] for row in rows] == [near.partners[2], near.partners[1]]
    assert rows[0]["urgency"] == "blocked" and "not read for 6" in rows[0]["problems"][0]
    assert board(near, "--partner", "1") and board(near, "--race", str(race_id))
    near.sandbox.admin.fault("error_code", 9, endpoint="participants", partner=2, code=5, message="database failure")
    near.sync(2)
    assert "database failure" in " ".join(board(near, "--partner", "2")[0]["problems"])
    near.sandbox.admin.clear_faults()
    read(near, 2)
    assert {row["urgency"] for row in board(near)} == {"well"}
    near.execute("UPDATE partner_races SET access = 'denied' WHERE timing_partner_id = 2")
    assert "denies access to this race" in board(near, "--partner", "2")[0]["problems"][0]


def test_which_bibs_changed_and_who_has_none(near: Hub) -> None:
    first, second, third = entrants(near, 1)
    near.sandbox.admin.bib(first, 41)
    near.sandbox.admin.bib(second, None)
    near.sandbox.admin.bib(third, None)
    near.sandbox.admin.edit(first, {"first_name": "Ada\x1b[31m", "last_name": "Quill"})
    read(near, 1)
    near.sandbox.admin.bib(first, 42)
    read(near, 1)
    change = board(near, "--changes", "10")[0]
    assert (change["registration_id"], change["old_bib"], change["new_bib"]) == (first, "41", "42")
    assert {row["registration_id"] for row in board(near, "--missing", "--partner", "1")} == {second, third}
    shown = rsu("race-day", "--changes", "10", settings=near.environment).stdout
    assert "41 > 42" in shown and "Quill" in shown and "\x1b" not in shown and "changes in 10 minutes." in shown
    assert board(near, "--changes", "0") == [] == board(near, "--changes", "10", "--race", "1")
    shown = rsu("race-day", "--missing", "--partner", "1", settings=near.environment).stdout
    assert str(second) in shown and str(third) in shown and str(first) not in shown


def test_a_virtual_event_that_has_been_open_for_days_is_neither_on_the_board_nor_in_its_lists(near: Hub) -> None:
    for partner in (1, 2):
        near.sandbox.admin.bib(entrants(near, partner)[0], None)
        read(near, partner)
    virtual, own = near.partners[2], near.partners[1]
    event_id = near.value("SELECT event_id FROM event_cursors WHERE timing_partner_id = 2")
    lists = ((), ("--missing",), ("--changes", "10"))

    def shown() -> list[set[str]]:
        return [{row.get("key", row.get("partner")) for row in board(near, *arguments)} for arguments in lists]

    set_times = (
        "UPDATE runsignup_events SET starts_at = now() - %s, ends_at = now() + interval '30 days' WHERE event_id = %s"
    )
    for hours, expected in ((23, {virtual, own}), (25, {own})):
        near.execute(set_times, dt.timedelta(hours=hours), event_id)
        assert shown() == [expected] * 3, hours
    # The race is on the board for its other event alone: the virtual one's entrants are not counted.
    near.execute(
        "UPDATE runsignup_events SET race_id = (SELECT min(race_id) FROM runsignup_events) WHERE event_id = %s",
        event_id,
    )
    assert [(row["entrants"], row["problems"]) for row in board(near)] == [(3, [])]


def test_no_line_is_longer_than_80_columns_and_no_figure_is_cut(near: Hub) -> None:
    near.execute(
        "UPDATE runsignup_races SET name = 'The Extraordinarily Long-Named Half Marathon of the Lake', timezone = NULL"
    )
    near.execute("UPDATE start_lists SET entrants = 12345, with_bib = 12001")
    near.execute("UPDATE event_cursors SET last_read_at = now() - interval '30 hours' WHERE timing_partner_id = 2")
    first = entrants(near, 1)[0]
    near.execute(
        "INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, new_bib,"
        " modified_epoch, first_seen_new) SELECT timing_partner_id, race_id, event_id, registration_id, 'assigned', '12345',"
        f" extract(epoch FROM now()) - 95, now() FROM runsignup_participants WHERE registration_id = {first}"
    )
    shown, _ = on_a_terminal(near.environment, "race-day")
    table = [line.rstrip() for line in shown.splitlines() if "12001/12345" in line]
    assert len(table) == 2, shown
    assert all(len(line) <= 80 for line in table), table
    assert "…" not in shown and shown.count("Marathon") == 2, shown
    assert "not polled" in table[0] and "30h00" in table[0], table
    assert re.search(r" 12345 \d\d:\d\d:\d\d\+9\ds ok$", table[1]), table


def test_watch_looks_again_until_it_is_interrupted_and_leaves_no_transaction_open(near: Hub) -> None:
    states: list[str] = []

    def has_looked_twice(shown: str) -> bool:
        looks = len(set(re.findall(r"(\d\d:\d\d:\d\d) E[SD]T, refreshed every 5 s", shown)))
        if looks == 1:
            states.extend(row["state"] for row in near.rows(SESSIONS_STATE))
        return looks >= 2

    shown, code = on_a_terminal(near.environment, "race-day", "--watch", until=has_looked_twice)
    assert has_looked_twice(shown), shown
    assert code == 130 and "Traceback" not in shown
    # A poll is over in a moment, and the next is 5 s later.
    assert states[-1] == "idle", states


def test_bad_input_is_refused_in_one_sentence(near: Hub) -> None:
    assert "exclude each other" in refusal(rsu("race-day", "--missing", "--changes", "5", settings=near.environment))
    assert "exclude each other" in refusal(rsu("race-day", "--watch", "--json", settings=near.environment))
    assert "no partner" in refusal(rsu("race-day", "--partner", "99", settings=near.environment)).lower()


def test_without_a_race_near_it_says_so(settings: dict[str, str]) -> None:
    done = rsu("race-day", settings=settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "No race is in its window or starts within 24 hours."
