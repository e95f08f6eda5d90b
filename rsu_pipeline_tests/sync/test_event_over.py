"""An event is over when a read that began after its end confirms it, not when the clock does."""

import datetime as dt
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.runsignup.payloads import Event, Race
from rsu_pipeline.sync import cadence
from rsu_pipeline.sync.race_rows import event_row
from rsu_pipeline.warehouse import database, fleet
from rsu_pipeline.warehouse.event_times import IS_UPCOMING, NEEDS_CLOSING_READ, OVER_AT, is_in_window
from rsu_pipeline_tests.hub import Hub

MakeHub = Callable[..., Hub]
NOW = dt.datetime(2027, 6, 10, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
SPEC = {"partners": 1, "races_per_partner": 1, "events_per_race": 1, "registrations_per_event": 8}
MOMENTS = st.none() | st.sampled_from(
    [
        NOW - hours * HOUR + dt.timedelta(seconds=seconds)
        for hours in (-5, -4, 0, 1, 2, 24, 25, 26, 49, 72, 73, 74, 24 * 7 + 1, 24 * 365 + 1)
        for seconds in (-1, 0, 1)
    ]
)


@given(st.lists(st.tuples(MOMENTS, MOMENTS, MOMENTS, st.sampled_from([None, "pending"])), min_size=1, max_size=200))
def test_sql_and_python_agree_on_when_an_event_is_in_its_window_over_and_owed_a_read(
    server: str, cases: list[tuple[dt.datetime | None, dt.datetime | None, dt.datetime | None, str | None]]
) -> None:
    with database.session(server, purpose="test") as conn, conn.cursor() as cur:
        cur.execute(
            f"""
            SELECT {OVER_AT}, {IS_UPCOMING}, {NEEDS_CLOSING_READ}, coalesce({is_in_window("%(now)s")}, false)
            FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY AS e (starts_at, ends_at, nth)
            LEFT JOIN (SELECT nth, nth AS event_id, f AS last_full_at, needs_full
                FROM unnest(%(fulls)s::timestamptz[], %(needs)s::text[]) WITH ORDINALITY AS f (f, needs_full, nth)
                WHERE f IS NOT NULL) k USING (nth)
            ORDER BY nth
            """,
            {
                "now": NOW,
                "starts": [start for start, _, _, _ in cases],
                "ends": [end for _, end, _, _ in cases],
                "fulls": [full for _, _, full, _ in cases],
                "needs": [needs_full for _, _, _, needs_full in cases],
            },
        )
        found = cur.fetchall()
    expected = [
        (
            cadence.over_at(start, end),
            not cadence.is_over(start, end, NOW),
            cadence.closing_read(start, end, full, NOW, needs_full) is not None,
            cadence.tier(start, end, NOW) == "window",
        )
        for start, end, full, needs_full in cases
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [
        ("6/12/2027 07:30", None, 6),
        ("6/12/2027 00:00", None, 24),
        ("6/12/2027 07:30", "6/12/2027 10:00", 2.5),
        ("6/12/2027 07:30", "6/12/2026 10:00", 6),
        ("6/12/2027 00:00", "6/12/2027 09:00", 9),
    ],
)
def test_an_end_that_runsignup_does_not_send_is_assumed(start: str, end: str | None, hours: float) -> None:
    event = Event(event_id=1, start_time=start, end_time=end, raw=b"{}")
    row, _ = event_row(event, Race(race_id=1, timezone="America/Chicago"), assumed_hours=6)
    length = dt.datetime.fromisoformat(str(row["ends_at"])) - dt.datetime.fromisoformat(str(row["starts_at"]))
    assert length == hours * HOUR


def due_races(hub: Hub) -> list[int]:
    now = dt.datetime.fromtimestamp(hub.sandbox.admin.clock(), dt.UTC)
    with database.session(hub.url, purpose="test") as conn:
        return [race.race_id for race in fleet.select_races_to_read(conn, now)]


def bibs(hub: Hub) -> dict[int, str]:
    query = (
        "SELECT registration_id, bib_num FROM runsignup_participants WHERE bib_num IS NOT NULL AND removed_at IS NULL"
    )
    return {row["registration_id"]: row["bib_num"] for row in hub.rows(query)}


def logged(hub: Hub) -> set[tuple[int, str]]:
    return {(row["registration_id"], row["new_bib"]) for row in hub.rows("SELECT * FROM runsignup_bib_changes")}


@pytest.mark.parametrize("days", [0.5, 2, 30])
def test_bibs_given_while_the_hub_was_down_over_a_race_are_in_after_one_sync(make_hub: MakeHub, days: float) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": 1}, seed=3)
    admin = hub.sandbox.admin
    hub.sync()
    first, second, gone, *_ = sorted(hub.stored())
    admin.clock(advance=2.5 * 3600)
    admin.bib(first, 911)
    admin.bib(second, 912)
    admin.remove(gone)
    admin.clock(advance=days * 86400)
    assert due_races(hub), "an event that no read closed stays due, whatever time has passed"
    outcome = hub.sync()
    assert [read.read.reason for read in outcome.reads] == ["final read after it was over"]
    assert (bibs(hub)[first], bibs(hub)[second]) == ("911", "912")
    assert {(first, "911"), (second, "912")} <= logged(hub)
    hub.assert_equal()
    hub.assert_removals()


def test_corrections_within_a_day_of_the_end_are_picked_up_and_then_the_event_is_settled(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": 1}, seed=3)
    admin = hub.sandbox.admin
    hub.sync()
    admin.clock(advance=8.1 * 3600)
    hub.sync()
    assert due_races(hub) == [], "the final read settles it for now"
    corrected = min(hub.stored())
    admin.bib(corrected, 77)
    admin.clock(advance=24 * 3600)
    outcome = hub.sync()
    assert [read.read.reason for read in outcome.reads] == ["once more a day after it was over, for corrections"]
    assert bibs(hub)[corrected] == "77" and (corrected, "77") in logged(hub)
    assert due_races(hub) == []
    assert hub.sync().reads == []


def test_a_failed_final_read_leaves_the_event_due(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": 1}, seed=3)
    hub.sync()
    hub.sandbox.admin.clock(advance=30 * 3600)
    hub.sandbox.admin.fault("http_500", 0, endpoint="participants")
    assert hub.sync().failures
    assert due_races(hub)
    hub.sandbox.admin.clear_faults()
    assert not hub.sync().failures


def test_a_final_read_whose_removals_are_pending_leaves_the_event_due(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": 1}, seed=3)
    hub.sync()
    hub.sandbox.admin.clock(advance=50 * 3600)
    hub.sandbox.admin.fault("raw", 2, endpoint="participants", body="W10=")
    assert "removals pending confirmation" in hub.sync().failures[0]
    assert due_races(hub), "an answer that is not believed settles nothing"
    assert not hub.sync().failures
    hub.assert_equal(past_too=True)
    assert due_races(hub) == []


def test_a_backfill_is_complete_only_after_a_read_that_began_after_the_end(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": 1}, seed=3)
    admin = hub.sandbox.admin
    hub.sync()
    late = min(hub.stored())
    admin.clock(advance=7.9 * 3600)
    admin.bib(late, 12)
    admin.clock(advance=3 * 3600)
    done = hub.history()
    assert (done.events, done.finished) == (1, True)
    assert bibs(hub)[late] == "12" and (late, "12") in logged(hub)
    progress = hub.history_progress()
    assert (progress.events, progress.loaded) == (1, 1)


def test_an_event_added_and_over_while_the_hub_was_down_is_read(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": 100}, seed=3)
    hub.sync()
    (race,) = {row["race_id"] for row in hub.stored().values()}
    added = hub.sandbox.admin.add_event(race, "Fun Run", start_in_hours=5)
    hub.sandbox.admin.register(added, count=3)
    hub.sandbox.admin.clock(advance=60 * 3600)
    hub.sync()
    assert len([row for row in hub.stored().values() if row["event_id"] == added]) == 3


@pytest.mark.parametrize("by", ["sync", "backfill"])
def test_one_empty_answer_at_the_first_read_of_a_past_event_does_not_settle_it(make_hub: MakeHub, by: str) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": -48 if by == "sync" else -2000}, seed=7)
    race_id = hub.sandbox.admin.truth(1)["races"][0]["race_id"]
    hub.sandbox.admin.fault("raw", 1, endpoint="participants", race_id=race_id, body="W10=", after_page=False)
    hub.sync()
    hub.history()
    assert len(hub.stored()) == 8
    hub.assert_equal(past_too=True)
