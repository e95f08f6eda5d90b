"""A start that moves on its morning is seen.

The events of a race in its window are read every few minutes, and once more before an event counts as over.
"""

import datetime as dt
from collections.abc import Callable

import pytest

from rsu_pipeline.reading_settings import CadenceSettings
from rsu_pipeline.sync import cadence, event_refresh, partner_sync, silent_races, watch_pace
from rsu_pipeline.sync.watch import PartnerWatched, Watch
from rsu_pipeline.warehouse import database, fleet
from rsu_pipeline.warehouse.fleet import FleetPartner, FleetRace
from rsu_pipeline_tests.hub import Hub

MakeHub = Callable[..., Hub]
NOW = dt.datetime(2027, 6, 10, 12, tzinfo=dt.UTC)
MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)
SPEC = {"partners": 1, "races_per_partner": 1, "events_per_race": 1, "registrations_per_event": 8, "start_in_hours": 1}


@pytest.fixture
def hub(make_hub: MakeHub) -> Hub:
    """Provide a hub that was synced, with one race that starts in an hour."""
    hub = make_hub(spec=SPEC, seed=3)
    hub.environment |= {"RSU_WATCH_INTERVAL": "1", "RSU_WATCH_EVENTS": "1", "RSU_CALL_ATTEMPTS": "1"}
    hub.sync()
    hub.sandbox.admin.reset_stats()
    return hub


def event_of(hub: Hub) -> int:
    return int(hub.value("SELECT event_id FROM runsignup_events"))


def starts_in(hub: Hub) -> float:
    """Return in how many hours the stored event starts."""
    starts_at: dt.datetime = hub.value("SELECT starts_at FROM runsignup_events")
    return (starts_at.timestamp() - hub.sandbox.admin.clock()) / 3600


def watched(hub: Hub, seconds: float = 3, log: Callable[[str], None] = lambda line: None) -> PartnerWatched:
    """Watch for some seconds and return what was done for the partner."""
    (done,) = Watch(hub.url, hub.secret_box, hub.settings, run_id="watch", log=log).run(seconds).values()
    return done


def details(hub: Hub) -> int:
    return int(hub.sandbox.admin.stats()["by_endpoint"].get("race", 0))


def visit(hub: Hub) -> list[str]:
    """Read what is due without a listing, and return the reasons."""
    with hub.partner_session() as session:
        done = partner_sync.sync_partner(session, race_ids=None, relist=False)
    assert not done.sync.failures
    return [read.read.reason for read in done.sync.reads]


def is_watched(hub: Hub) -> bool:
    now = dt.datetime.fromtimestamp(hub.sandbox.admin.clock(), dt.UTC)
    with database.session(hub.url, purpose="test") as conn:
        return bool(watch_pace.select_watched_races(fleet.select_races_to_read(conn, now), now, hub.settings))


def test_a_start_that_moves_in_its_window_is_seen_by_the_watch(hub: Hub) -> None:
    hub.sandbox.admin.move_event(event_of(hub), start_in_hours=3)
    watched(hub)
    assert starts_in(hub) > 2 and details(hub) >= 1


def test_a_start_that_moves_is_seen_though_details_are_slower_than_a_first_poll_may_be(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silent_races, "FIRST_TRY_SECONDS", 0.5)
    hub.sandbox.admin.fault("slow_body", 0, endpoint="race", seconds=1.5)
    hub.sandbox.admin.move_event(event_of(hub), start_in_hours=3)
    watched(hub, seconds=4)
    assert starts_in(hub) > 2


def test_an_event_that_is_added_to_a_race_in_its_window_is_polled(hub: Hub) -> None:
    race_id = hub.value("SELECT race_id FROM runsignup_races")
    added = hub.sandbox.admin.add_event(race_id, "Kids Dash", start_in_hours=2)
    hub.sandbox.admin.register(added, {"bib_num": 55}, count=2)
    watched(hub)
    assert len([row for row in hub.stored().values() if row["event_id"] == added and row["bib_num"] == "55"]) == 2


def test_an_event_whose_refresh_fails_is_still_polled(hub: Hub) -> None:
    hub.sandbox.admin.fault("http_500", 0, endpoint="race")
    key = min(hub.stored())
    hub.sandbox.admin.bib(key, 4711)
    lines: list[str] = []
    done = watched(hub, log=lines.append)
    assert hub.stored()[key]["bib_num"] == "4711" and done.looks >= 1
    assert any("its events were not refreshed" in line for line in lines)


def test_a_detail_that_was_read_a_short_time_ago_costs_no_call(hub: Hub) -> None:
    hub.environment["RSU_WATCH_EVENTS"] = "300"
    assert watched(hub).looks >= 1
    assert details(hub) == 0


def test_the_calls_of_refreshes_are_counted(hub: Hub) -> None:
    done = watched(hub)
    assert done.calls == sum(hub.sandbox.admin.stats()["by_endpoint"].values())


@pytest.mark.parametrize("hours", [3, 12, 24 * 20], ids=["delayed", "in the evening", "postponed"])
def test_an_event_delayed_beyond_its_end_is_watched_on(hub: Hub, hours: int) -> None:
    """The hub was down, or the listing is hours old: by what is stored the event is over."""
    admin = hub.sandbox.admin
    admin.clock(advance=8.1 * 3600)
    admin.move_event(event_of(hub), start_in_hours=hours)
    assert not is_watched(hub)
    assert visit(hub) == ["final read after it was over"]
    assert abs(starts_in(hub) - hours) < 1
    assert is_watched(hub) is (hours == 3)
    # What is given out later is not lost: the event is owed its final read again.
    admin.clock(advance=(hours + 8) * 3600)
    admin.bib(min(hub.stored()), 4712)
    visit(hub)
    assert hub.stored()[min(hub.stored())]["bib_num"] == "4712"


def test_a_final_read_looks_the_events_up_once(hub: Hub) -> None:
    hub.sandbox.admin.clock(advance=8.1 * 3600)
    visit(hub)
    assert details(hub) == 1
    hub.sandbox.admin.clock(advance=24 * 3600)
    assert visit(hub) == ["once more a day after it was over, for corrections"]
    assert details(hub) == 1 and visit(hub) == []


def test_a_final_read_goes_on_though_the_events_cannot_be_looked_up(hub: Hub) -> None:
    admin = hub.sandbox.admin
    key = min(hub.stored())
    admin.bib(key, 4713)
    admin.clock(advance=8.1 * 3600)
    admin.fault("http_500", 0, endpoint="race")
    assert visit(hub) == ["final read after it was over"]
    assert hub.stored()[key]["bib_num"] == "4713"


@pytest.mark.parametrize(
    ("refreshed", "over_at", "is_due"),
    [
        (None, None, True),
        (-4.9, None, False),
        (-5, None, True),
        (3, None, True),
        (-1, 10, False),
        (-1, 2.1, False),
        (-1, 0.9, False),
        (-1, 1.1, True),
        (-4, 1.5, True),
    ],
)
def test_events_are_looked_up_every_few_minutes_and_shortly_before_they_are_over(
    refreshed: float | None, over_at: float | None, is_due: bool
) -> None:
    found = event_refresh.is_refresh_due(
        None if refreshed is None else NOW + refreshed * MINUTE,
        NOW,
        5 * MINUTE,
        None if over_at is None else NOW + over_at * MINUTE,
    )
    assert found is is_due


@pytest.mark.parametrize(("hours", "minutes"), [(30, 240), (23, 15), (2, 15), (-3, 15), (-10, 240)])
def test_a_listing_is_due_as_often_as_the_partners_nearest_race(hours: float, minutes: float) -> None:
    start = NOW + hours * HOUR
    race = FleetRace(1, "1-acme", 1, 1, ((start, start + 6 * HOUR),), (NOW,), False)
    for late, expected in ((-1, False), (0, True)):
        listed = FleetPartner(1, "1-acme", NOW - (minutes + late) * MINUTE, False)
        visits = cadence.due([listed], [race], NOW, CadenceSettings())
        assert any(one.relist for one in visits) is expected


def test_a_race_brought_forward_to_today_is_watched_after_the_next_listing(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": 60}, seed=3)
    hub.sync()
    hub.sandbox.admin.move_event(event_of(hub), start_in_hours=2)
    assert not is_watched(hub)
    with hub.partner_session() as session:
        partner_sync.sync_partner(session, race_ids=[], relist=True)
    assert is_watched(hub)
