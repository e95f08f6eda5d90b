"""Promise 2: notices bibs. Each bib set, changed or cleared after an event's first load is one row of the log."""

from collections.abc import Callable
from typing import Any

import psycopg2
import pytest

from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

MakeHub = Callable[..., Hub]
SPEC = estate(events=2, registrations=10)


@pytest.fixture
def hub(make_hub: MakeHub) -> Hub:
    """Provide a hub synced once, with a stopped clock."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sandbox.admin.clock(rate=0)
    hub.sync()
    hub.sandbox.admin.clock(advance=600)
    return hub


def log(hub: Hub) -> list[dict[str, Any]]:
    return hub.rows("SELECT * FROM runsignup_bib_changes ORDER BY bib_change_id")


def without_bib(hub: Hub) -> int:
    return next(key for key, row in sorted(hub.truth().items()) if row["bib_num"] is None)


def with_bib(hub: Hub) -> int:
    key = without_bib(hub)
    hub.sandbox.admin.bib(key, 4711)
    hub.sync()
    return key


def test_the_first_load_logs_nothing(hub: Hub) -> None:
    assert log(hub) == []


def test_a_bib_assigned_at_runsignup_arrives_and_is_logged_with_the_window_in_which_it_happened(hub: Hub) -> None:
    admin = hub.sandbox.admin
    key = without_bib(hub)
    loaded = admin.clock() - 600
    admin.bib(key, 118)
    changed = int(admin.clock())
    admin.clock(advance=15)
    outcome = hub.sync()
    assert outcome.counts.bib_changes == 1
    assert hub.stored()[key]["bib_num"] == "118"
    (change,) = log(hub)
    assert (change["kind"], change["old_bib"], change["new_bib"]) == ("assigned", None, "118")
    assert (change["registration_id"], change["run_id"]) == (key, "test")
    assert change["modified_epoch"] == changed
    assert int(change["last_seen_old"].timestamp()) == int(loaded)
    assert int(change["first_seen_new"].timestamp()) == changed + 15


def test_a_changed_and_a_cleared_bib_are_logged(hub: Hub) -> None:
    key = with_bib(hub)
    hub.sandbox.admin.bib(key, 4712)
    hub.sync()
    hub.sandbox.admin.bib(key, None)
    hub.sync()
    assert [(c["kind"], c["old_bib"], c["new_bib"]) for c in log(hub)] == [
        ("assigned", None, "4711"),
        ("changed", "4711", "4712"),
        ("cleared", "4712", None),
    ]
    hub.assert_bib_log_replays()


def test_a_swap_of_two_bibs_gives_two_rows(hub: Hub) -> None:
    first = with_bib(hub)
    second = without_bib(hub)
    hub.sandbox.admin.bib(second, 12)
    hub.sync()
    hub.sandbox.admin.swap_bibs(first, second)
    hub.sync()
    assert {(c["registration_id"], c["old_bib"], c["new_bib"]) for c in log(hub)[2:]} == {
        (first, "4711", "12"),
        (second, "12", "4711"),
    }
    hub.assert_bib_log_replays()


def test_a_newcomer_with_a_bib_is_logged_and_replays(hub: Hub) -> None:
    event = min(row["event_id"] for row in hub.truth().values())
    (key,) = hub.sandbox.admin.register(event, {"bib_num": 900})
    hub.sync()
    (change,) = log(hub)
    assert (change["registration_id"], change["kind"], change["new_bib"]) == (key, "assigned", "900")
    hub.assert_bib_log_replays()


def test_a_new_events_first_load_logs_nothing(hub: Hub) -> None:
    race_id = next(iter(hub.truth().values()))["race_id"]
    event = hub.sandbox.admin.add_event(race_id, "Added", start_in_hours=400)
    hub.sandbox.admin.register(event, {"bib_num": 5}, count=2)
    hub.sync()
    assert log(hub) == []
    hub.assert_bib_log_replays()


def test_reading_again_adds_nothing(hub: Hub) -> None:
    with_bib(hub)
    before = log(hub)
    for full in (False, True, False):
        hub.sync(full=full)
    assert log(hub) == before


def test_an_edit_that_leaves_the_bib_alone_is_not_logged(hub: Hub) -> None:
    hub.sandbox.admin.edit(with_bib(hub), {"first_name": "Renamed"})
    hub.sync()
    assert len(log(hub)) == 1


@pytest.mark.parametrize("statement", ["UPDATE runsignup_bib_changes SET new_bib = '1'", "DELETE FROM runsignup_bib_changes",
                                       "TRUNCATE runsignup_bib_changes"])  # fmt: skip
def test_the_log_is_append_only(hub: Hub, statement: str) -> None:
    with_bib(hub)
    with pytest.raises(psycopg2.errors.RestrictViolation, match="append-only"):
        hub.execute(statement)
    assert len(log(hub)) == 1


def test_a_bib_given_here_is_never_wiped_by_a_blank_upstream(hub: Hub) -> None:
    key = without_bib(hub)
    hub.execute("UPDATE runsignup_participants SET local_bib = '77' WHERE registration_id = %s", key)
    hub.sandbox.admin.edit(key, {"first_name": "Renamed"})
    hub.sync()
    hub.sync(full=True)
    query = "SELECT bib_number FROM unified_participants u WHERE first_name = 'Renamed'"
    assert hub.value(query) == "77"
    hub.sandbox.admin.bib(key, 118)
    hub.sync()
    assert hub.value(query) == "118", "RunSignup's own bib comes first"
    hub.sandbox.admin.bib(key, None)
    hub.sync()
    assert hub.value(query) == "77"
