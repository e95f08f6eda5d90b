"""Small races are reconciled at every visit, and by every poll that would request removals: one call instead of two.

Calls are counted by RunSignup, which runs in a process of its own.
"""

import datetime as dt
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from rsu_pipeline.sync import partner_sync, watch
from rsu_pipeline.sync.read_plan import SMALL_RACE
from rsu_pipeline.sync.watch import PartnerWatched, Watch
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

MakeHub = Callable[..., Hub]
SPEC = estate(races=3, events=2, registrations=10, start_in_hours=100)
ONE_RACE = SPEC | {"races_per_partner": 1}
IN_WINDOW = SPEC | {"start_in_hours": 2}


@pytest.fixture
def make_hub(make_hub: MakeHub) -> MakeHub:
    """Make hubs with the setting's default."""

    def make(**options: object) -> Hub:
        hub = make_hub(**options)
        del hub.environment["RSU_FULL_READ_UP_TO_ROWS"]
        assert hub.settings.sync.full_read_up_to_rows > 0
        return hub

    return make


def calls(hub: Hub) -> Counter[str]:
    """Return the calls since this was last called: full reads, changes, and the rest by endpoint."""
    log = hub.sandbox.admin.stats()["log"]
    hub.sandbox.admin.reset_stats()
    return Counter(
        ("changes" if "modified_after_timestamp" in call["query"] else "full")
        if call["endpoint"] == "participants"
        else call["endpoint"]
        for call in log
    )


def visit(hub: Hub) -> Counter[str]:
    """Return the calls of a visit by a new process, without those of the listing."""
    hub.sandbox.admin.reset_stats()
    assert not hub.sync().failures
    return Counter({name: count for name, count in calls(hub).items() if name not in ("races", "race")})


def watched(hub: Hub, polls: int, **environment: str) -> PartnerWatched:
    """Have a watch of its own poll each of the partner's races about that many times."""
    hub.environment |= {"RSU_WATCH_INTERVAL": "1", **environment}
    hub.sandbox.admin.reset_stats()
    done = Watch(hub.url, hub.secret_box, hub.settings, run_id="watch", log=lambda line: None).run(polls - 0.5)
    (item,) = done.values()
    assert not item.trouble
    return item


def change_without_a_stamp(hub: Hub, registration_id: int, bib: int) -> None:
    stamp = hub.stored()[registration_id]["last_modified_epoch"]
    hub.sandbox.admin.edit(registration_id, {"bib_num": bib}, last_modified=stamp)


def test_a_visit_of_small_races_is_one_call_each_and_reconciles_them(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.sync()
    hub.execute("UPDATE event_cursors SET proved_equal_at = NULL")
    assert visit(hub) == {"full": 3}
    assert hub.value("SELECT count(*) FROM event_cursors WHERE proved_equal_at IS NULL") == 0


def test_without_the_rule_a_visit_is_two_calls(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = "0"
    hub.sync()
    assert visit(hub) == {"changes": 3, "removed": 3}


def test_a_race_above_the_limit_is_read_incrementally(make_hub: MakeHub) -> None:
    hub = make_hub(spec=ONE_RACE, seed=3)
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = str(len(hub.sandbox.admin.truth()["active"]) - 1)
    hub.sync()
    assert visit(hub) == {"changes": 1, "removed": 1}


def test_the_nightly_reads_each_race_that_fits_one_page_in_full_with_one_call_and_the_largest_with_two_at_most(
    make_hub: MakeHub,
) -> None:
    """Races above the limit are read in full as well, the largest first, whose page shows the ends of all others."""
    hub = make_hub(spec=SPEC, seed=3)
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = "1"
    for race in range(4):
        _, (event_id,) = hub.sandbox.admin.add_race(1, [{"name": f"Race {race}", "start_in_hours": 200 + race}])
        hub.sandbox.admin.register(event_id, count=30 + 10 * race)
    hub.sync()

    def nightly() -> Counter[str]:
        hub.sandbox.admin.reset_stats()
        with hub.partner_session() as session:
            assert not partner_sync.sync_partner(session, race_ids=None, relist=True).sync.failures
        # The details of the races that were just made are read once more, since the minute of their stamps was not over.
        return Counter({name: count for name, count in calls(hub).items() if name != "race"})

    hub.execute("UPDATE event_cursors SET proved_equal_at = NULL")
    assert [nightly() for _ in range(3)] == [{"races": 2, "full": full} for full in (7, 8, 7)]
    assert hub.value("SELECT count(*) FROM event_cursors WHERE proved_equal_at IS NULL") == 0
    hub.assert_equal()


def test_a_partners_only_race_is_one_call_where_the_pass_before_showed_the_end(make_hub: MakeHub) -> None:
    hub = make_hub(spec=ONE_RACE, seed=3)
    hub.sync()
    assert [visit(hub) for _ in range(3)] == [{"full": 1}, {"full": 2}, {"full": 1}]


@pytest.mark.parametrize("visits", [1, 2])
def test_a_visit_that_reads_the_removed_feed_too_shows_the_end_of_the_race(make_hub: MakeHub, visits: int) -> None:
    # Of two visits in a row one infers the end of the race, and one shows it.
    hub = make_hub(spec=ONE_RACE, seed=3)
    hub.sync()
    for number in sorted(hub.truth())[:2]:
        hub.sandbox.admin.remove(number, silent=number == min(hub.truth()))
        visit(hub)
    for _ in range(visits):
        visit(hub)
    hub.sandbox.admin.clock(advance=3600)
    # All removals are searched once more for the reason: a page with the other one, and the empty one that ends the feed.
    assert [visit(hub) for _ in range(3)] == [{"full": 2, "removed": 2}, {"full": 1}, {"full": 2}]


def test_what_a_clamped_page_hides_behind_an_inferred_end_is_found_by_the_next_visit(make_hub: MakeHub) -> None:
    hub = make_hub(spec=ONE_RACE | {"events_per_race": 1, "registrations_per_event": 7}, seed=3)
    hub.sync()
    cursor = hub.rows("SELECT event_id, modified_after FROM event_cursors")[0]
    rows = len(hub.stored())
    hub.sandbox.admin.switch(most_rows={"participants": rows})
    hub.sandbox.admin.register(cursor["event_id"], count=2)
    assert visit(hub) == {"full": 1}
    assert hub.value("SELECT modified_after FROM event_cursors") <= cursor["modified_after"], "nothing showed the end"
    assert visit(hub)["full"] > 1
    hub.assert_equal()
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE removed_at IS NOT NULL") == 0


@pytest.mark.parametrize("rows", [7, 3, 2])
def test_new_registrations_on_the_page_are_never_taken_for_the_last(make_hub: MakeHub, rows: int) -> None:
    hub = make_hub(spec=ONE_RACE | {"events_per_race": 1, "registrations_per_event": rows - 1}, seed=3)
    hub.sync()
    event_id = hub.value("SELECT event_id FROM event_cursors")
    hub.sandbox.admin.switch(most_rows={"participants": rows, "removed": rows})
    hub.sandbox.admin.register(event_id, count=5)
    assert not hub.sync().failures
    hub.assert_equal()


def test_a_change_that_moves_no_stamp_is_stored_at_the_next_visit(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.sync()
    registration = min(hub.stored())
    change_without_a_stamp(hub, registration, 901)
    assert hub.sync().counts.bib_changes == 1
    assert hub.stored()[registration]["bib_num"] == "901"


def test_an_idle_incremental_poll_is_one_call(make_hub: MakeHub) -> None:
    hub = make_hub(spec=IN_WINDOW, seed=3)
    hub.sync()
    race_id = hub.value("SELECT min(race_id) FROM runsignup_races")
    for _ in range(2):
        with hub.partner_session() as session:
            plan = watch.plan_poll(session, race_id)
            assert [read.mode for read in plan.reads] == ["incremental"]
            assert partner_sync.sync_participants(session, plan, with_removed=False, quiet=True).calls == 1


@pytest.mark.parametrize("limit", [500, 0])
def test_the_watch_reads_a_small_race_in_full_instead_of_asking_for_removals(make_hub: MakeHub, limit: int) -> None:
    hub = make_hub(spec=IN_WINDOW, seed=3)
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = str(limit)
    hub.sync()
    done = watched(hub, 7, RSU_WATCH_REMOVED_EVERY="3")
    made = calls(hub)
    assert done.looks >= 15
    if limit:
        assert done.calls == made.total() == done.looks, "one call a poll"
        assert made["removed"] == 0 and made["full"] >= done.looks // 3
    else:
        assert made["full"] == 0 and made["removed"] >= done.looks // 3
        assert done.calls == made.total() == done.looks + made["removed"]


def test_removals_and_changes_that_move_no_stamp_are_here_within_some_polls(make_hub: MakeHub) -> None:
    hub = make_hub(spec=IN_WINDOW, seed=3)
    hub.sync()
    changed, gone, silent = sorted(hub.stored())[:3]

    def morning() -> None:
        change_without_a_stamp(hub, changed, 902)
        hub.sandbox.admin.remove(gone, "cleared")
        hub.sandbox.admin.remove(silent, "removed", silent=True)

    timer = threading.Timer(1.5, morning)
    timer.start()
    watched(hub, 6, RSU_WATCH_REMOVED_EVERY="3")
    timer.join()
    hub.assert_equal()
    hub.assert_removals()
    assert hub.rows("SELECT new_bib FROM runsignup_bib_changes") == [{"new_bib": "902"}]


def test_full_polls_that_find_nothing_leave_no_row_in_the_history(make_hub: MakeHub) -> None:
    hub = make_hub(spec=IN_WINDOW, seed=3)
    hub.sync()
    # A row of which a value does not fit is sent by every full read.
    hub.sandbox.admin.edit(min(hub.stored()), {"registration_date": "soon"})
    watched(hub, 5, RSU_WATCH_REMOVED_EVERY="1")
    assert calls(hub)["full"] >= 12
    rows = hub.rows("SELECT operation_type, status, reason FROM sync_history WHERE run_id = 'watch'")
    assert rows == [{"operation_type": "full", "status": "partial", "reason": SMALL_RACE}], "once, as it was new"


def test_a_large_race_is_read_in_full_at_entering_its_window_and_before_its_start_by_the_watch(
    make_hub: MakeHub,
) -> None:
    hub = make_hub(spec=ONE_RACE | {"start_in_hours": 5}, seed=3)
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = "5"
    admin = hub.sandbox.admin
    admin.clock(rate=0)
    hub.sync()
    reasons = []
    for hours in (1.1, 0.5, 3.3, 0.05, 0.1, 7.0):  # 3.9, 3.4, 0.1 and 0.05 h before, 3 minutes after, and over
        now = dt.datetime.fromtimestamp(admin.clock(advance=hours * 3600), dt.UTC)
        # Bound now, as a slice runs in real time.
        slice_ = Watch(
            hub.url, hub.secret_box, hub.settings, run_id=f"at {hours}", log=lambda line: None, now=lambda now=now: now
        )
        slice_.run(0.5)
        reasons += [
            row["reason"]
            for row in hub.rows(
                "SELECT reason FROM sync_history WHERE operation_type = 'full' AND run_id = %s", f"at {hours}"
            )
        ]
    assert reasons == ["entering the hours before its start", "just before its start"]
    hub.sync()
    reason = hub.value(
        "SELECT reason FROM sync_history WHERE operation_type = 'full' ORDER BY finished_at DESC LIMIT 1"
    )
    assert reason == "final read after it was over"


def test_only_one_worker_reads_a_large_race_in_full_while_the_others_poll(make_hub: MakeHub) -> None:
    hub = make_hub(spec=IN_WINDOW | {"races_per_partner": 1}, seed=3)
    hub.environment |= {"RSU_FULL_READ_UP_TO_ROWS": "5", "RSU_WATCH_INTERVAL": "1"}
    hub.sync()
    hub.execute("UPDATE event_cursors SET last_full_at = now() - interval '5 hours'")
    busy = Watch(hub.url, hub.secret_box, hub.settings, run_id="watch", log=lambda line: None)
    hub.sandbox.admin.reset_stats()
    with busy._large_read:
        busy.run(0.5)
    assert calls(hub) == {"changes": 1, "removed": 1}
    busy.run(5)
    assert calls(hub)["full"] >= 1


def test_removals_that_wait_for_a_person_are_not_read_again_at_every_poll(make_hub: MakeHub) -> None:
    hub = make_hub(spec=ONE_RACE | {"start_in_hours": 2}, seed=3)
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = "5"
    hub.sync()
    for registration in sorted(hub.stored())[:10]:
        hub.sandbox.admin.remove(registration, silent=True)
    hub.sync(full=True)
    assert hub.value("SELECT count(*) FROM event_cursors WHERE needs_full IS NOT NULL") > 0
    watched(hub, 4)
    assert calls(hub)["full"] == 0
    hub.execute("UPDATE event_cursors SET last_full_at = now() - interval '6 minutes'")
    watched(hub, 2)
    assert calls(hub)["full"] >= 1


LEFT_TWICE_SPEC = ONE_RACE | {"start_in_hours": 400}
"""So far ahead that the race is upcoming still when a full read is due again."""


def leave_twice(hub: Hub) -> tuple[int, int]:
    """Have a registration removed, read, and then back and transferred before the next read. Return its id and the new one."""
    admin = hub.sandbox.admin
    hub.sync()
    number, *_ = hub.truth()
    admin.remove(number, "removed")
    admin.clock(advance=600)
    hub.sync()
    assert reason(hub, number) == ("removed", None)
    other = max(row["event_id"] for row in admin.truth(1)["active"])
    admin.clock(advance=600)
    admin.reactivate(number)
    admin.clock(advance=60)
    new = admin.transfer(number, other)
    admin.clock(advance=600)
    assert visit(hub).keys() == {"full"}
    assert new in hub.stored() and reason(hub, number) == ("removed", None)
    return number, new


def reason(hub: Hub, number: int) -> tuple[str, int | None]:
    (row,) = hub.rows(
        "SELECT removed_reason, new_registration_id FROM runsignup_participants WHERE registration_id = %s", number
    )
    return row["removed_reason"], row["new_registration_id"]


def test_a_full_read_does_not_move_the_cursor_of_removals_that_it_did_not_request(make_hub: MakeHub) -> None:
    hub = make_hub(spec=LEFT_TWICE_SPEC, seed=3)
    number, new = leave_twice(hub)
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = "0"
    assert visit(hub).keys() == {"changes", "removed"}
    assert reason(hub, number) == ("transferred", new)


def test_races_that_are_always_read_in_full_have_the_reasons_of_removals_within_a_week(make_hub: MakeHub) -> None:
    hub = make_hub(spec=LEFT_TWICE_SPEC, seed=3)
    number, new = leave_twice(hub)
    hub.sandbox.admin.clock(advance=7.2 * 86400)
    assert visit(hub).keys() == {"full", "removed"}
    assert reason(hub, number) == ("transferred", new)
    assert visit(hub).keys() == {"full"}
