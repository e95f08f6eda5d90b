"""Incremental reads: only what changed, with a cursor that loses nothing."""

from collections.abc import Callable

import pytest

from rsu_pipeline.sync import listing, partner_sync
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

MakeHub = Callable[..., Hub]
SPEC = estate(events=2, registrations=12, start_in_hours=4000)


@pytest.fixture
def hub(make_hub: MakeHub) -> Hub:
    """Provide a hub synced once, with a stopped clock."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sandbox.admin.clock(rate=0)
    hub.sync()
    return hub


def registration(hub: Hub, number: int = 0) -> int:
    return sorted(hub.truth())[number]


def cursor(hub: Hub) -> int:
    return int(hub.value("SELECT DISTINCT modified_after FROM event_cursors"))


@pytest.mark.parametrize("days", [1, 6.9])
def test_an_incremental_sync_fetches_only_what_changed(hub: Hub, days: float) -> None:
    """The control: something did change, and it, and nothing else, is fetched."""
    admin = hub.sandbox.admin
    admin.clock(advance=days * 86400)
    admin.edit(registration(hub), {"first_name": "Renamed"})
    (new,) = admin.register(hub.truth()[registration(hub)]["event_id"])
    admin.reset_stats()
    outcome = hub.sync()
    assert [read.read.mode for read in outcome.reads] == ["incremental"]
    assert (outcome.counts.read, outcome.counts.updated, outcome.counts.inserted) == (2, 1, 1)
    assert hub.stored()[registration(hub)]["first_name"] == "Renamed" and new in hub.stored()
    hub.assert_equal()


def test_a_change_of_thirty_days_is_fetched_too_by_a_full_read(hub: Hub) -> None:
    admin = hub.sandbox.admin
    admin.clock(advance=30 * 86400)
    admin.edit(registration(hub), {"first_name": "Renamed"})
    outcome = hub.sync()
    assert [read.read.mode for read in outcome.reads] == ["full"]
    assert outcome.counts.updated == 1
    hub.assert_equal()


@pytest.mark.parametrize("days", [1, 7, 30])
def test_an_incremental_read_finds_a_change_after_any_number_of_days(hub: Hub, days: int) -> None:
    admin = hub.sandbox.admin
    admin.clock(advance=days * 86400)
    admin.edit(registration(hub), {"first_name": "Renamed"})
    with hub.partner_session() as session:
        listing.refresh_events(session)
        outcome = partner_sync.sync_participants(session, partner_sync.make_plan(session, incremental_days=365))
    assert [read.read.mode for read in outcome.reads] == ["incremental"]
    assert (outcome.counts.read, outcome.counts.updated) == (1, 1)
    hub.assert_equal()


def test_the_cursor_is_sent_as_whole_unix_seconds_and_stays_fixed_through_a_pass(hub: Hub) -> None:
    hub.environment["RSU_PAGE_SIZE"] = "3"
    admin = hub.sandbox.admin
    for number in range(8):
        admin.edit(registration(hub, number), {"first_name": "Renamed"})
    before = cursor(hub)
    admin.clock(advance=5)
    admin.reset_stats()
    hub.sync()
    log = [call for call in admin.stats()["log"] if call["endpoint"] in ("participants", "removed")]
    # Three pages, the empty one that ends the feed, and the removed registrations.
    assert len(log) == 5
    assert {call["query"]["modified_after_timestamp"] for call in log} == {str(before)}


def test_the_next_cursor_is_the_servers_clock_at_the_first_page_less_the_overlap(hub: Hub) -> None:
    admin = hub.sandbox.admin
    admin.clock(advance=1000)
    now = int(admin.clock())
    hub.sync()
    assert cursor(hub) == now - 120


@pytest.mark.parametrize("skew", [-30, 30])
def test_a_servers_clock_that_is_wrong_by_thirty_seconds_loses_nothing(hub: Hub, skew: int) -> None:
    admin = hub.sandbox.admin
    admin.clock(skew=skew)
    for round_ in range(4):
        admin.clock(advance=7)
        admin.edit(registration(hub, round_), {"first_name": f"Round {round_}"})
        hub.sync()
        admin.edit(registration(hub, round_), {"last_name": f"Later {round_}"})  # in the same second, after the read
        hub.sync()
        hub.assert_equal()


def test_a_second_edit_in_the_same_second_is_not_lost(hub: Hub) -> None:
    admin = hub.sandbox.admin
    admin.clock(advance=500)
    admin.edit(registration(hub), {"first_name": "First"})
    hub.sync()
    admin.edit(registration(hub), {"first_name": "Second"})
    assert (
        hub.truth()[registration(hub)]["last_modified_epoch"] == hub.stored()[registration(hub)]["last_modified_epoch"]
    )
    hub.sync()
    assert hub.stored()[registration(hub)]["first_name"] == "Second"


def test_a_row_that_becomes_visible_late_is_not_lost(hub: Hub) -> None:
    admin = hub.sandbox.admin
    admin.clock(advance=500)
    admin.switch(visibility_delay=3)
    admin.edit(registration(hub), {"first_name": "Late"})
    admin.clock(advance=2)
    hub.sync()
    assert hub.stored()[registration(hub)]["first_name"] != "Late"
    admin.clock(advance=2)
    hub.sync()
    assert hub.stored()[registration(hub)]["first_name"] == "Late"


def test_a_row_removed_at_a_page_border_takes_no_other_with_it(hub: Hub) -> None:
    """Numbered pages would skip one row when one before it goes. The keyset does not."""
    from rsu_pipeline.runsignup.client import Client

    hub.environment["RSU_PAGE_SIZE"] = "4"
    ids = sorted(hub.truth())
    ask = Client.participants_page
    removed: list[int] = []

    def ask_then_remove(client: Client, *args: object, **kwargs: object) -> object:
        page = ask(client, *args, **kwargs)  # type: ignore[arg-type]
        if len(removed) < 3:
            removed.append(ids[len(removed)])
            hub.sandbox.admin.remove(removed[-1], "removed")
        return page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "participants_page", ask_then_remove)
        outcome = hub.sync(full=True)
    assert outcome.counts.read == len(ids)
    assert set(ids) - set(removed) <= hub.stored().keys()
    hub.sync()
    hub.assert_equal()


def test_registrations_of_the_hour_that_repeats_in_november_keep_their_wall_time_and_order_by_epoch(hub: Hub) -> None:
    first, second = registration(hub, 0), registration(hub, 1)
    admin = hub.sandbox.admin
    # 01:30 Eastern comes twice on 2026-11-01: as daylight time, and an hour later as standard time.
    for key, epoch in ((first, 1793511000), (second, 1793514600)):
        admin.edit(key, {"registration_date": "11/1/2026 01:30"}, last_modified=epoch)
    hub.sync(full=True)
    rows = hub.rows(
        "SELECT registration_id, registration_date::text, last_modified::text, last_modified_epoch"
        " FROM runsignup_participants WHERE registration_id IN (%s, %s) ORDER BY last_modified_epoch",
        first,
        second,
    )
    assert [row["registration_id"] for row in rows] == [first, second]
    assert {row["registration_date"] for row in rows} == {"2026-11-01 01:30:00"}
    assert {row["last_modified"] for row in rows} == {"2026-11-01 01:30:00"}
    assert rows[1]["last_modified_epoch"] - rows[0]["last_modified_epoch"] == 3600


def test_a_failed_pass_does_not_move_the_cursor(hub: Hub) -> None:
    before = cursor(hub)
    hub.sandbox.admin.clock(advance=1000)
    hub.sandbox.admin.fault("unknown_shape", 1, endpoint="removed")
    assert hub.sync().failures
    assert cursor(hub) == before


def test_an_incremental_read_that_a_full_one_may_heal_is_read_in_full_next_time_and_says_so(hub: Hub) -> None:
    hub.sandbox.admin.fault("unknown_shape", 1, endpoint="participants")
    assert hub.sync().failures
    (reason,) = {row["needs_full"] for row in hub.rows("SELECT needs_full FROM event_cursors")}
    assert reason == "incremental read failed: answer has an unknown shape"
    outcome = hub.sync()
    assert [(read.read.mode, read.read.reason) for read in outcome.reads] == [("full", reason)]
    assert hub.sync().reads[0].read.mode == "incremental"


def test_a_throttled_read_stays_incremental(hub: Hub) -> None:
    hub.environment["RSU_CALL_ATTEMPTS"] = "2"
    hub.sandbox.admin.fault("throttle_200", 2, endpoint="participants")
    assert hub.sync().failures
    assert hub.sync().reads[0].read.mode == "incremental"


def test_a_new_event_in_a_known_race_is_read_in_full_and_the_others_incrementally(hub: Hub) -> None:
    admin = hub.sandbox.admin
    race_id = hub.truth()[registration(hub)]["race_id"]
    event_id = admin.add_event(race_id, "Late Addition", start_in_hours=4000)
    admin.register(event_id, count=3)
    reads = {read.read.mode: read.read.event_ids for read in hub.sync().reads}
    assert reads["full"] == (event_id,) and event_id not in reads["incremental"]
    hub.assert_equal()


@pytest.mark.parametrize("layout", ["first", "own", "last"])
def test_rows_are_found_in_whichever_element_they_come(make_hub: MakeHub, layout: str) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "5"
    hub.sandbox.admin.switch(layout=layout, pretty=True, ints_as_strings=True, template_row=True, duplicate_row=True)
    outcome = hub.sync()
    assert not outcome.failures
    hub.assert_equal()
    hub.sandbox.admin.switch(mangle_removed_shape=True)
    hub.sandbox.admin.remove(registration(hub), "cleared")
    hub.sync()
    hub.assert_equal()
    hub.assert_removals()


@pytest.mark.parametrize("switch", ["repeat_page", "unsorted"])
def test_a_page_that_breaks_the_order_fails_the_race_and_never_ends_it_quietly(make_hub: MakeHub, switch: str) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "5"
    hub.sandbox.admin.switch(**{switch: True})
    outcome = hub.sync()
    assert len(outcome.failures) == 1 and "unknown shape" in outcome.failures[0]
    hub.sandbox.admin.switch(**{switch: False})
    hub.sync()
    hub.assert_equal()
