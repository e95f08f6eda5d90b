"""A short page is not the last page: RunSignup may answer with fewer rows than requested, on any feed, at any time."""

from collections.abc import Callable

import pytest

from rsu_pipeline.sync import listing, partner_sync
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

MakeHub = Callable[..., Hub]
SPEC = estate(races=9, events=2, registrations=9)


def changed(hub: Hub) -> None:
    """Make eight removals, eight bibs and two new registrations in every race."""
    admin = hub.sandbox.admin
    by_race: dict[int, list[int]] = {}
    for key, row in sorted(hub.stored().items()):
        by_race.setdefault(row["race_id"], []).append(key)
    for registrations in list(by_race.values())[:3]:
        for registration in registrations[:8]:
            admin.remove(registration)
        for number, registration in enumerate(registrations[8:16]):
            admin.bib(registration, 100 + number)
        admin.register(hub.stored()[registrations[0]]["event_id"], count=2)


@pytest.fixture(params=["0", "500"], ids=["large", "small"])
def limit(request: pytest.FixtureRequest) -> str:
    """Provide races read incrementally between full reads, and in full at every visit."""
    return str(request.param)


@pytest.mark.parametrize("rows", [7, 3, 2])
def test_a_clamped_first_load_is_whole(make_hub: MakeHub, rows: int) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.sandbox.admin.switch(most_rows={"races": rows, "participants": rows, "removed": rows})
    assert not hub.sync().failures
    hub.assert_equal()
    assert hub.value("SELECT count(*) FROM partner_races WHERE unlisted_at IS NULL") == 9


@pytest.mark.parametrize("full", [False, True], ids=["incremental", "full"])
@pytest.mark.parametrize("rows", [7, 3, 2])
def test_pages_that_become_short_lose_and_remove_nothing(make_hub: MakeHub, rows: int, full: bool, limit: str) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = limit
    hub.sync()
    changed(hub)
    hub.sandbox.admin.switch(most_rows={"races": rows, "participants": rows, "removed": rows})
    outcome = hub.sync(full=full)
    assert not outcome.failures and not outcome.unequal_events
    hub.assert_equal()
    hub.assert_removals()
    assert hub.value("SELECT count(*) FROM partner_races WHERE unlisted_at IS NULL") == 9
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE removed_at IS NOT NULL") == 24


def test_what_the_end_of_a_feed_costs(make_hub: MakeHub) -> None:
    """A first load takes one call more, and so does a requested full read of the largest race met so far.

    A visit that reads it in full because it is small takes one more every second time. An incremental read without changes ends
    with its empty page.
    """
    hub = make_hub(spec=SPEC | {"races_per_partner": 3, "events_per_race": 1}, seed=3)
    hub.sync()
    assert hub.value("SELECT count(*) FROM api_calls WHERE endpoint = 'participants'") == 1 + 3 * 2
    with hub.partner_session() as session:
        asked_for = partner_sync.sync_participants(session, partner_sync.make_plan(session, force_full=True))
        incremental = partner_sync.sync_participants(session, partner_sync.make_plan(session))
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = "500"
    with hub.partner_session() as session:
        plan = partner_sync.make_plan(session)
        small = partner_sync.sync_participants(session, plan)
        again = partner_sync.sync_participants(session, plan)
    assert asked_for.calls == 6
    assert incremental.calls == 6  # registrations and removals of each race, nothing changed
    assert small.calls == 3 and 3 < again.calls <= 6


def test_a_listing_that_brings_what_was_expected_takes_one_call(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.sync()
    hub.sandbox.admin.reset_stats()
    with hub.partner_session() as session:
        listing.refresh_events(session)
    assert hub.sandbox.admin.stats()["by_endpoint"] == {"races": 1}


def two_races(make_hub: MakeHub, hours: float) -> tuple[Hub, int]:
    """Return a hub with a race of 9 registrations that starts after that many hours, and one of 3 an hour later.

    And the latter's event.
    """
    hub = make_hub(spec=SPEC | {"races_per_partner": 1, "events_per_race": 1, "start_in_hours": hours}, seed=3)
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = "500"
    _, (event_id,) = hub.sandbox.admin.add_race(1, [{"name": "Small", "start_in_hours": hours + 1}])
    hub.sandbox.admin.register(event_id, count=3)
    return hub, event_id


def test_what_a_longer_page_showed_is_forgotten_once_a_short_page_is_followed_by_more(make_hub: MakeHub) -> None:
    """A process that runs for hours meets a limit that is exactly the length of a race.

    Its next visit finds the rows behind it, however long the pages were before.
    """
    hub, event_id = two_races(make_hub, 400)
    with hub.partner_session() as session:
        for _ in range(2):
            assert not partner_sync.sync_partner(session, race_ids=None, relist=True).sync.failures
        hub.sandbox.admin.switch(most_rows={"participants": 3})
        hub.sandbox.admin.register(event_id, count=2)
        for _ in range(2):
            assert not partner_sync.sync_partner(session, race_ids=None, relist=True).sync.failures
    hub.assert_equal()


def test_the_last_read_of_an_event_ends_with_an_empty_page_whatever_was_seen_before(make_hub: MakeHub) -> None:
    """A limit that comes between two races hides nothing for good: no later visit would find it."""
    hub, event_id = two_races(make_hub, 2)
    hub.sync()
    hub.sandbox.admin.clock(advance=40 * 3600)

    def shorten(done: int, *_: object) -> None:
        if done == 1:
            hub.sandbox.admin.switch(most_rows={"participants": 3})
            hub.sandbox.admin.register(event_id, count=2)

    with hub.partner_session() as session:
        listing.refresh_events(session)
        plan = partner_sync.make_plan(session)
        assert [(len(read.event_ids), read.closes_at is not None) for read in plan.reads] == [(1, True), (1, True)]
        assert not partner_sync.sync_participants(session, plan, on_read=shorten).failures
        assert not partner_sync.make_plan(session).reads
    hub.assert_equal(past_too=True)


def test_a_race_behind_a_limit_that_is_just_as_long_as_the_listing_is_found_by_the_nightly(make_hub: MakeHub) -> None:
    hub, _ = two_races(make_hub, 400)
    hub.sync()
    hub.sandbox.admin.switch(most_rows={"races": 2})
    race_id, (event_id,) = hub.sandbox.admin.add_race(1, [{"name": "One", "start_in_hours": 400}])
    hub.sandbox.admin.edit_race(race_id, {"name": "ZZZ"})
    hub.sandbox.admin.register(event_id, count=2)
    with hub.partner_session() as session:
        visited = partner_sync.sync_partner(session, race_ids=[], relist=True)
        assert visited.events and visited.events.races == 2, "a visit in between expects what was listed"
        visited = partner_sync.sync_partner(session, race_ids=None, relist=True)
        assert visited.events and visited.events.races == 3
    hub.assert_equal()
