"""A visit reads the rows of its own race, however many others are stored and whatever the planner believes about them.

Statistics of a table that grows by a load are always behind: there are none at first, and then those of its first race.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

OTHERS = 120_000
"""Registrations of other races, enough that reading through all of them is what a wrong estimate suggests."""
OWN = 60
EVENTS = 12
"""Events of its race: a planner without statistics expects a row in two hundred of each, and a twentieth of all rows of ten."""
STATISTICS = ["none", "of one race", "of all"]


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    hub = make_hub(spec=estate(events=EVENTS, registrations=OWN // EVENTS), seed=7)
    hub.execute("ALTER TABLE runsignup_participants SET (autovacuum_enabled = false)")
    return hub


def fill(hub: Hub, statistics: str) -> None:
    """Store what other races have: of one more partner a third, of this partner the rest, some of it removed."""
    race = (
        "INSERT INTO runsignup_races (race_id, name) SELECT n, 'Race ' || n FROM generate_series(%s, %s) n",
        "INSERT INTO runsignup_events (event_id, race_id, name, starts_at, start_time)"
        " SELECT n, n, '5K', now() - interval '90 days', '1/1/2026 08:00' FROM generate_series(%s, %s) n",
        # Without looking up what each row refers to.
        "SET LOCAL session_replication_role = replica;"
        " INSERT INTO runsignup_participants (timing_partner_id, race_id, event_id, registration_id, removed_at, first_name,"
        " payload) SELECT %s, 900000 + n / 200, 900000 + n / 200, 90000000 + n, CASE WHEN n %% 50 = 0 THEN now() END,"
        " repeat('name', 20), '{}' FROM generate_series(%s, %s) n",
    )
    hub.execute("INSERT INTO timing_partners (timing_partner_id, company_name) VALUES (999, 'Another')")
    for statement in race[:2]:
        hub.execute(statement, 900_000, 900_000 + OTHERS // 200)
    if statistics == "of one race":
        hub.execute(race[2], 1, 0, 199)
        hub.execute("ANALYZE runsignup_participants")
    hub.execute(race[2], 1, 200, OTHERS * 2 // 3)
    hub.execute(race[2], 999, OTHERS * 2 // 3 + 1, OTHERS)
    if statistics == "of all":
        hub.execute("ANALYZE")


def rows_read(hub: Hub) -> int:
    """Return how many rows of registrations were ever read, by whatever plan."""
    hub.wait_for_sessions_to_end()
    return hub.value(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'runsignup_participants'"
    )


@contextmanager
def own_rows_only(hub: Hub, times: float) -> Iterator[None]:
    """Assert that what is within reads no more registrations than its race has, times a number."""
    before = rows_read(hub)
    yield
    read = rows_read(hub) - before
    assert read <= times * OWN, f"{read} rows were read for {OWN}"


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_visit_reads_the_rows_of_its_race(hub: Hub, statistics: str) -> None:
    fill(hub, statistics)
    with own_rows_only(hub, 2.5):
        assert hub.sync().counts.inserted == OWN
    some, changed, *_ = sorted(row["registration_id"] for row in hub.sandbox.admin.truth(1)["active"])
    hub.sandbox.admin.bib(changed, 4711)
    hub.sandbox.admin.remove(some)
    with own_rows_only(hub, 0.1):
        counts = hub.sync().counts
        assert (counts.updated, counts.removed) == (1, 1)
    with own_rows_only(hub, 3.5):
        assert hub.sync(full=True).counts.unchanged == OWN - 1
    hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = "500"
    with own_rows_only(hub, 4.5):
        assert hub.sync().counts.unchanged == OWN - 1


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_backfill_reads_the_rows_of_its_races(hub: Hub, statistics: str) -> None:
    _, event_ids = hub.sandbox.admin.add_race(
        1, [{"name": f"{n} km", "start_in_hours": -24 * 30} for n in range(EVENTS)]
    )
    for event_id in event_ids:
        hub.sandbox.admin.register(event_id, count=OWN // EVENTS)
    hub.sync()
    fill(hub, statistics)
    with own_rows_only(hub, 2.5):
        assert hub.history().sync.counts.inserted == OWN
